//! The one place that reads the time, so that tests can move it.

use chrono::SubsecRound;

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
