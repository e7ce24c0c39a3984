//! `loms verify`: checks the books in the database.

use std::io::{Write as _, stdout};

use crate::store::Store;

/// How many differences of each kind are printed.
const DIFFERENCES_MAX: u32 = 20;

/// Prints what does not add up; gives whether everything does.
///
/// # Errors
/// Where the database cannot be read.
pub async fn run(store: &dyn Store) -> anyhow::Result<bool> {
    let differences = store.differences(DIFFERENCES_MAX).await?;
    let mut out = stdout();
    for difference in &differences {
        writeln!(out, "{difference}")?;
    }
    match differences.len() {
        // Perhaps it is another database than the one that was meant.
        0 if store.is_empty().await? => writeln!(out, "the books are right: nothing stands in them yet")?,
        0 => writeln!(out, "the books are right")?,
        count => {
            writeln!(out, "the books are wrong: {count} differences (at most {DIFFERENCES_MAX} of a kind are shown)")?;
        }
    }
    Ok(differences.is_empty())
}
