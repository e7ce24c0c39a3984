//! The one place that reads the time, so that tests can move it.

use std::ops::Add;
use std::time::Duration;

use chrono::SubsecRound;
use tokio::time::Instant;

use crate::domain::Time;

pub trait Clock: Send + Sync + 'static {
    /// The present moment, UTC, in whole microseconds.
    fn now(&self) -> Time;
}

pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Time {
        chrono::Utc::now().trunc_subsecs(6)
    }
}

/// A moment by both clocks: only one goes on while a machine sleeps, and nobody sets the other one.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    steady: Instant,
    time: Time,
}

impl Moment {
    #[must_use]
    pub fn now(clock: &dyn Clock) -> Self {
        Self { steady: Instant::now(), time: clock.now() }
    }

    /// By both clocks: where either of them says that the other moment has come, it has.
    #[must_use]
    pub fn is_before(self, other: Self) -> bool {
        self.steady < other.steady && self.time < other.time
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self { steady: self.steady + later, time: self.time + later }
    }
}
