//! The recorded orders of a real shop, where they are at hand.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// How many orders there are.
pub const ORDERS: usize = 14_873;

pub struct Recording {
    pub catalogue: PathBuf,
    pub events: PathBuf,
}

impl Recording {
    /// So many orders of it, with what was cancelled meanwhile, in a file of this folder; `None` with a word that the
    /// test was skipped.
    pub fn first(count: usize, folder: &Path) -> Option<Self> {
        let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/online-retail");
        let (catalogue, events) = (recording.join("catalog.csv.gz"), recording.join("events.csv.gz"));
        if !events.exists() {
            eprintln!("skipped: the recorded orders are not at {}", recording.display());
            return None;
        }
        if count == ORDERS {
            return Some(Self { catalogue, events });
        }
        let recorded = std::fs::File::open(events).expect("a readable file");
        let path = folder.join("events.csv");
        let mut first = std::fs::File::create(&path).expect("a new file");
        let mut orders = HashSet::new();
        for line in BufReader::new(GzDecoder::new(recorded)).lines() {
            let line = line.expect("a line");
            // timestamp, user, invoice, kind, and what holds no comma either.
            let columns: Vec<&str> = line.split(',').collect();
            if columns[3] == "order_line" && !orders.contains(columns[2]) {
                if orders.len() == count {
                    break;
                }
                orders.insert(columns[2].to_owned());
            }
            writeln!(first, "{line}").expect("written");
        }
        assert_eq!(orders.len(), count, "the recording is shorter than that");
        Some(Self { catalogue, events: path })
    }
}
