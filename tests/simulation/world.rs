//! What everybody in a simulation shares: chance, time, the trace of what has happened, and the first
//! thing that was found wrong.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::TimeDelta;
use loms::clock::Clock;
use loms::domain::Time;
use tokio::time::Instant;

use crate::random::Random;

pub struct World {
    pub random: Random,
    pub clock: Arc<SimulatedClock>,
    pub trace: Trace,
    failure: Mutex<Option<String>>,
    failed: AtomicBool,
}

impl World {
    pub fn new(seed: u64, told: bool) -> Arc<Self> {
        let clock = Arc::new(SimulatedClock::new());
        let trace = Trace { hash: AtomicU64::new(Trace::START), told, clock: Arc::clone(&clock) };
        Arc::new(Self {
            random: Random::new(seed),
            clock,
            trace,
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    /// Something is wrong: the simulation ends here.
    pub fn fail(&self, what: impl fmt::Display) {
        self.trace.note(format_args!("WRONG: {what}"));
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| format!("after {}: {what}", self.clock.elapsed()));
        self.failed.store(true, Ordering::Relaxed);
    }

    pub fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The runtime's paused time, with a microsecond between two readings of one moment.
pub struct SimulatedClock {
    start: Instant,
    /// Milliseconds and microseconds of the last reading.
    last: Mutex<(i64, i64)>,
}

impl SimulatedClock {
    fn new() -> Self {
        Self { start: Instant::now(), last: Mutex::default() }
    }

    fn elapsed(&self) -> Elapsed {
        Elapsed(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Time {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = if last.0 == elapsed { 999.min(last.1 + 1) } else { 0 };
        *last = (elapsed, micros);
        let epoch = Time::from_timestamp(1_700_000_000, 0).unwrap_or_default();
        epoch + TimeDelta::milliseconds(elapsed) + TimeDelta::microseconds(micros)
    }
}

struct Elapsed(u64);

impl fmt::Display for Elapsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>4}.{:03} s", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Everything that has happened, as one number; and as text, where somebody reads it.
pub struct Trace {
    hash: AtomicU64,
    told: bool,
    clock: Arc<SimulatedClock>,
}

impl Trace {
    /// Of FNV-1a.
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;

    pub fn note(&self, what: impl fmt::Display) {
        let line = format!("{} {what}", self.clock.elapsed());
        if self.told {
            eprintln!("{line}");
        }
        self.step(&line);
    }

    pub fn step(&self, what: &str) {
        let mut hash = self.hash.load(Ordering::Relaxed);
        for byte in what.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(Self::PRIME);
        }
        self.hash.store(hash, Ordering::Relaxed);
    }

    pub fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }
}
