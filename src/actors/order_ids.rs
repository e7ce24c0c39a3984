//! Order ids, handed out in blocks: one round trip to the database for the orders of a second or so.
//!
//! Lists of orders go by their ids. Of several processes each hands out a block of its own, so a block is small where
//! orders are few, and is given up where it is left over from a rush.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::domain::OrderId;
use crate::store::{Store, in_time};

use super::Failure;
use super::journal::Health;

/// How many ids a process takes at a time. Those left at its end are never used.
const BLOCK_IDS_MIN: i64 = 10;
const BLOCK_IDS_MAX: i64 = 10_000;
/// A block that is used up in a shorter time is followed by one so many times as large: whoever needs an id then
/// waits for the database.
const BLOCK_MS_MIN: u64 = 1_000;
const GROWTH: i64 = 4;
/// A block of more than the fewest ids is given up after this time.
const BLOCK_MS_MAX: u64 = 10_000;

pub struct OrderIds {
    store: Arc<dyn Store>,
    io: Handle,
    health: Arc<Health>,
    block: Mutex<Block>,
    /// One at a time asks for the next block; the others wait for it, and hear when it failed.
    refill: tokio::sync::Mutex<Option<Instant>>,
}

struct Block {
    ids: Range<i64>,
    /// How many they were.
    size: i64,
    taken_at: Instant,
}

impl OrderIds {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, io: Handle, health: Arc<Health>) -> Self {
        Self { store, io, health, block: Mutex::new(Block::of(0..0)), refill: tokio::sync::Mutex::default() }
    }

    /// An id that no order has had.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] where a new block is needed and the database is away.
    pub async fn next(&self) -> Result<OrderId, Failure> {
        if let Some(id) = self.take() {
            return Ok(id);
        }
        // At once: the order could not be written anyway.
        if !self.health.available.load(Ordering::Relaxed) {
            return Err(Failure::Unavailable);
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
        let count = self.block.lock().unwrap_or_else(PoisonError::into_inner).next_size();
        let taken = self.io.spawn(async move { in_time(store.take_order_ids(count)).await });
        let taken = taken.await.map_err(|error| error.to_string());
        let ids = taken.and_then(|taken| taken.map_err(|error| error.to_string())).map_err(|error| {
            tracing::warn!(error, "no order ids could be taken from the database");
            *failed_at = Some(Instant::now());
            Failure::Unavailable
        })?;
        let mut block = Block::of(ids);
        let id = block.take().ok_or(Failure::Unavailable)?;
        *self.block.lock().unwrap_or_else(PoisonError::into_inner) = block;
        Ok(id)
    }

    fn take(&self) -> Option<OrderId> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Block {
    fn of(ids: Range<i64>) -> Self {
        Self { size: ids.end - ids.start, ids, taken_at: Instant::now() }
    }

    fn take(&mut self) -> Option<OrderId> {
        let is_old = self.taken_at.elapsed() > Duration::from_millis(BLOCK_MS_MAX);
        if is_old && self.size > BLOCK_IDS_MIN {
            return None;
        }
        self.ids.next().map(OrderId)
    }

    /// Of the one after it.
    fn next_size(&self) -> i64 {
        let lasted = self.taken_at.elapsed();
        let size = if lasted < Duration::from_millis(BLOCK_MS_MIN) {
            self.size * GROWTH
        } else if lasted > Duration::from_millis(BLOCK_MS_MAX) {
            BLOCK_IDS_MIN
        } else {
            self.size
        };
        size.clamp(BLOCK_IDS_MIN, BLOCK_IDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(block: &Block) -> Block {
        Block::of(block.ids.end..block.ids.end + block.next_size())
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_grow_in_a_rush_and_are_given_up_after_it() {
        let mut block = next(&Block::of(0..0));
        assert_eq!(block.size, BLOCK_IDS_MIN, "nobody knows how many orders come");
        for size in [40, 160, 640, 2_560, BLOCK_IDS_MAX, BLOCK_IDS_MAX] {
            block = next(&block);
            assert_eq!(block.size, size);
        }
        tokio::time::advance(Duration::from_millis(2 * BLOCK_MS_MIN)).await;
        assert_eq!(next(&block).size, BLOCK_IDS_MAX, "it was the right size");
        assert!(block.take().is_some());
        tokio::time::advance(Duration::from_millis(BLOCK_MS_MAX)).await;
        assert_eq!(block.take(), None, "others may hand out later ones by now");
        let mut block = next(&block);
        assert_eq!(block.size, BLOCK_IDS_MIN);
        tokio::time::advance(Duration::from_millis(10 * BLOCK_MS_MAX)).await;
        assert_eq!(block.take(), Some(OrderId(block.ids.start - 1)), "a small one lasts until it is used up");
    }
}
