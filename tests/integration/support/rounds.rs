//! How often a fault is tried: some times in `make test`, in full in `make faults`.
//!
//! Whoever tries it in full sees how far it is, and finds a line on each bar in the report.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

/// The share of the full number that is to be tried, as `make faults` gives it: 1 is all of it.
const SHARE: &str = "LOMS_FAULTS";
/// The file to which a line is added for each bar that was held.
const REPORT: &str = "LOMS_FAULTS_REPORT";
const PROGRESS_PAUSE: Duration = Duration::from_secs(10);

/// The rounds of a fault, counted.
pub struct Rounds {
    /// What is tried, by the name that it has in `docs/RELIABILITY.md`.
    bar: String,
    total: usize,
    begun: usize,
    began: Instant,
    shown: Instant,
}

impl Rounds {
    /// So many in `make test`, and in full so many.
    pub fn of(bar: &str, short: usize, full: usize) -> Self {
        let share = std::env::var(SHARE).ok().map(|text| text.parse().expect("a share, as 1 or 0.1"));
        let now = Instant::now();
        Self {
            bar: bar.to_owned(),
            total: share.map_or(short, |share| short.max(part(full, share))),
            begun: 0,
            began: now,
            shown: now,
        }
    }

    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether there is another round to go, which begins with this call.
    pub fn next_round(&mut self) -> Option<usize> {
        if self.shown.elapsed() > PROGRESS_PAUSE {
            eprintln!("{}: {} of {} in {:.0?}", self.bar, self.begun, self.total, self.began.elapsed());
            self.shown = Instant::now();
        }
        let round = self.begun;
        self.begun = self.total.min(round + 1);
        (round < self.total).then_some(round)
    }

    /// All were tried and the bar was held; what there is to say of them.
    pub fn held(self, what: impl Display) {
        assert_eq!(self.begun, self.total, "{}: not all were tried", self.bar);
        let line = format!("{} | {} | {what} | {:.0?}", self.bar, self.total, self.began.elapsed());
        eprintln!("{line}");
        if let Ok(path) = std::env::var(REPORT) {
            let mut report = OpenOptions::new().create(true).append(true).open(path).expect("a report to write to");
            writeln!(report, "| {line} |").expect("written");
        }
    }
}

fn part(full: usize, share: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
    let part = (full as f64 * share).ceil() as usize;
    part
}

#[test]
fn rounds_are_counted() {
    let mut rounds = Rounds { total: 2, ..Rounds::of("nothing", 1, 1) };
    assert_eq!([rounds.next_round(), rounds.next_round(), rounds.next_round()], [Some(0), Some(1), None]);
    rounds.held("nothing was done");
    assert_eq!((part(1_000, 1.0), part(1_000, 0.1), part(5, 0.1)), (1_000, 100, 1));
}
