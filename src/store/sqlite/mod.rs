//! SQLite, the embedded default: a file beside the program, nothing to install.

mod batch;
mod checkpoint;
mod notification_log;
mod outbox;
mod reads;
mod stock_edit;
mod verify;
mod writer;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use self::checkpoint::OpenForEver;
use super::{CONNECT_MS_MAX, OpenError, POOL_CONNECTIONS_MAX, STATEMENT_MS_MAX, StoreError, migrations};

/// Up to 3.51.2 SQLite can corrupt a WAL that is reset while it is read.
const VERSION_MIN: (u32, u32, u32) = (3, 51, 3);
/// What the writing connection keeps of the file: the indexes over users and SKUs, which orders hit
/// anywhere, else are read from the disk's cache page by page. Negative: in KiB.
const WRITER_CACHE: &str = "-65536";
/// In bytes, of a new file. A commit writes each page that it has changed as a whole: a batch of thirty orders, some ninety.
/// Smaller ones make the log's index longer and the trees higher.
const PAGE_BYTES: u32 = 2_048;

pub struct Sqlite {
    pool: SqlitePool,
    options: SqliteConnectOptions,
    turn: Turn,
    /// Writes what is no batch; opened when it is needed.
    beside: Mutex<Option<SqliteConnection>>,
    /// End with this.
    checkpoints: JoinSet<()>,
}

/// Whose turn it is to write, for SQLite has one writer at a time: a connection that finds another one
/// writing sleeps some milliseconds and looks again. Here it is woken. Other processes have no part in it.
type Turn = Arc<Mutex<()>>;

impl Sqlite {
    /// Creates the file and its folder where they are missing.
    ///
    /// # Errors
    /// [`OpenError`] where the folder or the file cannot be created or written, or where the
    /// SQLite that was linked is too old.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let options = options(url)?.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        if let Some(folder) = options.get_filename().parent().filter(|folder| *folder != Path::new("")) {
            let place = folder.display().to_string();
            std::fs::create_dir_all(folder).map_err(|source| OpenError::Folder { place, source })?;
        }
        let mut sqlite = Self::connect(url, options).await?;
        let file = OpenForEver::open(sqlite.options.get_filename()).map_err(|error| unreachable(url, error.into()))?;
        let turn = Turn::clone(&sqlite.turn);
        sqlite.checkpoints.spawn(checkpoint::keep_log_short(sqlite.pool.clone(), file, turn));
        Ok(sqlite)
    }

    /// # Errors
    /// [`OpenError`] where there is no such file, or one that is not at the present schema.
    pub async fn open_existing(url: &str) -> Result<Self, OpenError> {
        let sqlite = Self::connect(url, options(url)?.create_if_missing(false)).await?;
        let applied = sqlite.applied().await.map_err(|source| unreachable(url, source))?;
        migrations::check(&migrations::sqlite(), &applied)?;
        Ok(sqlite)
    }

    async fn applied(&self) -> Result<Vec<i64>, sqlx::Error> {
        let known = "select count(*) from sqlite_master where name = '_sqlx_migrations'";
        if sqlx::query_scalar::<_, i64>(known).fetch_one(&self.pool).await? == 0 {
            return Ok(vec![]);
        }
        sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(&self.pool).await
    }

    async fn connect(url: &str, options: SqliteConnectOptions) -> Result<Self, OpenError> {
        let unreachable = |source| unreachable(url, source);
        let pool = SqlitePoolOptions::new()
            .max_connections(POOL_CONNECTIONS_MAX)
            .acquire_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .connect_with(options.clone())
            .await
            .map_err(unreachable)?;
        let version: String =
            sqlx::query_scalar("select sqlite_version()").fetch_one(&pool).await.map_err(unreachable)?;
        if parse_version(&version) < Some(VERSION_MIN) {
            return Err(OpenError::SqliteTooOld(version));
        }
        Ok(Self { pool, options, turn: Turn::default(), beside: Mutex::default(), checkpoints: JoinSet::new() })
    }

    fn writer_options(&self) -> SqliteConnectOptions {
        // In memory is what a statement keeps to undo itself: it would go through a file of its own.
        self.options.clone().pragma("cache_size", WRITER_CACHE).pragma("temp_store", "memory")
    }

    /// The connection that writes beside the Journal's, as soon as it is its turn. It is none of those that read: for one of
    /// these it would have to wait with the turn in hand.
    async fn writing(&self) -> Result<Writing<'_>, StoreError> {
        let mut beside = self.beside.lock().await;
        let connection = match beside.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(StoreError::from)?,
        };
        Ok(Writing { connection, beside, _turn: self.turn.lock().await })
    }
}

/// A connection whose turn it is to write.
struct Writing<'a> {
    connection: SqliteConnection,
    beside: MutexGuard<'a, Option<SqliteConnection>>,
    _turn: MutexGuard<'a, ()>,
}

impl Writing<'_> {
    /// After a write. A connection that was opened while the disk took no writes would never write again,
    /// though the disk does: after a failure it is not kept.
    fn ended<T>(mut self, written: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        if written.is_ok() {
            *self.beside = Some(self.connection);
        }
        written.map_err(StoreError::from)
    }
}

fn options(url: &str) -> Result<SqliteConnectOptions, OpenError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|source| unreachable(url, source))?
        .page_size(PAGE_BYTES)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_millis(STATEMENT_MS_MAX))
        // They are made beside the writers.
        .pragma("wal_autocheckpoint", "0")
        .disable_statement_logging();
    Ok(options)
}

fn unreachable(url: &str, source: sqlx::Error) -> OpenError {
    OpenError::Unreachable { place: url.to_owned(), source }
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Rows or keys as the one parameter of a statement, which unfolds them with `jsonb_each`.
fn json<R: serde::Serialize>(rows: &[R]) -> String {
    // Numbers and texts: writing them as JSON cannot fail.
    serde_json::to_string(rows).unwrap_or_default()
}
