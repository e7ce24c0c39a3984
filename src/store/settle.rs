//! Finding the bad changes of a batch: halves are tried until each that fails stands alone.

use async_trait::async_trait;

use super::change::{Change, Refused, Verdict};
use super::{StoreError, WriteError};

/// An open transaction in which some changes can be tried.
#[async_trait]
pub(super) trait Trial: Send {
    /// Applies all of the changes, or none and says why.
    ///
    /// # Errors
    /// [`StoreError`] where the transaction as a whole is lost.
    async fn apply(&mut self, changes: &[Change]) -> Result<Result<(), Refused>, StoreError>;
}

/// A verdict for each change. The good ones are applied, in their order.
///
/// # Errors
/// [`WriteError::NotWritten`] where the transaction is lost.
pub(super) async fn settle(trial: &mut impl Trial, changes: &[Change]) -> Result<Vec<Verdict>, WriteError> {
    let mut verdicts = Vec::with_capacity(changes.len());
    let mut untried = vec![changes];
    while let Some(part) = untried.pop() {
        match trial.apply(part).await.map_err(WriteError::NotWritten)? {
            Ok(()) => verdicts.extend(part.iter().map(|_| Verdict::Written)),
            Err(refused) if part.len() == 1 => verdicts.push(Verdict::Refused(refused)),
            Err(_) => {
                let (first, second) = part.split_at(part.len() / 2);
                untried.extend([second, first]);
            }
        }
    }
    Ok(verdicts)
}
