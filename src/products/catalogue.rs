//! A catalogue in memory, read from CSV: `sku,name,price_minor_units`.
//!
//! RFC 4180: a header, fields in double quotes where they hold commas, quotes or line ends. A
//! file that was packed with gzip is unpacked while it is read. A catalogue is taken whole or not
//! at all: the first bad row refuses it, with its line.

use std::io::{self, Read};
use std::path::Path;

use foldhash::{HashMap, HashMapExt};

use super::{InvalidProduct, Product};
use crate::domain::Sku;
use crate::domain::ids::Invalid;
use crate::{csv_line, demo, packed_file};

const COLUMNS: [&str; 3] = ["sku", "name", "price_minor_units"];

/// What is sold, by SKU. Never changes once read.
pub struct Catalogue {
    products: HashMap<Sku, Product>,
    /// All SKUs, ascending.
    order: Box<[Sku]>,
}

/// Why a catalogue was not taken. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file is missing, may not be read, or is damaged inside its compression.
    #[error("{file}: cannot be read")]
    Read { file: String, source: io::Error },
    /// The first line is not the one header there is.
    #[error("{file}, line 1: the header must be `sku,name,price_minor_units`, not `{found}`")]
    Header { file: String, found: String },
    /// One row cannot be taken.
    #[error("{file}, line {line}: {problem}")]
    Row { file: String, line: u64, problem: RowProblem },
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    #[error("there must be 3 fields, not {0}")]
    FieldCount(usize),
    #[error("the text is not UTF-8")]
    Encoding,
    #[error("the SKU {text:?} {reason}")]
    Sku { text: String, reason: Invalid },
    #[error("the SKU {text:?} is also on line {first_line}")]
    Duplicate { text: String, first_line: u64 },
    #[error("the price must be a whole number of minor units, not {0:?}")]
    Price(String),
    #[error("{0}")]
    Product(InvalidProduct),
}

impl Catalogue {
    /// The goods of the demo shop.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the file is part of the program, and a test reads it")]
    pub fn demo() -> Self {
        Self::from_reader("demo/catalog.csv", demo::CATALOGUE_CSV.as_bytes())
            .expect("the demo catalogue is part of the program, and a test reads it")
    }

    /// Blocks while it reads: for the start of the program.
    ///
    /// # Errors
    /// [`CatalogueError`] names the file, the line and what is wrong.
    pub fn from_path(path: &Path) -> Result<Self, CatalogueError> {
        let name = path.display().to_string();
        let file = packed_file::open(path).map_err(|source| CatalogueError::Read { file: name.clone(), source })?;
        Self::from_reader(&name, file)
    }

    /// `file` is the name that errors give to the source.
    ///
    /// # Errors
    /// As [`Catalogue::from_path`].
    pub fn from_reader(file: &str, mut source: impl Read) -> Result<Self, CatalogueError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(|source| CatalogueError::Read { file: file.to_owned(), source })?;
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut record = csv::StringRecord::new();
        let mut products: HashMap<Sku, (Product, u64)> = HashMap::new();

        let found_header = read_record(&mut reader, &mut record, file, bytes)?;
        if !found_header || record != COLUMNS[..] {
            let found = record.iter().collect::<Vec<_>>().join(",");
            return Err(CatalogueError::Header { file: file.to_owned(), found });
        }
        while read_record(&mut reader, &mut record, file, bytes)? {
            let line = csv_line::of(bytes, record.position());
            read_row(&record, line, &mut products).map_err(|problem| CatalogueError::Row {
                file: file.to_owned(),
                line,
                problem,
            })?;
        }
        let mut order: Box<[Sku]> = products.keys().cloned().collect();
        order.sort_unstable();
        Ok(Self { products: products.into_iter().map(|(sku, (product, _))| (sku, product)).collect(), order })
    }

    #[must_use]
    pub fn get(&self, sku: &Sku) -> Option<&Product> {
        self.products.get(sku)
    }

    /// At most `count` SKUs that follow `after`, which itself need not exist; ascending.
    #[must_use]
    pub fn list(&self, after: Option<&Sku>, count: usize) -> Vec<Sku> {
        let start = after.map_or(0, |after| self.order.partition_point(|sku| sku <= after));
        self.order[start..].iter().take(count).cloned().collect()
    }

    /// How many products there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// False at the end of the file. Reading bytes, without a fixed number of fields and without types, nothing can
/// go wrong but the encoding.
fn read_record(
    reader: &mut csv::Reader<&[u8]>,
    record: &mut csv::StringRecord,
    file: &str,
    bytes: &[u8],
) -> Result<bool, CatalogueError> {
    reader.read_record(record).map_err(|error| CatalogueError::Row {
        file: file.to_owned(),
        line: csv_line::of(bytes, error.position()),
        problem: RowProblem::Encoding,
    })
}

