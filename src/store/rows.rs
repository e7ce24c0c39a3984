//! A batch of changes as rows of the tables, the same for both databases.

use serde::Serialize;

use crate::domain::Time;
use crate::domain::cart::Edit;
use crate::domain::event::PAYMENT_REFUSED;
use crate::domain::order::{Order, Status};

use super::change::{Change, ShelfDelta};

/// Under which numbers a batch is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub writer_id: i32,
    pub epoch: i64,
    pub batch: i64,
    /// The last event before this batch.
    pub last_event: i64,
    /// The last event that others have heard of.
    pub published: i64,
}

/// What a batch writes, table by table. Stock edits are not among it: they stand alone.
#[derive(Debug, Default)]
pub(super) struct BatchRows<'a> {
    pub carts: Vec<CartRow<'a>>,
    /// Users whose carts are emptied.
    pub carts_emptied: Vec<&'a str>,
    pub items_set: Vec<ItemRow<'a>>,
    pub items_removed: Vec<(&'a str, &'a str)>,
    pub orders: Vec<&'a Order>,
    pub lines: Vec<LineRow<'a>>,
    pub moves: Vec<MoveRow<'a>>,
    pub events: Vec<EventRow<'a>>,
    /// One per shelf, in SKU and warehouse order: the order in which rows are locked.
    pub shelves: Vec<ShelfDelta>,
    pub keys: Vec<KeyRow<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct CartRow<'a> {
    pub user_id: &'a str,
    /// The version after the edit; the stored one must be one less.
    pub version: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct ItemRow<'a> {
    pub user_id: &'a str,
    pub sku: &'a str,
    pub count: i32,
}

#[derive(Debug, Serialize)]
pub(super) struct LineRow<'a> {
    pub order_id: i64,
    pub line: i32,
    pub sku: &'a str,
    pub name: &'a str,
    pub price: i64,
    pub count: i32,
    pub warehouse_id: Option<i32>,
}

/// An order in another state than before.
#[derive(Debug)]
pub(super) struct MoveRow<'a> {
    pub order: &'a Order,
    /// The stored version must be this one; where it stays the same, no payment may have been
    /// refused before.
    pub based_on: i32,
}

#[derive(Debug)]
pub(super) struct EventRow<'a> {
    pub order_id: i64,
    pub version: i32,
    pub status: &'static str,
    pub reason: Option<&'a str>,
    pub at: Time,
}

#[derive(Debug)]
pub(super) struct KeyRow<'a> {
    pub key: &'a str,
    pub fingerprint: &'a [u8],
    pub outcome: String,
}

impl<'a> BatchRows<'a> {
    pub fn of(changes: &'a [Change]) -> Self {
        let mut rows = Self::default();
        for change in changes {
            rows.add(change);
        }
        // Every writer takes rows that another may want in the same order.
        rows.carts.sort_unstable_by_key(|row| row.user_id);
        rows.moves.sort_unstable_by_key(|row| row.order.id);
        rows.keys.sort_unstable_by_key(|row| row.key);
        rows.shelves = merge(changes.iter().flat_map(Change::shelf_deltas).collect());
        rows
    }

    fn add(&mut self, change: &'a Change) {
        match change {
            Change::CartEdited { user, cart, edit, .. } => {
                self.carts.push(CartRow { user_id: user.as_str(), version: cart.version });
                match edit {
                    Edit::LineSet(line) => {
                        let row =
                            ItemRow { user_id: user.as_str(), sku: line.sku.as_str(), count: line.count.as_i32() };
                        self.items_set.push(row);
                    }
                    Edit::LineRemoved(sku) => self.items_removed.push((user.as_str(), sku.as_str())),
                    Edit::Emptied => self.carts_emptied.push(user.as_str()),
                }
            }
            Change::OrderPlaced { order, emptied_cart_version, .. } => {
                if let Some(version) = *emptied_cart_version {
                    self.carts.push(CartRow { user_id: order.user.as_str(), version });
                    self.carts_emptied.push(order.user.as_str());
                }
                self.orders.push(order);
                self.add_lines(order);
                self.events.push(EventRow {
                    version: 1,
                    status: Status::New.as_str(),
                    reason: None,
                    ..event_of(order, order.created_at)
                });
                self.events.push(event_of(order, order.updated_at));
            }
            Change::OrderMoved { order, .. } => self.events.push(event_of(order, order.updated_at)),
            Change::PaymentRefused { order } => {
                let at = order.payment_refused_at.unwrap_or(order.updated_at);
                self.events.push(EventRow { status: PAYMENT_REFUSED, reason: None, ..event_of(order, at) });
            }
            Change::StockEdited { .. } => {}
        }
        self.moves.extend(change.based_on().map(|(order, based_on)| MoveRow { order, based_on }));
        self.keys.extend(key_of(change));
    }

    fn add_lines(&mut self, order: &'a Order) {
        let mut line = 0;
        for item in &*order.items {
            let mut add = |count, warehouse_id| {
                line += 1;
                let (sku, name, price) = (item.sku.as_str(), &*item.name, item.price.0);
                self.lines.push(LineRow { order_id: order.id.0, line, sku, name, price, count, warehouse_id });
            };
            if item.allocations.is_empty() {
                add(item.count.as_i32(), None);
            }
            for allocation in &item.allocations {
                add(allocation.count.as_i32(), Some(allocation.warehouse.0));
            }
        }
    }
}

fn event_of(order: &Order, at: Time) -> EventRow<'_> {
    EventRow {
        order_id: order.id.0,
        version: order.version,
        status: order.status.as_str(),
        reason: order.reason.as_deref(),
        at,
    }
}

fn key_of(change: &Change) -> Option<KeyRow<'_>> {
    let keyed = change.key()?;
    let outcome = change.outcome()?.to_json();
    Some(KeyRow { key: keyed.key.as_str(), fingerprint: &keyed.fingerprint, outcome })
}

/// One row per shelf, in the order in which every writer locks shelves.
fn merge(mut deltas: Vec<ShelfDelta>) -> Vec<ShelfDelta> {
    deltas.sort_unstable_by(|one, other| (&one.sku, one.warehouse).cmp(&(&other.sku, other.warehouse)));
    deltas.dedup_by(|next, kept| {
        let same = next.sku == kept.sku && next.warehouse == kept.warehouse;
        if same {
            kept.on_hand += next.on_hand;
            kept.reserved += next.reserved;
        }
        same
    });
    deltas
}
