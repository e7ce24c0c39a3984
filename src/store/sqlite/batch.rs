//! A batch of changes as one script: a statement per table, each given its rows as one JSON array.
//!
//! A script goes to SQLite's thread and back once, however many statements it has. Where a statement wrote fewer
//! rows than it was given, the next one fails with the reason as a path into JSON that there cannot be: plain
//! SQL has no other way to refuse.

use serde::Serialize;
use sqlx::{QueryBuilder, SqliteConnection};

use crate::domain::Time;
use crate::domain::order::Order;
use crate::store::change::{Change, Refused, ShelfDelta};
use crate::store::rows::{BatchRows, EventRow, KeyRow, MoveRow, Numbers};

use super::json;

/// Why a batch was not applied as a whole.
#[derive(Debug)]
pub(super) enum Failure {
    /// The writer's row is at another epoch.
    Replaced,
    /// Some change is bad; where there is but one, this is why.
    Change(Refused),
    Database(sqlx::Error),
}

// Each of the statements takes its rows as $1.

const CLAIM_BATCH: &str = "\
update writers set last_batch = value ->> 2, last_event = value ->> 3, seen_at = value ->> 4,
                   published = max(published, value ->> 5)
from jsonb_each($1) where writer_id = value ->> 0 and epoch = value ->> 1";

/// Only a first edit may find no cart.
const SAVE_CARTS: &str = "\
insert into carts (user_id, version)
select value ->> 'user_id', value ->> 'version' from jsonb_each($1)
where value ->> 'version' = 1 or exists (select 1 from carts where user_id = value ->> 'user_id')
on conflict (user_id) do update set version = excluded.version where carts.version = excluded.version - 1";

const EMPTY_CARTS: &str = "delete from cart_items where user_id in (select value from jsonb_each($1))";

const REMOVE_ITEMS: &str = "\
delete from cart_items where (user_id, sku) in (select value ->> 0, value ->> 1 from jsonb_each($1))";

const SET_ITEMS: &str = "\
insert into cart_items (user_id, sku, count)
select value ->> 'user_id', value ->> 'sku', value ->> 'count' from jsonb_each($1) where true
on conflict (user_id, sku) do update set count = excluded.count";

const PLACE_ORDERS: &str = "\
insert into orders (order_id, user_id, status, total_price, created_at, updated_at, expires_at, version, reason)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
       value ->> 8
from jsonb_each($1)";

const PLACE_LINES: &str = "\
insert into order_lines (order_id, line, sku, name, price, count, warehouse_id)
select value ->> 'order_id', value ->> 'line', value ->> 'sku', value ->> 'name', value ->> 'price',
       value ->> 'count', value ->> 'warehouse_id'
from jsonb_each($1)";

const MOVE_ORDERS: &str = "\
update orders set status = value ->> 2, version = value ->> 3, updated_at = value ->> 4, reason = value ->> 5,
                  payment_refused_at = coalesce(payment_refused_at, value ->> 6)
from jsonb_each($1)
where order_id = value ->> 0 and version = value ->> 1
  and (payment_refused_at is null or (value ->> 3 > value ->> 1 and value ->> 2 <> 'payed'))";

const WRITE_EVENTS: &str = "\
insert into events (writer_id, seq, order_id, version, status, reason, occurred_at)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
from jsonb_each($1)";

const CHANGE_SHELVES: &str = "\
update stocks set on_hand = on_hand + (value ->> 2), reserved = reserved + (value ->> 3)
from jsonb_each($1) where sku = value ->> 0 and warehouse_id = value ->> 1";

const KEEP_KEYS: &str = "\
insert into idempotency_keys (key, fingerprint, outcome, created_at)
select value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3 from jsonb_each($1) where true
on conflict (key) do nothing";

/// The statements of a batch, as far as they are put together.
struct Script(QueryBuilder<sqlx::Sqlite>);

