//! The one connection that writes: its statements, its commit, and what is heard of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use loms::domain::stock::Shelf;
use loms::domain::{Sku, Time};
use loms::store::{
    Change, NOBODY, OtherWriter, STATEMENT_MS_MAX, StoreError, Verdict, WRITER_DEAD_AFTER_MS, WriteError, Writer,
    WriterIdentity,
};
use tokio::sync::oneshot;

use super::tables::{Numbers, Unapplied, WriterRow};
use super::{Call, Database, MemoryStore, Mishap, Network, Passage, away, pass};

pub struct MemoryWriter {
    database: Arc<Database>,
    network: Arc<dyn Network>,
    numbers: Numbers,
    found_others: bool,
}

/// A transaction as the server carries it out.
struct Transaction {
    database: Arc<Database>,
    network: Arc<dyn Network>,
    numbers: Numbers,
    changes: Vec<Change>,
    now: Time,
    passage: Passage,
    /// The verdicts with the number of events, once the statements have run.
    prepared: oneshot::Sender<Result<(Vec<Verdict>, i64), WriteError>>,
    committed: oneshot::Sender<()>,
}

impl MemoryStore {
    pub(super) async fn claim_writer(
        &self,
        owner: i64,
        now: Time,
    ) -> Result<(WriterIdentity, Box<dyn Writer>), StoreError> {
        let dead_before = now - chrono::TimeDelta::milliseconds(WRITER_DEAD_AFTER_MS);
        let (writer_id, numbers, found_others) = self
            .connect(|database| {
                let mut tables = database.tables();
                let found_others = !tables.other_writers(NOBODY).is_empty();
                let is_free = |row: &WriterRow| row.owner == NOBODY || row.seen_at < dead_before;
                let dead = tables.writers.iter().find(|(_, row)| is_free(row)).map(|(id, _)| *id);
                let writer_id = dead.unwrap_or_else(|| tables.writers.keys().max().unwrap_or(&0) + 1);
                let row = tables.writers.entry(writer_id).or_insert_with(|| WriterRow::new(now));
                row.owner = owner;
                Some((writer_id, row.next_epoch(writer_id, now), found_others))
            })
            .await?
            .ok_or_else(away)?;
        let writer = MemoryWriter { found_others, ..self.writer(numbers) };
        Ok((WriterIdentity { writer_id, owner }, Box::new(writer)))
    }

    pub(super) async fn reclaim_writer(
        &self,
        identity: WriterIdentity,
        now: Time,
    ) -> Result<Option<Box<dyn Writer>>, StoreError> {
        let reclaimed = self.connect(|database| {
            let mut tables = database.tables();
            let row = tables.writers.get_mut(&identity.writer_id).filter(|row| row.owner == identity.owner)?;
            Some(row.next_epoch(identity.writer_id, now))
        });
        let numbers = reclaimed.await?;
        Ok(numbers.map(|numbers| Box::new(self.writer(numbers)) as Box<dyn Writer>))
    }

    pub(super) async fn take_place(&self, seen: &OtherWriter) -> Result<(), StoreError> {
        let seen = seen.clone();
        self.connect(move |database| {
            let mut tables = database.tables();
            let as_seen = |row: &&mut WriterRow| (row.epoch, row.seen_at) == (seen.epoch, seen.seen_at);
            if let Some(row) = tables.writers.get_mut(&seen.writer_id).filter(as_seen) {
                row.owner = NOBODY;
                row.epoch += 1;
            }
        })
        .await
    }

    /// Waits for the transaction that is under way, as for the row that it holds.
    async fn connect<T>(&self, work: impl FnOnce(&Database) -> T) -> Result<T, StoreError> {
        self.network.standing().await;
        let passage = self.network.passage(Call::Connect);
        pass(passage.there_ms).await;
        let mut done = None;
        if !matches!(passage.mishap, Some(Mishap::Refused | Mishap::Swallowed)) {
            let limit = Duration::from_millis(STATEMENT_MS_MAX);
            let waited = tokio::time::timeout(limit, self.database.transaction.lock()).await;
            let _transaction = waited.map_err(|_| away())?;
            done = Some(work(&self.database));
        }
        pass(passage.back_ms).await;
        self.network.standing().await;
        done.filter(|_| passage.mishap.is_none()).ok_or_else(away)
    }

    fn writer(&self, numbers: Numbers) -> MemoryWriter {
        let (database, network) = (Arc::clone(&self.database), Arc::clone(&self.network));
        MemoryWriter { database, network, numbers, found_others: false }
    }
}

impl WriterRow {
    fn new(now: Time) -> Self {
        Self { owner: NOBODY, epoch: 0, last_batch: 0, last_event: 0, published: 0, seen_at: now }
    }

