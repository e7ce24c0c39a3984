//! What each user will do: every recorded invoice becomes one step, decided before the first request.
//!
//! Pure, and the same for the same recording and seed: fates are drawn in the file's order, so
//! they do not depend on how many connections play them.

use std::collections::HashMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::recording::{Invoice, InvoiceKind, Recording, SkuIndex, UserIndex};

#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the file's order.
    pub steps: Vec<Step>,
    /// Cancel invoices that give no whole order back: part of one, several, or goods that the
    /// recording never sold. LOMS has no returns, so there is nothing to play.
    pub returns_unmatched: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub user: UserIndex,
    pub deed: Deed,
}

/// `order` is a place in [`Recording::invoices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Order { order: usize, fate: Fate },
    Cancel { order: usize },
}

/// What becomes of an order that was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Payed at once.
    Pay,
    /// Awaits payment until a later [`Deed::Cancel`] of the same user.
    CancelLater,
    /// Awaits payment until LOMS cancels it.
    LeaveUnpaid,
}

impl Plan {
    /// `unpaid` is the chance, 0 to 1, that an order which the recording does not cancel is never
    /// payed.
    #[must_use]
    pub fn of(recording: &Recording, seed: u64, unpaid: f64) -> Self {
        let given_back = given_back(recording);
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut fates: Vec<Fate> = Vec::with_capacity(recording.invoices.len());
        for invoice in &recording.invoices {
            // Drawn for orders that will be cancelled too: the others' fates then depend on
            // nothing but their place.
            let left = invoice.kind == InvoiceKind::Order && chance.random_bool(unpaid);
            fates.push(if left { Fate::LeaveUnpaid } else { Fate::Pay });
        }
        for &order in given_back.values() {
            fates[order] = Fate::CancelLater;
        }
        let mut plan = Self { steps: Vec::with_capacity(recording.invoices.len()), returns_unmatched: 0 };
        for (place, (invoice, fate)) in recording.invoices.iter().zip(fates).enumerate() {
            let deed = match (invoice.kind, given_back.get(&place)) {
                (InvoiceKind::Order, _) => Deed::Order { order: place, fate },
                (InvoiceKind::Cancel, Some(&order)) => Deed::Cancel { order },
                (InvoiceKind::Cancel, None) => {
                    plan.returns_unmatched += 1;
                    continue;
                }
            };
            plan.steps.push(Step { user: invoice.user, deed });
        }
        plan
    }
}

/// Which cancel invoice (key) gives which order (value) back: the same user's latest order before
/// it of which every line comes back in full, and which no earlier cancel gave back.
fn given_back(recording: &Recording) -> HashMap<usize, usize> {
    let mut open: HashMap<UserIndex, Vec<usize>> = HashMap::new();
    let mut matched = HashMap::new();
    for (place, invoice) in recording.invoices.iter().enumerate() {
        let orders = open.entry(invoice.user).or_default();
        match invoice.kind {
            InvoiceKind::Order => orders.push(place),
            InvoiceKind::Cancel => {
                let returned = units_by_sku(invoice);
                if let Some(at) = orders.iter().rposition(|&order| covers(&returned, &recording.invoices[order])) {
                    matched.insert(place, orders.remove(at));
                }
            }
        }
    }
    matched
}

fn covers(returned: &HashMap<SkuIndex, i64>, order: &Invoice) -> bool {
    // Most orders fail at their first SKU: look before adding up.
    order.lines.iter().all(|line| returned.contains_key(&line.sku))
        && units_by_sku(order).iter().all(|(sku, units)| returned[sku] >= *units)
}

