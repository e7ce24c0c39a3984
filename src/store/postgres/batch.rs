//! A batch of changes as one statement, and so one round trip and one commit.
//!
//! The statement has only the parts that the batch has rows for: one of new orders alone does not
//! pay for carts. All parts see the same snapshot; no two of them touch the same row. Where a part
//! wrote fewer rows than it was given, the last line makes the whole statement fail, with the
//! reason as the text that is "not an integer": plain SQL has no other way to refuse.
//!
//! Rows that other processes may want too are taken in the order of the arrays, which are sorted:
//! no other plan is allowed than to look up each row of an array by its key.

use std::collections::HashMap;

use sqlx::{PgConnection, Postgres, QueryBuilder};

use crate::domain::order::Order;
use crate::domain::{OrderId, Time};
use crate::store::change::{Change, Refused, ShelfDelta};
use crate::store::rows::{BatchRows, CartRow, EventRow, ItemRow, KeyRow, LineRow, MoveRow, Numbers};

use super::unnest::{Rows, column};

/// Why a statement was refused as a whole.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The writer's row is at another epoch.
    Replaced,
    /// Some change is bad; where there is but one, this is why.
    Change(Refused),
    /// Another process was in the way; the same may succeed in a moment.
    Collision,
}

/// The statement of a batch, as far as it is put together.
struct Statement {
    query: QueryBuilder<Postgres>,
    /// Parts that must write so many rows, and what it means where they do not.
    checks: Vec<(&'static str, usize, &'static str)>,
}

/// Rows that other processes may want too, in the order in which a batch takes them.
const LOCK_CARTS: &str = "\
select from carts where user_id = any($1::text[]) order by user_id for update";
const LOCK_ORDERS: &str = "\
select order_id, version from orders where order_id = any($1::bigint[]) order by order_id for update";
const LOCK_SHELVES: &str = "\
select from stocks join unnest($1::text[], $2::integer[]) as wanted (sku, warehouse_id) using (sku, warehouse_id)
order by stocks.sku, stocks.warehouse_id for update of stocks";

/// Takes all rows at once that the changes will want one after another, in the order of any batch: two processes that
/// each had some of them would wait for one another. It can still happen, for keys are not there to be taken, and come
/// first in a batch that is written at once: then one of the two is refused and begins anew. Gives the versions of
/// the orders among them.
pub(super) async fn lock(
    connection: &mut PgConnection,
    changes: &[Change],
) -> Result<HashMap<OrderId, i32>, sqlx::Error> {
    let rows = BatchRows::of(changes);
    let carts = sqlx::query(LOCK_CARTS).bind(column(&rows.carts, |row| row.user_id));
    carts.execute(&mut *connection).await?;
    let orders = sqlx::query_as(LOCK_ORDERS).bind(column(&rows.moves, |row| row.order.id.0));
    let orders: Vec<(i64, i32)> = orders.fetch_all(&mut *connection).await?;
    let shelves = sqlx::query(LOCK_SHELVES).bind(column(&rows.shelves, |delta| delta.sku.as_str()));
    shelves.bind(column(&rows.shelves, |delta| delta.warehouse.0)).execute(connection).await?;
    Ok(orders.into_iter().map(|(id, version)| (OrderId(id), version)).collect())
}

/// Writes the changes and gives the number of events among them.
pub(super) async fn write(
    connection: &mut PgConnection,
    numbers: Numbers,
    changes: &[Change],
    now: Time,
) -> Result<i64, sqlx::Error> {
    let rows = BatchRows::of(changes);
    let events = i64::try_from(rows.events.len()).unwrap_or(i64::MAX);
    let mut statement = Statement::claiming(numbers, events, now);
    statement.keep_keys(&rows.keys, now);
    statement.write_carts(&rows);
    statement.place_orders(&rows.orders);
    statement.place_lines(&rows.lines);
    statement.move_orders(&rows.moves);
    statement.write_events(&rows.events, numbers);
    statement.change_shelves(&rows.shelves);
    statement.finished().build().execute(connection).await?;
    Ok(events)
}

/// What a failed statement says of its batch; `None` for a failure that says nothing of it.
pub(super) fn refusal(error: &sqlx::Error) -> Option<Refusal> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    let refused = |refused| Some(Refusal::Change(refused));
    match &*code {
        "22P02" if error.message().contains("loms:replaced") => Some(Refusal::Replaced),
        "22P02" if error.message().contains("loms:key_taken") => refused(Refused::KeyTaken),
        "22P02" if error.message().contains("loms:short") => refused(Refused::Short),
        "22P02" if error.message().contains("loms:stale") => refused(Refused::Stale),
        "23514" if error.constraint() == Some("stocks_reserved_covered") => refused(Refused::Short),
        // A row written twice in one batch, by two changes of which one is stale.
        "21000" | "23505" => refused(Refused::Stale),
        "40001" | "40P01" => Some(Refusal::Collision),
        code if code.starts_with("22") || code.starts_with("23") => refused(Refused::Unwritable),
        _ => None,
    }
}

