//! A shop's recorded trade: the catalogue and the order and cancel invoices, as the files have them.
//!
//! Kept small, because it lies in memory beside the server that it loads: SKUs and users are
//! numbers into two lists, and a line is eight bytes. Times and prices of the events are not
//! kept: the replay compresses time, and the shop under test sets its own prices.

use std::collections::HashMap;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use crate::domain::ids::Invalid;
use crate::domain::{Count, Sku, UserId};
use crate::packed_file;
use compact_str::CompactString;
use csv::StringRecord;

/// The longest invoice number: what fits into an `Idempotency-Key` beside the run's own number.
const INVOICE_BYTES_MAX: usize = 64;

/// All invoices in the order of their first lines.
#[derive(Debug, Default)]
pub struct Recording {
    /// What is for sale, in the catalogue's order.
    pub skus: Vec<Sku>,
    /// In the order of their first lines.
    pub users: Vec<UserId>,
    pub invoices: Vec<Invoice>,
}

/// A place in [`Recording::skus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SkuIndex(pub u32);

/// A place in [`Recording::users`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserIndex(pub u32);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    pub number: CompactString,
    pub user: UserIndex,
    pub kind: InvoiceKind,
    /// As recorded: one SKU may stand on several lines.
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceKind {
    Order,
    /// Goods given back.
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub sku: SkuIndex,
    pub count: Count,
}

