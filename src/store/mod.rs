//! What is durable, and how it gets there: one [`Store`] trait, two databases behind it.
//!
//! A store is read by anyone and written by a [`Writer`] alone, a batch of [`Change`]s per
//! transaction. Every change says what it was based on (cart and order versions,
//! `reserved <= on_hand`); one whose basis is gone is refused alone and its neighbours commit.
//!
//! SQL stands under this folder and nowhere else.

mod books;
mod change;
mod idempotency;
mod migrations;
pub mod notification_log;
pub mod outbox;
pub mod postgres;
mod reading;
mod rows;
mod settle;
pub mod sqlite;
mod stock_edit;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::cart::Cart;
use crate::domain::order::{Order, Status};
use crate::domain::stock::Shelf;
use crate::domain::{OrderId, Sku, Time, UserId};

pub use change::{Change, Movement, Refused, ShelfDelta, ShelfEdit, StockEdit, Verdict};
pub use idempotency::{Fingerprint, InvalidKey, Key, Keyed, Outcome, PriceTag, PriceTags, StoredOutcome};
pub use notification_log::NotificationLog;
pub use outbox::Outbox;

/// A writer that was not seen for this long is dead: its row, and what it left, may be taken over.
pub const WRITER_DEAD_AFTER_MS: i64 = 15_000;
/// Every wait for the database ends within this time: a statement, a lock, a free connection.
pub const STATEMENT_MS_MAX: u64 = 5_000;
/// A new connection to the database is there within this time, or not at all.
pub const CONNECT_MS_MAX: u64 = 3_000;
/// Beside the writer, nobody waits longer for a connection to PostgreSQL, so that a request is refused within a second
/// where the database has gone.
pub const ACQUIRE_MS_MAX: u64 = 900;
/// Connections beside the writing one: for reads, notifications, order ids and cursors.
pub const POOL_CONNECTIONS_MAX: u32 = 8;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database did not answer in time")]
    TimedOut,
    /// Other processes wrote the same rows at the same moment, again and again.
    #[error("other processes were in the way each time")]
    Collided,
    /// It holds what no version of this program writes.
    #[error("the database holds {0}")]
    Corrupt(String),
    #[error("the database failed: {0}")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self::TimedOut,
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Self::TimedOut,
            error => Self::Database(error),
        }
    }
}

/// Why a store could not be opened or brought to the present schema.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("DATABASE_URL must start with postgres:// or sqlite://")]
    UnknownScheme,
    #[error("cannot open the database {place}: {source}")]
    Unreachable { place: String, source: sqlx::Error },
    #[error("cannot create the data folder {place}: {source}")]
    Folder { place: String, source: std::io::Error },
    #[error("cannot bring the database to the present schema: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("the database is not at the present schema: `loms migrate` brings it there")]
    OldSchema,
    #[error("the database's SQLite is {0}; 3.51.3 or later is needed")]
    SqliteTooOld(String),
}

/// Why a batch has no verdicts.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Surely not written.
    #[error("the batch was not written: {0}")]
    NotWritten(#[source] StoreError),
    /// The answer of the commit was lost. Written or not, these are the verdicts if it was;
    /// [`Store::reopen_writer`] tells.
    #[error("the answer of a commit was lost: {source}")]
    InDoubt { verdicts: Vec<Verdict>, source: StoreError },
    /// Another process took this writer's row: nothing was written, nor ever will be.
    #[error("another process replaced this writer")]
    Replaced,
}

/// One writer of the database, for as long as its connection lives.
#[async_trait]
pub trait Writer: Send {
    /// The number of the last batch that this writer is known to have committed.
    fn last_batch(&self) -> i64;

    /// The number of the last event that this writer is known to have committed.
    fn last_event(&self) -> i64;

    /// The relay has published this writer's events up to that one: the next batch keeps it.
    fn keep_published(&mut self, seq: i64);

    /// Writes the batch `last_batch() + 1` in one transaction: a verdict for each change, in
    /// their order. An empty batch only tells others that the writer lives.
    ///
    /// # Errors
    /// [`WriteError`]; after any of them this writer is of no further use.
    async fn write(&mut self, changes: &[Change], now: Time) -> Result<Vec<Verdict>, WriteError>;

    /// The shelves of these SKUs as the last batch left them.
    ///
    /// # Errors
    /// [`StoreError`]; the writer is of no further use.
    async fn shelves(&mut self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError>;

    /// Whether others had a place among the writers when this one got its own, just before or just after.
    fn found_others(&self) -> bool;

    /// Gives the place among the writers back, and ends the connection in good order.
    async fn close(self: Box<Self>);
}

/// Which writer a process is: its row, and the random number that shows the row to be its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterIdentity {
    pub writer_id: i32,
    pub owner: i64,
}

/// The owner of a place among the writers that was given back, or taken from a dead process.
pub const NOBODY: i64 = 0;

/// The place of another process among the writers, as it was seen: each of its batches changes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OtherWriter {
    pub writer_id: i32,
    pub epoch: i64,
    pub seen_at: Time,
}

