//! A batch of changes as one statement, and so one round trip and one commit.
//!
//! All parts of the statement see the same snapshot; no two of them touch the same row. Where a
//! part wrote fewer rows than it was given, the last line makes the whole statement fail, with
//! the reason as the text that is "not an integer": plain SQL has no other way to refuse.
//!
//! Rows that other processes may want too are taken in the order of the arrays, which are sorted:
//! the writing connection allows no other plan than to look up each row of an array by its key.

use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, PgConnection};

use crate::domain::Time;
use crate::domain::order::Order;
use crate::store::change::{Change, Refused, ShelfDelta};
use crate::store::rows::{BatchRows, EventRow, LineRow, Numbers};

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

const WRITE: &str = "\
with writer as (
    update writers set last_batch = $3, last_event = $4, seen_at = $5
    where writer_id = $1 and epoch = $2
    returning 1
), carts_saved as (
    insert into carts (user_id, version)
    select * from unnest($7::text[], $8::bigint[]) as saved (user_id, version)
    -- Only a first edit may find no cart.
    where saved.version = 1 or exists (select 1 from carts where carts.user_id = saved.user_id)
    on conflict (user_id) do update set version = excluded.version where carts.version = excluded.version - 1
    returning 1
), carts_emptied as (
    delete from cart_items using unnest($9::text[]) as emptied (user_id)
    where cart_items.user_id = emptied.user_id
), items_removed as (
    delete from cart_items using unnest($10::text[], $11::text[]) as removed (user_id, sku)
    where cart_items.user_id = removed.user_id and cart_items.sku = removed.sku
), items_set as (
    insert into cart_items (user_id, sku, count)
    select * from unnest($12::text[], $13::text[], $14::integer[])
    on conflict (user_id, sku) do update set count = excluded.count
), orders_placed as (
    insert into orders (order_id, user_id, status, total_price, created_at, updated_at, expires_at, version, reason)
    select * from unnest($15::bigint[], $16::text[], $17::text[], $18::bigint[], $19::timestamptz[],
                         $20::timestamptz[], $21::timestamptz[], $22::integer[], $23::text[])
), lines_placed as (
    insert into order_lines (order_id, line, sku, name, price, count, warehouse_id)
    select * from unnest($24::bigint[], $25::integer[], $26::text[], $27::text[], $28::bigint[],
                         $29::integer[], $30::integer[])
), orders_moved as (
    update orders set status = moved.status, version = moved.version, updated_at = moved.updated_at, reason = moved.reason
    from unnest($31::bigint[], $32::integer[], $33::text[], $34::timestamptz[], $35::text[])
        as moved (order_id, version, status, updated_at, reason)
    where orders.order_id = moved.order_id and orders.version = moved.version - 1
    returning 1
), events_written as (
    insert into events (writer_id, seq, order_id, version, status, reason, occurred_at)
    select $1, $6 + seq, order_id, version, status, reason, occurred_at
    from unnest($36::bigint[], $37::integer[], $38::text[], $39::text[], $40::timestamptz[])
        with ordinality as written (order_id, version, status, reason, occurred_at, seq)
), shelves_changed as (
    update stocks set on_hand = stocks.on_hand + delta.on_hand, reserved = stocks.reserved + delta.reserved
    from unnest($41::text[], $42::integer[], $43::bigint[], $44::bigint[])
        as delta (sku, warehouse_id, on_hand, reserved)
    where stocks.sku = delta.sku and stocks.warehouse_id = delta.warehouse_id
    returning 1
), keys_kept as (
    insert into idempotency_keys (key, fingerprint, outcome, created_at)
    select key, fingerprint, outcome, $5 from unnest($45::text[], $46::bytea[], $47::text[]) as kept (key, fingerprint, outcome)
    on conflict (key) do nothing
    returning 1
)
select (case
    when (select count(*) from writer) <> 1 then 'loms:replaced'
    when (select count(*) from keys_kept) <> cardinality($45::text[]) then 'loms:key_taken'
    when (select count(*) from carts_saved) <> cardinality($7::text[]) then 'loms:stale'
    when (select count(*) from orders_moved) <> cardinality($31::bigint[]) then 'loms:stale'
    when (select count(*) from shelves_changed) <> cardinality($41::text[]) then 'loms:short'
    else '1'
end)::integer";

/// Rows that other processes may want too, in the order in which [`WRITE`] takes them.
const LOCK_CARTS: &str = "\
select from carts where user_id = any($1::text[]) order by user_id for update";
const LOCK_ORDERS: &str = "\
select from orders where order_id = any($1::bigint[]) order by order_id for update";
const LOCK_SHELVES: &str = "\
select from stocks join unnest($1::text[], $2::integer[]) as wanted (sku, warehouse_id) using (sku, warehouse_id)
order by stocks.sku, stocks.warehouse_id for update of stocks";

