//! Recordings of a few invoices, written by hand.

use std::collections::HashMap;

use crate::commands::replay::recording::{Invoice, InvoiceKind, Line, Recording, SkuIndex, UserIndex};
use crate::domain::{Count, Sku, UserId};

/// User, number and lines of SKU and count; a number that starts with `C` is a cancel.
pub type Invoiced<'text> = (&'text str, &'text str, &'text [(&'text str, i64)]);

pub fn recording(invoices: &[Invoiced<'_>]) -> Recording {
    let mut recording = Recording::default();
    let mut skus = HashMap::new();
    let mut users = HashMap::new();
    for &(user, number, lines) in invoices {
        let user = *users.entry(user).or_insert_with(|| {
            recording.users.push(UserId::parse(user).expect("a user"));
            UserIndex(u32::try_from(recording.users.len() - 1).expect("few"))
        });
        let mut kept = Vec::new();
        for &(sku, count) in lines {
            let sku = *skus.entry(sku).or_insert_with(|| {
                recording.skus.push(Sku::parse(sku).expect("a SKU"));
                SkuIndex(u32::try_from(recording.skus.len() - 1).expect("few"))
            });
            kept.push(Line { sku, count: Count::new(count).expect("a count") });
        }
        let kind = if number.starts_with('C') { InvoiceKind::Cancel } else { InvoiceKind::Order };
        recording.invoices.push(Invoice { number: number.into(), user, kind, lines: kept });
    }
    recording
}
