//! `loms verify`: checks the books in the database.

use crate::store::Store;

/// How many differences of each kind are printed.
const DIFFERENCES_MAX: u32 = 20;

/// Prints what does not add up; gives whether everything does.
///
/// # Errors
/// Where the database cannot be read.
pub async fn run(store: &dyn Store) -> anyhow::Result<bool> {
    let differences = store.differences(DIFFERENCES_MAX).await?;
    differences.iter().for_each(|difference| println!("{difference}"));
    match differences.len() {
        0 => println!("the books are right"),
        count => println!("the books are wrong: {count} differences (at most {DIFFERENCES_MAX} of a kind are shown)"),
    }
    Ok(differences.is_empty())
}
