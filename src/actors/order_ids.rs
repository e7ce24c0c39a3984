//! Order ids, handed out in blocks: one round trip to the database for ten thousand orders.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::domain::OrderId;
use crate::store::{Store, in_time};

use super::Failure;

/// How many ids a process takes at a time. Those left at its end are never used.
const BLOCK_IDS: i64 = 10_000;

pub struct OrderIds {
    store: Arc<dyn Store>,
    io: Handle,
    block: Mutex<Range<i64>>,
    /// One at a time asks for the next block; the others wait for it, and hear when it failed.
    refill: tokio::sync::Mutex<Option<Instant>>,
}

impl OrderIds {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, io: Handle) -> Self {
        Self { store, io, block: Mutex::new(0..0), refill: tokio::sync::Mutex::default() }
    }

    /// An id that no order has had.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] where a new block is needed and the database is away.
    pub async fn next(&self) -> Result<OrderId, Failure> {
        if let Some(id) = self.take() {
            return Ok(id);
        }
        let asked_at = Instant::now();
        let mut failed_at = self.refill.lock().await;
        if let Some(id) = self.take() {
            return Ok(id);
        }
        if failed_at.is_some_and(|failed_at| failed_at >= asked_at) {
            return Err(Failure::Unavailable);
        }
        let store = Arc::clone(&self.store);
        let taken = self.io.spawn(async move { in_time(store.take_order_ids(BLOCK_IDS)).await });
        let taken = taken.await.map_err(|error| error.to_string());
        let mut block = taken.and_then(|taken| taken.map_err(|error| error.to_string())).map_err(|error| {
            tracing::warn!(error, "no order ids could be taken from the database");
            *failed_at = Some(Instant::now());
            Failure::Unavailable
        })?;
        let id = block.next().ok_or(Failure::Unavailable)?;
        *self.block.lock().unwrap_or_else(PoisonError::into_inner) = block;
        Ok(OrderId(id))
    }

    fn take(&self) -> Option<OrderId> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner).next().map(OrderId)
    }
}
