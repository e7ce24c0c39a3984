//! The names that clients give to users and goods, and the numbers that we give to orders.
//!
//! Each type is parsed once, at the edge; a value that exists is valid.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// Why a text or a number is not a valid identifier or count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Empty, or longer than [`Sku::CHARS_MAX`] or [`UserId::CHARS_MAX`].
    #[error("must have 1 to {chars_max} characters")]
    Length { chars_max: usize },
    /// A user name with a character outside of the allowed set.
    #[error("may only contain A-Z a-z 0-9 . _ @ : -")]
    UserCharacter,
    /// A SKU with a control character, an unprintable one, or a space at an end.
    #[error("may only contain printable characters, with spaces inside only")]
    SkuCharacter,
    /// A count outside of 1 to [`Count::MAX`].
    #[error("must be a whole number from 1 to {max}", max = Count::MAX)]
    Count,
    /// An order or warehouse id that is not a positive whole number in range.
    #[error("must be a positive whole number")]
    Number,
}

/// Who owns a cart and its orders: 1–64 of `A–Z a–z 0–9 . _ @ : -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserId(CompactString);

impl UserId {
    pub const CHARS_MAX: usize = 64;

    /// # Errors
    /// [`Invalid::Length`] or [`Invalid::UserCharacter`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > Self::CHARS_MAX {
            return Err(Invalid::Length { chars_max: Self::CHARS_MAX });
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@:-".contains(&byte);
        if !text.bytes().all(allowed) {
            return Err(Invalid::UserCharacter);
        }
        Ok(Self(text.into()))
    }

    /// A name read back from a store, where only parsed ones are written.
    #[must_use]
    pub fn from_store(text: &str) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One kind of goods: 1–64 printable characters, case kept, spaces inside allowed.
/// Ordered by its UTF-8 bytes, in memory as in both databases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sku(CompactString);

impl Sku {
    pub const CHARS_MAX: usize = 64;

    /// # Errors
    /// [`Invalid::Length`] or [`Invalid::SkuCharacter`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.chars().count() > Self::CHARS_MAX {
            return Err(Invalid::Length { chars_max: Self::CHARS_MAX });
        }
        let spaced_end = text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace);
        if spaced_end || !text.chars().all(is_printable) {
            return Err(Invalid::SkuCharacter);
        }
        Ok(Self(text.into()))
    }

    /// A SKU read back from a store, where only parsed ones are written.
    #[must_use]
    pub fn from_store(text: &str) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Neither a control character, nor a line or paragraph separator, nor an invisible direction
/// mark, nor white space other than the plain space.
fn is_printable(character: char) -> bool {
    character == ' '
        || !(character.is_control()
            || character.is_whitespace()
            || matches!(character, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF0}'..='\u{FFFB}'))
}

/// An order's number; ascending in the order of creation within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderId(pub i64);

/// A warehouse's number, from 1. Orders take from warehouses in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WarehouseId(pub i32);

impl WarehouseId {
    /// # Errors
    /// [`Invalid::Number`] outside of 1 to 2,147,483,647.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match plain_number(text) {
            Some(number) if number > 0 => Ok(Self(number)),
            _ => Err(Invalid::Number),
        }
    }
}

/// A number in the one spelling that it has: decimal digits, no sign, no zero in front.
#[must_use]
pub fn plain_number<N: FromStr>(text: &str) -> Option<N> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// How many units of one SKU: 1 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Count(i32);

impl Count {
    pub const MAX: i32 = 1_000_000;

    /// # Errors
    /// [`Invalid::Count`] outside of 1 to 1,000,000.
    pub fn new(units: i64) -> Result<Self, Invalid> {
        match i32::try_from(units) {
            Ok(units @ 1..=Self::MAX) => Ok(Self(units)),
            _ => Err(Invalid::Count),
        }
    }

    /// # Errors
    /// [`Invalid::Count`] where the sum is over 1,000,000.
    pub fn checked_add(self, other: Self) -> Result<Self, Invalid> {
        Self::new(self.units() + other.units())
    }

    #[must_use]
    pub fn units(self) -> i64 {
        i64::from(self.0)
    }

    /// The same in the width of the databases' `count` columns.
    #[must_use]
    pub fn as_i32(self) -> i32 {
        self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for WarehouseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_skus_are_taken_as_they_are() {
        for text in ["85123A", "85123a", "BANK CHARGES", "POST", "ящик №4", "A/B?c#%"] {
            assert_eq!(Sku::parse(text).expect("a valid SKU").as_str(), text);
        }
    }

    #[test]
    fn skus_that_nobody_could_read_are_refused() {
        let long = "x".repeat(65);
        for text in ["", " A", "A ", "A\nB", "A\0", "A\u{200B}B", "A\u{a0}B", "\u{202E}A", &long] {
            assert!(Sku::parse(text).is_err(), "{text:?} was taken");
        }
        assert!(Sku::parse(&"ы".repeat(64)).is_ok());
    }

    #[test]
    fn users_are_of_the_stated_alphabet() {
        assert!(UserId::parse("guest-536365@shop.example:1_a").is_ok());
        for text in ["", "a b", "юзер", "a/b", &"u".repeat(65)] {
            assert!(UserId::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (text, number) in [("0", Some(0)), ("7", Some(7)), ("2147483647", Some(i32::MAX))] {
            assert_eq!(plain_number(text), number, "{text:?}");
        }
        for text in ["", "+1", "-1", "01", "00", " 1", "1 ", "1.0", "1e3", "٣", "2147483648"] {
            assert_eq!(plain_number::<i32>(text), None, "{text:?}");
        }
    }

    #[test]
    fn counts_go_from_one_to_a_million() {
        assert!(Count::new(1).is_ok() && Count::new(1_000_000).is_ok());
        for units in [0, -1, 1_000_001, i64::MAX, i64::MIN] {
            assert_eq!(Count::new(units), Err(Invalid::Count));
        }
    }
}