/// Takes all rows at once that the changes will want one after another: two processes that each
/// had some of them would wait for one another.
pub(super) async fn lock(connection: &mut PgConnection, changes: &[Change]) -> Result<(), sqlx::Error> {
    let rows = BatchRows::of(changes);
    let carts = sqlx::query(LOCK_CARTS).bind(column(&rows.carts, |row| row.user_id));
    carts.execute(&mut *connection).await?;
    let orders = sqlx::query(LOCK_ORDERS).bind(column(&rows.moves, |order| order.id.0));
    orders.execute(&mut *connection).await?;
    let shelves = sqlx::query(LOCK_SHELVES).bind(column(&rows.shelves, |delta| delta.sku.as_str()));
    shelves.bind(column(&rows.shelves, |delta| delta.warehouse.0)).execute(connection).await?;
    Ok(())
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
    let arguments = arguments(numbers, events, &rows, now).map_err(sqlx::Error::Encode)?;
    sqlx::query_with(WRITE, arguments).execute(connection).await?;
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

/// The columns of the rows as arrays, in the order of the statement's parameters.
fn arguments(numbers: Numbers, events: i64, rows: &BatchRows<'_>, now: Time) -> Result<PgArguments, BoxDynError> {
    let mut arguments = PgArguments::default();
    arguments.add(numbers.writer_id)?;
    arguments.add(numbers.epoch)?;
    arguments.add(numbers.batch)?;
    arguments.add(numbers.last_event + events)?;
    arguments.add(now)?;
    arguments.add(numbers.last_event)?;
    add_carts(&mut arguments, rows)?;
    add_orders(&mut arguments, &rows.orders)?;
    add_lines(&mut arguments, &rows.lines)?;
    add_moves(&mut arguments, &rows.moves)?;
    add_events(&mut arguments, &rows.events)?;
    add_shelves(&mut arguments, &rows.shelves)?;
    arguments.add(column(&rows.keys, |row| row.key))?;
    arguments.add(column(&rows.keys, |row| row.fingerprint))?;
    arguments.add(column(&rows.keys, |row| &*row.outcome))?;
    Ok(arguments)
}

fn add_carts(arguments: &mut PgArguments, rows: &BatchRows<'_>) -> Result<(), BoxDynError> {
    arguments.add(column(&rows.carts, |row| row.user_id))?;
    arguments.add(column(&rows.carts, |row| row.version))?;
    arguments.add(&rows.carts_emptied)?;
    arguments.add(column(&rows.items_removed, |row| row.0))?;
    arguments.add(column(&rows.items_removed, |row| row.1))?;
    arguments.add(column(&rows.items_set, |row| row.user_id))?;
    arguments.add(column(&rows.items_set, |row| row.sku))?;
    arguments.add(column(&rows.items_set, |row| row.count))
}

fn add_orders(arguments: &mut PgArguments, orders: &[&Order]) -> Result<(), BoxDynError> {
    arguments.add(column(orders, |order| order.id.0))?;
    arguments.add(column(orders, |order| order.user.as_str()))?;
    arguments.add(column(orders, |order| order.status.as_str()))?;
    arguments.add(column(orders, |order| order.total.0))?;
    arguments.add(column(orders, |order| order.created_at))?;
    arguments.add(column(orders, |order| order.updated_at))?;
    arguments.add(column(orders, |order| order.expires_at))?;
    arguments.add(column(orders, |order| order.version))?;
    arguments.add(column(orders, |order| order.reason.as_deref()))
}

fn add_lines(arguments: &mut PgArguments, lines: &[LineRow<'_>]) -> Result<(), BoxDynError> {
    arguments.add(column(lines, |row| row.order_id))?;
    arguments.add(column(lines, |row| row.line))?;
    arguments.add(column(lines, |row| row.sku))?;
    arguments.add(column(lines, |row| row.name))?;
    arguments.add(column(lines, |row| row.price))?;
    arguments.add(column(lines, |row| row.count))?;
    arguments.add(column(lines, |row| row.warehouse_id))
}

fn add_moves(arguments: &mut PgArguments, orders: &[&Order]) -> Result<(), BoxDynError> {
    arguments.add(column(orders, |order| order.id.0))?;
    arguments.add(column(orders, |order| order.version))?;
    arguments.add(column(orders, |order| order.status.as_str()))?;
    arguments.add(column(orders, |order| order.updated_at))?;
    arguments.add(column(orders, |order| order.reason.as_deref()))
}

fn add_events(arguments: &mut PgArguments, events: &[EventRow<'_>]) -> Result<(), BoxDynError> {
    arguments.add(column(events, |row| row.order_id))?;
    arguments.add(column(events, |row| row.version))?;
    arguments.add(column(events, |row| row.status))?;
    arguments.add(column(events, |row| row.reason))?;
    arguments.add(column(events, |row| row.at))
}

fn add_shelves(arguments: &mut PgArguments, shelves: &[ShelfDelta]) -> Result<(), BoxDynError> {
    arguments.add(column(shelves, |delta| delta.sku.as_str()))?;
    arguments.add(column(shelves, |delta| delta.warehouse.0))?;
    arguments.add(column(shelves, |delta| delta.on_hand))?;
    arguments.add(column(shelves, |delta| delta.reserved))
}

/// One column of some rows.
fn column<'a, R, V>(rows: &'a [R], value: impl Fn(&'a R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
