//! How far the replay is, on stderr: a bar for a person at a terminal, a line now and then for a log.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// Between two lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

const BAR: &str = "{elapsed} {wide_bar} {human_pos}/{human_len} invoices, {per_sec}, {eta} left";

pub struct Progress {
    bar: ProgressBar,
    /// When the last line was written; `None` where the bar is drawn.
    last_line: Option<Mutex<Instant>>,
}

impl Progress {
    #[must_use]
    pub fn of(steps: usize) -> Self {
        let length = u64::try_from(steps).unwrap_or(u64::MAX);
        if !std::io::stderr().is_terminal() {
            let bar = ProgressBar::hidden();
            bar.set_length(length);
            return Self { bar, last_line: Some(Mutex::new(Instant::now())) };
        }
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style);
        }
        Self { bar, last_line: None }
    }

    pub fn step(&self) {
        self.bar.inc(1);
        let Some(last_line) = &self.last_line else { return };
        let mut last_line = last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last_line.elapsed() >= LINE_EVERY {
            *last_line = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            eprintln!("{} of {} invoices replayed", HumanCount(done), HumanCount(all));
        }
    }

    /// A word that must not tear the bar.
    pub fn say(&self, text: &str) {
        if self.last_line.is_some() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
