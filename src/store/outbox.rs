//! What a writer has written and others have not heard of yet: the events after its cursor.

use async_trait::async_trait;

use crate::domain::{EventId, OrderEvent, Time};

use super::StoreError;

#[async_trait]
pub trait Outbox: Send + Sync {
    /// A writer's cursor: its last event that was published.
    async fn published(&self, writer: i32) -> Result<EventId, StoreError>;

    /// The last event of each writer, whoever has heard of it.
    async fn last_events(&self) -> Result<Vec<EventId>, StoreError>;

    /// The same writer's events after the given one, in their order.
    async fn events_after(&self, after: EventId, limit: u32) -> Result<Vec<OrderEvent>, StoreError>;

    /// These events, of which each is known by its id.
    async fn events(&self, ids: &[EventId]) -> Result<Vec<OrderEvent>, StoreError>;

    /// The cursors of dead writers that have events which were not published.
    async fn abandoned(&self, now: Time) -> Result<Vec<EventId>, StoreError>;

    /// Moves the cursor of a dead writer on to this event. A living writer moves its own, with its
    /// batches.
    async fn mark_published(&self, up_to: EventId) -> Result<(), StoreError>;
}
