//! The actors: each cart and each order has its own mailbox, the StockKeeper serialises
//! reservations, the Journal makes them durable.
//!
//! An actor decides, hands its change to the Journal, and answers once that is durable. Asks go
//! one way: cart → order → stock keeper → journal.

mod batch;
pub mod cart;
pub mod deadlines;
pub mod directory;
pub mod journal;
pub mod lease;
pub mod order;
pub mod order_ids;
pub mod outbox_relay;
pub mod recent_orders;
pub mod stock_keeper;

use std::sync::Arc;

use actix::Addr;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::domain::cart::Line;
use crate::store::{self, Change, Refused, Store, StoreError};

use directory::Directory;
use journal::Journal;
use lease::Lease;
use order_ids::OrderIds;
use recent_orders::RecentOrders;
use stock_keeper::StockKeeper;

/// How many commands may be under way at once, and so how long any mailbox can get.
pub const COMMANDS_UNDER_WAY_MAX: usize = 2_048;
/// Nobody waits longer than this to hear whether a change was written.
pub const ANSWER_MS_MAX: u64 = 5_000;
/// How often a command is decided again because another process was faster.
pub const ATTEMPTS_MAX: u32 = 8;

/// What every cart and order works with.
pub struct Core {
    pub store: Arc<dyn Store>,
    /// The runtime on which the store's reading connections live.
    pub io: Handle,
    pub clock: Arc<dyn Clock>,
    pub journal: Addr<Journal>,
    pub stock_keeper: Addr<StockKeeper>,
    pub order_ids: OrderIds,
    pub directory: Directory,
    pub recent_orders: RecentOrders,
    pub expiring: deadlines::Turns,
    pub lease: Lease,
}

/// Where the answer to a change goes.
pub type Answer = oneshot::Sender<Result<Written, NotWritten>>;

/// A change that is durable, with the state that it carries.
#[derive(Debug)]
pub struct Written {
    pub change: Change,
    /// After a stock edit: the shelves of its SKUs.
    pub shelves: Vec<(crate::domain::Sku, crate::domain::stock::Shelf)>,
}

/// Why a change is not known to be durable.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// This change was refused, mostly by the database: what it was based on is gone.
    #[error("refused: {refused:?}")]
    Refused { refused: Refused, change: Box<Change> },
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a command failed through no fault of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The database is away. Nothing was changed.
    #[error("the database is away; nothing was changed")]
    Unavailable,
    /// Too much waits already. Nothing was changed.
    #[error("too many commands are waiting; nothing was changed")]
    Overloaded,
    /// No answer in time: the change may or may not have been made.
    #[error("no answer in time; the change may or may not have been made")]
    InDoubt,
}

impl Core {
    /// Reads from the store, or writes what needs no batch, on the runtime that owns its connections.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] where the database does not answer.
    pub async fn read<T, F>(&self, read: impl FnOnce(Arc<dyn Store>) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        match self.io.spawn(store::in_time(read(Arc::clone(&self.store)))).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database did not do what was asked");
                Err(Failure::Unavailable)
            }
            Err(error) => {
                tracing::error!(%error, "what was asked of the database was torn off");
                Err(Failure::Unavailable)
            }
        }
    }

    /// Hands a change to the Journal and waits until it is durable.
    ///
    /// # Errors
    /// [`NotWritten`].
    pub async fn write(&self, change: Change) -> Result<Written, NotWritten> {
        let (answer, answered) = oneshot::channel();
        self.journal.try_send(journal::Write { change, answer }).map_err(|_| Failure::Overloaded)?;
        answer_in_time(answered).await
    }

    /// The same for a cart's change, where the stock covers this line of it.
    ///
    /// # Errors
    /// [`NotWritten`].
    pub async fn write_covered(&self, line: Line, change: Change) -> Result<Written, NotWritten> {
        let (answer, answered) = oneshot::channel();
        let writes_alone = self.lease.term().is_some();
        let edit = stock_keeper::EditCart { line, writes_alone, change, answer };
        self.stock_keeper.try_send(edit).map_err(|_| Failure::Overloaded)?;
        answer_in_time(answered).await
    }
}

/// Waits for an answer of the Journal, not forever.
pub(crate) async fn answer_in_time(
    answered: oneshot::Receiver<Result<Written, NotWritten>>,
) -> Result<Written, NotWritten> {
    let limit = std::time::Duration::from_millis(ANSWER_MS_MAX);
    match tokio::time::timeout(limit, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(Failure::InDoubt.into()),
    }
}
