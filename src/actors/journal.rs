//! The only writer. While one commit is in flight it gathers every change that arrives; when the
//! commit ends, it writes the next batch in one transaction and answers each sender.
//!
//! No timer and no artificial delay: a lone client waits for one commit, ten thousand share one.
//! A commit whose answer was lost is resolved from the writer's row before anybody is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::domain::Sku;
use crate::store::{Change, Refused, Store, StoreError, Verdict, WriteError, Writer, WriterIdentity};

use super::stock_keeper::Settled;
use super::{Answer, COMMANDS_UNDER_WAY_MAX, Failure, NotWritten, Written};

/// The most changes in one batch.
const BATCH_CHANGES_MAX: usize = 512;
/// The most rows in one batch, save where a single change has more.
const BATCH_ROWS_MAX: usize = 20_000;
/// A batch that takes longer means that the database is away: new changes are refused at once.
const OUTAGE_MS_MAX: u64 = 2_000;
/// How often the Journal looks whether the database is away.
const WATCH_MS: u64 = 250;
/// How often an idle writer shows that it lives.
const HEARTBEAT_MS: u64 = 5_000;
/// Pause between two attempts to reach the database, rising from the first to the second.
const REOPEN_PAUSE_MS: (u64, u64) = (20, 500);

pub struct Journal {
    waiting: VecDeque<Entry>,
    /// SKUs whose shelves the StockKeeper wants to see as the database has them.
    to_refresh: Vec<Sku>,
    /// `None` while a batch is in flight.
    writer: Option<Box<dyn Writer>>,
    in_flight_since: Instant,
    desk: Desk,
    stock_keeper: Option<Recipient<Settled>>,
    closing: Option<oneshot::Sender<()>>,
    /// Dropped with the Journal, however it ends: then the process must end too.
    _lifeline: oneshot::Sender<()>,
}

/// What a batch is written with.
#[derive(Clone)]
struct Desk {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    identity: WriterIdentity,
    available: Arc<AtomicBool>,
}

struct Entry {
    change: Change,
    answer: Answer,
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

/// Writes what waits, closes the connection and ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close(pub oneshot::Sender<()>);

impl Journal {
    /// Starts on the current thread, which owns the writing connection from then on.
    /// `available` tells others whether the database is there; `lifeline` is dropped when the
    /// Journal ends.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not take another writer.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        available: Arc<AtomicBool>,
        lifeline: oneshot::Sender<()>,
    ) -> Result<Addr<Self>, StoreError> {
        let (identity, writer) = store.open_writer(rand::random(), clock.now()).await?;
        tracing::info!(writer.id = identity.writer_id, "writing to the database");
        available.store(true, Ordering::Relaxed);
        let journal = Self {
            waiting: VecDeque::new(),
            to_refresh: Vec::new(),
            writer: Some(writer),
            in_flight_since: Instant::now(),
            desk: Desk { store, clock, identity, available },
            stock_keeper: None,
            closing: None,
            _lifeline: lifeline,
        };
        Ok(journal.start())
    }

    /// Starts the next batch where none is in flight and something waits.
    fn pump(&mut self, context: &mut Context<Self>) {
        if self.waiting.is_empty() && self.to_refresh.is_empty() {
            self.close_if_asked(context);
        } else {
            self.start_batch(context);
        }
    }

    fn start_batch(&mut self, context: &mut Context<Self>) {
        let Some(writer) = self.writer.take() else { return };
        let batch = Batch {
            desk: self.desk.clone(),
            entries: self.next_entries(),
            to_refresh: std::mem::take(&mut self.to_refresh),
            stock_keeper: self.stock_keeper.clone(),
        };
        self.in_flight_since = Instant::now();
        let written = batch.run(writer).into_actor(self).map(|writer, journal, context| match writer {
            Some(writer) => {
                journal.writer = Some(writer);
                journal.desk.available.store(true, Ordering::Relaxed);
                journal.pump(context);
            }
            None => context.stop(),
        });
        context.spawn(written);
    }

