//! The replay's reading and planning of the real shop orders, where they are at hand.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

use loms::commands::replay::plan::{Deed, Fate, Plan};
use loms::commands::replay::recording::{InvoiceKind, Recording};
use loms::commands::replay::stock::{IMPORT_BYTES_MAX, stock_csv, stock_rows};

/// The real recording, or `None` with a word that the test was skipped.
fn online_retail() -> Option<Recording> {
    let folder = Path::new("../shared/data/online-retail");
    let (catalogue, events) = (folder.join("catalog.csv.gz"), folder.join("events.csv.gz"));
    if !events.exists() {
        eprintln!("skipped: the recorded orders are not at {}", folder.display());
        return None;
    }
    Some(Recording::read(&catalogue, &events).expect("the real recording is good"))
}

#[test]
fn the_real_recording_has_the_stated_orders_lines_and_units() {
    let Some(recording) = online_retail() else { return };
    let of = |kind| recording.invoices.iter().filter(move |invoice| invoice.kind == kind);
    assert_eq!(of(InvoiceKind::Order).count(), 14_873);
    assert_eq!(of(InvoiceKind::Cancel).count(), 2_887);
    let lines = || of(InvoiceKind::Order).flat_map(|order| &order.lines);
    assert_eq!(lines().count(), 363_253);
    assert_eq!(lines().map(|line| line.count.units()).sum::<i64>(), 3_945_583);
}

#[test]
fn in_the_real_recording_the_order_of_74215_units_is_cancelled_soon_after() {
    let Some(recording) = online_retail() else { return };
    let plan = Plan::of(&recording, 1, 0.1);
    let order = recording.invoices.iter().position(|invoice| invoice.number == "541431").expect("recorded");
    assert_eq!(recording.invoices[order].lines[0].count.units(), 74_215);
    let at = |deed| plan.steps.iter().position(|step| step.deed == deed).expect("planned");
    let placed = at(Deed::Order { order, fate: Fate::CancelLater });
    let cancelled = at(Deed::Cancel { order });
    assert!(placed < cancelled && cancelled - placed < 10, "{placed} {cancelled}");
    let cancels = plan.steps.iter().filter(|step| matches!(step.deed, Deed::Cancel { .. })).count();
    assert_eq!((cancels, plan.returns_unmatched), (109, 2_887 - 109));
    let unpaid = plan.steps.iter().filter(|step| matches!(step.deed, Deed::Order { fate: Fate::LeaveUnpaid, .. }));
    assert!((1_350..1_650).contains(&unpaid.count()), "about a tenth of 14,873");
}

#[test]
fn the_real_recording_fits_one_import() {
    let Some(recording) = online_retail() else { return };
    let rows = stock_rows(&recording, 1.0);
    assert_eq!(rows.len(), 3 * 3_763);
    assert_eq!(rows.iter().map(|row| row.2).sum::<i64>(), 3_945_583);
    assert_eq!(stock_csv(&rows, IMPORT_BYTES_MAX).len(), 1);
}
