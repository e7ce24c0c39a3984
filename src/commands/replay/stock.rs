//! The stock to start with: what the recording orders, times a factor, over three warehouses.

use super::recording::{InvoiceKind, Recording};
use crate::domain::stock::ON_HAND_MAX;
use crate::domain::{Sku, WarehouseId};

/// Shares in per cent of warehouses 2 and 3; what rounding leaves goes to warehouse 1 with its 50.
const SECOND_PER_CENT: i64 = 30;
const THIRD_PER_CENT: i64 = 20;

/// The largest body that `POST /stocks/import` takes.
pub const IMPORT_BYTES_MAX: usize = 1024 * 1024;

const HEADER: &str = "sku,warehouse_id,on_hand\n";

/// Three rows for every SKU that the recording orders, in the catalogue's order. A SKU that nobody
/// orders has none.
#[must_use]
pub fn stock_rows(recording: &Recording, factor: f64) -> Vec<(Sku, WarehouseId, i64)> {
    let mut ordered = vec![0_i64; recording.skus.len()];
    for invoice in recording.invoices.iter().filter(|invoice| invoice.kind == InvoiceKind::Order) {
        for line in &invoice.lines {
            ordered[line.sku.0 as usize] += line.count.units();
        }
    }
    let mut rows = Vec::new();
    for (sku, units) in recording.skus.iter().zip(ordered).filter(|(_, units)| *units > 0) {
        for (warehouse, on_hand) in (1..).zip(split(scaled(units, factor))) {
            rows.push((sku.clone(), WarehouseId(warehouse), on_hand));
        }
    }
    rows
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding is what is wanted, and the result is held within what a shelf takes"
)]
fn scaled(units: i64, factor: f64) -> i64 {
    ((units as f64 * factor).round() as i64).clamp(0, ON_HAND_MAX)
}

fn split(units: i64) -> [i64; 3] {
    let second = units * SECOND_PER_CENT / 100;
    let third = units * THIRD_PER_CENT / 100;
    [units - second - third, second, third]
}

/// The rows as bodies for `POST /stocks/import`, each with its header line and of at most
/// `bytes_max` bytes. Each body is imported whole or not at all; the bodies together are not.
#[must_use]
pub fn stock_csv(rows: &[(Sku, WarehouseId, i64)], bytes_max: usize) -> Vec<String> {
    let mut bodies: Vec<String> = Vec::new();
    for (sku, warehouse, on_hand) in rows {
        let row = format!("{},{warehouse},{on_hand}\n", quoted(sku.as_str()));
        match bodies.last_mut() {
            Some(body) if body.len() + row.len() <= bytes_max => body.push_str(&row),
            _ => bodies.push(format!("{HEADER}{row}")),
        }
    }
    bodies
}

/// RFC 4180, section 2, rules 5 to 7. A SKU holds no line break.
fn quoted(field: &str) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::replay::test_world::samples;

    fn per_sku(rows: &[(Sku, WarehouseId, i64)]) -> Vec<(&str, i64)> {
        rows.chunks(3).map(|three| (three[0].0.as_str(), three.iter().map(|row| row.2).sum())).collect()
    }

    #[test]
    fn the_three_warehouses_hold_together_what_was_ordered_times_the_factor() {
        let recording = samples::recording(&[
            ("1", "7", &[("A", 7), ("A", 4), ("B", 1)]),
            ("1", "C8", &[("A", 11), ("C", 5)]),
            ("2", "9", &[("B", 2)]),
        ]);
        for (factor, units) in [(1.0, [11, 3]), (0.5, [6, 2]), (0.1, [1, 0]), (0.0, [0, 0]), (1.3, [14, 4])] {
            let rows = stock_rows(&recording, factor);
            assert_eq!(per_sku(&rows), [("A", units[0]), ("B", units[1])], "factor {factor}");
            assert!(rows.iter().all(|row| row.2 >= 0));
        }
    }

    #[test]
    fn what_rounding_leaves_lies_in_the_first_warehouse() {
        assert_eq!(split(100), [50, 30, 20]);
        assert_eq!(split(1), [1, 0, 0]);
        assert_eq!(split(9), [6, 2, 1]);
        assert!((0..1_000).all(|units| split(units).iter().sum::<i64>() == units));
    }

    #[test]
    fn rows_are_cut_into_bodies_that_the_import_takes_and_none_is_lost() {
        let row = |sku: &str, units| (Sku::parse(sku).expect("a SKU"), WarehouseId(2), units);
        let rows = [row("A", 1), row("B,\"b\"", 22), row("BANK CHARGES", 3)];
        assert_eq!(
            stock_csv(&rows, 46),
            [
                "sku,warehouse_id,on_hand\nA,2,1\n\"B,\"\"b\"\"\",2,22\n".to_owned(),
                "sku,warehouse_id,on_hand\nBANK CHARGES,2,3\n".to_owned()
            ]
        );
        assert!(stock_csv(&[], 46).is_empty());
    }
}