impl Statement {
    fn claiming(numbers: Numbers, events: i64, now: Time) -> Self {
        let mut query = QueryBuilder::new("with writer as (update writers set last_batch = ");
        query.push_bind(numbers.batch).push(", last_event = ").push_bind(numbers.last_event + events);
        query.push(", published = greatest(published, ").push_bind(numbers.published);
        query.push("), seen_at = ").push_bind(now);
        query.push(" where writer_id = ").push_bind(numbers.writer_id);
        query.push(" and epoch = ").push_bind(numbers.epoch).push(" returning 1)");
        Self { query, checks: vec![("writer", 1, "loms:replaced")] }
    }

    fn keep_keys(&mut self, keys: &[KeyRow<'_>], now: Time) {
        if keys.is_empty() {
            return;
        }
        self.query.push(", keys_kept as (insert into idempotency_keys (key, fingerprint, outcome, created_at) ");
        let mut rows = self.rows();
        rows.column("key", keys, |row| row.key);
        rows.column("fingerprint", keys, |row| row.fingerprint);
        rows.column("outcome", keys, |row| &*row.outcome);
        self.query.push(", ").push_bind(now).push(" on conflict (key) do nothing returning 1)");
        self.checks.push(("keys_kept", keys.len(), "loms:key_taken"));
    }

    fn write_carts(&mut self, rows: &BatchRows<'_>) {
        let (first_edited, edited_again): (Vec<_>, Vec<_>) = rows.carts.iter().partition(|row| row.version == 1);
        self.make_carts(&first_edited);
        self.move_carts(&edited_again);
        if !rows.carts_emptied.is_empty() {
            self.query.push(", carts_emptied as (delete from cart_items using (");
            self.rows().column("user_id", &rows.carts_emptied, |user| *user);
            self.query.push(") as emptied where cart_items.user_id = emptied.user_id)");
        }
        if !rows.items_removed.is_empty() {
            self.query.push(", items_removed as (delete from cart_items using (");
            let mut removed = self.rows();
            removed.column("user_id", &rows.items_removed, |row| row.0);
            removed.column("sku", &rows.items_removed, |row| row.1);
            self.query.push(
                ") as removed
                where cart_items.user_id = removed.user_id and cart_items.sku = removed.sku)",
            );
        }
        if !rows.items_set.is_empty() {
            self.set_items(&rows.items_set);
        }
    }