fn read_row(
    record: &csv::StringRecord,
    line: u64,
    products: &mut HashMap<Sku, (Product, u64)>,
) -> Result<(), RowProblem> {
    let (Some(text), Some(name), Some(price), 3) = (record.get(0), record.get(1), record.get(2), record.len()) else {
        return Err(RowProblem::FieldCount(record.len()));
    };
    let sku = Sku::parse(text).map_err(|reason| RowProblem::Sku { text: text.to_owned(), reason })?;
    let price = price.parse().map_err(|_| RowProblem::Price(price.to_owned()))?;
    let product = Product::new(name, price).map_err(RowProblem::Product)?;
    match products.insert(sku, (product, line)) {
        None => Ok(()),
        Some((_, first_line)) => Err(RowProblem::Duplicate { text: text.to_owned(), first_line }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::domain::Money;

    fn sku(text: &str) -> Sku {
        Sku::parse(text).expect("a valid SKU")
    }

    fn read(rows: &str) -> Result<Catalogue, CatalogueError> {
        Catalogue::from_reader("shop.csv", format!("sku,name,price_minor_units\n{rows}").as_bytes())
    }

    fn refusal(rows: &str) -> String {
        read(rows).err().expect("the catalogue is refused").to_string()
    }

    #[test]
    fn quoted_fields_line_ends_and_empty_names_are_read() {
        let catalogue =
            read("85123A,\"HEART, \"\"WHITE\"\"\",255\r\nBANK CHARGES,,0\r\n85123a,Лампа,1").expect("a good catalogue");
        let heart = catalogue.get(&sku("85123A")).expect("it is there");
        assert_eq!((&*heart.name, heart.price), ("HEART, \"WHITE\"", Money(255)));
        let charges = catalogue.get(&sku("BANK CHARGES")).expect("it is there");
        assert_eq!((&*charges.name, charges.price), ("", Money(0)));
        assert_eq!(catalogue.len(), 3, "case is kept apart");
    }

    #[test]
    fn a_byte_order_mark_before_the_header_is_skipped() {
        let text = "\u{feff}sku,name,price_minor_units\nA,a,1\n";
        assert_eq!(Catalogue::from_reader("shop.csv", text.as_bytes()).expect("a good catalogue").len(), 1);
    }

    #[test]
    fn a_refusal_names_the_file_the_line_and_what_is_wrong() {
        for (rows, message) in [
            ("A,a,1\nB,b,-2", "shop.csv, line 3: the price is negative: -2"),
            ("A,a,1.50", "shop.csv, line 2: the price must be a whole number of minor units, not \"1.50\""),
            ("A,a,", "shop.csv, line 2: the price must be a whole number of minor units, not \"\""),
            ("A,\"x\ny\",1\nA,a,1", "shop.csv, line 4: the SKU \"A\" is also on line 2"),
            ("A,a", "shop.csv, line 2: there must be 3 fields, not 2"),
            ("A,a,1,2", "shop.csv, line 2: there must be 3 fields, not 4"),
            (
                "A ,a,1",
                "shop.csv, line 2: the SKU \"A \" may only contain printable characters, with spaces inside only",
            ),
            (",a,1", "shop.csv, line 2: the SKU \"\" must have 1 to 64 characters"),
            ("A,a\0,1", "shop.csv, line 2: the name has a control character"),
        ] {
            assert_eq!(refusal(rows), message);
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused_with_its_line() {
        let error = Catalogue::from_reader("shop.csv", b"sku,name,price_minor_units\nA,a,1\nB,\xff,1\n".as_slice());
        assert_eq!(error.err().expect("refused").to_string(), "shop.csv, line 3: the text is not UTF-8");
    }

    #[test]
    fn lines_are_counted_as_an_editor_counts_them() {
        for end in ["\n", "\r\n"] {
            let rows = ["A,a,1", "", "B,\"b", "\",1", "", "C,c,many"].join(end);
            assert!(refusal(&rows).starts_with("shop.csv, line 7: the price"), "{}", refusal(&rows));
        }
    }

    #[test]
    fn a_file_without_the_header_is_refused() {
        for text in ["", "A,a,1\n", "sku,price_minor_units,name\n"] {
            let error = Catalogue::from_reader("shop.csv", text.as_bytes()).err().expect("refused");
            assert!(matches!(error, CatalogueError::Header { .. }), "{error}");
        }
    }

    #[test]
    fn pages_follow_each_other_in_sku_order() {
        let catalogue = read("b,,1\na,,1\nB,,1\n10,,1\n9,,1\n").expect("a good catalogue");
        let names = |skus: Vec<Sku>| skus.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(catalogue.list(None, 2)), ["10", "9"]);
        assert_eq!(names(catalogue.list(Some(&sku("9")), 2)), ["B", "a"]);
        assert_eq!(names(catalogue.list(Some(&sku("aa")), 2)), ["b"], "a SKU that is gone can be gone on from");
        assert_eq!(names(catalogue.list(Some(&sku("b")), 2)), Vec::<String>::new());
    }

    #[test]
    fn a_packed_file_is_read_and_a_damaged_one_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shop.csv.gz");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(b"sku,name,price_minor_units\nA,a,1\n").expect("packed");
        let packed = packer.finish().expect("packed");

        std::fs::write(&path, &packed).expect("written");
        assert_eq!(Catalogue::from_path(&path).expect("a good catalogue").len(), 1);
        std::fs::write(&path, &packed[..packed.len() - 10]).expect("written");
        assert!(matches!(Catalogue::from_path(&path), Err(CatalogueError::Read { .. })));
        let missing = Catalogue::from_path(&folder.path().join("none.csv")).err().expect("refused");
        assert!(missing.to_string().contains("none.csv"), "{missing}");
    }

    #[test]
    fn the_demo_catalogue_can_be_read() {
        let catalogue = Catalogue::demo();
        assert!(catalogue.len() >= 35);
        assert!(catalogue.list(None, usize::MAX).iter().any(|sku| sku.as_str().contains(' ')));
    }
}
