//! Events that a notifier has in hand: while it tells of them, other notifiers leave them alone.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::EventId;
use crate::store::{NotificationLog, StoreError, WRITER_DEAD_AFTER_MS, in_time};

use super::insist;

/// A notifier that has prolonged nothing for this long is dead, as a writer would be.
const TIME_TO_LIVE: Duration = Duration::from_millis(WRITER_DEAD_AFTER_MS.unsigned_abs());
const PROLONG_EVERY: Duration = Duration::from_secs(3);

/// Dropped without a release, it ends after its time to live.
pub(super) struct Lease<'a> {
    log: &'a dyn NotificationLog,
    holder: i64,
    events: Vec<EventId>,
    held_until: Mutex<Instant>,
}

impl<'a> Lease<'a> {
    /// Takes those of the events that no other notifier has in hand.
    pub async fn take(log: &'a dyn NotificationLog, events: &[EventId]) -> Result<Self, StoreError> {
        let (holder, held_until) = (rand::random(), Instant::now() + TIME_TO_LIVE);
        let events = in_time(log.lease(events, holder, TIME_TO_LIVE)).await?;
        Ok(Self { log, holder, events, held_until: Mutex::new(held_until) })
    }

    pub fn events(&self) -> HashSet<EventId> {
        self.events.iter().copied().collect()
    }

    /// Not where it could not be prolonged, or its process was halted: others may have the events.
    pub fn is_held(&self) -> bool {
        Instant::now() < *self.held_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work, and prolongs the lease meanwhile.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let prolonging = async {
            loop {
                tokio::time::sleep(PROLONG_EVERY).await;
                self.prolong().await;
            }
        };
        tokio::select! {
            done = work => done,
            never = prolonging => never,
        }
    }

    async fn prolong(&self) {
        let held_until = Instant::now() + TIME_TO_LIVE;
        match in_time(self.log.lease(&self.events, self.holder, TIME_TO_LIVE)).await {
            Ok(events) if events.len() == self.events.len() => {
                *self.held_until.lock().unwrap_or_else(PoisonError::into_inner) = held_until;
            }
            Ok(_) => tracing::warn!("another notifier has taken over events that are in hand"),
            Err(error) => tracing::warn!(%error, "a lease of events cannot be prolonged; trying again"),
        }
    }

    pub async fn release(self) {
        insist(|| in_time(self.log.release(&self.events, self.holder))).await;
    }
}