    fn next_entries(&mut self) -> Vec<Entry> {
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
        if self.writer.is_some() {
            if waited > Duration::from_millis(HEARTBEAT_MS) {
                self.start_batch(context);
            }
        } else if waited > Duration::from_millis(OUTAGE_MS_MAX) {
            if self.desk.available.swap(false, Ordering::Relaxed) {
                tracing::error!("the database does not answer; changes are refused until it does");
            }
            let refused: Vec<Entry> = self.waiting.drain(..).collect();
            refuse_all(refused, std::mem::take(&mut self.to_refresh), self.stock_keeper.as_ref());
        }
    }

    fn close_if_asked(&mut self, context: &mut Context<Self>) {
        if self.closing.is_none() {
            return;
        }
        let (Some(writer), Some(closed)) = (self.writer.take(), self.closing.take()) else { return };
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
        if self.desk.available.load(Ordering::Relaxed) {
            self.waiting.push_back(entry);
            self.pump(context);
        } else {
            refuse_all(vec![entry], Vec::new(), self.stock_keeper.as_ref());
        }
    }
}

impl Handler<Refresh> for Journal {
    type Result = ();

    fn handle(&mut self, Refresh(skus): Refresh, context: &mut Self::Context) {
        if self.desk.available.load(Ordering::Relaxed) {
            self.to_refresh.extend(skus);
            self.pump(context);
        } else {
            refuse_all(Vec::new(), skus, self.stock_keeper.as_ref());
        }
    }
}

impl Handler<Attach> for Journal {
    type Result = ();

    fn handle(&mut self, Attach(stock_keeper): Attach, _: &mut Self::Context) {
        self.stock_keeper = Some(stock_keeper);
    }
}

impl Handler<Close> for Journal {
    type Result = ();

    fn handle(&mut self, Close(closed): Close, context: &mut Self::Context) {
        self.closing = Some(closed);
        self.pump(context);
    }
}

impl Desk {
    async fn reopen_once(&self) -> Attempt {
        match self.store.reopen_writer(self.identity, self.clock.now()).await {
            Ok(Some(writer)) => Attempt::NotWritten(Some(writer)),
            Ok(None) => Attempt::Replaced,
            Err(_) => Attempt::NotWritten(None),
        }
    }

    /// Tries until the database is back; each try ends within the store's own time limits.
    async fn reopen(&self) -> Option<Box<dyn Writer>> {
        let mut pause_ms = REOPEN_PAUSE_MS.0;
        loop {
            match self.store.reopen_writer(self.identity, self.clock.now()).await {
                Ok(writer) => {
                    tracing::info!("writing to the database again");
                    return writer;
                }
                Err(error) => tracing::debug!(%error, "the database is still away"),
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = REOPEN_PAUSE_MS.1.min(2 * pause_ms);
        }
    }
}

/// One transaction's worth of changes, from the first attempt to the last answer.
struct Batch {
    desk: Desk,
    entries: Vec<Entry>,
    to_refresh: Vec<Sku>,
    stock_keeper: Option<Recipient<Settled>>,
}

/// What is known of a batch after an attempt to write it.
enum Attempt {
    Done(Box<dyn Writer>, Vec<Verdict>),
    /// Surely not written; there is a working connection again where the database is there.
    NotWritten(Option<Box<dyn Writer>>),
    Replaced,
}

impl Batch {
    /// Gives a writer for the next batch; `None` where another process has taken over.
    async fn run(mut self, writer: Box<dyn Writer>) -> Option<Box<dyn Writer>> {
        let started = Instant::now();
        let changes: Vec<Change>;
        let answers: Vec<Answer>;
        (changes, answers) = std::mem::take(&mut self.entries).into_iter().map(|one| (one.change, one.answer)).unzip();
        metrics::histogram!("loms_batch_changes").record(u32::try_from(changes.len()).unwrap_or(u32::MAX));
        let attempt = match self.attempt(writer, &changes).await {
            // A connection that broke is no reason to refuse anybody: once more on the new one.
            Attempt::NotWritten(Some(writer)) => self.attempt(writer, &changes).await,
            attempt => attempt,
        };
        metrics::histogram!("loms_batch_seconds").record(started.elapsed());
        let writer = match attempt {
            Attempt::Done(writer, verdicts) => {
                let writer = self.settle(writer, &changes, &verdicts).await;
                for ((change, answer), verdict) in changes.into_iter().zip(answers).zip(verdicts) {
                    // Whoever asked may have stopped waiting.
                    let _ = answer.send(answer_of(change, verdict));
                }
                writer
            }
            Attempt::NotWritten(writer) => {
                let entries = changes.into_iter().zip(answers).map(|(change, answer)| Entry { change, answer });
                refuse_all(entries.collect(), self.to_refresh, self.stock_keeper.as_ref());
                writer
            }
            Attempt::Replaced => {
                tracing::error!("another process has taken over this writer's place; this one ends");
                return None;
            }
        };
        match writer {
            Some(writer) => Some(writer),
            None => self.desk.reopen().await,
        }
    }

