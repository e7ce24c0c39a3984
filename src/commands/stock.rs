//! `loms stock import`: stock counts from a file, straight into the database.

use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::{Context, bail};

use crate::clock::{Clock, SystemClock};
use crate::store::{Change, Refused, ShelfEdit, StockEdit, Store, Verdict};
use crate::{packed_file, stock_file};

/// # Errors
/// Names the lines that cannot be taken; then nothing was imported.
pub async fn import(store: &dyn Store, file: &Path) -> anyhow::Result<()> {
    let csv = packed_file::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let rows = match stock_file::parse(&csv) {
        Ok(rows) => rows,
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("{}: {error}", file.display()));
            bail!("nothing was imported");
        }
    };
    let (lines, rows): (Vec<u64>, Vec<ShelfEdit>) = rows.into_iter().unzip();
    let count = rows.len();
    if count > 0 {
        let now = SystemClock.now();
        let (_, mut writer) = store.open_writer(rand::random(), now).await?;
        let change = Change::StockEdited { edit: StockEdit::Count(rows), key: None };
        let verdicts = writer.write(&[change], now).await?;
        writer.close().await;
        if let [Verdict::Refused(Refused::BelowReserved(positions))] = &verdicts[..] {
            for line in positions.iter().filter_map(|at| lines.get(*at)) {
                eprintln!("{}: line {line}: fewer units than are reserved", file.display());
            }
            bail!("nothing was imported");
        }
    }
    writeln!(stdout(), "imported {count} rows")?;
    Ok(())
}
