//! Stock as CSV: `sku,warehouse_id,on_hand`, with a header line.

use std::collections::HashMap;

use crate::csv_line;
use crate::domain::stock::ON_HAND_MAX;
use crate::domain::{Sku, WarehouseId};
use crate::store::ShelfEdit;

/// The most rows of one import.
pub const ROWS_MAX: usize = 100_000;
/// How many bad lines are named; more than that help nobody.
const ERRORS_MAX: usize = 100;
const HEADER: [&str; 3] = ["sku", "warehouse_id", "on_hand"];

/// A line that cannot be taken. Lines count from 1, the header being the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct LineError {
    pub line: u64,
    pub message: String,
}

/// The rows, each with the line that it stands in.
///
/// # Errors
/// All bad lines (up to a hundred): then nothing is to be imported.
pub fn parse(bytes: &[u8]) -> Result<Vec<(u64, ShelfEdit)>, Vec<LineError>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    check_header(&mut reader).map_err(|error| vec![error])?;
    let mut rows = Vec::new();
    let mut errors = Vec::new();
    let mut first_line_of = HashMap::new();
    for record in reader.records() {
        let position = record.as_ref().map_or_else(csv::Error::position, csv::StringRecord::position);
        let line = csv_line::of(bytes, position);
        let edit =
            record.map_err(|error| csv_message(&error)).and_then(|record| shelf_edit(&record)).and_then(|edit| {
                match first_line_of.insert((edit.sku.clone(), edit.warehouse), line) {
                    Some(first) => Err(format!("this SKU and warehouse stand in line {first} already")),
                    None => Ok(edit),
                }
            });
        match edit {
            Ok(edit) => rows.push((line, edit)),
            Err(message) => errors.push(LineError { line, message }),
        }
        if errors.len() == ERRORS_MAX {
            break;
        }
        if rows.len() > ROWS_MAX {
            errors.push(LineError { line, message: format!("more than {ROWS_MAX} rows in one import") });
            break;
        }
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}

fn check_header(reader: &mut csv::Reader<&[u8]>) -> Result<(), LineError> {
    let expected = format!("the header must be {}", HEADER.join(","));
    match reader.headers() {
        Ok(header) if header.iter().eq(HEADER) => Ok(()),
        Ok(_) => Err(LineError { line: 1, message: expected }),
        Err(error) => Err(LineError { line: 1, message: csv_message(&error) }),
    }
}

fn csv_message(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => "cannot be read as CSV".to_owned(),
    }
}

fn shelf_edit(record: &csv::StringRecord) -> Result<ShelfEdit, String> {
    let fields: Vec<&str> = record.iter().collect();
    let [sku, warehouse, on_hand] = fields[..] else {
        return Err(format!("has {} fields instead of {}", fields.len(), HEADER.len()));
    };
    let sku = Sku::parse(sku).map_err(|error| format!("sku {error}"))?;
    let warehouse = WarehouseId::parse(warehouse).map_err(|error| format!("warehouse_id {error}"))?;
    match on_hand.parse::<i64>() {
        Ok(units) if (0..=ON_HAND_MAX).contains(&units) => Ok(ShelfEdit { sku, warehouse, units }),
        _ => Err(format!("on_hand must be a whole number from 0 to {ON_HAND_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_spreadsheet_writes() {
        let text = "\u{FEFF}sku,warehouse_id,on_hand\r\n\"BANK CHARGES\",1,5\r\n85123A,2,0\r\n";
        let rows = parse(text.as_bytes()).expect("good rows");
        let plain: Vec<_> =
            rows.iter().map(|(line, edit)| (*line, edit.sku.as_str(), edit.warehouse.0, edit.units)).collect();
        assert_eq!(plain, [(2, "BANK CHARGES", 1, 5), (3, "85123A", 2, 0)]);
    }

    #[test]
    fn every_bad_line_is_named() {
        let text = b"sku,warehouse_id,on_hand\nA,1,5\nA,1,6\nB,0,1\nC,1,-1\nD,1\nE,1,1.5\n,1,1\n\xff,1,1\nF,1,1";
        let errors = parse(text).expect_err("bad lines");
        let lines: Vec<u64> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9]);
        assert!(errors[0].message.contains("line 2"), "{}", errors[0]);
    }

    #[test]
    fn lines_are_counted_as_an_editor_counts_them() {
        for end in ["\n", "\r\n"] {
            let lines = ["sku,warehouse_id,on_hand", "A,1,5", "", "B,1,many", "\"C", "\",1,5", "D,1,many"];
            let errors = parse(lines.join(end).as_bytes()).expect_err("bad lines");
            assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [4, 5, 7], "with {end:?}");
        }
    }

    #[test]
    fn a_missing_header_is_not_taken_for_one() {
        assert_eq!(parse(b"A,1,5\n").expect_err("no header")[0].line, 1);
        assert_eq!(parse(b"").expect_err("no header")[0].line, 1);
    }
}
