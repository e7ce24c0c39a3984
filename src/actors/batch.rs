//! One transaction's worth of changes: written, resolved where the answer was lost, and told to
//! everybody whom it concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::Recipient;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::domain::order::Order;
use crate::domain::{Sku, Step};
use crate::store::{Change, Refused, Store, Verdict, WriteError, Writer, WriterIdentity};

use super::lease::Lease;
use super::stock_keeper::Settled;
use super::{Answer, Failure, NotWritten, Written};

/// Pause between two attempts to reach the database, rising from the first to the second.
const REOPEN_PAUSE_MS: (u64, u64) = (20, 200);

/// How the database does, as far as the Journal knows.
#[derive(Default)]
pub struct Health {
    /// It can be reached. Where it cannot, changes are refused at once.
    pub available: AtomicBool,
    /// It took no batch the last time, though it could be reached: its disk may be full.
    pub failing: AtomicBool,
}

/// What a batch is written with.
#[derive(Clone)]
pub(super) struct Resources {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub identity: WriterIdentity,
    pub health: Arc<Health>,
    pub lease: Lease,
}

pub(super) struct Entry {
    pub change: Change,
    pub answer: Answer,
}

/// One transaction's worth of changes.
pub(super) struct Batch {
    pub resources: Resources,
    pub entries: Vec<Entry>,
    pub to_refresh: Vec<Sku>,
    /// The writer's last event that the relay has published.
    pub published: i64,
    pub stock_keeper: Option<Recipient<Settled>>,
}

/// After a batch: the next one can be written at once, and the outcomes of this one be told while the database works on it.
pub(super) struct Ended {
    pub writer: Box<dyn Writer>,
    pub outcomes: Outcomes,
    /// The published event that the writer's row has now; `None` where the row was not written.
    pub kept: Option<i64>,
}

/// What became of a batch, to be told to everybody whom it concerns.
#[derive(Default)]
pub(super) struct Outcomes {
    settled: Settled,
    stock_keeper: Option<Recipient<Settled>>,
    answers: Vec<(Answer, Result<Written, NotWritten>)>,
    /// What became of orders, in the order of the events.
    steps: Vec<(Arc<Order>, Step)>,
}

/// What is known of a batch after an attempt to write it.
enum Attempt {
    Done(Box<dyn Writer>, Vec<Verdict>),
    /// Surely not written; there is a working connection again where the database is there.
    NotWritten(Option<Box<dyn Writer>>),
    Replaced,
}

impl Batch {
    /// `None` where another process has taken over this writer's place.
    pub async fn run(mut self, writer: Box<dyn Writer>) -> Option<Ended> {
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
        let mut kept = None;
        let (writer, outcomes) = match attempt {
            Attempt::Done(writer, verdicts) => {
                self.resources.health.failing.store(false, Ordering::Relaxed);
                // One that comes alone and is refused is rolled back, and the writer's row with it.
                kept = (!matches!(verdicts[..], [Verdict::Refused(_)])).then_some(self.published);
                let (writer, settled) = self.settle(writer, &changes, &verdicts).await;
                let steps = changes.iter().zip(&verdicts).filter_map(written_step).collect();
                let answers = answers.into_iter().zip(changes).zip(verdicts);
                let answers = answers.map(|((answer, change), verdict)| (answer, answer_of(change, verdict))).collect();
                (writer, Outcomes { settled, stock_keeper: self.stock_keeper, answers, steps })
            }
            Attempt::NotWritten(writer) => {
                self.resources.health.failing.store(true, Ordering::Relaxed);
                let entries = changes.into_iter().zip(answers).map(|(change, answer)| Entry { change, answer });
                (writer, Outcomes::of_refusal(entries.collect(), !self.to_refresh.is_empty(), self.stock_keeper))
            }
            Attempt::Replaced => return None,
        };
        if let Some(writer) = writer {
            return Some(Ended { writer, outcomes, kept });
        }
        // The database may be away for long: nobody waits for its return.
        outcomes.tell(&self.resources.lease);
        let writer = self.resources.reopen().await?;
        Some(Ended { writer, outcomes: Outcomes::default(), kept })
    }