/// Which orders to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    pub user: Option<UserId>,
    pub status: Option<Status>,
    /// Only orders with a smaller id.
    pub before: Option<OrderId>,
    pub limit: u32,
}

/// One status change of an order, as its history keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// `<writer>-<seq>`, unique in the database.
    pub event_id: String,
    pub status: Status,
    pub at: Time,
    pub reason: Option<String>,
}

#[async_trait]
pub trait Store: Outbox + NotificationLog + 'static {
    /// Brings the database to the present schema.
    async fn migrate(&self) -> Result<(), OpenError>;

    /// Becomes a writer: takes over a row that was given back or whose process is dead, or adds a row.
    /// `owner` is random.
    async fn open_writer(&self, owner: i64, now: Time) -> Result<(WriterIdentity, Box<dyn Writer>), StoreError>;

    /// The same writer on a new connection and under its next epoch, after every transaction of
    /// its earlier connection has ended. `None` where another process took its row.
    async fn reopen_writer(&self, identity: WriterIdentity, now: Time) -> Result<Option<Box<dyn Writer>>, StoreError>;

    /// The places of all other processes among the writers.
    async fn other_writers(&self, owner: i64) -> Result<Vec<OtherWriter>, StoreError>;

    /// Takes a dead process's place from it, where it still is as it was seen. From then on that process
    /// is refused, should it live after all.
    async fn dismiss_writer(&self, seen: &OtherWriter) -> Result<(), StoreError>;

    /// A block of order ids that nobody else is given.
    async fn take_order_ids(&self, count: i64) -> Result<Range<i64>, StoreError>;

    /// A user's cart; an unknown user has an empty one.
    async fn cart(&self, user: &UserId) -> Result<Cart, StoreError>;

    async fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError>;

    /// Orders that match, newest first.
    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<Order>, StoreError>;

    /// An order's history, oldest first; empty for an unknown order.
    async fn history(&self, id: OrderId) -> Result<Vec<HistoryEntry>, StoreError>;

    /// Orders that await payment until then at the latest, by deadline and id, after the given place.
    async fn awaiting_payment(&self, after: (Time, OrderId), until: Time, limit: u32)
    -> Result<Vec<Order>, StoreError>;

    /// The shelves of these SKUs, in SKU and warehouse order.
    async fn shelves(&self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError>;

    /// All shelves, in SKU and warehouse order, a page at a time.
    async fn shelves_after(&self, after: Option<&(Sku, Shelf)>, limit: u32) -> Result<Vec<(Sku, Shelf)>, StoreError>;

    /// What became of the request with this key.
    async fn outcome(&self, key: &Key) -> Result<Option<StoredOutcome>, StoreError>;

    /// Whether no order, cart or shelf was ever written.
    async fn is_empty(&self) -> Result<bool, StoreError>;

    /// Checks the books: a sentence for each thing that does not add up, at most `limit` of each kind.
    async fn differences(&self, limit: u32) -> Result<Vec<String>, StoreError>;

    /// Closes all connections but the writing one.
    async fn close(&self);
}

/// Gives up a call whose answer never comes. The database has a limit of its own, of which nobody
/// hears where the network has gone.
///
/// # Errors
/// What the call gives, or [`StoreError`] after [`STATEMENT_MS_MAX`].
pub async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let limit = Duration::from_millis(STATEMENT_MS_MAX);
    tokio::time::timeout(limit, call).await.unwrap_or(Err(StoreError::TimedOut))
}

/// Closes the connections, as far as they can be closed in time: one on which an answer is still awaited cannot, and where
/// the network has gone it would be awaited for a quarter of an hour.
pub async fn close(store: &dyn Store) {
    if tokio::time::timeout(Duration::from_millis(STATEMENT_MS_MAX), store.close()).await.is_err() {
        tracing::warn!("the connections to the database could not be closed in good order");
    }
}

/// Opens the database that the address names, of SQLite also one that is not there yet.
///
/// # Errors
/// [`OpenError`]: an unknown scheme, or a database or folder that cannot be had.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, OpenError> {
    match Kind::of(url)? {
        Kind::Postgres => Ok(Arc::new(postgres::Postgres::open(url).await?)),
        Kind::Sqlite => Ok(Arc::new(sqlite::Sqlite::open(url).await?)),
    }
}

/// Opens a database that is there and at the present schema, for whoever only looks: nothing is created and
/// nothing changed.
///
/// # Errors
/// [`OpenError`], as [`open`] and where there is no such database.
pub async fn open_existing(url: &str) -> Result<Arc<dyn Store>, OpenError> {
    match Kind::of(url)? {
        Kind::Postgres => Ok(Arc::new(postgres::Postgres::open_existing(url).await?)),
        Kind::Sqlite => Ok(Arc::new(sqlite::Sqlite::open_existing(url).await?)),
    }
}

enum Kind {
    Postgres,
    Sqlite,
}

impl Kind {
    fn of(url: &str) -> Result<Self, OpenError> {
        match url.split_once(':') {
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Self::Postgres),
            Some(("sqlite", _)) => Ok(Self::Sqlite),
            _ => Err(OpenError::UnknownScheme),
        }
    }
}
