//! Panics planted from outside: a store and a clock that panic where a test says so. The program knows
//! nothing of them.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Thread, ThreadId};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use loms::clock::{Clock, SystemClock};
use loms::domain::cart::Cart;
use loms::domain::contact::Contact;
use loms::domain::order::Order;
use loms::domain::stock::Shelf;
use loms::domain::{EventId, Offer, OrderEvent, OrderId, Sku, Time, UserId};
use loms::store::notification_log::{Attempt, Known, Notification, NotificationFilter};
use loms::store::{
    Change, HistoryEntry, Key, NotificationLog, OpenError, OrderFilter, OtherWriter, Outbox, Store, StoreError,
    StoredOutcome, Verdict, WriteError, Writer, WriterIdentity,
};

/// Where a panic can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the Journal, before it hands a batch to the database.
    BeforeCommit,
    /// In the Journal, between the commit and the answers.
    AfterCommit,
    /// In a cart: the next one that is read has seen more edits than can be counted.
    Cart,
    /// In the StockKeeper: the next shelves that it is shown hold less than nothing.
    Shelves,
    /// Where the outbox relay looks which events may be told.
    Relay,
    /// Where a block of order ids is taken.
    OrderIds,
    /// Where an order is read.
    ReadOrder,
    /// No panic, but an error: what became of a key cannot be read.
    Outcome,
    /// Where the notifier in this process looks what is to be tried again.
    Notifier,
    /// Where an order looks at the clock: on a thread that serves requests.
    ClockOfWorkers,
    /// Where the minding of deadlines looks at the clock: on the main thread.
    ClockOfMain,
}

/// The panics that are planted and did not happen yet.
#[derive(Default)]
pub struct Traps {
    planted: Mutex<Vec<Place>>,
    /// Where the Journal lives.
    journal: OnceLock<ThreadId>,
    /// For so long the machine has slept: the clock has gone on, and timers have not.
    slept_ms: AtomicI64,
}

/// The thread on which [`super::in_process`] runs the program.
pub const MAIN_THREAD: &str = "program";

impl Traps {
    /// The next who comes there panics, once.
    pub fn plant(&self, place: Place) {
        self.planted.lock().unwrap_or_else(PoisonError::into_inner).push(place);
    }

    pub fn sleep(&self, time: Duration) {
        self.slept_ms.fetch_add(i64::try_from(time.as_millis()).expect("a short sleep"), Ordering::Relaxed);
    }

    pub fn is_sprung(&self, place: Place) -> bool {
        !self.planted.lock().unwrap_or_else(PoisonError::into_inner).contains(&place)
    }

    fn take(&self, place: Place) -> bool {
        let mut planted = self.planted.lock().unwrap_or_else(PoisonError::into_inner);
        let at = planted.iter().position(|planted| *planted == place);
        at.map(|at| planted.remove(at)).is_some()
    }

    fn is_worker(&self, thread: &Thread) -> bool {
        thread.name().is_some_and(|name| name.starts_with("actix-rt")) && self.journal.get() != Some(&thread.id())
    }

    fn pass(&self, place: Place) {
        assert!(!self.take(place), "planted: {place:?}");
    }
}

pub struct TrappedClock(pub Arc<Traps>);

impl Clock for TrappedClock {
    fn now(&self) -> Time {
        let thread = std::thread::current();
        if thread.name() == Some(MAIN_THREAD) {
            self.0.pass(Place::ClockOfMain);
        } else if self.0.is_worker(&thread) {
            self.0.pass(Place::ClockOfWorkers);
        }
        SystemClock.now() + TimeDelta::milliseconds(self.0.slept_ms.load(Ordering::Relaxed))
    }
}

/// Stands before a real store.
pub struct TrappedStore {
    pub store: Arc<dyn Store>,
    pub traps: Arc<Traps>,
}

struct TrappedWriter {
    writer: Box<dyn Writer>,
    traps: Arc<Traps>,
}

impl TrappedStore {
    fn guard(&self, writer: Box<dyn Writer>) -> Box<dyn Writer> {
        Box::new(TrappedWriter { writer, traps: Arc::clone(&self.traps) })
    }
}

#[async_trait]
impl Writer for TrappedWriter {
    fn last_batch(&self) -> i64 {
        self.writer.last_batch()
    }

    fn last_event(&self) -> i64 {
        self.writer.last_event()
    }

    fn keep_published(&mut self, seq: i64) {
        self.writer.keep_published(seq);
    }

    fn found_others(&self) -> bool {
        self.writer.found_others()
    }

    async fn write(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError> {
        // An idle writer's sign of life is no batch.
        let counts = !changes.is_empty();
        if counts {
            self.traps.pass(Place::BeforeCommit);
        }
        let written = self.writer.write(changes, now).await;
        if counts {
            self.traps.pass(Place::AfterCommit);
        }
        written
    }

    async fn shelves(&mut self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        let mut shelves = self.writer.shelves(skus).await?;
        if self.traps.take(Place::Shelves) {
            shelves.iter_mut().for_each(|(_, shelf)| (shelf.on_hand, shelf.reserved) = (i64::MIN, 1));
        }
        Ok(shelves)
    }

    async fn close(self: Box<Self>) {
        self.writer.close().await;
    }
}

#[async_trait]
impl Store for TrappedStore {
    async fn migrate(&self) -> Result<(), OpenError> {
        self.store.migrate().await
    }