fn units_by_sku(invoice: &Invoice) -> HashMap<SkuIndex, i64> {
    let mut units = HashMap::new();
    for line in &invoice.lines {
        *units.entry(line.sku).or_default() += line.count.units();
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::replay::test_world::samples;

    fn deeds(plan: &Plan) -> Vec<Deed> {
        plan.steps.iter().map(|step| step.deed).collect()
    }

    #[test]
    fn an_order_that_a_later_invoice_gives_back_whole_is_cancelled_there() {
        let recording = samples::recording(&[
            ("1", "7", &[("A", 2), ("A", 3), ("B", 1)]),
            ("2", "8", &[("A", 1)]),
            ("1", "C9", &[("B", 1), ("A", 5)]),
        ]);
        let plan = Plan::of(&recording, 1, 0.0);
        let cancelled = Deed::Order { order: 0, fate: Fate::CancelLater };
        let payed = Deed::Order { order: 1, fate: Fate::Pay };
        assert_eq!(deeds(&plan), [cancelled, payed, Deed::Cancel { order: 0 }]);
        assert_eq!(plan.returns_unmatched, 0);
    }

    #[test]
    fn a_cancel_of_a_part_of_another_user_or_of_a_later_order_is_not_replayed() {
        let recording = samples::recording(&[
            ("1", "C1", &[("A", 5)]),
            ("1", "7", &[("A", 5), ("B", 1)]),
            ("1", "C2", &[("A", 5)]),
            ("1", "C3", &[("A", 4), ("B", 1)]),
            ("2", "C4", &[("A", 5), ("B", 1)]),
        ]);
        let plan = Plan::of(&recording, 1, 0.0);
        assert_eq!(deeds(&plan), [Deed::Order { order: 1, fate: Fate::Pay }]);
        assert_eq!(plan.returns_unmatched, 4);
    }

    #[test]
    fn an_order_is_given_back_once_and_the_latest_first() {
        let recording = samples::recording(&[
            ("1", "7", &[("A", 1)]),
            ("1", "8", &[("A", 1)]),
            ("1", "C1", &[("A", 1)]),
            ("1", "C2", &[("A", 1)]),
            ("1", "C3", &[("A", 1)]),
        ]);
        let plan = Plan::of(&recording, 1, 0.0);
        assert_eq!(deeds(&plan)[2..], [Deed::Cancel { order: 1 }, Deed::Cancel { order: 0 }]);
        assert_eq!(plan.returns_unmatched, 1);
    }

    #[test]
    fn the_same_seed_makes_the_same_plan_and_another_seed_another() {
        let numbers: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let invoices: Vec<_> = numbers.iter().map(|number| ("1", number.as_str(), &[("A", 1)][..])).collect();
        let recording = samples::recording(&invoices);
        assert_eq!(Plan::of(&recording, 5, 0.3), Plan::of(&recording, 5, 0.3));
        assert_ne!(Plan::of(&recording, 5, 0.3), Plan::of(&recording, 6, 0.3));
    }

    #[test]
    fn a_recorded_cancel_changes_no_other_orders_fate() {
        let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let mut invoices: Vec<_> = numbers.iter().map(|number| ("1", number.as_str(), &[("A", 1)][..])).collect();
        let without = Plan::of(&samples::recording(&invoices), 5, 0.3);
        invoices.push(("1", "C1", &[("A", 1)]));
        let with = Plan::of(&samples::recording(&invoices), 5, 0.3);
        assert_eq!(with.steps[..99], without.steps[..99]);
        assert_eq!(with.steps[99].deed, Deed::Order { order: 99, fate: Fate::CancelLater });
    }

    #[test]
    fn every_order_is_left_unpaid_at_a_share_of_one_and_none_at_zero() {
        let recording = samples::recording(&[("1", "7", &[("A", 1)]), ("2", "8", &[("A", 1)])]);
        for (share, fate) in [(0.0, Fate::Pay), (1.0, Fate::LeaveUnpaid)] {
            let plan = Plan::of(&recording, 9, share);
            assert_eq!(deeds(&plan), [Deed::Order { order: 0, fate }, Deed::Order { order: 1, fate }]);
        }
    }
}
