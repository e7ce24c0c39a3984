//! Shelves: how many units of a SKU lie in each warehouse, and how many of them are reserved.

use serde::{Deserialize, Serialize};

use super::{Count, Sku, WarehouseId};

/// The most units that one warehouse holds of one SKU.
pub const ON_HAND_MAX: i64 = 1_000_000_000_000;

/// One SKU in one warehouse. `0 <= reserved <= on_hand`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    pub warehouse: WarehouseId,
    pub on_hand: i64,
    pub reserved: i64,
}

/// Units of an order's line that come from one warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    pub warehouse: WarehouseId,
    pub count: Count,
}

/// A line that the stock does not cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    pub sku: Sku,
    pub requested: i64,
    pub available: i64,
}

impl Shelf {
    /// Where another process was faster, what is under way to the database may be more than there is:
    /// that is no less than nothing.
    #[must_use]
    pub fn available(&self) -> i64 {
        (self.on_hand - self.reserved).max(0)
    }
}

/// How many units can be bought over all warehouses.
#[must_use]
pub fn available(shelves: &[Shelf]) -> i64 {
    shelves.iter().map(Shelf::available).fold(0, i64::saturating_add)
}

/// Which warehouses a line takes from: the first that covers it whole, else it is split over the
/// warehouses in their order. `None` where all of them together do not cover it. `shelves` are
/// in warehouse order.
#[must_use]
pub fn allocate(shelves: &[Shelf], count: Count) -> Option<Vec<Allocation>> {
    let wanted = count.units();
    if let Some(shelf) = shelves.iter().find(|shelf| shelf.available() >= wanted) {
        return Some(vec![Allocation { warehouse: shelf.warehouse, count }]);
    }
    let mut left = wanted;
    let mut allocations = Vec::new();
    for shelf in shelves {
        if let Ok(count) = Count::new(shelf.available().min(left)) {
            allocations.push(Allocation { warehouse: shelf.warehouse, count });
            left -= count.units();
        }
    }
    (left == 0).then_some(allocations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelves(stock: &[(i64, i64)]) -> Vec<Shelf> {
        let shelf = |(at, &(on_hand, reserved)): (usize, &(i64, i64))| Shelf {
            warehouse: WarehouseId(i32::try_from(at).expect("few warehouses") + 1),
            on_hand,
            reserved,
        };
        stock.iter().enumerate().map(shelf).collect()
    }

    fn check(stock: &[(i64, i64)], count: i64, expected: Option<&[(i32, i64)]>) {
        let count = Count::new(count).expect("a valid count");
        let allocations = allocate(&shelves(stock), count);
        let plain =
            allocations.map(|all| all.iter().map(|one| (one.warehouse.0, one.count.units())).collect::<Vec<_>>());
        assert_eq!(plain.as_deref(), expected);
    }

    #[test]
    fn the_first_warehouse_that_covers_the_line_whole_gives_it() {
        check(&[(5, 0), (9, 0)], 5, Some(&[(1, 5)]));
        check(&[(5, 1), (9, 0), (9, 0)], 5, Some(&[(2, 5)]));
    }

    #[test]
    fn else_the_line_is_split_in_the_order_of_the_warehouses() {
        check(&[(5, 1), (3, 3), (9, 2)], 10, Some(&[(1, 4), (3, 6)]));
        check(&[(5, 0), (3, 0), (2, 0)], 10, Some(&[(1, 5), (2, 3), (3, 2)]));
    }

    #[test]
    fn what_is_not_there_is_not_allocated() {
        check(&[(5, 1), (3, 3)], 5, None);
        check(&[], 1, None);
        assert_eq!(available(&shelves(&[(5, 1), (3, 3)])), 4);
    }
}
