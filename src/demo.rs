//! A small gift shop to try the program with: what it sells, and how much of each it has.
//!
//! The files are part of the program, so that a first order needs nothing but the program.

/// `sku,name,price_minor_units`, prices in kopecks.
pub const CATALOGUE_CSV: &str = include_str!("../demo/catalog.csv");

/// `sku,warehouse_id,on_hand`, every SKU of the catalogue in warehouses 1 to 3.
pub const STOCK_CSV: &str = include_str!("../demo/stock.csv");

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::domain::{Sku, WarehouseId};
    use crate::products::Catalogue;

    #[test]
    fn the_demo_shop_has_stock_of_everything_it_sells_and_of_nothing_else() {
        let mut warehouses: HashMap<Sku, Vec<i32>> = HashMap::new();
        for row in csv::Reader::from_reader(STOCK_CSV.as_bytes()).deserialize() {
            let (sku, warehouse, on_hand): (String, String, i64) = row.expect("a row of three fields");
            assert!((0..=1_000_000).contains(&on_hand), "{sku}: {on_hand}");
            let warehouse = WarehouseId::parse(&warehouse).expect("a warehouse");
            warehouses.entry(Sku::parse(&sku).expect("a SKU")).or_default().push(warehouse.0);
        }
        let catalogue = Catalogue::demo();
        let sold = catalogue.list(None, usize::MAX);
        assert_eq!(sold.len(), warehouses.len());
        for sku in sold {
            assert_eq!(warehouses.get(&sku).map(Vec::as_slice), Some([1, 2, 3].as_slice()), "{sku}");
        }
    }
}
