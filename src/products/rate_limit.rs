//! At most so many calls in any second.
//!
//! Remembers when the last calls went out, so no second, wherever it starts, sees more than the
//! limit, and a burst up to the limit goes out at once. A token bucket gives one or the other:
//! with a bucket of ten, the first second sees twenty calls, which a service that counts will
//! answer with 429; with a bucket of one, the five lines of a cart wait for each other.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(1);

pub struct RateLimit {
    calls_per_second_max: usize,
    /// When the last calls were let go, or will be; ascending, at most `calls_per_second_max`.
    granted: Mutex<VecDeque<Instant>>,
}

impl RateLimit {
    pub fn new(calls_per_second_max: usize) -> Self {
        Self { calls_per_second_max: calls_per_second_max.max(1), granted: Mutex::default() }
    }

    /// When a call that is asked for now could go.
    pub fn next_free(&self, now: Instant) -> Instant {
        self.after(&self.granted(), now)
    }

    /// The moment at which a call may go, in the order of asking; none where that is too late.
    pub fn reserve(&self, now: Instant, latest: Instant) -> Option<Instant> {
        let mut granted = self.granted();
        let moment = self.after(&granted, now);
        if moment > latest {
            return None;
        }
        if granted.len() == self.calls_per_second_max {
            granted.pop_front();
        }
        granted.push_back(moment);
        Some(moment)
    }

    fn after(&self, granted: &VecDeque<Instant>, now: Instant) -> Instant {
        match granted.front() {
            Some(&oldest) if granted.len() == self.calls_per_second_max => now.max(oldest + WINDOW),
            _ => now,
        }
    }

    fn granted(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        // Nothing under this lock can panic half-way, so what it guards is whole.
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_sees_more_calls_than_the_limit() {
        let start = Instant::now();
        let rate_limit = RateLimit::new(10);
        let mut moments = Vec::new();
        for millisecond in 0..5_000 {
            let now = start + Duration::from_millis(millisecond);
            moments.extend(rate_limit.reserve(now, now));
        }
        assert_eq!(moments.len(), 50, "the whole limit can be used");
        for window in moments.windows(11) {
            assert!(window[10] - window[0] >= WINDOW);
        }
    }

    #[test]
    fn a_burst_up_to_the_limit_goes_at_once_and_the_next_call_waits() {
        let now = Instant::now();
        let rate_limit = RateLimit::new(3);
        let latest = now + Duration::from_secs(2);
        for _ in 0..3 {
            assert_eq!(rate_limit.reserve(now, latest), Some(now));
        }
        assert_eq!(rate_limit.next_free(now), now + WINDOW);
        assert_eq!(rate_limit.reserve(now, now), None, "it would have to wait");
        assert_eq!(rate_limit.reserve(now, latest), Some(now + WINDOW), "a refusal takes no place");
    }
}
