//! Events that a notifier has in hand: while it tells of them, other notifiers leave them alone.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::domain::EventId;
use crate::store::{NotificationLog, StoreError, WRITER_DEAD_AFTER_MS, in_time};

use super::insist;

/// A notifier that has prolonged nothing for this long is dead, as a writer would be.
const TIME_TO_LIVE: Duration = Duration::from_millis(WRITER_DEAD_AFTER_MS.unsigned_abs());
const PROLONG_EVERY: Duration = Duration::from_secs(3);

/// Dropped without a release, it ends after its time to live.
pub(super) struct Lease<'a> {
    log: &'a dyn NotificationLog,
    clock: &'a dyn Clock,
    holder: i64,
    events: Vec<EventId>,
    /// `None` once it was lost, for good: others may have told of the events since.
    ends_at: Mutex<Option<Moment>>,
}

impl<'a> Lease<'a> {
    /// Takes those of the events that no other notifier has in hand.
    pub async fn take(
        log: &'a dyn NotificationLog,
        clock: &'a dyn Clock,
        events: &[EventId],
    ) -> Result<Self, StoreError> {
        let (holder, ends_at) = (rand::random(), Moment::now(clock) + TIME_TO_LIVE);
        let events = in_time(log.lease(events, holder, TIME_TO_LIVE)).await?;
        Ok(Self { log, clock, holder, events, ends_at: Mutex::new(Some(ends_at)) })
    }

    pub fn events(&self) -> HashSet<EventId> {
        self.events.iter().copied().collect()
    }

    /// Not where it could not be prolonged in time, or its process was halted.
    pub fn is_held(&self) -> bool {
        let mut ends_at = self.ends_at();
        *ends_at = ends_at.filter(|end| Moment::now(self.clock).is_before(*end));
        ends_at.is_some()
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
        if !self.is_held() {
            return;
        }
        let end = Moment::now(self.clock) + TIME_TO_LIVE;
        match in_time(self.log.prolong(&self.events, self.holder, TIME_TO_LIVE)).await {
            Ok(true) => {
                let mut ends_at = self.ends_at();
                *ends_at = ends_at.map(|_| end);
            }
            Ok(false) => {
                tracing::warn!("another notifier has taken over events that were in hand");
                *self.ends_at() = None;
            }
            Err(error) => tracing::warn!(%error, "a lease of events cannot be prolonged; trying again"),
        }
    }

    pub async fn release(self) {
        insist(|| in_time(self.log.release(&self.events, self.holder))).await;
    }

    fn ends_at(&self) -> MutexGuard<'_, Option<Moment>> {
        self.ends_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
