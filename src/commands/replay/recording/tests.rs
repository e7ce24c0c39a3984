//! What the reader makes of good files, compressed files and bad lines.

use std::error::Error as _;
use std::fs::File;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;

const CATALOGUE: &str = "sku,name,price_minor_units\nA,\"Mug, \"\"blue\"\"\",100\na,,0\nBANK CHARGES,Fee,5\n";
const EVENTS: &str = "timestamp,user_id,invoice,kind,sku,count,price_minor\n";

fn read(events: &str) -> Result<Recording, Error> {
    let folder = TempDir::new().expect("a folder");
    let catalogue = folder.path().join("catalog.csv");
    let file = folder.path().join("events.csv");
    std::fs::write(&catalogue, CATALOGUE).expect("written");
    std::fs::write(&file, format!("{EVENTS}{events}")).expect("written");
    Recording::read(&catalogue, &file)
}

#[test]
fn quoted_fields_and_skus_that_differ_in_case_only_are_kept() {
    let recording = read("t,1,7,order_line,a,2,0\nt,1,7,order_line,\"BANK CHARGES\",1,5\n").expect("read");
    let names: Vec<&str> = recording.skus.iter().map(Sku::as_str).collect();
    assert_eq!(names, ["A", "a", "BANK CHARGES"]);
    let lines: Vec<_> = recording.invoices[0].lines.iter().map(|line| recording.sku(line.sku).as_str()).collect();
    assert_eq!(lines, ["a", "BANK CHARGES"]);
}

#[test]
fn an_invoice_stands_at_its_first_line_even_where_others_lie_between() {
    let recording = read(
        "8:01,1,7,order_line,A,2,0\n8:01,2,8,order_line,A,1,0\n8:02,1,7,order_line,A,3,0\n9:00,1,C9,cancel_line,A,5,0\n",
    )
    .expect("read");
    let seen: Vec<_> =
        recording.invoices.iter().map(|invoice| (invoice.number.as_str(), invoice.kind, invoice.lines.len())).collect();
    assert_eq!(
        seen,
        [("7", InvoiceKind::Order, 2), ("8", InvoiceKind::Order, 1), ("C9", InvoiceKind::Cancel, 1)],
        "the same SKU twice in an order stays two lines"
    );
    assert_eq!(recording.user(recording.invoices[2].user).as_str(), "1");
}

#[test]
fn a_compressed_file_is_read_like_a_plain_one() {
    let folder = TempDir::new().expect("a folder");
    let (catalogue, events) = (folder.path().join("catalog.csv"), folder.path().join("events.csv.gz"));
    std::fs::write(&catalogue, CATALOGUE).expect("written");
    let mut compressed = GzEncoder::new(File::create(&events).expect("created"), Compression::fast());
    writeln!(compressed, "{EVENTS}t,1,7,order_line,A,2,0").expect("written");
    compressed.finish().expect("finished");
    let recording = Recording::read(&catalogue, &events).expect("read");
    assert_eq!(recording.invoices.len(), 1);
}

#[test]
fn a_bad_line_is_named_with_its_file_its_number_and_what_is_wrong() {
    for (line, said) in [
        ("t,1,7,order_line,A,0,0", "events.csv line 3: count \"0\" must be a whole number from 1 to 1000000"),
        ("t,1,7,order_line,A,x,0", "count \"x\" must be"),
        ("t,a b,7,order_line,A,1,0", "user_id \"a b\" may only contain"),
        ("t,1,7,order_line,B,1,0", "sku \"B\" is not in the catalogue"),
        ("t,1,7,gift,A,1,0", "kind \"gift\" is neither order_line nor cancel_line"),
        ("t,1,№7,order_line,A,1,0", "printable ASCII"),
        ("t,2,6,order_line,A,1,0", "invoice \"6\" has another user or kind"),
        ("t,1,6,cancel_line,A,1,0", "invoice \"6\" has another user or kind"),
    ] {
        let error = read(&format!("t,1,6,order_line,A,1,0\n{line}\n")).expect_err("refused").to_string();
        assert!(error.contains(said) && error.contains("events.csv line 3:"), "{error}");
    }
}

#[test]
fn a_row_with_a_field_too_few_is_named_with_its_line() {
    let error = read("t,1,6,order_line,A,1,0\nt,1,7\n").expect_err("refused");
    let source = error.source().expect("a source").to_string();
    assert!(error.to_string().contains("events.csv") && source.contains("line: 3"), "{error}: {source}");
}

#[test]
fn a_missing_file_and_a_missing_column_are_named() {
    let folder = TempDir::new().expect("a folder");
    let catalogue = folder.path().join("catalog.csv");
    std::fs::write(&catalogue, "name\nMug\n").expect("written");
    let error = Recording::read(&catalogue, &catalogue).expect_err("refused").to_string();
    assert!(error.contains("catalog.csv: the header line has no column `sku`"), "{error}");
    let missing = folder.path().join("nowhere.csv");
    let error = Recording::read(&missing, &catalogue).expect_err("refused").to_string();
    assert!(error.contains("nowhere.csv: cannot be opened"), "{error}");
}
