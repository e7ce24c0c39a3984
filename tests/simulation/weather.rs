//! What goes wrong on the way to the database and to the broker: how often is drawn once per
//! simulation, so that some are calm and some are nothing but trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use loms::store::STATEMENT_MS_MAX;
use tokio::time::{Duration, Instant};

use crate::memory::{Call, Mishap, Passage};
use crate::world::World;

/// Out of a thousand calls, so many fail; one of these is drawn for each kind of call.
const RATES: [u64; 6] = [0, 0, 5, 30, 100, 300];

pub struct Weather {
    world: Arc<World>,
    reads: u64,
    writes: u64,
    connects: u64,
    broker: u64,
    /// Calls that do not fail take up to so long.
    slow_ms_max: u64,
    start: Instant,
    database_back_ms: AtomicU64,
    broker_back_ms: AtomicU64,
    healed: AtomicBool,
}

/// How an offer of events to the broker, or of a message to a user, ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Taken,
    Refused,
    /// Some of it, or all, is taken, and nobody hears of it.
    Unconfirmed,
}

impl Weather {
    pub fn draw(world: Arc<World>) -> Self {
        let rate = || *world.random.pick(&RATES);
        let (reads, writes, connects, broker) = (rate(), rate(), rate(), rate());
        let slow_ms_max = *world.random.pick(&[5, 100, 1_000]);
        world.trace.note(format_args!(
            "weather: of 1000 fail {reads} reads, {writes} writes, {connects} connects, {broker} deliveries; \
             {slow_ms_max} ms at most"
        ));
        Self {
            world,
            reads,
            writes,
            connects,
            broker,
            slow_ms_max,
            start: Instant::now(),
            database_back_ms: AtomicU64::new(0),
            broker_back_ms: AtomicU64::new(0),
            healed: AtomicBool::new(false),
        }
    }

    /// From now on nothing fails, and nothing takes long.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    pub fn cut_database(&self, duration: Duration) {
        self.database_back_ms.store(self.after(duration), Ordering::Relaxed);
    }

    pub fn cut_broker(&self, duration: Duration) {
        self.broker_back_ms.store(self.after(duration), Ordering::Relaxed);
    }

    fn after(&self, duration: Duration) -> u64 {
        u64::try_from((self.start.elapsed() + duration).as_millis()).unwrap_or(u64::MAX)
    }

    fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    fn is_cut(&self, back_ms: &AtomicU64) -> bool {
        !self.is_healed() && self.after(Duration::ZERO) < back_ms.load(Ordering::Relaxed)
    }

    pub fn passage(&self, call: Call) -> Passage {
        let random = &self.world.random;
        if self.is_healed() {
            return Passage { there_ms: random.delay_ms(3), back_ms: random.delay_ms(3), ..Passage::default() };
        }
        let max = self.slow_ms_max;
        let mut passage =
            Passage { there_ms: random.delay_ms(max), held_ms: 0, back_ms: random.delay_ms(max), mishap: None };
        if call == Call::Write && random.chance(200) {
            passage.held_ms = random.delay_ms(max);
        }
        let rate = match call {
            Call::Read => self.reads,
            Call::Write => self.writes,
            Call::Connect => self.connects,
        };
        if self.is_cut(&self.database_back_ms) {
            // What it has received before, it may still carry out.
            let unheard = if call == Call::Write { Mishap::Unheard } else { Mishap::Refused };
            passage.mishap = Some(*random.pick(&[Mishap::Refused, Mishap::Swallowed, unheard]));
        } else if random.chance(rate) {
            use Mishap::{AnswerLost, CommitLost, Refused, Swallowed, Unheard};
            passage.mishap = Some(*random.pick(&[Refused, Unheard, Swallowed, AnswerLost, CommitLost]));
        }
        if passage.mishap.is_some() && random.chance(300) {
            // The network takes its time to fail. Each end has its limit.
            passage.there_ms = random.between(0, STATEMENT_MS_MAX - 2_500);
            passage.held_ms = random.between(0, 1_000);
            passage.back_ms = random.between(0, 1_000);
        }
        passage
    }

    pub fn delivery(&self) -> (u64, Delivery) {
        let random = &self.world.random;
        if self.is_healed() {
            return (random.delay_ms(3), Delivery::Taken);
        }
        if self.is_cut(&self.broker_back_ms) {
            return (random.delay_ms(2_000), Delivery::Refused);
        }
        let how = match random.chance(self.broker) {
            true => *random.pick(&[Delivery::Refused, Delivery::Unconfirmed]),
            false => Delivery::Taken,
        };
        (random.delay_ms(self.slow_ms_max), how)
    }

    /// Whether the broker brings a message again that it need not.
    pub fn duplicates(&self) -> bool {
        !self.is_healed() && self.world.random.chance(self.broker)
    }
}
