//! Money in minor units (kopecks, cents, pence). There is one currency in an installation.

use serde::{Deserialize, Serialize};

use super::ids::Count;

/// An amount in minor units of the configured currency; never negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Money(pub i64);

/// A sum went past what 64 bits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the total is more than can be counted")]
pub struct TotalTooLarge;

impl Money {
    /// # Errors
    /// [`TotalTooLarge`] where the product or the sum leaves 64 bits.
    pub fn total(lines: impl IntoIterator<Item = (Self, Count)>) -> Result<Self, TotalTooLarge> {
        lines
            .into_iter()
            .try_fold(0_i64, |sum, (price, count)| sum.checked_add(price.0.checked_mul(count.units())?))
            .map(Self)
            .ok_or(TotalTooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_past_64_bits_is_refused() {
        let million = Count::new(1_000_000).expect("in range");
        let one = Count::new(1).expect("in range");
        assert_eq!(Money::total([(Money(3), million), (Money(5), one)]), Ok(Money(3_000_005)));
        assert_eq!(Money::total([(Money(i64::MAX), one), (Money(1), one)]), Err(TotalTooLarge));
        assert_eq!(Money::total([(Money(i64::MAX / 2), million)]), Err(TotalTooLarge));
    }
}
