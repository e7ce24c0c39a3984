//! The broker, and the program behind it that tells users: it takes events or does not, loses the
//! confirmation, brings messages twice, and brings again whatever was not acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use loms::domain::contact::Contact;
use loms::domain::order::Status;
use loms::domain::{EventId, EventKind, Offer, OrderEvent};
use loms::notifications::broker::BrokerError;
use loms::notifications::channels::{Channel, ChannelError, Delivery as Told};
use loms::notifications::notifier::{Notifier, Source, Verdict};
use loms::notifications::{Outlet, OutletError};
use loms::store::notification_log;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::memory::{Database, Network as _};
use crate::process::Link;
use crate::weather::{Delivery, Weather};
use crate::world::World;

/// How many messages the consumer has at once.
const PREFETCH: usize = 5;
pub const CHANNEL: &str = "letter";

pub struct Broker {
    world: Arc<World>,
    pub weather: Arc<Weather>,
    database: Arc<Database>,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    taken: BTreeSet<EventId>,
    queue: VecDeque<OrderEvent>,
    /// The number of the consumer that the broker knows.
    consumer: u32,
    /// With that consumer, not acknowledged.
    unacknowledged: Vec<OrderEvent>,
    /// Letters that went out, who sent them, if he still lives, and when he began.
    letters: BTreeMap<EventId, (u32, Instant)>,
}

impl Broker {
    pub fn new(world: Arc<World>, weather: Arc<Weather>, database: Arc<Database>) -> Self {
        Self { world, weather, database, state: Mutex::default(), arrived: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: &OrderEvent) {
        let mut state = self.state();
        if state.taken.insert(event.id) {
            self.check_order(event, &state.taken);
        }
        state.queue.push_back(event.clone());
        if self.weather.duplicates() {
            state.queue.push_back(event.clone());
        }
        self.arrived.notify_one();
    }

    /// What happened to the order before is taken before.
    fn check_order(&self, event: &OrderEvent, taken: &BTreeSet<EventId>) {
        let tables = self.database.tables();
        let version = if event.kind == EventKind::StatusChanged { event.version - 1 } else { event.version };
        let before = |other: &&OrderEvent| {
            other.order == event.order && other.version == version && other.kind == EventKind::StatusChanged
        };
        let Some(before) = tables.events.values().find(before).filter(|before| !taken.contains(&before.id)) else {
            return;
        };
        self.world
            .fail(format_args!("order {}: its event {} is published before {}", event.order, event.id, before.id));
    }

    pub fn has_taken(&self, event: EventId) -> bool {
        self.state().taken.contains(&event)
    }

    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.queue.is_empty() && state.unacknowledged.is_empty()
    }

    /// Gives the number of a consumer, which the broker takes for the only one: what the one before had comes again.
    pub fn new_consumer(&self) -> u32 {
        self.give_back();
        // The one before may be the one that waits for a message.
        self.arrived.notify_one();
        let mut state = self.state();
        state.consumer += 1;
        state.consumer
    }

    /// Whether he had recorded a letter, nobody can know any more.
    pub fn kill_consumer(&self, number: u32) {
        self.state().letters.retain(|_, (sender, _)| *sender != number);
    }

    fn give_back(&self) {
        let mut state = self.state();
        let unacknowledged = std::mem::take(&mut state.unacknowledged);
        for event in unacknowledged.into_iter().rev() {
            state.queue.push_front(event);
        }
    }

    fn knows(&self, consumer: u32) -> bool {
        self.state().consumer == consumer
    }

