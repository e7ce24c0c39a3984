//! Orders that await payment find their way back into memory: all of them after a start, what they
//! consist of shortly before their deadline, and those that are overdue and nobody minds (their
//! process died, or the database was away) by a sweep ever after.
//!
//! A step has no input but the store, and may be repeated at will.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::domain::{OrderId, Time, order};
use crate::store::Store;

use super::order::{Awaken, Order, Overdue};
use super::{ANSWER_MS_MAX, Core, Failure};

/// How many orders are awakened at once.
const PAGE_ORDERS: u32 = 500;
/// Pause after a page with overdue orders: their cancels share the Journal with the customers.
const OVERDUE_PAUSE_MS: u64 = 50;
const SWEEP_PAUSE_MS: u64 = 1_000;
/// An order this late is minded by nobody.
const ABANDONED_AFTER_MS: i64 = 2_000;
/// Before every order.
const FIRST: (Time, OrderId) = (Time::UNIX_EPOCH, OrderId(0));
const LOOK_AHEAD_PAUSE_MS: u64 = 1_000;
/// How long before its deadline an order is read: two looks may fail.
const LOOK_AHEAD_MS: i64 = 3_000;
/// How many cancels of orders that fall due may be on their way at once: two batches.
const EXPIRING_MAX: usize = 1_024;

/// Of orders that all fall due at once, those that have to wait do so here, and not in the Journal, where customers
/// would wait behind them.
pub struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(EXPIRING_MAX))
    }
}

impl Turns {
    /// A turn to cancel an order, for as long as this is held.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] where it does not come in time: then the order is left to the sweep.
    pub async fn next(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let turn = timeout(Duration::from_millis(ANSWER_MS_MAX), self.0.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(Failure::Overloaded)
    }
}

/// Runs until the process ends.
pub async fn mind(core: Arc<Core>) {
    tokio::join!(sweep(&core), look_ahead(&core));
}

async fn sweep(core: &Arc<Core>) {
    let (mut after, mut horizon) = (FIRST, Time::MAX_UTC);
    loop {
        let swept = awaken_until(core, &mut after, horizon).await;
        match &swept {
            Ok(0) => {}
            Ok(awakened) => tracing::info!(orders = awakened, "orders that await payment are minded again"),
            Err(failure) => tracing::warn!(%failure, "orders that await payment could not be read"),
        }
        tokio::time::sleep(Duration::from_millis(SWEEP_PAUSE_MS)).await;
        // After a failure it goes on from there: nobody else gives the rest their timers.
        if swept.is_ok() {
            (after, horizon) = (FIRST, core.clock.now() - TimeDelta::milliseconds(ABANDONED_AFTER_MS));
        }
    }
}

/// What falls due is read by the page, not order by order when many do at once.
async fn look_ahead(core: &Arc<Core>) {
    let mut after = (core.clock.now(), OrderId(0));
    loop {
        tokio::time::sleep(Duration::from_millis(LOOK_AHEAD_PAUSE_MS)).await;
        let horizon = core.clock.now() + TimeDelta::milliseconds(LOOK_AHEAD_MS);
        // What this look misses is read by the next, or by each order itself.
        if let Err(failure) = recall_until(core, &mut after, horizon).await {
            tracing::debug!(%failure, "orders that fall due could not be read");
        }
    }
}

/// Reads what falls due up to the horizon, of the orders that are live here.
async fn recall_until(core: &Arc<Core>, after: &mut (Time, OrderId), horizon: Time) -> Result<(), Failure> {
    loop {
        let from = *after;
        let read = move |store: Arc<dyn Store>| async move { store.awaiting_payment(from, horizon, PAGE_ORDERS).await };
        let page = core.read(read).await?;
        let Some(last) = page.last() else { return Ok(()) };
        *after = (last.expires_at, last.id);
        let more = page.len() == PAGE_ORDERS as usize;
        for order in page.into_iter().filter(|order| core.directory.orders.is_live(&order.id)) {
            core.recent_orders.remember_due(Arc::new(order));
        }
        if !more {
            return Ok(());
        }
    }
}

/// Awakens the orders with a deadline up to the horizon that are not live; gives how many.
async fn awaken_until(core: &Arc<Core>, after: &mut (Time, OrderId), horizon: Time) -> Result<u64, Failure> {
    let mut awakened = 0;
    loop {
        let from = *after;
        let read = move |store: Arc<dyn Store>| async move { store.awaiting_payment(from, horizon, PAGE_ORDERS).await };
        let page = core.read(read).await?;
        let Some(last) = page.last() else { return Ok(awakened) };
        *after = (last.expires_at, last.id);
        let more = page.len() == PAGE_ORDERS as usize;
        let overdue = page.first().is_some_and(|first| first.expires_at <= core.clock.now());
        for order in page {
            awakened += u64::from(awaken(core, order));
        }
        if !more {
            return Ok(awakened);
        }
        if overdue {
            tokio::time::sleep(Duration::from_millis(OVERDUE_PAUSE_MS)).await;
        }
    }
}

/// Whether nobody minded it until now.
fn awaken(core: &Arc<Core>, order: order::Order) -> bool {
    let id = order.id;
    let start = || Order::new(id, Arc::clone(core));
    if !core.directory.orders.is_live(&id) {
        return core.directory.orders.tell(&id, Awaken(Arc::new(order)), start);
    }
    if order.expires_at + TimeDelta::milliseconds(ABANDONED_AFTER_MS) <= core.clock.now() {
        core.directory.orders.tell(&id, Overdue, start);
    }
    false
}
