//! A batch of changes as one statement per table, each given its rows as one JSON array.

use serde::Serialize;
use sqlx::SqliteConnection;

use crate::domain::Time;
use crate::store::change::{Change, Refused};
use crate::store::rows::{BatchRows, MoveRow, Numbers};

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

const CLAIM_BATCH: &str =
    "update writers set last_batch = $3, last_event = $4, seen_at = $5, published = max(published, $6)
     where writer_id = $1 and epoch = $2";

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
where order_id = value ->> 0 and version = value ->> 1 and (value ->> 3 > value ->> 1 or payment_refused_at is null)";

const WRITE_EVENTS: &str = "\
insert into events (writer_id, seq, order_id, version, status, reason, occurred_at)
select $2, $3 + 1 + key, value ->> 'order_id', value ->> 'version', value ->> 'status', value ->> 'reason',
       value ->> 'at'
from jsonb_each($1)";

const CHANGE_SHELVES: &str = "\
update stocks set on_hand = on_hand + (value ->> 2), reserved = reserved + (value ->> 3)
from jsonb_each($1) where sku = value ->> 0 and warehouse_id = value ->> 1";

const KEEP_KEYS: &str = "\
insert into idempotency_keys (key, fingerprint, outcome, created_at)
select value ->> 0, unhex(value ->> 1), value ->> 2, $2 from jsonb_each($1) where true
on conflict (key) do nothing";

/// Within a transaction: applies the changes and gives the number of events among them. After a
/// failure some of them may stand there, to be rolled back.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    numbers: Numbers,
    changes: &[Change],
    now: Time,
) -> Result<i64, Failure> {
    let rows = BatchRows::of(changes);
    let events = i64::try_from(rows.events.len()).unwrap_or(i64::MAX);
    let claim = sqlx::query(CLAIM_BATCH)
        .bind(numbers.writer_id)
        .bind(numbers.epoch)
        .bind(numbers.batch)
        .bind(numbers.last_event + events)
        .bind(now.timestamp_micros())
        .bind(numbers.published);
    if claim.execute(&mut *connection).await.map_err(failure)?.rows_affected() != 1 {
        return Err(Failure::Replaced);
    }
    apply_keys(connection, &rows, now).await?;
    apply_carts(connection, &rows).await?;
    apply_orders(connection, &rows).await?;
    if !rows.events.is_empty() {
        let events = sqlx::query(WRITE_EVENTS).bind(json(&rows.events));
        let events = events.bind(numbers.writer_id).bind(numbers.last_event);
        events.execute(&mut *connection).await.map_err(failure)?;
    }
    let shelf = |delta: &crate::store::ShelfDelta| (delta.sku.clone(), delta.warehouse, delta.on_hand, delta.reserved);
    let shelves: Vec<_> = rows.shelves.iter().map(shelf).collect();
    write_all(connection, CHANGE_SHELVES, &shelves, Refused::Short).await?;
    Ok(events)
}

async fn apply_keys(connection: &mut SqliteConnection, rows: &BatchRows<'_>, now: Time) -> Result<(), Failure> {
    if rows.keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = rows.keys.iter().map(|row| (row.key, hex(row.fingerprint), &row.outcome)).collect();
    let query = sqlx::query(KEEP_KEYS).bind(json(&keys)).bind(now.timestamp_micros());
    expect(query.execute(connection).await, keys.len(), Refused::KeyTaken)
}

async fn apply_carts(connection: &mut SqliteConnection, rows: &BatchRows<'_>) -> Result<(), Failure> {
    write_all(connection, SAVE_CARTS, &rows.carts, Refused::Stale).await?;
    write_some(connection, EMPTY_CARTS, &rows.carts_emptied).await?;
    write_some(connection, REMOVE_ITEMS, &rows.items_removed).await?;
    write_some(connection, SET_ITEMS, &rows.items_set).await
}

async fn apply_orders(connection: &mut SqliteConnection, rows: &BatchRows<'_>) -> Result<(), Failure> {
    let row = |order: &&crate::domain::order::Order| {
        let times = (order.created_at.timestamp_micros(), order.updated_at.timestamp_micros());
        let (id, user, status, total) = (order.id, order.user.clone(), order.status, order.total);
        let expires_at = order.expires_at.timestamp_micros();
        (id, user, status, total, times.0, times.1, expires_at, order.version, order.reason.clone())
    };
    let placed: Vec<_> = rows.orders.iter().map(row).collect();
    write_all(connection, PLACE_ORDERS, &placed, Refused::Stale).await?;
    write_some(connection, PLACE_LINES, &rows.lines).await?;
    let row = |MoveRow { order, based_on }: &MoveRow<'_>| {
        let times = (order.updated_at.timestamp_micros(), order.payment_refused_at.map(|at| at.timestamp_micros()));
        (order.id, *based_on, order.status, order.version, times.0, order.reason.clone(), times.1)
    };
    let moved: Vec<_> = rows.moves.iter().map(row).collect();
    write_all(connection, MOVE_ORDERS, &moved, Refused::Stale).await
}

/// Each of the rows must be written, else the batch is refused.
async fn write_all<R: Serialize>(
    connection: &mut SqliteConnection,
    statement: &'static str,
    rows: &[R],
    refused: Refused,
) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    expect(sqlx::query(statement).bind(json(rows)).execute(connection).await, rows.len(), refused)
}

async fn write_some<R: Serialize>(
    connection: &mut SqliteConnection,
    statement: &'static str,
    rows: &[R],
) -> Result<(), Failure> {
    if !rows.is_empty() {
        sqlx::query(statement).bind(json(rows)).execute(connection).await.map_err(failure)?;
    }
    Ok(())
}

type Executed = Result<sqlx::sqlite::SqliteQueryResult, sqlx::Error>;

fn expect(executed: Executed, rows: usize, refused: Refused) -> Result<(), Failure> {
    let written = executed.map_err(failure)?.rows_affected();
    if written == rows as u64 { Ok(()) } else { Err(Failure::Change(refused)) }
}

fn failure(error: sqlx::Error) -> Failure {
    let Some(database) = error.as_database_error() else { return Failure::Database(error) };
    if database.message().contains("stocks_reserved_covered") {
        Failure::Change(Refused::Short)
    } else if database.is_unique_violation() {
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