    async fn open_writer(&self, owner: i64, now: Time) -> Result<(WriterIdentity, Box<dyn Writer>), StoreError> {
        self.traps.journal.get_or_init(|| std::thread::current().id());
        let (identity, writer) = self.store.open_writer(owner, now).await?;
        Ok((identity, self.guard(writer)))
    }

    async fn reopen_writer(&self, identity: WriterIdentity, now: Time) -> Result<Option<Box<dyn Writer>>, StoreError> {
        Ok(self.store.reopen_writer(identity, now).await?.map(|writer| self.guard(writer)))
    }

    async fn other_writers(&self, owner: i64) -> Result<Vec<OtherWriter>, StoreError> {
        self.store.other_writers(owner).await
    }

    async fn dismiss_writer(&self, seen: &OtherWriter) -> Result<(), StoreError> {
        self.store.dismiss_writer(seen).await
    }

    async fn take_order_ids(&self, count: i64) -> Result<Range<i64>, StoreError> {
        self.traps.pass(Place::OrderIds);
        self.store.take_order_ids(count).await
    }

    async fn cart(&self, user: &UserId) -> Result<Cart, StoreError> {
        let mut cart = self.store.cart(user).await?;
        if self.traps.take(Place::Cart) {
            cart.version = i64::MAX;
        }
        Ok(cart)
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        self.traps.pass(Place::ReadOrder);
        self.store.order(id).await
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<Order>, StoreError> {
        self.store.orders(filter).await
    }

    async fn history(&self, id: OrderId) -> Result<Vec<HistoryEntry>, StoreError> {
        self.store.history(id).await
    }

    async fn awaiting_payment(
        &self,
        after: (Time, OrderId),
        until: Time,
        limit: u32,
    ) -> Result<Vec<Order>, StoreError> {
        self.store.awaiting_payment(after, until, limit).await
    }

    async fn shelves(&self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        self.store.shelves(skus).await
    }

    async fn shelves_after(&self, after: Option<&(Sku, Shelf)>, limit: u32) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        self.store.shelves_after(after, limit).await
    }

    async fn outcome(&self, key: &Key) -> Result<Option<StoredOutcome>, StoreError> {
        if self.traps.take(Place::Outcome) {
            return Err(StoreError::TimedOut);
        }
        self.store.outcome(key).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.store.is_empty().await
    }

    async fn differences(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        self.store.differences(limit).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

#[async_trait]
impl Outbox for TrappedStore {
    async fn published(&self, writer: i32) -> Result<EventId, StoreError> {
        self.store.published(writer).await
    }

    async fn last_events(&self) -> Result<Vec<EventId>, StoreError> {
        self.store.last_events().await
    }

    async fn events_after(&self, after: EventId, limit: u32) -> Result<Vec<OrderEvent>, StoreError> {
        self.store.events_after(after, limit).await
    }

    async fn ready(&self, events: &[OrderEvent]) -> Result<usize, StoreError> {
        self.traps.pass(Place::Relay);
        self.store.ready(events).await
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<OrderEvent>, StoreError> {
        self.store.events(ids).await
    }

    async fn abandoned(&self, now: Time, heir: i32) -> Result<Vec<EventId>, StoreError> {
        self.store.abandoned(now, heir).await
    }

    async fn mark_published(&self, up_to: EventId) -> Result<(), StoreError> {
        self.store.mark_published(up_to).await
    }
}

#[async_trait]
impl NotificationLog for TrappedStore {
    async fn lease(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<Vec<EventId>, StoreError> {
        self.store.lease(events, holder, time_to_live).await
    }

    async fn prolong(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<bool, StoreError> {
        self.store.prolong(events, holder, time_to_live).await
    }

    async fn release(&self, events: &[EventId], holder: i64) -> Result<(), StoreError> {
        self.store.release(events, holder).await
    }

    async fn known(&self, events: &[EventId]) -> Result<Vec<Known>, StoreError> {
        self.store.known(events).await
    }

    async fn untold(&self, after: EventId, until: i64) -> Result<Vec<EventId>, StoreError> {
        self.store.untold(after, until).await
    }

    async fn record(&self, attempts: &[Attempt<'_>], offer: Offer) -> Result<(), StoreError> {
        self.store.record(attempts, offer).await
    }

    async fn due(&self, now: Time, heir: i32, channels: &[&str], limit: u32) -> Result<Vec<EventId>, StoreError> {
        self.traps.pass(Place::Notifier);
        self.store.due(now, heir, channels, limit).await
    }

    async fn notifications(&self, filter: &NotificationFilter) -> Result<Vec<Notification>, StoreError> {
        self.store.notifications(filter).await
    }

    async fn contacts(&self, users: &[UserId]) -> Result<Vec<(UserId, Contact)>, StoreError> {
        self.store.contacts(users).await
    }

    async fn set_contact(&self, user: &UserId, contact: &Contact, now: Time) -> Result<(), StoreError> {
        self.store.set_contact(user, contact, now).await
    }
}
