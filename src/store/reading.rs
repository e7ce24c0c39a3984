//! Rows read back from either database, put together to what the domain knows.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::domain::contact::{Contact, Email, Locale};
use crate::domain::event::PAYMENT_REFUSED;
use crate::domain::order::{Item, Order, Status};
use crate::domain::stock::{Allocation, Shelf};
use crate::domain::{Count, EventId, EventKind, Money, OrderEvent, OrderId, Sku, Time, UserId, WarehouseId};

use super::notification_log::{Known, Notification, NotificationFilter, Told};
use super::{OrderFilter, OtherWriter, StoreError};

/// Reads `orders` by the names of its columns: a later version adds some while this one still runs.
macro_rules! select_orders {
    ($rest:literal) => {
        concat!(
            "select order_id, user_id, status, total_price, created_at, updated_at, expires_at, version, reason, ",
            "payment_refused_at from orders ",
            $rest
        )
    };
}

/// Reads `events` by the names of its columns.
macro_rules! select_events {
    ($rest:literal) => {
        concat!("select writer_id, seq, order_id, version, status, reason, occurred_at from events ", $rest)
    };
}

/// Reads `notifications` by the names of its columns.
macro_rules! select_notifications {
    ($rest:literal) => {
        concat!(
            "select notification_id, event_id, channel, user_id, order_id, status, outcome, attempts, reason, ",
            "attempted_at from notifications ",
            $rest
        )
    };
}

pub(super) use {select_events, select_orders};

/// Lists orders: $1 is the id to start before, $2 a status or null, $3 how many, $4 the user where the
/// filter names one. A plan is made without a look at the values, so only the statement for one user
/// may want that user's index, and only `of_status` that of the status.
pub(super) fn list_orders(filter: &OrderFilter, of_status: &'static str) -> &'static str {
    if filter.user.is_some() {
        select_orders!(
            "where order_id < $1 and (cast($2 as text) is null or status = $2) and user_id = $4
             order by order_id desc limit $3"
        )
    } else if filter.status.is_some() {
        of_status
    } else {
        select_orders!("where order_id < $1 and cast($2 as text) is null order by order_id desc limit $3")
    }
}

/// Lists notifications: $1 is the id to start before, $2 how many, $3 the user where the filter names one. Then
/// all of that user's are looked at for each page, through the user's orders; the plus keeps them from being
/// looked for among everybody's, from the last one on.
pub(super) fn list_notifications(filter: &NotificationFilter) -> &'static str {
    if filter.user.is_some() {
        select_notifications!(
            "where order_id in (select order_id from orders where user_id = $3) and + notification_id < $1
             order by + notification_id desc limit $2"
        )
    } else {
        select_notifications!("where notification_id < $1 order by notification_id desc limit $2")
    }
}

/// Rows, read by the names of their columns. A moment is what the database has for it. (The derive
/// macro would do the same, and bring both databases' drivers a second time into every build.)
macro_rules! rows {
    ($($(#[$doc:meta])* struct $row:ident $(<$time:ident>)? { $($column:ident: $type:ty,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $row $(<$time>)? { $(pub $column: $type),+ }

        impl FromRow<'_, PgRow> for $row $(<rows!(moment $time Time)>)? {
            fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
                Ok(Self { $($column: row.try_get(stringify!($column))?),+ })
            }
        }

        impl FromRow<'_, SqliteRow> for $row $(<rows!(moment $time i64)>)? {
            fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
                Ok(Self { $($column: row.try_get(stringify!($column))?),+ })
            }
        }
    )+};
    (moment $time:ident $type:ty) => { $type };
}