    async fn attempt(&self, mut writer: Box<dyn Writer>, changes: &[Change]) -> Attempt {
        let batch = writer.last_batch() + 1;
        writer.keep_published(self.published);
        match writer.write(changes, self.resources.clock.now()).await {
            Ok(verdicts) => Attempt::Done(writer, verdicts),
            Err(WriteError::Replaced) => Attempt::Replaced,
            Err(WriteError::NotWritten(error)) => {
                tracing::warn!(%error, batch.changes = changes.len(), "a batch was not written");
                drop(writer);
                self.resources.reopen_once().await
            }
            Err(WriteError::InDoubt { verdicts, source }) => {
                tracing::warn!(error = %source, batch.changes = changes.len(), "the answer of a commit was lost");
                drop(writer);
                // Until this is known, nobody is answered and no stock is released.
                match self.resources.reopen().await {
                    Some(writer) if writer.last_batch() >= batch => Attempt::Done(writer, verdicts),
                    Some(writer) => Attempt::NotWritten(Some(writer)),
                    None => Attempt::Replaced,
                }
            }
        }
    }

    /// What became of each reservation. Gives the writer back where its connection still works.
    async fn settle(
        &mut self,
        mut writer: Box<dyn Writer>,
        changes: &[Change],
        verdicts: &[Verdict],
    ) -> (Option<Box<dyn Writer>>, Settled) {
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
        let to_refresh = std::mem::take(&mut self.to_refresh);
        if to_refresh.is_empty() {
            return (Some(writer), settled);
        }
        let read_at = Instant::now();
        match writer.shelves(&to_refresh).await {
            Ok(shelves) => {
                settled.shelves.extend(shelves);
                settled.refreshed = Some((read_at, to_refresh));
                (Some(writer), settled)
            }
            Err(error) => {
                tracing::warn!(%error, "the shelves could not be read again");
                settled.unread = true;
                (None, settled)
            }
        }
    }
}

fn answer_of(change: Change, verdict: Verdict) -> Result<Written, NotWritten> {
    match verdict {
        Verdict::Written => Ok(Written { change, shelves: Vec::new() }),
        Verdict::StockWritten(shelves) => Ok(Written { change, shelves }),
        Verdict::Refused(refused) => Err(NotWritten::Refused { refused, change: Box::new(change) }),
    }
}

fn written_step((change, verdict): (&Change, &Verdict)) -> Option<(Arc<Order>, Step)> {
    let (order, step) = change.step().filter(|_| *verdict == Verdict::Written)?;
    Some((Arc::clone(order), step))
}

impl Outcomes {
    /// For the outbox relay, which need not read what was just written.
    pub fn take_steps(&mut self) -> Vec<(Arc<Order>, Step)> {
        std::mem::take(&mut self.steps)
    }

    /// Surely not written, none of them; and perhaps shelves that could not be read again.
    pub fn of_refusal(entries: Vec<Entry>, unread: bool, stock_keeper: Option<Recipient<Settled>>) -> Self {
        let mut settled = Settled { unread, ..Settled::default() };
        for entry in &entries {
            settled.add(&entry.change, false);
        }
        let unavailable = |entry: Entry| (entry.answer, Err(Failure::Unavailable.into()));
        Self { settled, stock_keeper, answers: entries.into_iter().map(unavailable).collect(), steps: Vec::new() }
    }

    /// The StockKeeper hears first: who is refused asks it again at once. Where somebody no longer listens whose
    /// change was written, what is remembered of carts no longer counts.
    pub fn tell(self, lease: &Lease) {
        if let Some(stock_keeper) = self.stock_keeper.filter(|_| !self.settled.is_empty()) {
            // One message per batch: it must not be refused, or a reservation would stay for ever.
            stock_keeper.do_send(self.settled);
        }
        let mut is_a_commit_unheard = false;
        for (answer, outcome) in self.answers {
            // Whoever asked may have stopped waiting, and gets it back: what was written, or why it was not.
            is_a_commit_unheard |= matches!(answer.send(outcome), Err(Ok(_)));
        }
        if is_a_commit_unheard {
            lease.begin_term();
        }
    }
}

impl Resources {
    /// From now on new changes are refused at once, until the database is back.
    pub fn tell_that_it_is_away(&self) {
        if self.health.available.swap(false, Ordering::Relaxed) {
            tracing::error!("the database does not do its work; changes are refused until it does");
        }
    }

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
                Err(error) => {
                    tracing::debug!(%error, "the database is still away");
                    self.tell_that_it_is_away();
                }
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = REOPEN_PAUSE_MS.1.min(2 * pause_ms);
        }
    }
}
