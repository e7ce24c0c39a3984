//! The one connection that writes.
//!
//! Rows that an update returns are read to the end: only then SQLite commits, and after the first row
//! sqlx would not tell of a commit that failed.

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::domain::stock::Shelf;
use crate::domain::{Sku, Time};
use crate::store::change::{Change, Refused, Verdict};
use crate::store::reading::{OTHER_WRITERS, WriterRow};
use crate::store::rows::Numbers;
use crate::store::settle::{Trial, settle};
use crate::store::{NOBODY, StoreError, WRITER_DEAD_AFTER_MS, WriteError, Writer, WriterIdentity};

use super::batch::{self, Failure};
use super::{Sqlite, Turn, reads, stock_edit};

/// SQLite's result codes: <https://www.sqlite.org/rescode.html>.
const READ_ONLY: &str = "8";
const FULL: &str = "13";
const WRITE_FAILED: &str = "778";

/// Takes the lock to write at once: a transaction that has read first may be refused it.
const BEGIN: &str = "begin immediate";

pub(super) struct SqliteWriter {
    connection: SqliteConnection,
    turn: Turn,
    writer_id: i32,
    epoch: i64,
    last_batch: i64,
    last_event: i64,
    published: i64,
    found_others: bool,
}

impl Sqlite {
    pub(super) async fn claim_writer(
        &self,
        owner: i64,
        now: Time,
    ) -> Result<(WriterIdentity, Box<dyn Writer>), sqlx::Error> {
        let mut connection = self.writer_options().connect().await?;
        let found_before = finds_others(&mut connection, NOBODY).await?;
        let dead_before = now - chrono::TimeDelta::milliseconds(WRITER_DEAD_AFTER_MS);
        let rows: Vec<WriterRow> = sqlx::query_as(
            "update writers set owner = $1, epoch = epoch + 1, seen_at = $2
             where writer_id = (
                 select writer_id from writers where owner = 0 or seen_at < $3 order by writer_id limit 1)
             returning writer_id, epoch, last_batch, last_event",
        )
        .bind(owner)
        .bind(now.timestamp_micros())
        .bind(dead_before.timestamp_micros())
        .fetch_all(&mut connection)
        .await?;
        let row = match rows.into_iter().next() {
            Some(row) => row,
            None => add_writer(&mut connection, owner, now).await?,
        };
        let found_others = found_before || finds_others(&mut connection, owner).await?;
        let identity = WriterIdentity { writer_id: row.writer_id, owner };
        let writer = SqliteWriter::new(connection, Turn::clone(&self.turn), &row);
        Ok((identity, Box::new(SqliteWriter { found_others, ..writer })))
    }

    /// The update waits for the file's lock, which a transaction of the earlier connection may hold.
    pub(super) async fn reclaim_writer(
        &self,
        identity: WriterIdentity,
        now: Time,
    ) -> Result<Option<Box<dyn Writer>>, sqlx::Error> {
        let mut connection = self.writer_options().connect().await?;
        let rows: Vec<WriterRow> = sqlx::query_as(
            "update writers set epoch = epoch + 1, seen_at = $3
             where writer_id = $1 and owner = $2
             returning writer_id, epoch, last_batch, last_event",
        )
        .bind(identity.writer_id)
        .bind(identity.owner)
        .bind(now.timestamp_micros())
        .fetch_all(&mut connection)
        .await?;
        let row = rows.into_iter().next();
        Ok(row.map(|row| Box::new(SqliteWriter::new(connection, Turn::clone(&self.turn), &row)) as Box<dyn Writer>))
    }
}

/// Whether any other place among the writers was not given back.
async fn finds_others(connection: &mut SqliteConnection, owner: i64) -> Result<bool, sqlx::Error> {
    Ok(!sqlx::query(OTHER_WRITERS).bind(owner).fetch_all(connection).await?.is_empty())
}

