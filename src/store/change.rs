//! One command's durable effect: all of it is written, or none.

use std::sync::Arc;

use crate::domain::cart::{Cart, Edit};
use crate::domain::order::{Order, Status};
use crate::domain::stock::{Shelf, Shortage};
use crate::domain::{Sku, Step, Time, UserId, WarehouseId};

use super::idempotency::{Keyed, Outcome};

/// A change carries the state as it is after it; the state before it is one version older, save where
/// only a refused payment is noted.
#[derive(Debug, Clone)]
pub enum Change {
    CartEdited {
        user: UserId,
        cart: Cart,
        edit: Edit,
        key: Option<Keyed>,
    },
    /// A new order, reserved or failed. A purchase empties the cart, which is then at this version.
    OrderPlaced {
        order: Arc<Order>,
        shortages: Vec<Shortage>,
        emptied_cart_version: Option<i64>,
        key: Option<Keyed>,
    },
    /// An order that awaited payment was payed or cancelled.
    OrderMoved {
        order: Arc<Order>,
        movement: Movement,
    },
    /// A payment was refused for the first time: it is told, so that the money goes back.
    PaymentRefused {
        order: Arc<Order>,
    },
    /// Shelves were counted or adjusted. Stands alone in its batch.
    StockEdited {
        edit: StockEdit,
        key: Option<Keyed>,
    },
}

/// What an order that leaves `awaiting_payment` does to its reserved stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    WriteOff,
    Release,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockEdit {
    /// So many units lie there.
    Count(Vec<ShelfEdit>),
    /// So many units lie where there was no shelf yet. Shelves that are there stay as they are.
    Begin(Vec<ShelfEdit>),
    /// So many units more, or less.
    Adjust { row: ShelfEdit, reason: String, at: Time },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfEdit {
    pub sku: Sku,
    pub warehouse: WarehouseId,
    pub units: i64,
}

/// How much a change adds to a shelf's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfDelta {
    pub sku: Sku,
    pub warehouse: WarehouseId,
    pub on_hand: i64,
    pub reserved: i64,
}

/// What became of a change whose batch was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Written,
    /// A stock edit was written: all shelves of the SKUs that it names, as they are now.
    StockWritten(Vec<(Sku, Shelf)>),
    Refused(Refused),
}

/// Why a change alone was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The cart or order is no longer at the version that the change was based on.
    Stale,
    /// The shelves do not hold what it wanted to take.
    Short,
    /// A cart would hold more than can be bought: so many can. Found before it comes to the database.
    NotCovered { available: i64 },
    /// Its idempotency key is already there, with its outcome.
    KeyTaken,
    /// These rows of a stock edit (by position) would leave less on hand than is reserved.
    BelowReserved(Vec<usize>),
    /// An adjustment would leave more on hand than one warehouse holds.
    AboveMax,
    /// The database refuses it for a reason that no change should have: a defect, logged there.
    Unwritable,
}

impl Change {
    pub fn key(&self) -> Option<&Keyed> {
        match self {
            Self::CartEdited { key, .. } | Self::OrderPlaced { key, .. } | Self::StockEdited { key, .. } => {
                key.as_ref()
            }
            Self::OrderMoved { .. } | Self::PaymentRefused { .. } => None,
        }
    }

    /// What a repetition of the request is answered with. A stock edit's outcome is known to the
    /// store only.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::CartEdited { cart, key, .. } => Some(Outcome::of_cart(cart, key.as_ref()?)),
            Self::OrderPlaced { order, shortages, .. } => {
                Some(Outcome::Order { order_id: order.id, shortages: shortages.clone() })
            }
            Self::OrderMoved { .. } | Self::PaymentRefused { .. } | Self::StockEdited { .. } => None,
        }
    }

    /// The order that must be in the store already, and its version there.
    pub(super) fn based_on(&self) -> Option<(&Order, i32)> {
        match self {
            Self::OrderMoved { order, .. } => Some((order, order.version - 1)),
            Self::PaymentRefused { order } => Some((order, order.version)),
            Self::OrderPlaced { .. } | Self::CartEdited { .. } | Self::StockEdited { .. } => None,
        }
    }

    /// The order that it leaves in another state, and how.
    pub fn step(&self) -> Option<(&Arc<Order>, Step)> {
        match self {
            Self::OrderPlaced { order, .. } => Some((order, Step::Placed)),
            Self::OrderMoved { order, .. } => Some((order, Step::Moved)),
            Self::PaymentRefused { order } => Some((order, Step::PaymentRefused)),
            Self::CartEdited { .. } | Self::StockEdited { .. } => None,
        }
    }

    /// What the change adds to each shelf. A stock edit sets shelves instead.
    pub fn shelf_deltas(&self) -> impl Iterator<Item = ShelfDelta> {
        let (items, on_hand_sign, reserved_sign) = match self {
            Self::OrderPlaced { order, .. } if order.status == Status::AwaitingPayment => (&order.items[..], 0, 1),
            Self::OrderMoved { order, movement: Movement::WriteOff } => (&order.items[..], -1, -1),
            Self::OrderMoved { order, movement: Movement::Release } => (&order.items[..], 0, -1),
            _ => (&[][..], 0, 0),
        };
        items.iter().flat_map(move |item| {
            item.allocations.iter().map(move |allocation| ShelfDelta {
                sku: item.sku.clone(),
                warehouse: allocation.warehouse,
                on_hand: on_hand_sign * allocation.count.units(),
                reserved: reserved_sign * allocation.count.units(),
            })
        })
    }

    /// How many rows it writes, and how many lines the outcome has that is kept with its key: batches are bounded by it.
    pub fn rows(&self) -> usize {
        let written = match self {
            Self::CartEdited { .. } | Self::PaymentRefused { .. } => 2,
            Self::OrderPlaced { order, emptied_cart_version, .. } => {
                let lines: usize = order.items.iter().map(|item| item.allocations.len().max(1)).sum();
                let shelves = if order.status == Status::AwaitingPayment { allocations(order) } else { 0 };
                3 + lines + shelves + 2 * usize::from(emptied_cart_version.is_some())
            }
            Self::OrderMoved { order, .. } => 2 + allocations(order),
            Self::StockEdited { edit, .. } => edit.rows().len(),
        };
        written + if self.key().is_some() { 1 + self.lines_kept() } else { 0 }
    }

    /// Of the outcome.
    fn lines_kept(&self) -> usize {
        match self {
            Self::CartEdited { cart, .. } => cart.lines().len(),
            Self::OrderPlaced { shortages, .. } => shortages.len(),
            Self::OrderMoved { .. } | Self::PaymentRefused { .. } | Self::StockEdited { .. } => 0,
        }
    }
}

