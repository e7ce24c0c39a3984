//! `loms stock import`: stock counts from a file, straight into the database.

use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::{Context, bail};

use crate::clock::{Clock, SystemClock};
use crate::store::{Change, Refused, ShelfEdit, StockEdit, Store, Verdict, in_time};
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
        let verdicts = write(store, StockEdit::Count(rows)).await?;
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

/// As a writer of its own, whose place is given back whatever happens: servers that find it taken remember no carts.
async fn write(store: &dyn Store, edit: StockEdit) -> anyhow::Result<Vec<Verdict>> {
    let now = SystemClock.now();
    let (identity, mut writer) = in_time(store.open_writer(rand::random(), now)).await?;
    let written = writer.write(&[Change::StockEdited { edit, key: None }], now).await;
    if written.is_err() {
        // Its connection is of no further use, and may have the place locked: it has to go first.
        drop(writer);
        if let Ok(Some(again)) = in_time(store.reopen_writer(identity, now)).await {
            again.close().await;
        }
    } else {
        writer.close().await;
    }
    Ok(written?)
}