rows! {
    /// A row of `orders`.
    struct OrderRow<T> {
        order_id: i64,
        user_id: String,
        status: String,
        total_price: i64,
        created_at: T,
        updated_at: T,
        expires_at: T,
        version: i32,
        reason: Option<String>,
        payment_refused_at: Option<T>,
    }

    /// A row of `order_lines`, in the order of `(order_id, line)`.
    struct OrderLineRow {
        order_id: i64,
        sku: String,
        name: String,
        price: i64,
        count: i32,
        warehouse_id: Option<i32>,
    }

    struct ShelfRow {
        sku: String,
        warehouse_id: i32,
        on_hand: i64,
        reserved: i64,
    }

    /// A row of `events`.
    struct EventRow<T> {
        writer_id: i32,
        seq: i64,
        order_id: i64,
        version: i32,
        status: String,
        reason: Option<String>,
        occurred_at: T,
    }

    /// A row of `notifications`.
    struct NotificationRow<T> {
        notification_id: i64,
        event_id: String,
        channel: String,
        user_id: String,
        order_id: i64,
        status: String,
        outcome: String,
        attempts: i32,
        reason: Option<String>,
        attempted_at: T,
    }

    /// A row of `writers`, as others see it.
    struct OtherWriterRow<T> {
        writer_id: i32,
        epoch: i64,
        seen_at: T,
    }

    /// A row of `writers`, as its new epoch finds it.
    struct WriterRow {
        writer_id: i32,
        epoch: i64,
        last_batch: i64,
        last_event: i64,
    }
}

/// $1 is the owner who asks; 0 is nobody.
pub(super) const OTHER_WRITERS: &str =
    "select writer_id, epoch, seen_at from writers where owner <> 0 and owner <> $1 order by writer_id";

pub(super) fn other_writers<T: IntoTime>(rows: Vec<OtherWriterRow<T>>) -> Result<Vec<OtherWriter>, StoreError> {
    let writer = |OtherWriterRow { writer_id, epoch, seen_at }: OtherWriterRow<T>| {
        Ok(OtherWriter { writer_id, epoch, seen_at: seen_at.into_time()? })
    };
    rows.into_iter().map(writer).collect()
}

/// A moment as a database keeps it.
pub(super) trait IntoTime {
    fn into_time(self) -> Result<Time, StoreError>;
}

impl IntoTime for Time {
    fn into_time(self) -> Result<Time, StoreError> {
        Ok(self)
    }
}

impl IntoTime for i64 {
    fn into_time(self) -> Result<Time, StoreError> {
        Time::from_timestamp_micros(self).ok_or_else(|| corrupt("a time out of range"))
    }
}

/// The orders of these rows, in the rows' order. `lines` hold those of all orders.
pub(super) fn orders<T: IntoTime>(rows: Vec<OrderRow<T>>, lines: Vec<OrderLineRow>) -> Result<Vec<Order>, StoreError> {
    let mut items_of = HashMap::<i64, Vec<Item>>::with_capacity(rows.len());
    for line in lines {
        add_line(items_of.entry(line.order_id).or_default(), line)?;
    }
    let order = |row: OrderRow<T>| {
        let items = items_of.remove(&row.order_id).unwrap_or_default();
        Ok(Order {
            id: OrderId(row.order_id),
            user: UserId::from_store(&row.user_id),
            status: status(&row.status)?,
            items: items.into(),
            total: Money(row.total_price),
            created_at: row.created_at.into_time()?,
            updated_at: row.updated_at.into_time()?,
            expires_at: row.expires_at.into_time()?,
            version: row.version,
            reason: row.reason,
            payment_refused_at: row.payment_refused_at.map(T::into_time).transpose()?,
        })
    };
    rows.into_iter().map(order).collect()
}

/// The events of these rows, in the rows' order. `orders` hold those of all events.
pub(super) fn events<T: IntoTime>(rows: Vec<EventRow<T>>, orders: &[Order]) -> Result<Vec<OrderEvent>, StoreError> {
    let order_of: HashMap<OrderId, &Order> = orders.iter().map(|order| (order.id, order)).collect();
    let event = |row: EventRow<T>| {
        let order = order_of.get(&OrderId(row.order_id)).ok_or_else(|| corrupt("an event without its order"))?;
        let (kind, status) = match &*row.status {
            PAYMENT_REFUSED => (EventKind::PaymentRefused, status_at(order, row.version)),
            text => (EventKind::StatusChanged, status(text)?),
        };
        Ok(OrderEvent {
            id: EventId { writer: row.writer_id, seq: row.seq },
            order: order.id,
            user: order.user.clone(),
            kind,
            status,
            reason: row.reason,
            at: row.occurred_at.into_time()?,
            version: row.version,
            items: Arc::clone(&order.items),
            total: order.total,
        })
    };
    rows.into_iter().map(event).collect()
}

/// The status that an order had at a version: before the last one it can only have awaited payment.
fn status_at(order: &Order, version: i32) -> Status {
    if version == order.version { order.status } else { Status::AwaitingPayment }
}