/// How many shelves an order takes from.
fn allocations(order: &Order) -> usize {
    order.items.iter().map(|item| item.allocations.len()).sum()
}

impl ShelfEdit {
    /// Why a shelf does not take this many units more or less: more are refused for one reason only, and so are fewer.
    pub(super) fn not_taken(&self) -> Refused {
        if self.units > 0 { Refused::AboveMax } else { Refused::BelowReserved(vec![0]) }
    }
}

impl StockEdit {
    pub fn rows(&self) -> &[ShelfEdit] {
        match self {
            Self::Count(rows) | Self::Begin(rows) => rows,
            Self::Adjust { row, .. } => std::slice::from_ref(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::cart::Line;
    use crate::domain::order::Item;
    use crate::domain::stock::Allocation;
    use crate::domain::{Count, Money, OrderId};
    use crate::store::idempotency::Key;
    use crate::store::rows::BatchRows;

    use super::*;

    const WAREHOUSES: i32 = 5;
    const LINES: usize = 30;

    fn sku(number: usize) -> Sku {
        Sku::parse(&format!("S{number}")).expect("a SKU")
    }

    fn units(units: i64) -> Count {
        Count::new(units).expect("a count")
    }

    fn user() -> UserId {
        UserId::parse("ann").expect("a user")
    }

    fn keyed() -> Keyed {
        Keyed { key: Key::parse("key").expect("a key"), fingerprint: [7; 32], tags: None }
    }

    /// Each unit of each line from another warehouse.
    fn order() -> Order {
        let item = |number| Item {
            sku: sku(number),
            name: "Mug".into(),
            price: Money(100),
            count: units(i64::from(WAREHOUSES)),
            allocations: (1..=WAREHOUSES)
                .map(|warehouse| Allocation { warehouse: WarehouseId(warehouse), count: units(1) })
                .collect(),
        };
        let items = (0..LINES).map(item).collect();
        Order::draft(OrderId(1), user(), items, Time::UNIX_EPOCH, Time::UNIX_EPOCH).expect("a small total")
    }

    fn placed(order: Order, shortages: Vec<Shortage>) -> Change {
        Change::OrderPlaced { order: Arc::new(order), shortages, emptied_cart_version: Some(2), key: Some(keyed()) }
    }

    fn rows_of(change: &Change) -> usize {
        let rows = BatchRows::of(std::slice::from_ref(change));
        let of_carts = rows.carts.len() + rows.carts_emptied.len() + rows.items_set.len() + rows.items_removed.len();
        let of_orders = rows.orders.len() + rows.lines.len() + rows.moves.len() + rows.events.len();
        of_carts + of_orders + rows.shelves.len() + rows.keys.len()
    }

    #[test]
    fn rows_are_counted_as_they_are_written() {
        let mut reserved = order();
        reserved.reserve();
        let shortages: Vec<_> =
            (0..LINES).map(|number| Shortage { sku: sku(number), requested: 5, available: 4 }).collect();
        let mut failed = order();
        Arc::make_mut(&mut failed.items).iter_mut().for_each(|item| item.allocations.clear());
        failed.fail(&shortages);
        let line = Line { sku: sku(0), count: units(1) };
        let lines = (0..LINES).map(|number| Line { sku: sku(number), count: units(1) }).collect();
        let cart = Cart::new(7, lines);
        let edited = |edit, key| Change::CartEdited { user: user(), cart: cart.clone(), edit, key };
        let order = Arc::new(reserved.clone());
        let moved = |movement| Change::OrderMoved { order: Arc::clone(&order), movement };
        let table = [
            (placed(reserved, vec![]), 0),
            (placed(failed, shortages), LINES),
            (moved(Movement::WriteOff), 0),
            (moved(Movement::Release), 0),
            (Change::PaymentRefused { order: Arc::clone(&order) }, 0),
            (edited(Edit::LineSet(line.clone()), None), 0),
            (edited(Edit::LineSet(line), Some(keyed())), LINES),
            (edited(Edit::LineRemoved(sku(LINES)), Some(keyed())), LINES),
            (edited(Edit::Emptied, None), 0),
        ];
        for (change, lines_kept) in table {
            assert_eq!(change.rows(), rows_of(&change) + lines_kept, "{change:?}");
        }
    }
}
