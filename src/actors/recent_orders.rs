//! The states of the orders that were placed or changed last.
//!
//! Most orders are paid for within moments or never asked for again, and the store knows them all:
//! so an order that waits keeps its deadline only, and its state stands here until a later order
//! needs its slot. No timer, no sweep, and a fixed amount of memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::OrderId;
use crate::domain::order::Order;

/// Some 20 MB of orders of three lines; at a hundred orders a second, the last five minutes. As many that fall due.
pub const SLOTS: usize = 32_768;
/// A longer order is read again, so that the longest do not take 200 MB.
const ITEMS_MAX: usize = 32;

pub struct RecentOrders {
    changed: Slots,
    /// What falls due in a moment stands apart: new orders would take its slots, for seconds whenever their numbers
    /// come by.
    due: Slots,
}

/// An order's slot is its number modulo their count. Numbers are handed out in sequence, and so an
/// order gives way to the one that is placed that many orders later.
struct Slots(Box<[Mutex<Option<Arc<Order>>>]>);

impl RecentOrders {
    /// At least one slot.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self { changed: Slots::new(slots), due: Slots::new(slots) }
    }

    pub fn remember(&self, order: Arc<Order>) {
        self.changed.put(order);
    }

    /// As the store has it: the state of an order that falls due in a moment.
    pub fn remember_due(&self, order: Arc<Order>) {
        self.due.put(order);
    }

    /// Gives and forgets the state: it is remembered again once what happens to it is durable.
    #[must_use]
    pub fn take(&self, id: OrderId) -> Option<Arc<Order>> {
        let due = self.due.take(id);
        self.changed.take(id).or(due)
    }
}

impl Slots {
    fn new(count: usize) -> Self {
        Self((0..count.max(1)).map(|_| Mutex::default()).collect())
    }

    fn put(&self, order: Arc<Order>) {
        if order.items.len() > ITEMS_MAX {
            return;
        }
        let before = self.of(order.id).replace(order);
        drop(before); // not under the lock
    }

    fn take(&self, id: OrderId) -> Option<Arc<Order>> {
        self.of(id).take_if(|order| order.id == id)
    }

    fn of(&self, id: OrderId) -> MutexGuard<'_, Option<Arc<Order>>> {
        let slot = usize::try_from(id.0).unwrap_or_default() % self.0.len();
        self.0[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::{Time, UserId};

    const SLOTS: usize = 4;

    fn order(id: i64) -> Arc<Order> {
        let (user, now) = (UserId::parse("ann").expect("a valid user"), Time::UNIX_EPOCH);
        Arc::new(Order::draft(OrderId(id), user, vec![], now, now + TimeDelta::minutes(10)).expect("a small total"))
    }

    #[test]
    fn an_order_gives_way_to_a_later_one_and_not_to_what_falls_due() {
        let recent = RecentOrders::new(SLOTS);
        recent.remember(order(1));
        recent.remember_due(order(2));
        for later in 5..=8 {
            recent.remember(order(later));
        }
        assert_eq!(recent.take(OrderId(1)), None);
        assert_eq!(recent.take(OrderId(2)), Some(order(2)));
        assert_eq!(recent.take(OrderId(2)), None, "it is forgotten");
        assert_eq!(recent.take(OrderId(6)), Some(order(6)));
    }

    #[test]
    fn what_was_changed_since_it_was_read_counts() {
        let recent = RecentOrders::new(SLOTS);
        recent.remember_due(order(1));
        let mut changed = order(1);
        Arc::make_mut(&mut changed).reserve();
        recent.remember(Arc::clone(&changed));
        assert_eq!(recent.take(OrderId(1)), Some(changed));
        assert_eq!(recent.take(OrderId(1)), None, "nothing older is left");
    }
}
