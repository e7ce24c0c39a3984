//! The rows of the in-memory database, and what a batch of changes does to them: all of the batch,
//! or its good changes alone, as the statements of the real databases do.

use std::collections::{BTreeMap, HashMap, HashSet};

use loms::domain::cart::Cart;
use loms::domain::order::{Order, Status};
use loms::domain::stock::{ON_HAND_MAX, Shelf};
use loms::domain::{EventId, EventKind, OrderEvent, OrderId, Sku, Step, Time, UserId, WarehouseId};
use loms::store::{
    Change, Key, NOBODY, OtherWriter, Outcome, Refused, StockEdit, StoredOutcome, Verdict, WRITER_DEAD_AFTER_MS,
};

#[derive(Clone, Default)]
pub struct Tables {
    pub carts: BTreeMap<UserId, Cart>,
    pub orders: BTreeMap<OrderId, Order>,
    pub shelves: BTreeMap<(Sku, WarehouseId), Shelf>,
    /// Looked up only, never gone through: its order is nobody's business.
    pub keys: HashMap<Key, StoredOutcome>,
    pub events: BTreeMap<EventId, OrderEvent>,
    pub writers: BTreeMap<i32, WriterRow>,
}

#[derive(Clone, Debug)]
pub struct WriterRow {
    pub owner: i64,
    pub epoch: i64,
    pub last_batch: i64,
    pub last_event: i64,
    pub published: i64,
    pub seen_at: Time,
}

impl WriterRow {
    pub fn lives(&self, now: Time) -> bool {
        self.owner != NOBODY && self.seen_at >= now - chrono::TimeDelta::milliseconds(WRITER_DEAD_AFTER_MS)
    }
}

/// Under which numbers a batch is written.
#[derive(Clone, Copy)]
pub struct Numbers {
    pub writer_id: i32,
    pub epoch: i64,
    pub batch: i64,
    pub last_event: i64,
    pub published: i64,
}

/// Why a batch as a whole was not applied.
#[derive(Debug, Clone, Copy)]
pub enum Unapplied {
    /// The writer's row is at another epoch.
    Replaced,
    /// Something in it is bad, and all or nothing was asked for.
    RolledBack,
}

type Deltas = BTreeMap<(Sku, WarehouseId), (i64, i64)>;

impl Tables {
    /// A verdict for each change, with the number of events written. `whole`: all of them or none.
    pub fn write(
        &mut self,
        numbers: Numbers,
        changes: &[Change],
        now: Time,
        whole: bool,
    ) -> Result<(Vec<Verdict>, i64), Unapplied> {
        if self.writers.get(&numbers.writer_id).is_none_or(|row| row.epoch != numbers.epoch) {
            return Err(Unapplied::Replaced);
        }
        let before = numbers.last_event;
        let mut last_event = before;
        let verdicts = match changes {
            [Change::StockEdited { edit, key }] => vec![self.edit_stock(edit, key.as_ref())],
            _ if whole => {
                self.apply(changes, numbers.writer_id, &mut last_event).map_err(|_| Unapplied::RolledBack)?;
                changes.iter().map(|_| Verdict::Written).collect()
            }
            _ => self.settle(changes, numbers.writer_id, &mut last_event),
        };
        let rolled_back = matches!(verdicts[..], [Verdict::Refused(_)]);
        if let Some(row) = self.writers.get_mut(&numbers.writer_id).filter(|_| !rolled_back) {
            row.last_batch = numbers.batch;
            row.last_event = last_event;
            row.seen_at = now;
            row.published = row.published.max(numbers.published);
        }
        Ok((verdicts, last_event - before))
    }

    /// Halves are tried until each change that fails stands alone.
    fn settle(&mut self, changes: &[Change], writer: i32, last_event: &mut i64) -> Vec<Verdict> {
        match self.apply(changes, writer, last_event) {
            Ok(()) => changes.iter().map(|_| Verdict::Written).collect(),
            Err(refused) if changes.len() == 1 => vec![Verdict::Refused(refused)],
            Err(_) => {
                let (first, second) = changes.split_at(changes.len() / 2);
                let mut verdicts = self.settle(first, writer, last_event);
                verdicts.extend(self.settle(second, writer, last_event));
                verdicts
            }
        }
    }

    /// All of the changes, or none and why.
    fn apply(&mut self, changes: &[Change], writer: i32, last_event: &mut i64) -> Result<(), Refused> {
        self.check_keys(changes)?;
        self.check_versions(changes)?;
        let shelves = self.check_shelves(changes)?;
        for (place, (on_hand, reserved)) in shelves {
            if let Some(shelf) = self.shelves.get_mut(&place) {
                (shelf.on_hand, shelf.reserved) = (on_hand, reserved);
            }
        }
        for change in changes {
            self.carry_out(change, writer, last_event);
        }
        Ok(())
    }