/// A file cannot be read, or says what cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: cannot be opened", file.display())]
    Open { file: PathBuf, source: io::Error },
    /// Broken compression, text that is not UTF-8, or a row with too few or too many fields.
    #[error("{}: cannot be read as CSV", file.display())]
    Csv { file: PathBuf, source: csv::Error },
    #[error("{}: the header line has no column `{column}`", file.display())]
    Column { file: PathBuf, column: &'static str },
    #[error("{} line {line}: {problem}", file.display())]
    Line { file: PathBuf, line: u64, problem: Problem },
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{column} {value:?} {reason}")]
    Value { column: &'static str, value: String, reason: Invalid },
    #[error("kind {0:?} is neither order_line nor cancel_line")]
    Kind(String),
    #[error("invoice {0:?} must have 1 to {INVOICE_BYTES_MAX} printable ASCII characters")]
    Invoice(String),
    #[error("sku {0:?} is not in the catalogue")]
    NotInCatalogue(String),
    #[error("sku {0:?} stands in the catalogue twice")]
    TwiceInCatalogue(String),
    #[error("invoice {0:?} has another user or kind on an earlier line")]
    Mixed(String),
}

impl Recording {
    /// Reads both files; each may be compressed with gzip. Blocks.
    ///
    /// # Errors
    /// [`Error`], naming the file and, for a bad value, the line.
    pub fn read(catalogue: &Path, events: &Path) -> Result<Self, Error> {
        Self::of(Table::open(catalogue)?, Table::open(events)?)
    }

    /// Reads what both files hold.
    ///
    /// # Errors
    /// As [`Recording::read`].
    pub fn from_bytes(catalogue: Vec<u8>, events: Vec<u8>) -> Result<Self, Error> {
        let table = |name: &str, bytes| Table::of(name.as_ref(), packed_file::unpacked(Cursor::new(bytes)));
        Self::of(table("catalogue", catalogue)?, table("events", events)?)
    }

    fn of(mut catalogue: Table, mut events: Table) -> Result<Self, Error> {
        let mut reading = Reading::default();
        reading.catalogue(&mut catalogue)?;
        reading.events(&mut events)?;
        Ok(reading.recording)
    }

    #[must_use]
    pub fn sku(&self, SkuIndex(index): SkuIndex) -> &Sku {
        &self.skus[index as usize]
    }

    #[must_use]
    pub fn user(&self, UserIndex(index): UserIndex) -> &UserId {
        &self.users[index as usize]
    }
}

/// A recording in the making, with what finds the numbers of names already seen.
#[derive(Default)]
struct Reading {
    recording: Recording,
    skus: HashMap<Sku, SkuIndex>,
    users: HashMap<UserId, UserIndex>,
    invoices: HashMap<CompactString, usize>,
}

impl Reading {
    fn catalogue(&mut self, table: &mut Table) -> Result<(), Error> {
        let [sku] = table.columns(["sku"])?;
        let mut row = StringRecord::new();
        while table.next(&mut row)? {
            self.product(&row[sku]).map_err(|problem| table.bad(&row, problem))?;
        }
        Ok(())
    }

    fn product(&mut self, text: &str) -> Result<(), Problem> {
        let sku = Sku::parse(text).map_err(|reason| value("sku", text, reason))?;
        let index = SkuIndex(number(self.recording.skus.len()));
        if self.skus.insert(sku.clone(), index).is_some() {
            return Err(Problem::TwiceInCatalogue(text.to_owned()));
        }
        self.recording.skus.push(sku);
        Ok(())
    }

    fn events(&mut self, table: &mut Table) -> Result<(), Error> {
        let columns = table.columns(["user_id", "invoice", "kind", "sku", "count"])?;
        let mut row = StringRecord::new();
        while table.next(&mut row)? {
            self.event(columns.map(|column| &row[column])).map_err(|problem| table.bad(&row, problem))?;
        }
        Ok(())
    }

    fn event(&mut self, [user, invoice, kind, sku, count]: [&str; 5]) -> Result<(), Problem> {
        let kind = match kind {
            "order_line" => InvoiceKind::Order,
            "cancel_line" => InvoiceKind::Cancel,
            other => return Err(Problem::Kind(other.to_owned())),
        };
        let user = self.user(user)?;
        let known = Sku::parse(sku).map_err(|reason| value("sku", sku, reason))?;
        let sku = *self.skus.get(&known).ok_or_else(|| Problem::NotInCatalogue(sku.to_owned()))?;
        let units = count.parse().map_err(|_| Invalid::Count).and_then(Count::new);
        let count = units.map_err(|reason| value("count", count, reason))?;
        let place = self.invoice(invoice, user, kind)?;
        self.recording.invoices[place].lines.push(Line { sku, count });
        Ok(())
    }

    fn user(&mut self, text: &str) -> Result<UserIndex, Problem> {
        let user = UserId::parse(text).map_err(|reason| value("user_id", text, reason))?;
        if let Some(&index) = self.users.get(&user) {
            return Ok(index);
        }
        let index = UserIndex(number(self.recording.users.len()));
        self.recording.users.push(user.clone());
        self.users.insert(user, index);
        Ok(index)
    }

    /// Where the invoice stands: at its first line, even where others' lines lie between its own.
    fn invoice(&mut self, text: &str, user: UserIndex, kind: InvoiceKind) -> Result<usize, Problem> {
        if let Some(&place) = self.invoices.get(text) {
            let begun = &self.recording.invoices[place];
            let same = begun.user == user && begun.kind == kind;
            return if same { Ok(place) } else { Err(Problem::Mixed(text.to_owned())) };
        }
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > INVOICE_BYTES_MAX || !printable {
            return Err(Problem::Invoice(text.to_owned()));
        }
        let place = self.recording.invoices.len();
        self.invoices.insert(text.into(), place);
        self.recording.invoices.push(Invoice { number: text.into(), user, kind, lines: Vec::new() });
        Ok(place)
    }
}

fn value(column: &'static str, value: &str, reason: Invalid) -> Problem {
    Problem::Value { column, value: value.to_owned(), reason }
}

/// A recording of more than 4,294,967,295 names would not fit into memory; the number stops there
/// rather than starting again at 0.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A CSV file with a header line, plain or compressed.
struct Table {
    file: PathBuf,
    rows: csv::Reader<Box<dyn Read>>,
}

impl Table {
    fn open(file: &Path) -> Result<Self, Error> {
        Self::of(file, packed_file::open(file))
    }

    fn of(file: &Path, text: io::Result<Box<dyn Read>>) -> Result<Self, Error> {
        let file = file.to_owned();
        match text {
            Ok(text) => Ok(Self { file, rows: csv::Reader::from_reader(text) }),
            Err(source) => Err(Error::Open { file, source }),
        }
    }

    /// Where the columns stand, by their names in the header line; others are passed over.
    fn columns<const N: usize>(&mut self, names: [&'static str; N]) -> Result<[usize; N], Error> {
        let file = &self.file;
        let header = self.rows.headers().map_err(|source| Error::Csv { file: file.clone(), source })?;
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(names) {
            let found = header.iter().position(|name| name == column);
            *place = found.ok_or_else(|| Error::Column { file: file.clone(), column })?;
        }
        Ok(places)
    }

    /// `false` at the end. Every row has as many fields as the header line.
    fn next(&mut self, row: &mut StringRecord) -> Result<bool, Error> {
        self.rows.read_record(row).map_err(|source| Error::Csv { file: self.file.clone(), source })
    }

    fn bad(&self, row: &StringRecord, problem: Problem) -> Error {
        let line = row.position().map_or(0, csv::Position::line);
        Error::Line { file: self.file.clone(), line, problem }
    }
}

#[cfg(test)]
mod tests;