async fn add_writer(connection: &mut SqliteConnection, owner: i64, now: Time) -> Result<WriterRow, sqlx::Error> {
    let rows: Vec<WriterRow> = sqlx::query_as(
        "insert into writers (writer_id, owner, epoch, seen_at)
         select coalesce(max(writer_id), 0) + 1, $1, 1, $2 from writers
         returning writer_id, epoch, last_batch, last_event",
    )
    .bind(owner)
    .bind(now.timestamp_micros())
    .fetch_all(&mut *connection)
    .await?;
    rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

impl SqliteWriter {
    fn new(connection: SqliteConnection, turn: Turn, row: &WriterRow) -> Self {
        let WriterRow { writer_id, epoch, last_batch, last_event } = *row;
        Self { connection, turn, writer_id, epoch, last_batch, last_event, published: 0, found_others: false }
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
        if let [Change::StockEdited { edit, key }] = changes {
            return stock_edit::write(&mut self.connection, numbers, edit, key.as_ref(), now).await;
        }
        match batch::apply(&mut self.connection, BEGIN, numbers, changes, now).await {
            Ok(events) => {
                let verdicts = changes.iter().map(|_| Verdict::Written).collect();
                commit(&mut self.connection, verdicts).await.inspect(|_| self.last_event += events)
            }
            Err(Failure::Change(refused)) => {
                execute(&mut self.connection, "rollback").await.map_err(WriteError::NotWritten)?;
                match changes {
                    [_] => Ok(vec![Verdict::Refused(refused)]),
                    _ => self.write_apart(changes, now).await,
                }
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Writes the good ones of the changes, among which there are bad ones.
    async fn write_apart(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError> {
        let (verdicts, last_event) = self.try_apart(changes, now).await?;
        commit(&mut self.connection, verdicts).await.inspect(|_| self.last_event = last_event)
    }

    async fn try_apart(&mut self, changes: &[Change], now: Time) -> Result<(Vec<Verdict>, i64), WriteError> {
        let numbers = self.numbers();
        begin(&mut self.connection, numbers, now).await?;
        let mut savepoints = Savepoints { numbers, connection: &mut self.connection, now };
        let verdicts = settle(&mut savepoints, changes).await?;
        Ok((verdicts, savepoints.numbers.last_event))
    }
}

/// Opens a transaction that has the writer's row, which no other process may have taken.
pub(super) async fn begin(connection: &mut SqliteConnection, numbers: Numbers, now: Time) -> Result<(), WriteError> {
    batch::apply(connection, BEGIN, numbers, &[], now).await?;
    Ok(())
}

/// Up to here nothing is written; from here on the writer's row tells.
pub(super) async fn commit(
    connection: &mut SqliteConnection,
    verdicts: Vec<Verdict>,
) -> Result<Vec<Verdict>, WriteError> {
    match execute(connection, "commit").await {
        Ok(()) => Ok(verdicts),
        Err(source) if surely_not_written(&source) => Err(WriteError::NotWritten(source)),
        Err(source) => Err(WriteError::InDoubt { verdicts, source }),
    }
}

/// The disk had no room for the transaction, or did not let it be written: the last page of it, which
/// has the mark of the commit, is not in the log. (After a failed fsync it may be.)
fn surely_not_written(error: &StoreError) -> bool {
    let StoreError::Database(error) = error else { return false };
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| [FULL, READ_ONLY, WRITE_FAILED].contains(&&*code))
}

async fn execute(connection: &mut SqliteConnection, command: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(command).execute(connection).await.map(drop).map_err(StoreError::from)
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Replaced => Self::Replaced,
            // Without changes there is nothing to refuse.
            Failure::Change(_) => Self::NotWritten(StoreError::Database(sqlx::Error::RowNotFound)),
            Failure::Database(error) => Self::NotWritten(error.into()),
        }
    }
}

#[async_trait]
impl Writer for SqliteWriter {
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
        let turn = Turn::clone(&self.turn);
        let _turn = turn.lock().await;
        let verdicts = self.write_batch(changes, now).await?;
        self.last_batch += 1;
        Ok(verdicts)
    }

    async fn shelves(&mut self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        reads::shelves(&mut self.connection, skus).await.map_err(StoreError::from)
    }

    async fn close(mut self: Box<Self>) {
        let turn = self.turn.lock().await;
        let given_back = sqlx::query("update writers set owner = 0 where writer_id = $1 and epoch = $2")
            .bind(self.writer_id)
            .bind(self.epoch)
            .execute(&mut self.connection)
            .await;
        drop(turn);
        if let Err(error) = given_back {
            tracing::debug!(%error, "the writer's place was not given back");
        }
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the writing connection was not closed in good order");
        }
    }
}

/// Changes tried within a transaction, each attempt under a savepoint.
struct Savepoints<'a> {
    connection: &'a mut SqliteConnection,
    numbers: Numbers,
    now: Time,
}

#[async_trait]
impl Trial for Savepoints<'_> {
    async fn apply(&mut self, changes: &[Change]) -> Result<Result<(), Refused>, StoreError> {
        match batch::apply(self.connection, "savepoint part", self.numbers, changes, self.now).await {
            Ok(events) => {
                self.numbers.last_event += events;
                execute(self.connection, "release part").await.map(Ok)
            }
            Err(Failure::Change(refused)) => {
                execute(self.connection, "rollback to part").await?;
                execute(self.connection, "release part").await?;
                Ok(Err(refused))
            }
            Err(Failure::Database(error)) => Err(error.into()),
            // The row was there under this epoch when this very transaction began.
            Err(Failure::Replaced) => Err(StoreError::Database(sqlx::Error::RowNotFound)),
        }
    }
}