/// Orders that events are about, each once.
pub(super) fn orders_of<T>(rows: &[EventRow<T>]) -> Vec<i64> {
    let mut ids: Vec<i64> = rows.iter().map(|row| row.order_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

pub(super) fn notifications<T: IntoTime>(rows: Vec<NotificationRow<T>>) -> Result<Vec<Notification>, StoreError> {
    let notification = |row: NotificationRow<T>| {
        Ok(Notification {
            id: row.notification_id,
            event_id: row.event_id,
            channel: row.channel,
            user: UserId::from_store(&row.user_id),
            order: OrderId(row.order_id),
            status: row.status,
            told: told(&row.outcome)?,
            attempts: attempts(row.attempts)?,
            reason: row.reason,
            at: row.attempted_at.into_time()?,
        })
    };
    rows.into_iter().map(notification).collect()
}

pub(super) fn known(rows: Vec<(String, String, String, i32)>) -> Result<Vec<Known>, StoreError> {
    let known = |(event_id, channel, outcome, tries): (String, String, String, i32)| {
        Ok(Known { event: event_id_of(&event_id)?, channel, told: told(&outcome)?, attempts: attempts(tries)? })
    };
    rows.into_iter().map(known).collect()
}

/// One that cannot be used is none: it may have been written by hand, and must not keep others from being told.
pub(super) fn contacts(rows: Vec<(String, String, String)>) -> Vec<(UserId, Contact)> {
    let contact = |(user, email, locale): (String, String, String)| {
        let contact = Email::parse(&email).ok().zip(Locale::parse(&locale));
        let Some((email, locale)) = contact else {
            tracing::warn!(user, locale, "the contact of this user cannot be used");
            return None;
        };
        Some((UserId::from_store(&user), Contact { email, locale }))
    };
    rows.into_iter().filter_map(contact).collect()
}

pub(super) fn event_id_of(text: &str) -> Result<EventId, StoreError> {
    EventId::parse(text).ok_or_else(|| corrupt("an event id that is none"))
}

fn told(text: &str) -> Result<Told, StoreError> {
    Told::parse(text).ok_or_else(|| corrupt("an unknown outcome"))
}

fn attempts(number: i32) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| corrupt("a negative number of attempts"))
}

pub(super) fn shelves(rows: Vec<ShelfRow>) -> Vec<(Sku, Shelf)> {
    let shelf = |row: ShelfRow| {
        let warehouse = WarehouseId(row.warehouse_id);
        (Sku::from_store(&row.sku), Shelf { warehouse, on_hand: row.on_hand, reserved: row.reserved })
    };
    rows.into_iter().map(shelf).collect()
}

pub(super) fn status(text: &str) -> Result<Status, StoreError> {
    Status::parse(text).ok_or_else(|| corrupt("an unknown status"))
}

pub(super) fn count(units: i32) -> Result<Count, StoreError> {
    Count::new(i64::from(units)).map_err(|_| corrupt("a count out of range"))
}

pub(super) fn outcome(fingerprint: &[u8], outcome: &str) -> Result<super::StoredOutcome, StoreError> {
    let fingerprint = fingerprint.try_into().map_err(|_| corrupt("a fingerprint of the wrong length"))?;
    let outcome = serde_json::from_str(outcome).map_err(|error| corrupt(error.to_string()))?;
    Ok(super::StoredOutcome { fingerprint, outcome })
}

pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}

/// Rows of one SKU are one item: their counts add up, their warehouses are its allocations.
fn add_line(items: &mut Vec<Item>, line: OrderLineRow) -> Result<(), StoreError> {
    let units = count(line.count)?;
    let allocation = line.warehouse_id.map(|id| Allocation { warehouse: WarehouseId(id), count: units });
    match items.last_mut().filter(|item| item.sku.as_str() == line.sku) {
        Some(item) => {
            item.count = item.count.checked_add(units).map_err(|_| corrupt("a count out of range"))?;
            item.allocations.extend(allocation);
        }
        None => items.push(Item {
            sku: Sku::from_store(&line.sku),
            name: line.name.into(),
            price: Money(line.price),
            count: units,
            allocations: allocation.into_iter().collect(),
        }),
    }
    Ok(())
}
