//! How long the shop took to answer, per kind of request. Differs from run to run.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::HumanCount;

/// Longer answers count as this long; the client gives up earlier.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Two digits: exact to 1 %, and small enough for one set per connection.
const DIGITS: u8 = 2;

/// What a user asks the shop for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    Add,
    List,
    Purchase,
    Pay,
    Cancel,
    Empty,
}

impl Request {
    pub const ALL: [Self; 6] = [Self::Add, Self::List, Self::Purchase, Self::Pay, Self::Cancel, Self::Empty];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::List => "list",
            Self::Purchase => "purchase",
            Self::Pay => "pay",
            Self::Cancel => "cancel",
            Self::Empty => "empty",
        }
    }

    /// Whether asking twice does no more than asking once: purchases carry an idempotency key,
    /// adding to a cart does not.
    #[must_use]
    pub fn may_be_repeated(self) -> bool {
        self != Self::Add
    }
}

#[derive(Debug)]
pub struct Timings {
    /// In the order of [`Request::ALL`].
    latencies_us: Vec<Histogram<u64>>,
    /// Requests sent again: after a broken connection, or as `Retry-After` asked.
    pub repeated: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Timings {
    #[must_use]
    pub fn new() -> Self {
        let latencies_us = Request::ALL.iter().map(|_| histogram()).collect();
        Self { latencies_us, repeated: 0, elapsed: Duration::ZERO }
    }

    pub fn record(&mut self, request: Request, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.latencies_us[request as usize].saturating_record(latency_us);
    }

    /// Takes in what another connection measured.
    pub fn merge(&mut self, other: &Self) {
        for (mine, others) in self.latencies_us.iter_mut().zip(&other.latencies_us) {
            // Cannot fail: all histograms have the same bounds.
            let _ = mine.add(others);
        }
        self.repeated += other.repeated;
    }

    /// Answered requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.latencies_us.iter().map(Histogram::len).sum()
    }

    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate to print")]
    pub fn requests_per_second(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    #[must_use]
    pub fn latencies_us(&self, request: Request) -> &Histogram<u64> {
        &self.latencies_us[request as usize]
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self::new()
    }
}

fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants, and a test makes one")]
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("constant bounds that are in order")
}

impl fmt::Display for Timings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "Times")?;
        writeln!(out, "  {:<32}{:>12.1}", "seconds", self.elapsed.as_secs_f64())?;
        writeln!(out, "  {:<32}{:>12}", "requests answered", HumanCount(self.requests()).to_string())?;
        writeln!(out, "  {:<32}{:>12}", "requests repeated", HumanCount(self.repeated).to_string())?;
        writeln!(out, "  {:<32}{:>12.0}", "requests per second", self.requests_per_second())?;
        writeln!(out, "  {:<12}{:>12}{:>10}{:>10}{:>10}", "latency, ms", "requests", "p50", "p99", "max")?;
        for request in Request::ALL {
            let latencies_us = self.latencies_us(request);
            let count = HumanCount(latencies_us.len()).to_string();
            write!(out, "    {:<10}{count:>12}", request.name())?;
            let quantiles = [0.5, 0.99].map(|quantile| latencies_us.value_at_quantile(quantile));
            for latency_us in quantiles.into_iter().chain([latencies_us.max()]) {
                write!(out, "{:>10}", format!("{}.{:03}", latency_us / 1_000, latency_us % 1_000))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_connections_measured_is_put_together_per_kind_of_request() {
        let (mut one, mut other) = (Timings::new(), Timings::new());
        one.record(Request::Pay, Duration::from_millis(2));
        other.record(Request::Pay, Duration::from_millis(4));
        other.record(Request::Add, Duration::from_hours(1));
        one.merge(&other);
        assert_eq!((one.requests(), one.latencies_us(Request::Pay).len()), (3, 2));
        assert!(one.latencies_us(Request::Pay).max().abs_diff(4_000) <= 40);
        assert!(one.latencies_us(Request::Add).max() >= 59_000_000, "a longer one counts as a minute");
        assert!(one.to_string().contains("pay"));
    }
}
