//! A status change of an order, as it is told to others.

use super::order::{Item, Order, Status};
use super::{Money, OrderId, Time, UserId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    pub id: EventId,
    pub order: OrderId,
    pub user: UserId,
    /// The status that the order then had.
    pub status: Status,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    pub at: Time,
    /// How many statuses the order then had had.
    pub version: i32,
    pub items: Vec<Item>,
    pub total: Money,
}

/// An event's number among those of the writer that wrote it; unique in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    pub writer: i32,
    pub seq: i64,
}

impl OrderEvent {
    /// The events of the change that has led an order to this state, the first under this id: a
    /// placed order was new before.
    #[must_use]
    pub fn of_change(order: &Order, first: EventId) -> Vec<Self> {
        let event = |id, status, at, version| Self {
            id,
            order: order.id,
            user: order.user.clone(),
            status,
            reason: order.reason.clone().filter(|_| status != Status::New),
            at,
            version,
            items: order.items.clone(),
            total: order.total,
        };
        let is_placed = Self::is_placed(order);
        let mut events = Vec::with_capacity(2);
        if is_placed {
            events.push(event(first, Status::New, order.created_at, order.version - 1));
        }
        let id = EventId { seq: first.seq + i64::from(is_placed), ..first };
        events.push(event(id, order.status, order.updated_at, order.version));
        events
    }

    /// Whether the last change of the order was that it was placed.
    #[must_use]
    pub fn is_placed(order: &Order) -> bool {
        matches!(order.status, Status::AwaitingPayment | Status::Failed)
    }

    /// The status before; `None` for a new order.
    #[must_use]
    pub fn previous_status(&self) -> Option<Status> {
        match self.status {
            Status::New => None,
            Status::AwaitingPayment | Status::Failed => Some(Status::New),
            Status::Payed | Status::Cancelled => Some(Status::AwaitingPayment),
        }
    }
}

impl EventId {
    /// Reads `<writer>-<seq>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (writer, seq) = text.split_once('-')?;
        Some(Self { writer: writer.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.writer, self.seq)
    }
}
