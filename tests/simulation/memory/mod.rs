//! A database in memory that keeps the contract of the store (the contract suite runs on it too),
//! and is reached over a [`Network`] that decides how each call fares.
//!
//! One transaction at a time, as in SQLite: whoever writes while another's commit is under way waits.
//! A statement that has left the client is carried out whether or not the client lives to hear of it.

mod notification_log;
mod store;
mod tables;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use loms::domain::Time;
use loms::store::{Change, StoreError, Verdict};

pub use notification_log::Notifications;
pub use tables::Tables;

/// The server: what outlives every client.
#[derive(Default)]
pub struct Database {
    tables: Mutex<Tables>,
    notifications: Mutex<Notifications>,
    next_order_id: Mutex<i64>,
    /// Held by the transaction that writes.
    transaction: tokio::sync::Mutex<()>,
}

/// One client's way to the database.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// How this call fares.
    fn passage(&self, call: Call) -> Passage;

    /// Returns while the client runs; not while it is halted, and never once it is dead.
    async fn standing(&self);

    /// A transaction of this client was committed.
    fn committed(&self, tables: &Tables, changes: &[Change], verdicts: &[Verdict], now: Time);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
    Connect,
}

/// How long each part of a call takes, and what goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Passage {
    pub there_ms: u64,
    /// Between a transaction's statements and its commit.
    pub held_ms: u64,
    pub back_ms: u64,
    pub mishap: Option<Mishap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The server is not reached, and the client knows it.
    Refused,
    /// The client hears nothing of what it has sent, from the first statement on; the server gets it.
    Unheard,
    /// The client hears nothing of what it has sent, and the server gets nothing.
    Swallowed,
    /// The commit is carried out, its answer is lost.
    AnswerLost,
    /// The connection is cut before the commit arrives: the server rolls back.
    CommitLost,
}

/// A client of the database.
pub struct MemoryStore {
    database: Arc<Database>,
    network: Arc<dyn Network>,
}

impl Database {
    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn notifications(&self) -> MutexGuard<'_, Notifications> {
        self.notifications.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStore {
    pub fn new(database: Arc<Database>, network: Arc<dyn Network>) -> Self {
        Self { database, network }
    }

    /// One statement that needs no transaction of its own.
    async fn call<T>(&self, work: impl FnOnce(&Database) -> T) -> Result<T, StoreError> {
        self.network.standing().await;
        let passage = self.network.passage(Call::Read);
        pass(passage.there_ms).await;
        let carried_out = match passage.mishap {
            Some(Mishap::Refused | Mishap::Swallowed | Mishap::CommitLost) => None,
            _ => Some(work(&self.database)),
        };
        pass(passage.back_ms).await;
        self.network.standing().await;
        match passage.mishap {
            // The driver has no limit of its own here: whoever waits must have one.
            Some(Mishap::Swallowed | Mishap::Unheard) => std::future::pending().await,
            Some(_) => Err(away()),
            None => carried_out.ok_or_else(away),
        }
    }
}

/// Takes so long; nothing at all still gives way to others.
async fn pass(milliseconds: u64) {
    if milliseconds == 0 {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

fn away() -> StoreError {
    StoreError::TimedOut
}
