//! What came of a replay: first what two runs with one seed have in common, then the times.

use std::collections::BTreeMap;
use std::fmt;

use compact_str::CompactString;
use indicatif::HumanCount;

use super::timings::{Request, Timings};

/// How many refusals are kept in full, to be printed.
pub const EXAMPLES_MAX: usize = 5;

#[derive(Debug, Default)]
pub struct Report {
    pub outcome: Outcome,
    /// The first refusals for another reason than stock, in words. Order ids stand in them, so
    /// they are no part of the outcome.
    pub examples: Vec<String>,
    pub timings: Timings,
}

/// The same for the same recording, seed, starting stock and one connection. Each order is in
/// exactly one of `payed` to `refused`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub stock_units_imported: i64,
    pub orders: u64,
    pub payed: u64,
    pub cancelled: u64,
    pub awaiting_payment: u64,
    /// The purchase was refused for lack of stock.
    pub failed: u64,
    /// Every line was refused for lack of stock, so there was nothing to purchase.
    pub not_placed: u64,
    /// Adding, listing or purchasing was refused for another reason; see `refusals`.
    pub refused: u64,
    pub lines_added: u64,
    pub lines_out_of_stock: u64,
    /// Units of all orders that were placed, whatever became of them.
    pub units_placed: i64,
    pub units_payed: i64,
    pub units_cancelled: i64,
    /// Units that were reserved by unpaid orders when the replay ended, unless LOMS has cancelled
    /// them meanwhile.
    pub units_awaiting_payment: i64,
    /// Cancel invoices that match no whole order, or one that was not placed.
    pub returns_not_replayed: u64,
    /// Every request that was refused for another reason than lack of stock.
    pub refusals: BTreeMap<RefusalKind, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusalKind {
    pub request: Request,
    /// `None` where no answer came.
    pub status: Option<u16>,
    /// The problem's code, or what was wrong with an answer that promised success.
    pub code: CompactString,
}

/// A request that was refused for another reason than lack of stock, or not answered at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub detail: String,
}

impl Report {
    /// The part to compare with another run's.
    #[must_use]
    pub fn deterministic(&self) -> String {
        self.outcome.to_string()
    }

    /// Requests refused for another reason than lack of stock. The command fails if any.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.outcome.refusals.values().sum()
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(refusal.to_string());
        }
        *self.outcome.refusals.entry(refusal.kind.clone()).or_default() += 1;
    }

    /// Takes in what another connection saw.
    pub(super) fn merge(&mut self, other: Self) {
        self.outcome.merge(other.outcome);
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
        self.timings.merge(&other.timings);
    }
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.stock_units_imported += other.stock_units_imported;
        self.orders += other.orders;
        self.payed += other.payed;
        self.cancelled += other.cancelled;
        self.awaiting_payment += other.awaiting_payment;
        self.failed += other.failed;
        self.not_placed += other.not_placed;
        self.refused += other.refused;
        self.lines_added += other.lines_added;
        self.lines_out_of_stock += other.lines_out_of_stock;
        self.units_placed += other.units_placed;
        self.units_payed += other.units_payed;
        self.units_cancelled += other.units_cancelled;
        self.units_awaiting_payment += other.units_awaiting_payment;
        self.returns_not_replayed += other.returns_not_replayed;
        for (kind, count) in other.refusals {
            *self.refusals.entry(kind).or_default() += count;
        }
    }

    fn rows(&self) -> [(&'static str, u64); 15] {
        let units = |units: i64| u64::try_from(units).unwrap_or(0);
        [
            ("units in stock imported", units(self.stock_units_imported)),
            ("orders", self.orders),
            ("  payed", self.payed),
            ("  cancelled", self.cancelled),
            ("  awaiting payment", self.awaiting_payment),
            ("  failed", self.failed),
            ("  not placed, no line in stock", self.not_placed),
            ("  refused for another reason", self.refused),
            ("lines added", self.lines_added),
            ("lines refused, out of stock", self.lines_out_of_stock),
            ("units sold", units(self.units_placed)),
            ("  payed", units(self.units_payed)),
            ("  cancelled", units(self.units_cancelled)),
            ("  awaiting payment", units(self.units_awaiting_payment)),
            ("returns not replayed", self.returns_not_replayed),
        ]
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "Outcome")?;
        for (name, count) in self.rows() {
            writeln!(out, "  {name:<32}{:>12}", HumanCount(count).to_string())?;
        }
        if self.refusals.is_empty() {
            return writeln!(out, "  {:<32}{:>12}", "requests refused otherwise", 0);
        }
        writeln!(out, "  REQUESTS REFUSED FOR ANOTHER REASON THAN STOCK:")?;
        for (kind, count) in &self.refusals {
            writeln!(out, "    {:<30}{:>12}", kind.to_string(), HumanCount(*count).to_string())?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.outcome)?;
        if !self.examples.is_empty() {
            writeln!(out, "The first refusals")?;
            for example in &self.examples {
                writeln!(out, "  {example}")?;
            }
            writeln!(out)?;
        }
        self.timings.fmt(out)
    }
}

impl fmt::Display for RefusalKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(out, "{} {status} {}", self.request.name(), self.code),
            None => write!(out, "{} {}", self.request.name(), self.code),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16) -> Refusal {
        let kind = RefusalKind { request: Request::Pay, status: Some(status), code: "internal".into() };
        Refusal { kind, detail: "order 12".to_owned() }
    }

    #[test]
    fn two_connections_reports_add_up() {
        let mut one =
            Report { outcome: Outcome { payed: 2, units_payed: 7, ..Outcome::default() }, ..Report::default() };
        let mut other = Report { outcome: Outcome { payed: 3, failed: 1, ..Outcome::default() }, ..Report::default() };
        one.refuse(&refusal(500));
        other.refuse(&refusal(500));
        other.refuse(&refusal(503));
        one.merge(other);
        assert_eq!((one.outcome.payed, one.outcome.failed, one.outcome.units_payed), (5, 1, 7));
        assert_eq!((one.refusals(), one.outcome.refusals.len(), one.examples.len()), (3, 2, 3));
    }

    #[test]
    fn refusals_are_loud_and_the_times_are_no_part_of_the_outcome() {
        let mut report = Report { outcome: Outcome { orders: 14_873, ..Outcome::default() }, ..Report::default() };
        assert!(!report.to_string().contains("REFUSED"));
        for _ in 0..9 {
            report.refuse(&refusal(500));
        }
        let whole = report.to_string();
        assert!(whole.starts_with(&report.deterministic()) && whole.contains("14,873"));
        assert!(whole.contains("REQUESTS REFUSED") && whole.contains("pay 500 internal"), "{whole}");
        assert_eq!(whole.matches("order 12").count(), EXAMPLES_MAX);
        assert!(!report.deterministic().contains("order 12") && !report.deterministic().contains("seconds"));
    }
}
