//! Order ids, handed out in blocks: one round trip to the database for ten thousand orders.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::domain::OrderId;
use crate::store::Store;

use super::{ANSWER_MS_MAX, Failure};

/// How many ids a process takes at a time. Those left at its end are never used.
const BLOCK_IDS: i64 = 10_000;

pub struct OrderIds {
    store: Arc<dyn Store>,
    io: Handle,
    block: Mutex<Range<i64>>,
    /// One at a time asks for the next block; the others wait for it.
    refill: tokio::sync::Mutex<()>,
}

impl OrderIds {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, io: Handle) -> Self {
        Self { store, io, block: Mutex::new(0..0), refill: tokio::sync::Mutex::new(()) }
    }

    /// An id that no order has had.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] where a new block is needed and the database is away.
    pub async fn next(&self) -> Result<OrderId, Failure> {
        if let Some(id) = self.take() {
            return Ok(id);
        }
        let _one_at_a_time = self.refill.lock().await;
        if let Some(id) = self.take() {
            return Ok(id);
        }
        let store = Arc::clone(&self.store);
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let taken = self.io.spawn(async move { tokio::time::timeout(limit, store.take_order_ids(BLOCK_IDS)).await });
        let Ok(Ok(Ok(mut block))) = taken.await else { return Err(Failure::Unavailable) };
        let id = block.next().ok_or(Failure::Unavailable)?;
        *self.block.lock().unwrap_or_else(PoisonError::into_inner) = block;
        Ok(OrderId(id))
    }

    fn take(&self) -> Option<OrderId> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner).next().map(OrderId)
    }
}