    /// Hands messages to the notifier, as long as the broker knows this consumer.
    pub async fn consume(&self, consumer: u32, notifier: Notifier) {
        while self.knows(consumer) {
            let events = {
                let mut state = self.state();
                let count = PREFETCH.min(state.queue.len());
                // Of copies that come together one is enough.
                let mut met = BTreeSet::new();
                state.unacknowledged = state.queue.drain(..count).filter(|event| met.insert(event.id)).collect();
                state.unacknowledged.clone()
            };
            if events.is_empty() {
                self.arrived.notified().await;
                continue;
            }
            let verdicts = notifier.notify(&events, Source::Broker).await;
            if !verdicts.as_ref().is_ok_and(|verdicts| !verdicts.contains(&Verdict::InHand)) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            match verdicts {
                _ if !self.knows(consumer) => {}
                Ok(verdicts) => self.acknowledge(verdicts),
                Err(_) => self.give_back(),
            }
        }
        // The message that woke it is for another one.
        self.arrived.notify_one();
    }

    /// What is to be tried again comes again; the pauses between do not matter here.
    fn acknowledge(&self, verdicts: Vec<Verdict>) {
        let mut state = self.state();
        let events = std::mem::take(&mut state.unacknowledged);
        let comes_again = |verdict: &Verdict| matches!(verdict, Verdict::Again { .. } | Verdict::InHand);
        let again = events.into_iter().zip(verdicts).filter(|(_, verdict)| comes_again(verdict));
        state.queue.extend(again.map(|(event, _)| event));
    }
}

/// A program's way to the broker.
pub struct Exchange {
    pub link: Arc<Link>,
    pub broker: Arc<Broker>,
}

#[async_trait]
impl Outlet for Exchange {
    async fn deliver(&mut self, events: &[OrderEvent], _: Offer) -> Result<(), OutletError> {
        let failed = || Err(OutletError::Broker(BrokerError::TimedOut));
        let world = &self.broker.world;
        let (delay_ms, how) = self.broker.weather.delivery();
        self.link.standing().await;
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        let taken = match how {
            Delivery::Taken => events.len(),
            Delivery::Refused => 0,
            Delivery::Unconfirmed => world.random.below(events.len() + 1),
        };
        for event in &events[..taken] {
            self.link.standing().await;
            self.broker.take(event);
            if world.random.chance(50) {
                tokio::task::yield_now().await;
            }
        }
        world.trace.note(format_args!("{} offers {} events: {taken} taken, {how:?}", self.link, events.len()));
        self.link.standing().await;
        if how == Delivery::Taken { Ok(()) } else { failed() }
    }

    async fn close(&mut self) {}
}

/// A channel that tells users by letters, of which each is counted.
pub struct Letters {
    pub broker: Arc<Broker>,
    pub sender: u32,
}

#[async_trait]
impl Channel for Letters {
    fn name(&self) -> &'static str {
        CHANNEL
    }

    async fn send(&self, event: &OrderEvent, _: Option<&Contact>) -> Result<Told, ChannelError> {
        let (broker, sender) = (&self.broker, self.sender);
        let world = &broker.world;
        world.check(event.status != Status::New, || format!("a letter about the new order {}", event.order));
        let (began, (delay_ms, how)) = (Instant::now(), broker.weather.delivery());
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        let told = broker.database.notifications().told(event.id, CHANNEL);
        world.check(told != Some(notification_log::Told::Sent), || format!("a second letter for event {}", event.id));
        match how {
            Delivery::Taken => {
                let before = broker.state().letters.insert(event.id, (sender, began));
                // Where the database was away for longer than a lease lasts, nobody can know of a letter that went out before.
                let taken_over = broker.database.notifications().taken_over(event.id);
                let is_excused = |(_, first): (u32, Instant)| taken_over.is_some_and(|at| first.min(began) <= at);
                world.check(before.is_none_or(is_excused), || {
                    let first = before.map(|(sender, _)| sender);
                    format!("a second letter for event {}: {first:?}, {sender}", event.id)
                });
                Ok(Told::Sent)
            }
            _ if world.random.chance(100) => Err(ChannelError::Never("no such address".to_owned())),
            _ => Err(ChannelError::Later("the post is closed".to_owned())),
        }
    }
}
