//! A status change of an order, as it is told to others.

use super::order::{Item, Status};
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