    fn make_carts(&mut self, carts: &[&CartRow<'_>]) {
        if carts.is_empty() {
            return;
        }
        self.query.push(", carts_made as (insert into carts (user_id, version) ");
        let mut rows = self.rows();
        rows.column("user_id", carts, |row| row.user_id);
        rows.column("version", carts, |row| row.version);
        self.query.push(" on conflict (user_id) do nothing returning 1)");
        self.checks.push(("carts_made", carts.len(), "loms:stale"));
    }

    fn move_carts(&mut self, carts: &[&CartRow<'_>]) {
        if carts.is_empty() {
            return;
        }
        self.query.push(", carts_moved as (update carts set version = moved.version from (");
        let mut rows = self.rows();
        rows.column("user_id", carts, |row| row.user_id);
        rows.column("version", carts, |row| row.version);
        self.query.push(
            ") as moved
            where carts.user_id = moved.user_id and carts.version = moved.version - 1 returning 1)",
        );
        self.checks.push(("carts_moved", carts.len(), "loms:stale"));
    }

    fn set_items(&mut self, items: &[ItemRow<'_>]) {
        self.query.push(", items_set as (insert into cart_items (user_id, sku, count) ");
        let mut rows = self.rows();
        rows.column("user_id", items, |row| row.user_id);
        rows.column("sku", items, |row| row.sku);
        rows.column("count", items, |row| row.count);
        self.query.push(" on conflict (user_id, sku) do update set count = excluded.count)");
    }

    fn place_orders(&mut self, orders: &[&Order]) {
        if orders.is_empty() {
            return;
        }
        self.query.push(
            ", orders_placed as (
            insert into orders (order_id, user_id, status, total_price, created_at, updated_at, expires_at, version,
                                reason) ",
        );
        let mut rows = self.rows();
        rows.column("order_id", orders, |order| order.id.0);
        rows.column("user_id", orders, |order| order.user.as_str());
        rows.column("status", orders, |order| order.status.as_str());
        rows.column("total_price", orders, |order| order.total.0);
        rows.column("created_at", orders, |order| order.created_at);
        rows.column("updated_at", orders, |order| order.updated_at);
        rows.column("expires_at", orders, |order| order.expires_at);
        rows.column("version", orders, |order| order.version);
        rows.column("reason", orders, |order| order.reason.as_deref());
        self.query.push(")");
    }

    fn place_lines(&mut self, lines: &[LineRow<'_>]) {
        if lines.is_empty() {
            return;
        }
        self.query.push(
            ", lines_placed as (
            insert into order_lines (order_id, line, sku, name, price, count, warehouse_id) ",
        );
        let mut rows = self.rows();
        rows.column("order_id", lines, |row| row.order_id);
        rows.column("line", lines, |row| row.line);
        rows.column("sku", lines, |row| row.sku);
        rows.column("name", lines, |row| row.name);
        rows.column("price", lines, |row| row.price);
        rows.column("count", lines, |row| row.count);
        rows.column("warehouse_id", lines, |row| row.warehouse_id);
        self.query.push(")");
    }

    fn move_orders(&mut self, moves: &[MoveRow<'_>]) {
        if moves.is_empty() {
            return;
        }
        self.query.push(
            ", orders_moved as (
            update orders set status = moved.status, version = moved.version, updated_at = moved.updated_at,
                              reason = moved.reason,
                              payment_refused_at = coalesce(orders.payment_refused_at, moved.payment_refused_at)
            from (",
        );
        let mut rows = self.rows();
        rows.column("order_id", moves, |row| row.order.id.0);
        rows.column("based_on", moves, |row| row.based_on);
        rows.column("version", moves, |row| row.order.version);
        rows.column("status", moves, |row| row.order.status.as_str());
        rows.column("updated_at", moves, |row| row.order.updated_at);
        rows.column("reason", moves, |row| row.order.reason.as_deref());
        rows.column("payment_refused_at", moves, |row| row.order.payment_refused_at);
        self.query.push(
            ") as moved
            where orders.order_id = moved.order_id and orders.version = moved.based_on
                and (orders.payment_refused_at is null or (moved.version > moved.based_on and moved.status <> 'payed'))
            returning 1)",
        );
        self.checks.push(("orders_moved", moves.len(), "loms:stale"));
    }

    fn write_events(&mut self, events: &[EventRow<'_>], numbers: Numbers) {
        if events.is_empty() {
            return;
        }
        self.query.push(
            ", events_written as (
            insert into events (order_id, version, status, reason, occurred_at, writer_id, seq) ",
        );
        let mut rows = self.rows();
        rows.column("order_id", events, |row| row.order_id);
        rows.column("version", events, |row| row.version);
        rows.column("status", events, |row| row.status);
        rows.column("reason", events, |row| row.reason);
        rows.column("occurred_at", events, |row| row.at);
        self.query.push(", ").push_bind(numbers.writer_id);
        let last = numbers.last_event + i64::try_from(events.len()).unwrap_or(i64::MAX);
        self.query.push(", generate_series(").push_bind(numbers.last_event + 1).push(", ").push_bind(last).push("))");
    }

    fn change_shelves(&mut self, shelves: &[ShelfDelta]) {
        if shelves.is_empty() {
            return;
        }
        self.query.push(
            ", shelves_changed as (
            update stocks set on_hand = stocks.on_hand + delta.on_hand, reserved = stocks.reserved + delta.reserved
            from (",
        );
        let mut rows = self.rows();
        rows.column("sku", shelves, |delta| delta.sku.as_str());
        rows.column("warehouse_id", shelves, |delta| delta.warehouse.0);
        rows.column("on_hand", shelves, |delta| delta.on_hand);
        rows.column("reserved", shelves, |delta| delta.reserved);
        self.query.push(
            ") as delta
            where stocks.sku = delta.sku and stocks.warehouse_id = delta.warehouse_id returning 1)",
        );
        self.checks.push(("shelves_changed", shelves.len(), "loms:short"));
    }

    fn rows(&mut self) -> Rows<'_> {
        Rows::of(&mut self.query)
    }

    fn finished(self) -> QueryBuilder<Postgres> {
        let Self { mut query, checks } = self;
        query.push(" select (case");
        for (part, rows, reason) in checks {
            query.push(" when (select count(*) from ").push(part).push(") <> ");
            query.push_bind(i64::try_from(rows).unwrap_or(i64::MAX)).push(" then '").push(reason).push("'");
        }
        query.push(" else '1' end)::integer");
        query
    }
}
