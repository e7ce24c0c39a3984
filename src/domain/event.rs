//! What happens to an order, as it is told to others.

use std::sync::Arc;

use super::order::{Item, Order, Status};
use super::{Money, OrderId, Time, UserId};

/// The name of an event that is no change of status.
pub const PAYMENT_REFUSED: &str = "payment_refused";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    pub id: EventId,
    pub order: OrderId,
    pub user: UserId,
    pub kind: EventKind,
    /// The status that the order then had.
    pub status: Status,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    pub at: Time,
    /// How many statuses the order then had had.
    pub version: i32,
    pub items: Arc<[Item]>,
    pub total: Money,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    StatusChanged,
    /// Somebody has paid at or after the deadline, or for an order that has ended: the money must go
    /// back. Told once of an order.
    PaymentRefused,
}

/// How a change has led an order to the state that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was new before.
    Placed,
    Moved,
    PaymentRefused,
}

/// Whether events may have been offered to others before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Surely not: they were committed a moment ago, by the process that offers them.
    First,
    Again,
}

/// An event's number among those of the writer that wrote it; unique in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    pub writer: i32,
    pub seq: i64,
}

impl OrderEvent {
    /// How many events a step is.
    #[must_use]
    pub fn count_of(step: Step) -> i64 {
        if step == Step::Placed { 2 } else { 1 }
    }

    /// The events of the step that has led an order to this state, the first under this id.
    #[must_use]
    pub fn of_step(order: &Order, step: Step, first: EventId) -> Vec<Self> {
        let event = |id| Self {
            id,
            order: order.id,
            user: order.user.clone(),
            kind: EventKind::StatusChanged,
            status: order.status,
            reason: order.reason.clone(),
            at: order.updated_at,
            version: order.version,
            items: Arc::clone(&order.items),
            total: order.total,
        };
        let new = |id| Self {
            status: Status::New,
            reason: None,
            at: order.created_at,
            version: order.version - 1,
            ..event(id)
        };
        match step {
            Step::Placed => vec![new(first), event(EventId { seq: first.seq + 1, ..first })],
            Step::Moved => vec![event(first)],
            Step::PaymentRefused => {
                let at = order.payment_refused_at.unwrap_or(order.updated_at);
                vec![Self { kind: EventKind::PaymentRefused, reason: None, at, ..event(first) }]
            }
        }
    }

    /// What it is called: the status that the order came to, or `payment_refused`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            EventKind::StatusChanged => self.status.as_str(),
            EventKind::PaymentRefused => PAYMENT_REFUSED,
        }
    }

    /// The status before; `None` for a new order, and where the status stayed as it was.
    #[must_use]
    pub fn previous_status(&self) -> Option<Status> {
        if self.kind == EventKind::PaymentRefused {
            return None;
        }
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
