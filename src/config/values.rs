//! What single settings must be. Each error names the setting and repeats nothing that may be a secret.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use iso_currency::Currency;
use secrecy::SecretString;
use tracing_subscriber::filter::LevelFilter;

use super::ConfigError;
use crate::notifications::broker;
use crate::products::CALLS_PER_SECOND;

/// Goes before the filter that is set, which may say otherwise of each. The own steps of the libraries are of no
/// interest to anybody; what lapin fails at is told by those who used it, and requests that actix cannot read by
/// their answers: else strangers could fill the log.
const LIBRARIES_OFF: &str = "actix_http=off,lapin=off";
const LIBRARIES_WARN: &str = ",actix_server=warn,sqlx=warn";
const CALLS_PER_SECOND_MAX: usize = 10_000;
const PAYMENT_TIMEOUT_MS_MIN: u128 = 100;
const PAYMENT_TIMEOUT_MS_MAX: u128 = 365 * 24 * 60 * 60 * 1000;

/// An address of this machine alone, or a name of it: `localhost:8080`.
pub(super) fn listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let addresses: Vec<SocketAddr> = text.to_socket_addrs().into_iter().flatten().collect();
    if let Some(open) = addresses.iter().find(|address| !address.ip().is_loopback()) {
        return Err(ConfigError::Open(*open));
    }
    // Whoever asks for `localhost` tries all that it stands for.
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| bad("LOMS_LISTEN", "must be an address such as 127.0.0.1:8080"))
}

pub(super) fn currency(code: &str) -> Result<Currency, ConfigError> {
    Currency::from_code(code).ok_or_else(|| bad("LOMS_CURRENCY", "must be an ISO 4217 code such as RUB"))
}

/// Whether anybody is there is another matter: the broker may be away.
pub(super) fn amqp_url(url: String) -> Result<SecretString, ConfigError> {
    let url = SecretString::from(url);
    if broker::is_address(&url) {
        Ok(url)
    } else {
        Err(bad("AMQP_URL", "must be an address such as amqp://user:password@host/%2f"))
    }
}

/// # Errors
/// [`ConfigError::Value`] for what is no duration, or none that an order may have.
pub fn payment_timeout(text: &str) -> Result<Duration, ConfigError> {
    let range = PAYMENT_TIMEOUT_MS_MIN..=PAYMENT_TIMEOUT_MS_MAX;
    match humantime::parse_duration(text) {
        Ok(timeout) if range.contains(&timeout.as_millis()) => Ok(timeout),
        _ => Err(bad("LOMS_PAYMENT_TIMEOUT", "must be a duration from 100ms to 365d, such as 10m")),
    }
}

pub(super) fn calls_per_second(set: Option<usize>) -> Result<usize, ConfigError> {
    match set.unwrap_or(CALLS_PER_SECOND) {
        calls if (1..=CALLS_PER_SECOND_MAX).contains(&calls) => Ok(calls),
        _ => Err(bad("PRODUCT_SERVICE_CALLS_PER_SECOND", "must be a whole number from 1 to 10000, such as 10")),
    }
}

/// The filter with what it leaves open: `info`, and less of the libraries.
pub(super) fn log_filter(set: &str) -> Result<String, ConfigError> {
    let parts = || set.split(',').map(str::trim).filter(|part| !part.is_empty());
    // A word that is no level would be taken for a module, of which everything is logged.
    let mut words = parts().filter(|part| !part.contains(['=', '[', ']', '{', '}']));
    if words.any(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(bad(
            "LOMS_LOG",
            "must be a level such as info, or levels of modules such as info,loms::http=debug",
        ));
    }
    // Of all less is wanted than of the libraries otherwise.
    let warns = if parts().any(|part| matches!(part, "off" | "error")) { "" } else { LIBRARIES_WARN };
    Ok(format!("info,{LIBRARIES_OFF}{warns},{set}"))
}

pub(super) fn bad(name: &'static str, why: &str) -> ConfigError {
    ConfigError::Value { name, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_this_machine_is_an_address_to_listen_on() {
        for text in ["localhost:0", "127.0.0.1:8080", "[::1]:8080"] {
            assert!(listen(text).expect(text).ip().is_loopback(), "{text}");
        }
        for text in ["0.0.0.0:80", "[::]:80", "192.0.2.1:8080"] {
            assert!(matches!(listen(text), Err(ConfigError::Open(_))), "{text}");
        }
        for text in ["", "localhost", "127.0.0.1:65536", "127.0.0.1:", "8080", ":"] {
            assert!(matches!(listen(text), Err(ConfigError::Value { name: "LOMS_LISTEN", .. })), "{text}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for set in ["info", "WARN", "off", "loms=debug", "warn, loms::http=trace", "[{order.id}]=debug", ""] {
            assert!(log_filter(set).is_ok(), "{set}");
        }
        for set in ["nonsense", "loms", "info,nonsense", "loms::http"] {
            assert!(matches!(log_filter(set), Err(ConfigError::Value { name: "LOMS_LOG", .. })), "{set}");
        }
    }

    #[test]
    fn the_address_of_a_broker_is_not_shown_where_it_is_none() {
        for url in ["amqp://loms:s3cret@127.0.0.1:5672/%2f", "amqps://rabbit.shop.example", "amqp://[::1]:1/shop"] {
            assert!(amqp_url(url.to_owned()).is_ok(), "{url}");
        }
        for url in ["foo", "", "amqp:loms:s3cret@host", "http://loms:s3cret@host", "amqp://loms:s3cret@host:port/"] {
            let error = amqp_url(url.to_owned()).expect_err(url);
            let shown = format!("{error} {error:?}");
            assert!(shown.starts_with("AMQP_URL") && !shown.contains("s3cret"), "{shown}");
        }
    }
}
