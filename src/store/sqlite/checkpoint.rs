//! Checkpoints: what stands in SQLite's log is copied into the file.
//!
//! They are made here, beside the writers. SQLite itself would make them within somebody's commit, who would
//! wait for thousands of pages to be copied and flushed, every few batches.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use sqlx::{SqliteConnection, SqlitePool};

use super::Turn;

/// From so many pages on the log is copied, 40 MB. The fewer, the more often a page is copied that the next
/// batch changes again.
const LOG_PAGES: i64 = 20_000;
/// How often what has been written meanwhile is copied before everybody has to wait for the rest.
const ROUNDS: usize = 2;
const LOOK_PAUSE_MS: u64 = 50;
/// While a reader looks at what was there before, or the disk takes no writes.
const LONG_PAUSE_MS: u64 = 1_000;

/// How many pages stand in the log, and how many of them in the file too.
struct Log {
    pages: i64,
    copied: i64,
}

/// A file that is flushed beside SQLite. It is never closed: that would end all locks of the process on the file, those of
/// SQLite's connections too (<https://www.sqlite.org/howtocorrupt.html>, 2.2).
pub(super) struct OpenForEver(&'static File);

impl OpenForEver {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Box::leak(Box::new(File::open(path)?))))
    }

    async fn flush(&self) -> Result<(), CheckpointError> {
        let file = self.0;
        let flushed = tokio::task::spawn_blocking(|| file.sync_data()).await;
        // Torn off at the end of the program, it says nothing of the disk.
        flushed.map_err(|_| sqlx::Error::WorkerCrashed)?.map_err(CheckpointError::NotKept)
    }
}

#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The system may have forgotten what it could not write, and says so once; SQLite would count it as copied, and let the
    /// log start anew over the only good copy.
    #[error("the disk has failed to keep the database's file: {0}")]
    NotKept(io::Error),
}

/// Looks after the log until the pool is closed. Ends the process where the disk has failed to keep the file: the next start
/// copies all of the log again.
#[expect(clippy::exit, reason = "an ordered end would write, and copy, more of the same")]
pub(super) async fn keep_log_short(pool: SqlitePool, file: OpenForEver, turn: Turn) {
    loop {
        let pause = match shorten_log(&pool, &file, &turn).await {
            Ok(true) => LOOK_PAUSE_MS,
            Ok(false) => LONG_PAUSE_MS,
            Err(CheckpointError::Database(sqlx::Error::PoolClosed)) => return,
            Err(error @ CheckpointError::NotKept(_)) => {
                tracing::error!(%error, "the program ends, start it again");
                std::process::exit(1);
            }
            Err(error) => {
                tracing::warn!(%error, "SQLite's log could not be copied into the file");
                LONG_PAUSE_MS
            }
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

async fn shorten_log(pool: &SqlitePool, file: &OpenForEver, turn: &Turn) -> Result<bool, CheckpointError> {
    let mut connection = pool.acquire().await?;
    let copied = copy_where_long(&mut connection, file, turn).await;
    if copied.is_err() {
        // It may have been opened while the disk took no writes: then it would never write.
        connection.close_on_drop();
    }
    copied
}

/// Most of it is copied and flushed while others write, the rest while nobody does: only then the log starts anew. (SQLite
/// itself flushes the file once all of the log is copied, and everybody would wait for all of it.) `false` where a reader
/// looks at what was there before, so that nothing more can be copied.
async fn copy_where_long(
    connection: &mut SqliteConnection,
    file: &OpenForEver,
    turn: &Turn,
) -> Result<bool, CheckpointError> {
    let mut log = checkpoint(connection, "pragma wal_checkpoint(noop)").await?;
    if log.pages < LOG_PAGES || log.copied == log.pages {
        return Ok(true);
    }
    for _ in 0..ROUNDS {
        let before = log.copied;
        log = checkpoint(connection, "pragma wal_checkpoint(passive)").await?;
        if log.copied == log.pages || log.copied == before {
            return Ok(log.copied == log.pages);
        }
        file.flush().await?;
    }
    let _turn = turn.lock().await;
    checkpoint(connection, "pragma wal_checkpoint(passive)").await?;
    Ok(true)
}

async fn checkpoint(connection: &mut SqliteConnection, pragma: &'static str) -> Result<Log, sqlx::Error> {
    let (_, pages, copied): (i64, i64, i64) = sqlx::query_as(pragma).fetch_one(connection).await?;
    Ok(Log { pages, copied })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteJournalMode;

    use super::super::Sqlite;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const FILLING: &str = "\
create table filling (page blob);
with recursive numbers (number) as (select 1 union all select number + 1 from numbers where number < 12000)
insert into filling select zeroblob(4000) from numbers";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_long_log_is_copied_and_starts_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::open(&format!("sqlite://{}/shop.db", folder.path().display())).await.expect("opened");
        let mut connection = sqlite.options.connect().await.expect("connected");
        sqlx::raw_sql(FILLING).execute(&mut connection).await.expect("written");
        let started = Instant::now();
        loop {
            let log = checkpoint(&mut connection, "pragma wal_checkpoint(noop)").await.expect("looked at");
            if log.pages >= LOG_PAGES && log.copied == log.pages {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{} of {} pages were copied", log.copied, log.pages);
            tokio::time::sleep(Duration::from_millis(LOOK_PAUSE_MS)).await;
        }
        sqlx::raw_sql("insert into filling values (null)").execute(&mut connection).await.expect("written");
        let log = checkpoint(&mut connection, "pragma wal_checkpoint(noop)").await.expect("looked at");
        assert!(log.pages < 10, "the log goes on: {} pages", log.pages);
    }

    /// No disk keeps what is flushed to it.
    const NO_DISK: &str = "/dev/null";

    #[tokio::test]
    async fn what_the_disk_does_not_keep_is_an_error_and_nothing_is_flushed_in_vain() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/shop.db", folder.path().display());
        let options = super::super::options(&url).expect("an address").create_if_missing(true);
        // Nobody looks after its log.
        let sqlite = Sqlite::connect(&url, options.journal_mode(SqliteJournalMode::Wal)).await.expect("opened");
        let file = OpenForEver::open(Path::new(NO_DISK)).expect("it is there");
        let mut reader = sqlite.options.connect().await.expect("connected");
        sqlx::raw_sql("create table first (row); begin; select * from first").execute(&mut reader).await.expect("read");
        let mut connection = sqlite.options.connect().await.expect("connected");
        sqlx::raw_sql(FILLING).execute(&mut connection).await.expect("written");

        // All but what was written after the reader's look is copied, and that only.
        let copied = copy_where_long(&mut connection, &file, &sqlite.turn).await;
        assert!(matches!(copied, Err(CheckpointError::NotKept(_))), "{copied:?}");
        let copied = copy_where_long(&mut connection, &file, &sqlite.turn).await;
        assert!(matches!(copied, Ok(false)), "there is nothing to be flushed: {copied:?}");
        sqlx::raw_sql("rollback").execute(&mut reader).await.expect("ended");
        let copied = copy_where_long(&mut connection, &file, &sqlite.turn).await;
        assert!(matches!(copied, Ok(true)), "SQLite has flushed it itself: {copied:?}");
    }
}
