//! The states of the orders that were placed or changed last.
//!
//! Most orders are paid for within moments or never asked for again, and the store knows them all:
//! so an order that waits keeps its deadline only, and its state stands here until a later order
//! needs its slot. No timer, no sweep, and a fixed amount of memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::OrderId;
use crate::domain::order::Order;

/// Some 20 MB of orders of three lines; at a hundred orders a second, the last five minutes.
pub const SLOTS: usize = 32_768;
/// A longer order is read again, so that the longest do not take 200 MB.
const ITEMS_MAX: usize = 32;

/// An order's slot is its number modulo their count. Numbers are handed out in sequence, and so an
/// order gives way to the one that is placed that many orders later.
pub struct RecentOrders {
    slots: Box<[Mutex<Option<Arc<Order>>>]>,
}

impl RecentOrders {
    /// At least one slot.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self { slots: (0..slots.max(1)).map(|_| Mutex::default()).collect() }
    }

    pub fn remember(&self, order: Arc<Order>) {
        if order.items.len() > ITEMS_MAX {
            return;
        }
        let before = self.slot(order.id).replace(order);
        drop(before); // not under the lock
    }

    /// Gives and forgets the state: it is remembered again once what happens to it is durable.
    #[must_use]
    pub fn take(&self, id: OrderId) -> Option<Arc<Order>> {
        self.slot(id).take_if(|order| order.id == id)
    }

    fn slot(&self, id: OrderId) -> MutexGuard<'_, Option<Arc<Order>>> {
        let slot = usize::try_from(id.0).unwrap_or_default() % self.slots.len();
        self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