    fn check_keys(&self, changes: &[Change]) -> Result<(), Refused> {
        let mut seen = HashSet::new();
        let mut keys = changes.iter().filter_map(Change::key).map(|keyed| &keyed.key);
        let free = keys.all(|key| !self.keys.contains_key(key) && seen.insert(key));
        if free { Ok(()) } else { Err(Refused::KeyTaken) }
    }

    fn check_versions(&self, changes: &[Change]) -> Result<(), Refused> {
        let mut carts = HashMap::new();
        let mut orders = HashSet::new();
        for change in changes {
            let cart = match change {
                Change::CartEdited { user, cart, .. } => Some((user, cart.version)),
                Change::OrderPlaced { order, emptied_cart_version, .. } => {
                    emptied_cart_version.map(|version| (&order.user, version))
                }
                _ => None,
            };
            if let Some((user, version)) = cart {
                let known = carts.entry(user).or_insert_with(|| self.carts.get(user).map_or(0, |cart| cart.version));
                if version != *known + 1 {
                    return Err(Refused::Stale);
                }
                *known = version;
            }
            let fresh = match change {
                Change::OrderPlaced { order, .. } => !self.orders.contains_key(&order.id) && orders.insert(order.id),
                Change::OrderMoved { order, .. } => {
                    let stored = self.orders.get(&order.id);
                    let follows = stored.is_some_and(|stored| {
                        let payable = stored.payment_refused_at.is_none() || order.status != Status::Payed;
                        stored.version == order.version - 1 && payable
                    });
                    follows && orders.insert(order.id)
                }
                Change::PaymentRefused { order } => {
                    let stored = self.orders.get(&order.id);
                    let known = stored.map(|stored| (stored.version, stored.payment_refused_at));
                    known == Some((order.version, None)) && orders.insert(order.id)
                }
                _ => true,
            };
            if !fresh {
                return Err(Refused::Stale);
            }
        }
        Ok(())
    }

    /// The shelves as the changes leave them.
    fn check_shelves(&self, changes: &[Change]) -> Result<Deltas, Refused> {
        let mut after = Deltas::new();
        for delta in changes.iter().flat_map(Change::shelf_deltas) {
            let place = (delta.sku, delta.warehouse);
            let shelf = self.shelves.get(&place).ok_or(Refused::Short)?;
            let (on_hand, reserved) = after.entry(place).or_insert((shelf.on_hand, shelf.reserved));
            *on_hand += delta.on_hand;
            *reserved += delta.reserved;
        }
        let covered = after.values().all(|(on_hand, reserved)| 0 <= *reserved && reserved <= on_hand);
        if covered { Ok(after) } else { Err(Refused::Short) }
    }

    fn carry_out(&mut self, change: &Change, writer: i32, last_event: &mut i64) {
        let outcome = match change {
            Change::CartEdited { user, edit, cart: after, key } => {
                let cart = self.carts.entry(user.clone()).or_default();
                cart.apply(edit.clone());
                let Some(keyed) = key else { return };
                Outcome::of_cart(after, keyed)
            }
            Change::OrderPlaced { order, shortages, emptied_cart_version, .. } => {
                if let Some(version) = *emptied_cart_version {
                    self.carts.insert(order.user.clone(), Cart::new(version, Vec::new()));
                }
                self.put(order, Step::Placed, writer, last_event);
                Outcome::Order { order_id: order.id, shortages: shortages.clone() }
            }
            Change::OrderMoved { order, .. } => return self.put(order, Step::Moved, writer, last_event),
            Change::PaymentRefused { order } => return self.put(order, Step::PaymentRefused, writer, last_event),
            Change::StockEdited { .. } => return,
        };
        if let Some(keyed) = change.key() {
            let stored = StoredOutcome { fingerprint: keyed.fingerprint, outcome };
            self.keys.insert(keyed.key.clone(), stored);
        }
    }

    fn put(&mut self, order: &Order, step: Step, writer: i32, last_event: &mut i64) {
        for event in OrderEvent::of_step(order, step, EventId { writer, seq: *last_event + 1 }) {
            *last_event = event.id.seq;
            self.events.insert(event.id, event);
        }
        // Whoever moves an order may not have heard that a payment was refused.
        let refused_at = self.orders.get(&order.id).and_then(|stored| stored.payment_refused_at);
        let payment_refused_at = refused_at.or(order.payment_refused_at);
        self.orders.insert(order.id, Order { payment_refused_at, ..order.clone() });
    }

