//! An event to send and somebody to send it to, for the tests of the channels.

use crate::domain::contact::{Contact, Email, Locale};
use crate::domain::order::{Item, Status};
use crate::domain::{Count, EventId, EventKind, Money, OrderEvent, OrderId, Sku, Time, UserId};

pub fn event(status: Status) -> OrderEvent {
    OrderEvent {
        kind: EventKind::StatusChanged,
        id: EventId { writer: 3, seq: 42 },
        order: OrderId(17),
        user: UserId::parse("ann").expect("a valid user"),
        status,
        reason: None,
        at: Time::from_timestamp_micros(1_764_000_000_123_456).expect("in range"),
        version: 2,
        items: [item("Lamp", 89_000, 2), item("Лампочка", 150, 10)].into(),
        total: Money(179_500),
    }
}

pub fn item(name: &str, price: i64, count: i64) -> Item {
    Item {
        sku: Sku::parse("A").expect("a valid SKU"),
        name: name.into(),
        price: Money(price),
        count: Count::new(count).expect("a valid count"),
        allocations: Vec::new(),
    }
}

pub fn contact(locale: Locale) -> Contact {
    Contact { email: Email::parse("ann@shop.example").expect("a valid address"), locale }
}
