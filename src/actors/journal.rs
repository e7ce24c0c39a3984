//! The only writer. While one commit is in flight it gathers every change that arrives; when the
//! commit ends, it writes the next batch in one transaction and answers each sender.
//!
//! No timer and no artificial delay: a lone client waits for one commit, ten thousand share one.
//! A commit whose answer was lost is resolved from the writer's row before anybody is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::domain::order::Order;
use crate::domain::{Sku, Step};
use crate::store::{Change, Store, StoreError, Writer, WriterIdentity, in_time};

pub use super::batch::Health;
use super::batch::{Batch, Ended, Entry, Outcomes, Resources};
use super::lease::Lease;
use super::outbox_relay::Committed;
use super::stock_keeper::Settled;
use super::{ANSWER_MS_MAX, Answer, COMMANDS_UNDER_WAY_MAX};

/// The most changes in one batch.
const BATCH_CHANGES_MAX: usize = 512;
/// The most rows in one batch, save where a single change has more.
const BATCH_ROWS_MAX: usize = 20_000;
/// A batch that takes longer means that the database is away: new changes are refused at once. So they
/// are as soon as it was tried in vain to reach it.
const OUTAGE_MS_MAX: u64 = 2_000;
/// The same for a stock edit, which may have a hundred thousand rows: a little less than anybody waits for an answer.
const EDIT_MS_MAX: u64 = ANSWER_MS_MAX - 1_000;
/// How often the Journal looks whether the database is away.
const WATCH_MS: u64 = 250;
/// How often a writer shows that it lives of which nothing else is written.
const HEARTBEAT_MS: u64 = 5_000;

pub struct Journal {
    waiting: VecDeque<Entry>,
    /// SKUs whose shelves the StockKeeper wants to see as the database has them.
    to_refresh: Vec<Sku>,
    /// `None` while a batch is in flight.
    writer: Option<Box<dyn Writer>>,
    in_flight_since: Instant,
    /// When the writer's row was last written: a change that comes alone and is refused leaves it as it was.
    row_written_at: Instant,
    /// Whether it is a stock edit.
    edits_stock: bool,
    resources: Resources,
    stock_keeper: Option<Recipient<Settled>>,
    relay: Option<Recipient<Committed>>,
    /// The last event that the relay has published, and the one that the writer's row has.
    published: i64,
    published_kept: i64,
    closing: Option<oneshot::Sender<()>>,
    /// Dropped with the Journal, however it ends: then the process must end too.
    _lifeline: oneshot::Sender<()>,
}

/// A change, and where to tell what became of it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Write {
    pub change: Change,
    pub answer: Answer,
}

/// Asks for the shelves of these SKUs as the database has them, by [`Settled`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Refresh(pub Vec<Sku>);

/// Tells the Journal whom to tell what became of reservations.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Attach(pub Recipient<Settled>);

/// Tells the Journal whom to tell how far events are committed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Inform(pub Recipient<Committed>);

/// The relay has published the writer's events up to this one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Published(pub i64);

/// Writes what waits, closes the connection and ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close(pub oneshot::Sender<()>);