    fn next_epoch(&mut self, writer_id: i32, now: Time) -> Numbers {
        self.epoch += 1;
        self.seen_at = now;
        let (epoch, batch, last_event) = (self.epoch, self.last_batch, self.last_event);
        Numbers { writer_id, epoch, batch, last_event, published: 0 }
    }
}

impl Transaction {
    async fn run(self) {
        pass(self.passage.there_ms).await;
        // Shorter than the client's: it is the server that gives up.
        let limit = Duration::from_millis(STATEMENT_MS_MAX - 1_000);
        let Ok(_transaction) = tokio::time::timeout(limit, self.database.transaction.lock()).await else {
            let _ = self.prepared.send(Err(WriteError::NotWritten(away())));
            return;
        };
        let whole = self.passage.mishap == Some(Mishap::Unheard);
        let mut after = self.database.tables().clone();
        let (verdicts, events) = match after.write(self.numbers, &self.changes, self.now, whole) {
            Ok(written) => written,
            Err(unapplied) => {
                let error = match unapplied {
                    Unapplied::Replaced => WriteError::Replaced,
                    Unapplied::RolledBack => WriteError::NotWritten(away()),
                };
                // Whoever has sent it may be gone.
                let _ = self.prepared.send(Err(error));
                return;
            }
        };
        let _ = self.prepared.send(Ok((verdicts.clone(), events)));
        if self.passage.held_ms > 0 {
            pass(self.passage.held_ms).await;
        }
        if self.passage.mishap == Some(Mishap::CommitLost) {
            return;
        }
        self.network.committed(&after, &self.changes, &verdicts, self.now);
        *self.database.tables() = after;
        let _ = self.committed.send(());
    }
}

impl MemoryWriter {
    async fn send(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError> {
        self.network.standing().await;
        let mut passage = self.network.passage(Call::Write);
        let alone = matches!(changes, [Change::StockEdited { .. }]);
        if alone && matches!(passage.mishap, Some(Mishap::Unheard | Mishap::Swallowed)) {
            // Several statements: until the last of them nothing is in doubt.
            passage.mishap = Some(Mishap::Refused);
        }
        let all_written = || changes.iter().map(|_| Verdict::Written).collect();
        if matches!(passage.mishap, Some(Mishap::Refused | Mishap::Swallowed)) {
            pass(passage.there_ms + passage.back_ms).await;
            self.network.standing().await;
            return match passage.mishap {
                Some(Mishap::Refused) => Err(WriteError::NotWritten(away())),
                _ => Err(WriteError::InDoubt { verdicts: all_written(), source: away() }),
            };
        }
        let (prepared, preparation) = oneshot::channel();
        let (committed, commit) = oneshot::channel();
        let (database, network) = (Arc::clone(&self.database), Arc::clone(&self.network));
        let numbers = Numbers { batch: self.numbers.batch + 1, ..self.numbers };
        let changes = changes.to_vec();
        let transaction = Transaction { database, network, numbers, changes, now, passage, prepared, committed };
        tokio::spawn(transaction.run());
        if passage.mishap == Some(Mishap::Unheard) {
            pass(passage.back_ms).await;
            self.network.standing().await;
            return Err(WriteError::InDoubt { verdicts: all_written(), source: away() });
        }
        let (verdicts, events) = preparation.await.map_err(|_| WriteError::NotWritten(away()))??;
        let answered = match passage.mishap {
            Some(_) => Err(WriteError::InDoubt { verdicts, source: away() }),
            None => commit.await.map(|()| verdicts).map_err(|_| WriteError::NotWritten(away())),
        };
        pass(passage.back_ms).await;
        self.network.standing().await;
        self.numbers.last_event += events;
        answered
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    fn last_batch(&self) -> i64 {
        self.numbers.batch
    }

    fn last_event(&self) -> i64 {
        self.numbers.last_event
    }

    fn keep_published(&mut self, seq: i64) {
        self.numbers.published = seq;
    }

    fn found_others(&self) -> bool {
        self.found_others
    }

    async fn write(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError> {
        let verdicts = self.send(changes, now).await?;
        self.numbers.batch += 1;
        Ok(verdicts)
    }

    async fn shelves(&mut self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        self.network.standing().await;
        let passage = self.network.passage(Call::Read);
        pass(passage.there_ms).await;
        let shelves = self.database.tables().shelves_of(skus);
        pass(passage.back_ms).await;
        self.network.standing().await;
        if passage.mishap.is_some() { Err(away()) } else { Ok(shelves) }
    }

    async fn close(self: Box<Self>) {
        self.network.standing().await;
        let passage = self.network.passage(Call::Write);
        if passage.mishap.is_none() {
            let _transaction = self.database.transaction.lock().await;
            let mut tables = self.database.tables();
            let is_own = |row: &&mut WriterRow| row.epoch == self.numbers.epoch;
            if let Some(row) = tables.writers.get_mut(&self.numbers.writer_id).filter(is_own) {
                row.owner = NOBODY;
            }
        }
    }
}
