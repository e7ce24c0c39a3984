//! Whether this process writes alone: only then is what it remembers of a cart what the database has.
//!
//! A process that writes has a place in `writers` until it gives it back. Who looks and finds no place
//! but its own holds a lease for half a second from the beginning of the look, and looks again long before
//! that. Who starts and finds another's place waits for as long before it writes a cart: by then each other
//! process has seen the new place, or its lease has ended. A place that nobody has touched while this process
//! looked on for fifteen seconds is a dead process's, and is taken from it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::clock::{Clock, Moment};
use crate::store::{OtherWriter, WRITER_DEAD_AFTER_MS, in_time};

use super::Core;
use super::journal::Health;

/// How long it is relied on that nobody else was there.
const LEASE: Duration = Duration::from_millis(500);
const LOOK_PAUSE_MS: u64 = 200;
/// After so many looks at a place that stays as it is, its process is dead.
const LOOKS_UNTIL_DEAD: u64 = WRITER_DEAD_AFTER_MS.unsigned_abs() / LOOK_PAUSE_MS;

/// Holds as long as nobody else writes. Cheap to clone; all clones are one lease.
#[derive(Clone)]
pub struct Lease {
    owner: i64,
    clock: Arc<dyn Clock>,
    /// When all others know of this process.
    known_at: Instant,
    held: Arc<Mutex<Held>>,
}

struct Held {
    term: u64,
    until: Moment,
}

/// A time in which nobody else wrote at any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term(u64);

impl Lease {
    /// Of the process that has just got its place, as this owner; not held yet.
    #[must_use]
    pub fn new(owner: i64, found_others: bool, clock: Arc<dyn Clock>) -> Self {
        let until = Moment::now(&*clock);
        let known_at = Instant::now() + if found_others { LEASE } else { Duration::ZERO };
        Self { owner, clock, known_at, held: Arc::new(Mutex::new(Held { term: 0, until })) }
    }

    /// Returns once no other process relies on writing alone.
    pub async fn known_to_all(&self) {
        if Instant::now() < self.known_at {
            sleep_until(self.known_at).await;
        }
    }

    /// The term while the lease is held.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        let held = self.held();
        self.now().is_before(held.until).then_some(Term(held.term))
    }

    /// Nobody else was there at some moment after this one.
    fn renew(&self, looked_at: Moment) {
        let mut held = self.held();
        if !looked_at.is_before(held.until) {
            held.term += 1;
        }
        held.until = looked_at + LEASE;
    }

    /// From now on it counts what is read from now on: something was written of which not everybody hears who
    /// remembers what was before it.
    pub fn begin_term(&self) {
        self.held().term += 1;
    }

    fn end(&self) {
        let (mut held, now) = (self.held(), self.now());
        if now.is_before(held.until) {
            held.until = now;
        }
    }

    fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for others until the process ends.
pub async fn keep(core: Arc<Core>, health: Arc<Health>) {
    let mut looks = HashMap::new();
    loop {
        let looked_at = core.lease.now();
        match others(&core).await {
            Some(others) => {
                if others.is_empty() {
                    core.lease.renew(looked_at);
                } else {
                    core.lease.end();
                }
                looks.retain(|other, _| others.contains(other));
                for other in others {
                    *looks.entry(other).or_insert(0) += 1;
                }
            }
            None => looks.clear(),
        }
        if !health.available.load(Ordering::Relaxed) {
            // Where this process cannot write, others cannot be blamed for it.
            looks.clear();
        }
        for (dead, _) in looks.extract_if(|_, looks| *looks > LOOKS_UNTIL_DEAD) {
            dismiss(&core, dead).await;
        }
        sleep(Duration::from_millis(LOOK_PAUSE_MS)).await;
    }
}

/// `None` where the database does not tell.
async fn others(core: &Core) -> Option<Vec<OtherWriter>> {
    let (store, owner) = (Arc::clone(&core.store), core.lease.owner);
    let looked = core.io.spawn(async move { in_time(store.other_writers(owner)).await }).await.ok()?;
    looked.inspect_err(|error| tracing::debug!(%error, "it could not be looked for other processes")).ok()
}

async fn dismiss(core: &Core, dead: OtherWriter) {
    tracing::warn!(writer.id = dead.writer_id, "a process that wrote is dead; its place is taken from it");
    let store = Arc::clone(&core.store);
    let dismissed = core.io.spawn(async move { in_time(store.dismiss_writer(&dead)).await }).await;
    if let Ok(Err(error)) = dismissed {
        tracing::debug!(%error, "the place could not be taken");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::clock::SystemClock;
    use crate::domain::Time;

    fn lease(found_others: bool) -> Lease {
        Lease::new(1, found_others, Arc::new(SystemClock))
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_slept_begins_a_new_term() {
        struct Slept(AtomicBool);
        impl Clock for Slept {
            fn now(&self) -> Time {
                let slept = i64::from(self.0.load(Ordering::Relaxed));
                SystemClock.now() + chrono::TimeDelta::hours(slept)
            }
        }
        let clock = Arc::new(Slept(AtomicBool::new(false)));
        let lease = Lease::new(1, false, Arc::clone(&clock) as _);
        lease.renew(lease.now());
        let before = lease.term();
        assert!(before.is_some());
        clock.0.store(true, Ordering::Relaxed);
        assert_eq!(lease.term(), None, "others may have written meanwhile");
        lease.renew(lease.now());
        assert!(lease.term().is_some() && lease.term() != before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_lasts_as_long_as_looks_follow_in_time() {
        let lease = lease(false);
        assert_eq!(lease.term(), None, "nobody has looked");
        lease.renew(lease.now());
        let first = lease.term();
        assert!(first.is_some());
        sleep(LEASE - Duration::from_millis(1)).await;
        assert_eq!(lease.term(), first);
        lease.renew(lease.now());
        sleep(LEASE - Duration::from_millis(1)).await;
        assert_eq!(lease.term(), first, "no gap");
        sleep(Duration::from_millis(1)).await;
        assert_eq!(lease.term(), None, "it ends by itself");
        lease.renew(lease.now());
        assert!(lease.term().is_some() && lease.term() != first, "somebody may have written meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_found_ends_the_term_and_a_late_look_gives_none() {
        let lease = lease(false);
        lease.renew(lease.now());
        let first = lease.term();
        lease.end();
        assert_eq!(lease.term(), None);
        let looked_at = lease.now();
        sleep(LEASE).await;
        lease.renew(looked_at);
        assert_eq!(lease.term(), None, "what was seen is too old");
        lease.renew(lease.now());
        assert_ne!(lease.term(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn who_found_others_waits_until_they_know() {
        let began = Instant::now();
        lease(false).known_to_all().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let lease = lease(true);
        lease.known_to_all().await;
        assert!(began.elapsed() >= LEASE);
        let waited = Instant::now();
        lease.known_to_all().await;
        assert_eq!(waited.elapsed(), Duration::ZERO);
    }
}
