//! Money as people read it.

use iso_currency::Currency;

use super::super::Locale;
use crate::domain::Money;

/// Does not break at the end of a line.
const NO_BREAK_SPACE: char = '\u{a0}';
const GROUP_DIGITS: usize = 3;

/// With the currency's code, not its sign, which several currencies may share.
pub fn written(amount: Money, currency: Currency, locale: Locale) -> String {
    let (group, point) = match locale {
        Locale::En => (',', '.'),
        Locale::Ru => (NO_BREAK_SPACE, ','),
    };
    let exponent = usize::from(currency.exponent().unwrap_or(0));
    // With zeros in front, so that there is at least one digit before the point.
    let digits = format!("{:0>width$}", amount.0, width = exponent + 1);
    let (whole, fraction) = digits.split_at(digits.len() - exponent);
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(GROUP_DIGITS) {
            text.push(group);
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push(point);
        text.push_str(fraction);
    }
    text.push(NO_BREAK_SPACE);
    text.push_str(currency.code());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_the_language_has_them() {
        let check = |amount, currency, english: &str, russian: &str| {
            assert_eq!(written(Money(amount), currency, Locale::En).replace(NO_BREAK_SPACE, "_"), english);
            assert_eq!(written(Money(amount), currency, Locale::Ru).replace(NO_BREAK_SPACE, "_"), russian);
        };
        check(0, Currency::RUB, "0.00_RUB", "0,00_RUB");
        check(7, Currency::RUB, "0.07_RUB", "0,07_RUB");
        check(99_999, Currency::RUB, "999.99_RUB", "999,99_RUB");
        check(100_000, Currency::RUB, "1,000.00_RUB", "1_000,00_RUB");
        check(123_456_789, Currency::JPY, "123,456,789_JPY", "123_456_789_JPY");
        check(1_234_567, Currency::KWD, "1,234.567_KWD", "1_234,567_KWD");
        check(i64::MAX, Currency::USD, "92,233,720,368,547,758.07_USD", "92_233_720_368_547_758,07_USD");
    }
}
