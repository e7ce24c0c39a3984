//! The one connection that writes.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{Connection, PgConnection};

use crate::domain::stock::Shelf;
use crate::domain::{OrderId, Sku, Time};
use crate::store::change::{Change, Refused, Verdict};
use crate::store::reading::{OTHER_WRITERS, WriterRow};
use crate::store::rows::Numbers;
use crate::store::settle::{Trial, settle};
use crate::store::{NOBODY, STATEMENT_MS_MAX, StoreError, WRITER_DEAD_AFTER_MS, WriteError, Writer, WriterIdentity};

use super::batch::{self, Refusal};
use super::{Postgres, connect, no_answer, reads, stock_edit};

/// How often a batch that collided with another process is tried.
const COLLISIONS_MAX: u32 = 5;

/// `statement_completion_unknown` and `transaction_resolution_unknown`:
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
const OUTCOME_UNKNOWN: [&str; 2] = ["40003", "08007"];

pub(super) struct PostgresWriter {
    connection: PgConnection,
    writer_id: i32,
    epoch: i64,
    last_batch: i64,
    last_event: i64,
    published: i64,
    found_others: bool,
}

impl Postgres {
    pub(super) async fn claim_writer(
        &self,
        owner: i64,
        now: Time,
    ) -> Result<(WriterIdentity, Box<dyn Writer>), sqlx::Error> {
        let mut connection = connect(&self.options).await?;
        let found_before = finds_others(&mut connection, NOBODY).await?;
        let dead_before = now - chrono::TimeDelta::milliseconds(WRITER_DEAD_AFTER_MS);
        let row: Option<WriterRow> = sqlx::query_as(
            "update writers set owner = $1, epoch = epoch + 1, seen_at = $2
             where writer_id = (
                 select writer_id from writers where owner = 0 or seen_at < $3
                 order by writer_id limit 1 for update skip locked)
             returning writer_id, epoch, last_batch, last_event",
        )
        .bind(owner)
        .bind(now)
        .bind(dead_before)
        .fetch_optional(&mut connection)
        .await?;
        let row = match row {
            Some(row) => row,
            None => add_writer(&mut connection, owner, now).await?,
        };
        let found_others = found_before || finds_others(&mut connection, owner).await?;
        let identity = WriterIdentity { writer_id: row.writer_id, owner };
        let writer = PostgresWriter { found_others, ..PostgresWriter::new(connection, &row) };
        Ok((identity, Box::new(writer)))
    }

    /// The update waits for the row, which a transaction of the earlier connection may still hold.
    pub(super) async fn reclaim_writer(
        &self,
        identity: WriterIdentity,
        now: Time,
    ) -> Result<Option<Box<dyn Writer>>, sqlx::Error> {
        let mut connection = connect(&self.options).await?;
        let reclaim = sqlx::query_as(
            "update writers set epoch = epoch + 1, seen_at = $3
             where writer_id = $1 and owner = $2
             returning writer_id, epoch, last_batch, last_event",
        )
        .bind(identity.writer_id)
        .bind(identity.owner)
        .bind(now)
        .fetch_optional(&mut connection);
        let row: Option<WriterRow> = limited(reclaim).await?;
        Ok(row.map(|row| Box::new(PostgresWriter::new(connection, &row)) as Box<dyn Writer>))
    }
}

/// Whether any other place among the writers was not given back.
async fn finds_others(connection: &mut PgConnection, owner: i64) -> Result<bool, sqlx::Error> {
    Ok(!sqlx::query(OTHER_WRITERS).bind(owner).fetch_all(connection).await?.is_empty())
}

/// Two processes may add the same number at once: the loser tries the next.
async fn add_writer(connection: &mut PgConnection, owner: i64, now: Time) -> Result<WriterRow, sqlx::Error> {
    loop {
        let row: Option<WriterRow> = sqlx::query_as(
            "insert into writers (writer_id, owner, epoch, seen_at)
             select coalesce(max(writer_id), 0) + 1, $1, 1, $2 from writers
             on conflict (writer_id) do nothing
             returning writer_id, epoch, last_batch, last_event",
        )
        .bind(owner)
        .bind(now)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(row) = row {
            return Ok(row);
        }
    }
}