impl Journal {
    /// Starts on the current thread, which owns the writing connection from then on.
    /// `health` tells others how the database does; `lifeline` is dropped when the Journal ends.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not take another writer.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        health: Arc<Health>,
        lifeline: oneshot::Sender<()>,
    ) -> Result<(Addr<Self>, WriterIdentity, Lease), StoreError> {
        let (identity, writer) = in_time(store.open_writer(rand::random(), clock.now())).await?;
        let lease = Lease::new(identity.owner, writer.found_others(), Arc::clone(&clock));
        tracing::info!(writer.id = identity.writer_id, "writing to the database");
        health.available.store(true, Ordering::Relaxed);
        let journal = Self {
            waiting: VecDeque::new(),
            to_refresh: Vec::new(),
            writer: Some(writer),
            in_flight_since: Instant::now(),
            row_written_at: Instant::now(),
            edits_stock: false,
            resources: Resources { store, clock, identity, health, lease: lease.clone() },
            stock_keeper: None,
            relay: None,
            published: 0,
            published_kept: 0,
            closing: None,
            _lifeline: lifeline,
        };
        Ok((journal.start(), identity, lease))
    }

    /// Starts the next batch where none is in flight and something waits.
    fn pump(&mut self, context: &mut Context<Self>) {
        if !self.waiting.is_empty() || !self.to_refresh.is_empty() {
            self.start_batch(context);
        }
    }

    fn start_batch(&mut self, context: &mut Context<Self>) {
        let Some(writer) = self.writer.take() else { return };
        // A batch without changes is never refused.
        let entries = if self.is_silent() { Vec::new() } else { self.next_entries() };
        self.edits_stock = entries.iter().any(|entry| matches!(entry.change, Change::StockEdited { .. }));
        let batch = Batch {
            resources: self.resources.clone(),
            entries,
            to_refresh: std::mem::take(&mut self.to_refresh),
            published: self.published,
            stock_keeper: self.stock_keeper.clone(),
        };
        self.in_flight_since = Instant::now();
        context.spawn(batch.run(writer).into_actor(self).map(|ended, journal, context| journal.go_on(ended, context)));
    }

    /// The next batch goes first: while the database works on it, there is time to tell the outcomes of this one.
    fn go_on(&mut self, ended: Option<Ended>, context: &mut Context<Self>) {
        let Some(Ended { writer, mut outcomes, kept }) = ended else {
            tracing::error!("another process has taken over this writer's place; this one ends");
            return context.stop();
        };
        if let Some(published) = kept {
            (self.row_written_at, self.published_kept) = (Instant::now(), published);
        }
        self.inform(&*writer, outcomes.take_steps());
        self.writer = Some(writer);
        self.resources.health.available.store(true, Ordering::Relaxed);
        self.pump(context);
        let lease = self.resources.lease.clone();
        let told = async move { outcomes.tell(&lease) }.into_actor(self);
        context.spawn(told.map(|(), journal, context| journal.close_if_asked(context)));
    }

    /// The relay must hear of it: a full mailbox is no reason.
    fn inform(&self, writer: &dyn Writer, steps: Vec<(Arc<Order>, Step)>) {
        if let Some(relay) = &self.relay {
            relay.do_send(Committed { last: writer.last_event(), steps });
        }
    }

    /// Whether it has not shown for long that it lives.
    fn is_silent(&self) -> bool {
        self.row_written_at.elapsed() > Duration::from_millis(HEARTBEAT_MS)
    }

    /// Whoever has stopped waiting was told that nobody knows, or has gone: what is not written for him makes room for
    /// those who wait. So no more wait than may be under way.
    fn next_entries(&mut self) -> Vec<Entry> {
        let given_up = self.waiting.iter().take_while(|entry| entry.answer.is_closed()).count();
        if given_up > 0 {
            let given_up = self.waiting.drain(..given_up).collect();
            Outcomes::of_refusal(given_up, false, self.stock_keeper.clone()).tell(&self.resources.lease);
        }
        let mut entries = Vec::with_capacity(self.waiting.len().min(BATCH_CHANGES_MAX));
        let mut rows = 0;
        while let Some(entry) = self.waiting.front() {
            let alone = matches!(entry.change, Change::StockEdited { .. });
            rows += entry.change.rows();
            let full = entries.len() == BATCH_CHANGES_MAX || rows > BATCH_ROWS_MAX;
            if !entries.is_empty() && (alone || full) {
                break;
            }
            entries.extend(self.waiting.pop_front());
            if alone {
                break;
            }
        }
        entries
    }

    /// The database is away: whoever waits is told now, and nothing more is taken until it is back.
    fn watch(&mut self, context: &mut Context<Self>) {
        let waited = self.in_flight_since.elapsed();
        let outage_ms = if self.edits_stock { EDIT_MS_MAX } else { OUTAGE_MS_MAX };
        if self.writer.is_some() {
            if self.is_silent() || self.published != self.published_kept {
                self.start_batch(context);
            }
        } else if waited > Duration::from_millis(outage_ms) || !self.resources.health.available.load(Ordering::Relaxed)
        {
            self.resources.tell_that_it_is_away();
            let refused = self.waiting.drain(..).collect();
            let unread = !std::mem::take(&mut self.to_refresh).is_empty();
            Outcomes::of_refusal(refused, unread, self.stock_keeper.clone()).tell(&self.resources.lease);
        }
    }

    fn close_if_asked(&mut self, context: &mut Context<Self>) {
        if !self.waiting.is_empty() {
            return;
        }
        if self.closing.is_some() && self.published != self.published_kept {
            return self.start_batch(context);
        }
        let Some(closed) = self.closing.take() else { return };
        let Some(writer) = self.writer.take() else {
            // A batch is in flight, whose end comes back here.
            self.closing = Some(closed);
            return;
        };
        let close = async move {
            writer.close().await;
            // Whoever asked may have stopped waiting.
            let _ = closed.send(());
        };
        context.spawn(close.into_actor(self).map(|(), _, context| context.stop()));
    }
}

impl Actor for Journal {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(2 * COMMANDS_UNDER_WAY_MAX);
        context.run_interval(Duration::from_millis(WATCH_MS), Self::watch);
    }
}

impl Handler<Write> for Journal {
    type Result = ();

    fn handle(&mut self, Write { change, answer }: Write, context: &mut Self::Context) {
        let entry = Entry { change, answer };
        if self.resources.health.available.load(Ordering::Relaxed) {
            self.waiting.push_back(entry);
            self.pump(context);
        } else {
            Outcomes::of_refusal(vec![entry], false, self.stock_keeper.clone()).tell(&self.resources.lease);
        }
    }
}

impl Handler<Refresh> for Journal {
    type Result = ();

    fn handle(&mut self, Refresh(skus): Refresh, context: &mut Self::Context) {
        if self.resources.health.available.load(Ordering::Relaxed) {
            self.to_refresh.extend(skus);
            self.pump(context);
        } else {
            Outcomes::of_refusal(Vec::new(), !skus.is_empty(), self.stock_keeper.clone()).tell(&self.resources.lease);
        }
    }
}

impl Handler<Attach> for Journal {
    type Result = ();

    fn handle(&mut self, Attach(stock_keeper): Attach, _: &mut Self::Context) {
        self.stock_keeper = Some(stock_keeper);
    }
}

impl Handler<Inform> for Journal {
    type Result = ();

    fn handle(&mut self, Inform(relay): Inform, _: &mut Self::Context) {
        self.relay = Some(relay);
        // While a batch is in flight, its end tells.
        if let Some(writer) = &self.writer {
            self.inform(&**writer, Vec::new());
        }
    }
}

impl Handler<Published> for Journal {
    type Result = ();

    fn handle(&mut self, Published(seq): Published, _: &mut Self::Context) {
        self.published = self.published.max(seq);
    }
}

impl Handler<Close> for Journal {
    type Result = ();

    fn handle(&mut self, Close(closed): Close, context: &mut Self::Context) {
        self.closing = Some(closed);
        self.close_if_asked(context);
    }
}