    async fn attempt(&self, mut writer: Box<dyn Writer>, changes: &[Change]) -> Attempt {
        let batch = writer.last_batch() + 1;
        match writer.write(changes, self.desk.clock.now()).await {
            Ok(verdicts) => Attempt::Done(writer, verdicts),
            Err(WriteError::Replaced) => Attempt::Replaced,
            Err(WriteError::NotWritten(error)) => {
                tracing::warn!(%error, batch.changes = changes.len(), "a batch was not written");
                drop(writer);
                self.desk.reopen_once().await
            }
            Err(WriteError::InDoubt { verdicts, source }) => {
                tracing::warn!(error = %source, batch.changes = changes.len(), "the answer of a commit was lost");
                drop(writer);
                // Until this is known, nobody is answered and no stock is released.
                match self.desk.reopen().await {
                    Some(writer) if writer.last_batch() >= batch => Attempt::Done(writer, verdicts),
                    Some(writer) => Attempt::NotWritten(Some(writer)),
                    None => Attempt::Replaced,
                }
            }
        }
    }

    /// Tells the StockKeeper what became of each reservation. It hears of it first: who is
    /// refused asks it again at once. Gives the writer back where its connection still works.
    async fn settle(
        &mut self,
        mut writer: Box<dyn Writer>,
        changes: &[Change],
        verdicts: &[Verdict],
    ) -> Option<Box<dyn Writer>> {
        let mut settled = Settled::default();
        for (change, verdict) in changes.iter().zip(verdicts) {
            settled.add(change, !matches!(verdict, Verdict::Refused(_)));
            match verdict {
                Verdict::StockWritten(shelves) => settled.shelves.extend_from_slice(shelves),
                Verdict::Refused(Refused::Short) => {
                    self.to_refresh.extend(change.shelf_deltas().map(|delta| delta.sku));
                }
                _ => {}
            }
        }
        settled.refreshed = std::mem::take(&mut self.to_refresh);
        let mut working = true;
        if !settled.refreshed.is_empty() {
            match writer.shelves(&settled.refreshed).await {
                Ok(shelves) => settled.shelves.extend(shelves),
                Err(error) => {
                    tracing::warn!(%error, "the shelves could not be read again");
                    working = false;
                }
            }
        }
        tell(self.stock_keeper.as_ref(), settled);
        working.then_some(writer)
    }
}

fn answer_of(change: Change, verdict: Verdict) -> Result<Written, NotWritten> {
    match verdict {
        Verdict::Written => Ok(Written { change, shelves: Vec::new() }),
        Verdict::StockWritten(shelves) => Ok(Written { change, shelves }),
        Verdict::Refused(refused) => Err(NotWritten::Refused { refused, change: Box::new(change) }),
    }
}

/// Surely not written, none of them; and shelves that could not be read again.
fn refuse_all(entries: Vec<Entry>, refreshed: Vec<Sku>, stock_keeper: Option<&Recipient<Settled>>) {
    let mut settled = Settled { refreshed, ..Settled::default() };
    for entry in &entries {
        settled.add(&entry.change, false);
    }
    tell(stock_keeper, settled);
    for entry in entries {
        let _ = entry.answer.send(Err(Failure::Unavailable.into()));
    }
}

/// One message per batch: it must not be refused, or a reservation would stay for ever.
fn tell(stock_keeper: Option<&Recipient<Settled>>, settled: Settled) {
    if let Some(stock_keeper) = stock_keeper.filter(|_| !settled.is_empty()) {
        #[expect(clippy::disallowed_methods, reason = "one message per batch, which a full mailbox must not refuse")]
        stock_keeper.do_send(settled);
    }
}
