//! What a writer has written and others have not heard of yet: the events after its cursor.

use async_trait::async_trait;

use crate::domain::{EventId, EventKind, OrderEvent, Time};

use super::StoreError;

#[async_trait]
pub trait Outbox: Send + Sync {
    /// A writer's cursor: its last event that was published.
    async fn published(&self, writer: i32) -> Result<EventId, StoreError>;

    /// The last event of each writer, whoever has heard of it.
    async fn last_events(&self) -> Result<Vec<EventId>, StoreError>;

    /// The same writer's events after the given one, in their order.
    async fn events_after(&self, after: EventId, limit: u32) -> Result<Vec<OrderEvent>, StoreError>;

    /// How many of one writer's events, from the first, may be told: the next is about an order of which
    /// another writer's earlier event was not published yet.
    async fn ready(&self, events: &[OrderEvent]) -> Result<usize, StoreError>;

    /// These events, of which each is known by its id.
    async fn events(&self, ids: &[EventId]) -> Result<Vec<OrderEvent>, StoreError>;

    /// The cursors of dead writers, and of places that were given back, with events that were not published; but only
    /// for their heir, the living writer with the lowest number, so that no two tell the same.
    async fn abandoned(&self, now: Time, heir: i32) -> Result<Vec<EventId>, StoreError>;

    /// Moves the cursor of a dead writer on to this event. A living writer moves its own, with its
    /// batches.
    async fn mark_published(&self, up_to: EventId) -> Result<(), StoreError>;
}

/// What an order came to at versions below this one is told before the event.
pub fn told_after(event: &OrderEvent) -> i32 {
    event.version + i32::from(event.kind == EventKind::PaymentRefused)
}

/// As many events as stand before the one at the position that the database found.
pub(super) fn before(position: Option<i64>, events: &[OrderEvent]) -> usize {
    position.and_then(|position| usize::try_from(position).ok()).unwrap_or(events.len())
}