impl PostgresWriter {
    fn new(connection: PgConnection, row: &WriterRow) -> Self {
        let WriterRow { writer_id, epoch, last_batch, last_event } = *row;
        Self { connection, writer_id, epoch, last_batch, last_event, published: 0, found_others: false }
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            writer_id: self.writer_id,
            epoch: self.epoch,
            batch: self.last_batch + 1,
            last_event: self.last_event,
            published: self.published,
        }
    }

    async fn write_batch(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError> {
        let numbers = self.numbers();
        for _ in 0..COLLISIONS_MAX {
            let written = match changes {
                [Change::StockEdited { edit, key }] => {
                    stock_edit::write(&mut self.connection, numbers, edit, key.as_ref(), now).await
                }
                _ => self.write_changes(changes, now).await,
            };
            match written {
                Err(error) if has_collided(&error) => {}
                written => return written,
            }
        }
        Err(WriteError::NotWritten(StoreError::Collided))
    }

    /// In one statement, where all of them are good.
    async fn write_changes(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError> {
        let numbers = self.numbers();
        let error = match limited(batch::write(&mut self.connection, numbers, changes, now)).await {
            Ok(events) => {
                self.last_event += events;
                return Ok(changes.iter().map(|_| Verdict::Written).collect());
            }
            Err(error) => error,
        };
        match batch::refusal(&error) {
            Some(Refusal::Collision) => Err(WriteError::NotWritten(error.into())),
            Some(Refusal::Replaced) => Err(WriteError::Replaced),
            Some(Refusal::Change(refused)) if changes.len() == 1 => {
                report(&refused, &error);
                Ok(vec![Verdict::Refused(refused)])
            }
            Some(Refusal::Change(_)) => self.write_apart(changes, now).await,
            None if surely_not_written(&error) => Err(WriteError::NotWritten(error.into())),
            None => {
                let verdicts = changes.iter().map(|_| Verdict::Written).collect();
                Err(WriteError::InDoubt { verdicts, source: error.into() })
            }
        }
    }

    /// Writes the good ones of the changes, among which there are bad ones.
    async fn write_apart(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError> {
        let tried = self.try_apart(changes, now).await;
        let (verdicts, last_event) = undo_collision(&mut self.connection, tried).await?;
        commit(&mut self.connection, verdicts).await.inspect(|_| self.last_event = last_event)
    }

    async fn try_apart(&mut self, changes: &[Change], now: Time) -> Result<(Vec<Verdict>, i64), WriteError> {
        let numbers = self.numbers();
        begin(&mut self.connection, numbers, now).await?;
        let locked = limited(batch::lock(&mut self.connection, changes)).await;
        let versions = locked.map_err(|error| WriteError::NotWritten(error.into()))?;
        let mut savepoints = Savepoints { numbers, connection: &mut self.connection, now, versions };
        let verdicts = settle(&mut savepoints, changes).await?;
        Ok((verdicts, savepoints.numbers.last_event))
    }
}

/// Opens a transaction that holds the writer's row, which no other process may have taken.
pub(super) async fn begin(connection: &mut PgConnection, numbers: Numbers, now: Time) -> Result<(), WriteError> {
    execute(connection, "begin").await.map_err(WriteError::NotWritten)?;
    match limited(batch::write(connection, numbers, &[], now)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(batch::refusal(&error), Some(Refusal::Replaced)) => Err(WriteError::Replaced),
        Err(error) => Err(WriteError::NotWritten(error.into())),
    }
}

/// Rolls the transaction back that was not committed because of another process, so that it can be tried again.
pub(super) async fn undo_collision<T>(
    connection: &mut PgConnection,
    tried: Result<T, WriteError>,
) -> Result<T, WriteError> {
    if tried.as_ref().is_err_and(has_collided) {
        execute(connection, "rollback").await.map_err(WriteError::NotWritten)?;
    }
    tried
}

/// A transaction that collided is rolled back by the database, also where only its commit said so.
fn has_collided(error: &WriteError) -> bool {
    let (WriteError::NotWritten(source) | WriteError::InDoubt { source, .. }) = error else { return false };
    let StoreError::Database(error) = source else { return false };
    matches!(batch::refusal(error), Some(Refusal::Collision))
}

/// Up to here nothing is written; from here on the writer's row tells.
pub(super) async fn commit(connection: &mut PgConnection, verdicts: Vec<Verdict>) -> Result<Vec<Verdict>, WriteError> {
    match execute(connection, "commit").await {
        Ok(()) => Ok(verdicts),
        Err(source) => Err(WriteError::InDoubt { verdicts, source }),
    }
}

pub(super) async fn execute(connection: &mut PgConnection, command: &'static str) -> Result<(), StoreError> {
    limited(async { sqlx::raw_sql(command).execute(connection).await }).await.map(drop).map_err(StoreError::from)
}

/// Ends a wait for the server that the server itself did not end in time.
pub(super) async fn limited<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let limit = Duration::from_millis(STATEMENT_MS_MAX);
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(no_answer()))
}