/// Opens a transaction or a part of it, applies the changes, and gives the number of events among them. After a
/// failure some of them may stand there, to be rolled back.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    opening: &'static str,
    numbers: Numbers,
    changes: &[Change],
    now: Time,
) -> Result<i64, Failure> {
    let rows = BatchRows::of(changes);
    let events = i64::try_from(rows.events.len()).unwrap_or(i64::MAX);
    let Numbers { writer_id, epoch, batch, last_event, published } = numbers;
    let now = now.timestamp_micros();
    let mut script = Script(QueryBuilder::new(opening));
    script.write_all(CLAIM_BATCH, [(writer_id, epoch, batch, last_event + events, now, published)], "loms:replaced");
    script.write_all(KEEP_KEYS, rows.keys.iter().map(|row| key(row, now)), "loms:key_taken");
    script.write_all(SAVE_CARTS, &rows.carts, "loms:stale");
    script.write(EMPTY_CARTS, &rows.carts_emptied);
    script.write(REMOVE_ITEMS, &rows.items_removed);
    script.write(SET_ITEMS, &rows.items_set);
    script.write(PLACE_ORDERS, rows.orders.iter().map(|order| placed(order)));
    script.write(PLACE_LINES, &rows.lines);
    script.write_all(MOVE_ORDERS, rows.moves.iter().map(moved), "loms:stale");
    script.write(WRITE_EVENTS, (last_event + 1..).zip(&rows.events).map(|(seq, row)| event(writer_id, seq, row)));
    script.write_all(CHANGE_SHELVES, rows.shelves.iter().map(shelf), "loms:short");
    script.0.build().execute(connection).await.map_err(failure)?;
    Ok(events)
}

impl Script {
    /// Gives how many rows there are; nothing is done where there are none.
    fn write<R: Serialize>(&mut self, statement: &'static str, rows: impl IntoIterator<Item = R>) -> usize {
        let rows: Vec<R> = rows.into_iter().collect();
        if !rows.is_empty() {
            let (head, tail) = statement.split_once("$1").unwrap_or((statement, ""));
            self.0.push("; ").push(head).push_bind(json(&rows)).push(tail);
        }
        rows.len()
    }

    /// Each of the rows must be written, else all is refused.
    fn write_all<R: Serialize>(
        &mut self,
        statement: &'static str,
        rows: impl IntoIterator<Item = R>,
        refusal: &'static str,
    ) {
        let rows = self.write(statement, rows);
        if rows > 0 {
            self.0.push("; select 1 where iif(changes() = ").push_bind(i64::try_from(rows).unwrap_or(i64::MAX));
            self.0.push(", 0, json_extract('{}', '").push(refusal).push("'))");
        }
    }
}

// Rows as the statements unfold them.

fn key<'a>(row: &'a KeyRow<'_>, now: i64) -> impl Serialize + 'a {
    (row.key, hex(row.fingerprint), &row.outcome, now)
}

fn placed(order: &Order) -> impl Serialize + '_ {
    let times = (order.created_at.timestamp_micros(), order.updated_at.timestamp_micros());
    let expires_at = order.expires_at.timestamp_micros();
    (order.id, &order.user, order.status, order.total, times.0, times.1, expires_at, order.version, &order.reason)
}

fn moved<'a>(MoveRow { order, based_on }: &'a MoveRow<'_>) -> impl Serialize + 'a {
    let times = (order.updated_at.timestamp_micros(), order.payment_refused_at.map(|at| at.timestamp_micros()));
    (order.id, *based_on, order.status, order.version, times.0, &order.reason, times.1)
}

fn event<'a>(writer_id: i32, seq: i64, row: &'a EventRow<'_>) -> impl Serialize + 'a {
    (writer_id, seq, row.order_id, row.version, row.status, row.reason, row.at.timestamp_micros())
}

fn shelf(delta: &ShelfDelta) -> impl Serialize + '_ {
    (&delta.sku, delta.warehouse, delta.on_hand, delta.reserved)
}

fn failure(error: sqlx::Error) -> Failure {
    let Some(database) = error.as_database_error() else { return Failure::Database(error) };
    let message = database.message();
    if message.contains("loms:replaced") {
        Failure::Replaced
    } else if message.contains("loms:key_taken") {
        Failure::Change(Refused::KeyTaken)
    } else if message.contains("loms:short") || message.contains("stocks_reserved_covered") {
        Failure::Change(Refused::Short)
    } else if message.contains("loms:stale") || database.is_unique_violation() {
        Failure::Change(Refused::Stale)
    } else if database.is_check_violation() {
        tracing::error!(%error, "the database refuses a change that should be writable");
        Failure::Change(Refused::Unwritable)
    } else {
        Failure::Database(error)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