    fn edit_stock(&mut self, edit: &StockEdit, key: Option<&loms::store::Keyed>) -> Verdict {
        if key.is_some_and(|keyed| self.keys.contains_key(&keyed.key)) {
            return Verdict::Refused(Refused::KeyTaken);
        }
        let adjusts = matches!(edit, StockEdit::Adjust { .. });
        let begins = matches!(edit, StockEdit::Begin(_));
        let mut after = Vec::new();
        let mut below = Vec::new();
        for (at, row) in edit.rows().iter().enumerate() {
            let known = self.shelves.get(&(row.sku.clone(), row.warehouse));
            if begins && known.is_some() {
                continue;
            }
            let (on_hand, reserved) = known.map_or((0, 0), |shelf| (shelf.on_hand, shelf.reserved));
            let on_hand = if adjusts { on_hand + row.units } else { row.units };
            if adjusts && row.units > 0 && on_hand > ON_HAND_MAX {
                return Verdict::Refused(Refused::AboveMax);
            }
            if on_hand < reserved {
                below.push(at);
            }
            after.push(((row.sku.clone(), row.warehouse), Shelf { warehouse: row.warehouse, on_hand, reserved }));
        }
        if !below.is_empty() {
            return Verdict::Refused(Refused::BelowReserved(below));
        }
        self.shelves.extend(after);
        let mut skus: Vec<Sku> = edit.rows().iter().map(|row| row.sku.clone()).collect();
        skus.dedup();
        let shelves = self.shelves_of(&skus);
        if let Some(keyed) = key {
            let stored = StoredOutcome { fingerprint: keyed.fingerprint, outcome: Outcome::of_stock(&shelves) };
            self.keys.insert(keyed.key.clone(), stored);
        }
        Verdict::StockWritten(shelves)
    }

    /// Whether no living writer has a lower number.
    pub fn is_heir(&self, writer: i32, now: Time) -> bool {
        !self.writers.range(..writer).any(|(_, row)| row.lives(now))
    }

    pub fn other_writers(&self, owner: i64) -> Vec<OtherWriter> {
        let others = self.writers.iter().filter(|(_, row)| row.owner != NOBODY && row.owner != owner);
        let seen =
            |(id, row): (&i32, &WriterRow)| OtherWriter { writer_id: *id, epoch: row.epoch, seen_at: row.seen_at };
        others.map(seen).collect()
    }

    pub fn shelves_of(&self, skus: &[Sku]) -> Vec<(Sku, Shelf)> {
        let wanted = self.shelves.iter().filter(|((sku, _), _)| skus.contains(sku));
        wanted.map(|((sku, _), shelf)| (sku.clone(), *shelf)).collect()
    }

    /// A sentence for each thing that does not add up.
    pub fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut held: BTreeMap<(&Sku, WarehouseId), i64> = BTreeMap::new();
        for order in self.orders.values().filter(|order| order.status == Status::AwaitingPayment) {
            for item in &*order.items {
                for allocation in &item.allocations {
                    *held.entry((&item.sku, allocation.warehouse)).or_default() += allocation.count.units();
                }
            }
        }
        for ((sku, warehouse), shelf) in &self.shelves {
            let held = held.remove(&(sku, *warehouse)).unwrap_or(0);
            if shelf.reserved != held || shelf.reserved < 0 || shelf.reserved > shelf.on_hand {
                found.push(format!("SKU {sku} in warehouse {warehouse}: {shelf:?}, but orders hold {held}"));
            }
        }
        found.extend(held.keys().map(|(sku, warehouse)| format!("SKU {sku} in {warehouse}: held, but not there")));
        self.events_that_do_not_add_up(&mut found);
        found
    }

    fn events_that_do_not_add_up(&self, found: &mut Vec<String>) {
        let mut paths: BTreeMap<OrderId, Vec<(i32, Status)>> = BTreeMap::new();
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        let mut refused: BTreeMap<OrderId, u32> = BTreeMap::new();
        for event in self.events.values() {
            match event.kind {
                EventKind::StatusChanged => paths.entry(event.order).or_default().push((event.version, event.status)),
                EventKind::PaymentRefused => *refused.entry(event.order).or_default() += 1,
            }
            let last = last.entry(event.id.writer).or_default();
            if event.id.seq != *last + 1 {
                found.push(format!("event {} follows {last}", event.id));
            }
            *last = event.id.seq;
        }
        for (writer, row) in &self.writers {
            if last.get(writer).copied().unwrap_or(0) != row.last_event {
                found.push(format!("writer {writer}: {row:?}, but its last event is {:?}", last.get(writer)));
            }
        }
        for order in self.orders.values() {
            let mut path = paths.remove(&order.id).unwrap_or_default();
            path.sort_unstable_by_key(|(version, _)| *version);
            let legal = path.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0 && pair[0].1.leads_to(pair[1].1));
            let ends = path.first() == Some(&(1, Status::New)) && path.last() == Some(&(order.version, order.status));
            if !legal || !ends {
                found.push(format!("order {} is {:?}, its path {path:?}", order.id, order.status));
            }
            let times = refused.remove(&order.id).unwrap_or(0);
            if times != u32::from(order.payment_refused_at.is_some()) {
                found.push(format!("that a payment was refused is told {times} times: {order:?}"));
            }
        }
        found.extend(paths.keys().map(|order| format!("order {order} has a history, but is missing")));
    }
}