#[async_trait]
impl Writer for PostgresWriter {
    fn last_batch(&self) -> i64 {
        self.last_batch
    }

    fn last_event(&self) -> i64 {
        self.last_event
    }

    fn keep_published(&mut self, seq: i64) {
        self.published = seq;
    }

    fn found_others(&self) -> bool {
        self.found_others
    }

    async fn write(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError> {
        let verdicts = self.write_batch(changes, now).await?;
        self.last_batch += 1;
        Ok(verdicts)
    }

    async fn shelves(&mut self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        limited(reads::shelves(&mut self.connection, skus)).await.map_err(StoreError::from)
    }

    async fn close(mut self: Box<Self>) {
        let give_back = sqlx::query("update writers set owner = 0 where writer_id = $1 and epoch = $2")
            .bind(self.writer_id)
            .bind(self.epoch)
            .execute(&mut self.connection);
        if let Err(error) = limited(give_back).await {
            tracing::debug!(%error, "the writer's place was not given back");
        }
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the writing connection was not closed in good order");
        }
    }
}

/// Changes tried within a transaction, each attempt under a savepoint.
struct Savepoints<'a> {
    connection: &'a mut PgConnection,
    numbers: Numbers,
    now: Time,
    /// Of the orders that were there when the transaction began.
    versions: HashMap<OrderId, i32>,
}

impl Savepoints<'_> {
    /// Two processes that cancel the same orders at once come with nothing else: none of it needs to be tried.
    fn is_stale(&self, change: &Change) -> bool {
        change.based_on().is_some_and(|(order, version)| self.versions.get(&order.id) != Some(&version))
    }
}

#[async_trait]
impl Trial for Savepoints<'_> {
    async fn apply(&mut self, changes: &[Change]) -> Result<Result<(), Refused>, StoreError> {
        if changes.iter().any(|change| self.is_stale(change)) {
            return Ok(Err(Refused::Stale));
        }
        execute(self.connection, "savepoint part").await?;
        let error = match limited(batch::write(self.connection, self.numbers, changes, self.now)).await {
            Ok(events) => {
                self.numbers.last_event += events;
                return execute(self.connection, "release savepoint part").await.map(Ok);
            }
            Err(error) => error,
        };
        let Some(Refusal::Change(refused)) = batch::refusal(&error) else { return Err(error.into()) };
        execute(self.connection, "rollback to savepoint part; release savepoint part").await?;
        if changes.len() == 1 {
            report(&refused, &error);
        }
        Ok(Err(refused))
    }
}

/// A change that the database cannot take is a defect of ours: nobody else will tell of it.
fn report(refused: &Refused, error: &sqlx::Error) {
    if *refused == Refused::Unwritable {
        tracing::error!(%error, "the database refuses a change that should be writable");
    }
}

/// The server itself answered that the statement failed, and lives on. One that panics or ends the session may have
/// made the commit durable before it said so, and some errors of engines with many nodes say that nobody knows.
fn surely_not_written(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| error.severity() == PgSeverity::Error && !OUTCOME_UNKNOWN.contains(&error.code())),
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}
