//! Whom the webhook calls, and with which secrets it signs.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::addresses::is_public;
use super::secret::{InvalidSecret, Secret};

/// An old and a new one are enough to change secrets; each costs a signature per request.
const SECRETS_MAX: usize = 4;

/// Why there can be no webhook. Holds neither the address, which may hold a token, nor a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The text says what is wrong and does not repeat the address.
    #[error("the address of the webhook's receiver is no URL: {0}")]
    NoUrl(String),
    #[error("the address of the webhook's receiver must start with http:// or https://")]
    Scheme,
    #[error("the address of the webhook's receiver must hold no user and no password: it checks the signature")]
    UserAndPassword,
    #[error("the address of the webhook's receiver, {0}, is not public, and private addresses are not allowed")]
    PrivateAddress(IpAddr),
    #[error("a webhook needs 1 to {SECRETS_MAX} secrets, separated by spaces, and has {0}")]
    SecretCount(usize),
    /// `position` counts from 1.
    #[error("secret {position} of the webhook {reason}")]
    Secret { position: usize, reason: InvalidSecret },
}

pub struct Settings {
    url: Url,
    secrets: Vec<Secret>,
    allows_private_addresses: bool,
}

impl Settings {
    /// `secrets` are separated by spaces, like the signatures in the header; the receiver accepts an
    /// event that is signed with one that it knows.
    ///
    /// # Errors
    /// [`SettingsError`] says which setting is wrong, and shows no secret.
    pub fn parse(url: &str, secrets: &SecretString, allows_private_addresses: bool) -> Result<Self, SettingsError> {
        let url = Url::parse(url).map_err(|error| SettingsError::NoUrl(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SettingsError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SettingsError::UserAndPassword);
        }
        // A number in place of a name is called as it is, without the check at the look-up.
        let address = literal_address(&url).filter(|address| !is_public(*address));
        if let Some(address) = address.filter(|_| !allows_private_addresses) {
            return Err(SettingsError::PrivateAddress(address));
        }
        let texts: Vec<&str> = secrets.expose_secret().split_whitespace().collect();
        if texts.is_empty() || texts.len() > SECRETS_MAX {
            return Err(SettingsError::SecretCount(texts.len()));
        }
        let parse = |(at, text): (usize, &str)| {
            Secret::parse(text).map_err(|reason| SettingsError::Secret { position: at + 1, reason })
        };
        let secrets = texts.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { url, secrets, allows_private_addresses })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn allows_private_addresses(&self) -> bool {
        self.allows_private_addresses
    }

    /// One per secret, separated by spaces.
    pub(super) fn signatures(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signatures: Vec<String> = self.secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect();
        signatures.join(" ")
    }
}

impl fmt::Debug for Settings {
    /// Of the address only the host: its path may be as secret as a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("host", &self.url.host_str())
            .field("secrets", &self.secrets.len())
            .field("allows_private_addresses", &self.allows_private_addresses)
            .finish_non_exhaustive()
    }
}

/// Where the host is an address, in whatever form it was written: a URL's host is kept in one form.
fn literal_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn parse(url: &str, secrets: &str) -> Result<Settings, SettingsError> {
        Settings::parse(url, &secrets.into(), false)
    }

    #[test]
    fn addresses_that_must_not_be_called_are_refused() {
        assert!(parse("https://shop.example/hook?a=b", SECRET).is_ok());
        let check = |url: &str, error| assert_eq!(parse(url, SECRET).err(), Some(error), "{url}");
        check("shop", SettingsError::NoUrl("relative URL without a base".to_owned()));
        check("ftp://shop.example/", SettingsError::Scheme);
        check("file:///etc/passwd", SettingsError::Scheme);
        check("https://ann@shop.example/", SettingsError::UserAndPassword);
        check("https://:pass@shop.example/", SettingsError::UserAndPassword);
    }

    #[test]
    fn a_private_address_is_refused_however_it_is_written() {
        let urls = [
            "http://127.0.0.1:8080/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
        ];
        for url in urls {
            let error = parse(url, SECRET).expect_err(url);
            assert!(matches!(error, SettingsError::PrivateAddress(_)), "{url}: {error}");
            assert!(Settings::parse(url, &SECRET.into(), true).is_ok(), "{url} is not allowed");
        }
    }

    #[test]
    fn a_wrong_secret_is_told_by_its_position() {
        let two = format!("{SECRET} whsec_c2hvcnQ=");
        let reason = InvalidSecret::Length { bytes: 5 };
        let error = parse("https://shop.example/", &two).expect_err("the second is too short");
        assert_eq!(error, SettingsError::Secret { position: 2, reason });
        assert_eq!(error.to_string(), "secret 2 of the webhook has 5 bytes, and must have 24 to 64");
        assert_eq!(parse("https://shop.example/", " ").err(), Some(SettingsError::SecretCount(0)));
        let five = [SECRET; 5].join(" ");
        assert_eq!(parse("https://shop.example/", &five).err(), Some(SettingsError::SecretCount(5)));
    }

    #[test]
    fn neither_secrets_nor_the_path_are_shown() {
        let settings = parse("https://shop.example/token-17?key=token-18", SECRET).expect("valid settings");
        let shown = format!("{settings:?} {:?}", settings.secrets);
        assert!(shown.contains("shop.example") && !shown.contains("token"), "{shown}");
        // The secret as it is written, and the first of its bytes as a list of numbers shows them.
        assert!(!shown.contains("MfKQ") && !shown.contains("49, 242"), "{shown}");
        let error = parse("https://shop.example/token-17", "whsec_not-base64!").expect_err("no base64");
        assert!(!format!("{error} {error:?}").contains("not-base64"), "{error:?}");
    }
}
