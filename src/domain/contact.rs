//! How a user can be reached, and in which language.

use std::net::IpAddr;

use lettre::Address;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    pub email: Email,
    pub locale: Locale,
}

/// An e-mail address in ASCII, `name@domain`, without quotes and without a number for a domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Email(Address);

/// Why a text is not an address that mail is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEmail {
    #[error("must have 1 to {} characters", Email::CHARS_MAX)]
    Length,
    /// Mail servers need not take others, and a quoted name may hold almost anything.
    #[error("may only contain ASCII without spaces and quotes (a domain in other letters: xn--…)")]
    Character,
    #[error("must be like name@shop.example")]
    Form,
}

impl Email {
    /// The longest that a mail server takes (RFC 5321, erratum 1690).
    pub const CHARS_MAX: usize = 254;

    /// # Errors
    /// [`InvalidEmail`].
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        if text.is_empty() || text.chars().count() > Self::CHARS_MAX {
            return Err(InvalidEmail::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
            return Err(InvalidEmail::Character);
        }
        let address: Address = text.parse().map_err(|_| InvalidEmail::Form)?;
        // Written as a number, a domain could lead the mail server into a private network.
        let domain = address.domain();
        if domain.starts_with('[') || domain.parse::<IpAddr>().is_ok() {
            return Err(InvalidEmail::Form);
        }
        Ok(Self(address))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0
    }
}

/// The languages that users are written to in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Locale {
    #[default]
    En,
    Ru,
}

impl Locale {
    pub const ALL: [Self; 2] = [Self::En, Self::Ru];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ru => "ru",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|locale| locale.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_addresses_are_taken_as_they_are() {
        for text in ["ann@shop.example", "Ann.B+list@mail.shop.example", "a@xn--e1afmkfd.xn--p1ai", "o'neil@b.example"]
        {
            assert_eq!(Email::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let check = |text: &str, reason| assert_eq!(Email::parse(text).err(), Some(reason), "{text:?}");
        check("", InvalidEmail::Length);
        check(&format!("ann@{}.example", "a.".repeat(130)), InvalidEmail::Length);
        check("ann@shop.example\r\nBcc: bob@shop.example", InvalidEmail::Character);
        check("ann b@shop.example", InvalidEmail::Character);
        check("\"ann\"@shop.example", InvalidEmail::Character);
        check("анна@shop.example", InvalidEmail::Character);
        for text in ["ann", "@shop.example", "ann@", "ann@@shop.example", "<ann@shop.example>", "ann@shop,example"] {
            check(text, InvalidEmail::Form);
        }
        for text in ["ann@[127.0.0.1]", "ann@127.0.0.1", "ann@[IPv6:::1]", "a@b.example,c@d.example"] {
            check(text, InvalidEmail::Form);
        }
    }
}
