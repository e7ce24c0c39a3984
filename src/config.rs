//! The settings: `config.yaml`, then the environment (and `.env`), then flags; later ones win.
//! An unknown key or a bad value is an error that names it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, File, FileFormat};
use iso_currency::Currency;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::notifications::channels;
use crate::products::CALLS_PER_SECOND;

/// Read where it exists, unless another file is named.
const FILE: &str = "config.yaml";
/// Goes before the filter that is set, which may say otherwise of each. The own steps of the libraries are of no
/// interest to anybody; what lapin fails at is told by those who used it, and requests that actix cannot read by
/// their answers: else strangers could fill the log.
const LIBRARIES_OFF: &str = "actix_http=off,lapin=off";
const LIBRARIES_WARN: &str = ",actix_server=warn,sqlx=warn";
const CALLS_PER_SECOND_MAX: usize = 10_000;
const PAYMENT_TIMEOUT_MS_MIN: u128 = 100;
const PAYMENT_TIMEOUT_MS_MAX: u128 = 365 * 24 * 60 * 60 * 1000;

/// Names of the settings in the environment, and in the file.
const NAMES: [(&str, &str); 16] = [
    ("DATABASE_URL", "database_url"),
    ("AMQP_URL", "amqp_url"),
    ("PRODUCT_SERVICE_URL", "product_service_url"),
    ("PRODUCT_SERVICE_TOKEN", "product_service_token"),
    ("PRODUCT_SERVICE_CALLS_PER_SECOND", "product_service_calls_per_second"),
    ("LOMS_LISTEN", "listen"),
    ("LOMS_CATALOG", "catalog"),
    ("LOMS_STOCK", "stock"),
    ("LOMS_PAYMENT_TIMEOUT", "payment_timeout"),
    ("LOMS_CURRENCY", "currency"),
    ("LOMS_LOG", "log"),
    ("LOMS_WEBHOOK_URL", "webhook_url"),
    ("LOMS_WEBHOOK_SECRETS", "webhook_secrets"),
    ("LOMS_WEBHOOK_PRIVATE_ADDRESSES", "webhook_private_addresses"),
    ("LOMS_SMTP_URL", "smtp_url"),
    ("LOMS_MAIL_FROM", "mail_from"),
];

#[derive(Debug, Clone)]
pub struct Settings {
    /// `sqlite://…` or `postgres://…`; may hold a password.
    pub database_url: SecretString,
    /// Where events are published; without it, this process itself tells users of them.
    pub amqp_url: Option<SecretString>,
    pub channels: channels::Settings,
    /// Without it, the built-in catalogue sells.
    pub product_service_url: Option<String>,
    pub product_service_token: SecretString,
    /// How often it is asked, at the most.
    pub product_service_calls_per_second: usize,
    pub listen: SocketAddr,
    /// CSV `sku,name,price_minor_units`; without it, the demo shop's.
    pub catalog: Option<PathBuf>,
    /// CSV `sku,warehouse_id,on_hand`, imported into an empty database.
    pub stock: Option<PathBuf>,
    /// How long an order awaits its payment.
    pub payment_timeout: Duration,
    pub currency: Currency,
    /// A filter as of `tracing-subscriber`: `info`, `loms=debug`, …
    pub log: String,
}

/// Settings given on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// The settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// `sqlite://FILE` or `postgres://…`. [default: sqlite://data/loms.db]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// What to log: `info`, `loms=debug`, … [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// Further settings of `loms serve`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeFlags {
    #[command(flatten)]
    pub flags: Flags,
    /// Where to serve; port 0 takes a free one. [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// An external ProductService; without it, the catalogue sells.
    #[arg(long, value_name = "URL")]
    pub product_service_url: Option<String>,
    /// The catalogue, CSV `sku,name,price_minor_units`. [default: a demo shop's]
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<String>,
    /// Stock for an empty database, CSV `sku,warehouse_id,on_hand`.
    #[arg(long, value_name = "FILE")]
    pub stock: Option<String>,
    /// How long an order awaits its payment. [default: 10m]
    #[arg(long, value_name = "DURATION")]
    pub payment_timeout: Option<String>,
    /// ISO 4217. [default: RUB]
    #[arg(long, value_name = "CODE")]
    pub currency: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}")]
    Source(#[from] config::ConfigError),
    #[error(".env cannot be read: {0}")]
    DotEnv(#[from] dotenvy::Error),
    #[error("there is no setting {0}")]
    Unknown(String),
    #[error("{name} {why}")]
    Value { name: &'static str, why: String },
    #[error(
        "LOMS_LISTEN {0} can be reached from other machines, and there is no authentication yet: use a loopback address"
    )]
    Open(SocketAddr),
}

/// What the sources hold, before it is understood.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    database_url: Option<String>,
    amqp_url: Option<String>,
    product_service_url: Option<String>,
    product_service_token: Option<String>,
    product_service_calls_per_second: Option<usize>,
    listen: Option<String>,
    catalog: Option<String>,
    stock: Option<String>,
    payment_timeout: Option<String>,
    currency: Option<String>,
    log: Option<String>,
    webhook_url: Option<String>,
    webhook_secrets: Option<String>,
    webhook_private_addresses: Option<bool>,
    smtp_url: Option<String>,
    mail_from: Option<String>,
}

/// Puts what `.env` sets, in this folder or one above, into the environment, where it is not set there.
///
/// # Errors
/// [`ConfigError::DotEnv`] where there is one that cannot be read.
pub fn read_dot_env() -> Result<(), ConfigError> {
    match dotenvy::dotenv() {
        Err(error) if !error.not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

impl Settings {
    /// Reads the file, the environment and the flags.
    ///
    /// # Errors
    /// [`ConfigError`], naming what is wrong.
    pub fn load(flags: &ServeFlags) -> Result<Self, ConfigError> {
        refuse_unknown(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
        let path = flags.flags.config.as_deref();
        let file = File::from(path.unwrap_or(Path::new(FILE))).format(FileFormat::Yaml).required(path.is_some());
        let mut builder = Config::builder().add_source(file);
        for (name, key) in NAMES {
            builder = builder.set_override_option(key, std::env::var(name).ok().filter(|value| !value.is_empty()))?;
        }
        for (key, value) in flags.given() {
            builder = builder.set_override_option(key, value)?;
        }
        Self::parse(builder.build()?.try_deserialize()?)
    }

    fn parse(texts: Texts) -> Result<Self, ConfigError> {
        let listen = texts.listen.as_deref().unwrap_or("127.0.0.1:8080");
        let listen: SocketAddr =
            listen.parse().map_err(|_| bad("LOMS_LISTEN", "must be an address such as 127.0.0.1:8080"))?;
        if !listen.ip().is_loopback() {
            return Err(ConfigError::Open(listen));
        }
        let currency = texts.currency.as_deref().unwrap_or("RUB");
        let database_url = texts.database_url.unwrap_or_else(|| "sqlite://data/loms.db".to_owned());
        Ok(Self {
            database_url: database_url.into(),
            amqp_url: texts.amqp_url.map(Into::into),
            channels: channels::Settings {
                webhook_url: texts.webhook_url.map(Into::into),
                webhook_secrets: texts.webhook_secrets.unwrap_or_default().into(),
                webhook_private_addresses: texts.webhook_private_addresses.unwrap_or_default(),
                smtp_url: texts.smtp_url.map(Into::into),
                mail_from: texts.mail_from.unwrap_or_default(),
            },
            product_service_url: texts.product_service_url,
            product_service_token: texts.product_service_token.unwrap_or_default().into(),
            product_service_calls_per_second: calls_per_second(texts.product_service_calls_per_second)?,
            listen,
            catalog: texts.catalog.map(PathBuf::from),
            stock: texts.stock.map(PathBuf::from),
            payment_timeout: payment_timeout(texts.payment_timeout.as_deref().unwrap_or("10m"))?,
            currency: Currency::from_code(currency)
                .ok_or_else(|| bad("LOMS_CURRENCY", "must be an ISO 4217 code such as RUB"))?,
            log: log_filter(texts.log.as_deref()),
        })
    }

    /// Whether the database is the embedded one.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.database_url.expose_secret().starts_with("sqlite:")
    }
}

impl ServeFlags {
    /// Only what every command takes.
    #[must_use]
    pub fn of(flags: Flags) -> Self {
        Self { flags, ..Self::default() }
    }

    fn given(&self) -> [(&'static str, Option<String>); 8] {
        [
            ("database_url", self.flags.database_url.clone()),
            ("log", self.flags.log.clone()),
            ("listen", self.listen.clone()),
            ("product_service_url", self.product_service_url.clone()),
            ("catalog", self.catalog.clone()),
            ("stock", self.stock.clone()),
            ("payment_timeout", self.payment_timeout.clone()),
            ("currency", self.currency.clone()),
        ]
    }
}

/// The filter with what it leaves open: `info`, and less of the libraries.
#[must_use]
pub fn log_filter(set: Option<&str>) -> String {
    let set = set.unwrap_or("info");
    // Of all less is wanted than of the libraries otherwise.
    let warns = if set.split(',').any(|part| matches!(part.trim(), "off" | "error")) { "" } else { LIBRARIES_WARN };
    format!("info,{LIBRARIES_OFF}{warns},{set}")
}

fn refuse_unknown(names: impl Iterator<Item = String>) -> Result<(), ConfigError> {
    let known = |name: &str| NAMES.iter().any(|(known, _)| *known == name);
    let ours = |name: &String| name.starts_with("LOMS_") && !name.starts_with("LOMS_TEST_");
    match names.into_iter().find(|name| ours(name) && !known(name)) {
        Some(name) => Err(ConfigError::Unknown(name)),
        None => Ok(()),
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

fn calls_per_second(set: Option<usize>) -> Result<usize, ConfigError> {
    match set.unwrap_or(CALLS_PER_SECOND) {
        calls if (1..=CALLS_PER_SECOND_MAX).contains(&calls) => Ok(calls),
        _ => Err(bad("PRODUCT_SERVICE_CALLS_PER_SECOND", "must be a whole number from 1 to 10000, such as 10")),
    }
}

fn bad(name: &'static str, why: &str) -> ConfigError {
    ConfigError::Value { name, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut Texts)) -> Result<Settings, String> {
        let mut texts = Texts::default();
        change(&mut texts);
        Settings::parse(texts).map_err(|error| error.to_string())
    }

    #[test]
    fn without_any_source_everything_has_a_value() {
        let settings = parse(|_| {}).expect("defaults");
        assert!(settings.is_embedded());
        assert_eq!(settings.payment_timeout, Duration::from_secs(600));
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn a_bad_value_is_named() {
        let errors = [
            parse(|texts| texts.listen = Some("nowhere".into())),
            parse(|texts| texts.listen = Some("0.0.0.0:80".into())),
            parse(|texts| texts.payment_timeout = Some("0s".into())),
            parse(|texts| texts.payment_timeout = Some("soon".into())),
            parse(|texts| texts.currency = Some("XXY".into())),
            parse(|texts| texts.product_service_calls_per_second = Some(0)),
        ];
        let names = [
            "LOMS_LISTEN",
            "LOMS_LISTEN",
            "LOMS_PAYMENT_TIMEOUT",
            "LOMS_PAYMENT_TIMEOUT",
            "LOMS_CURRENCY",
            "PRODUCT_SERVICE_CALLS_PER_SECOND",
        ];
        for (error, name) in errors.into_iter().zip(names) {
            let error = error.expect_err("a bad value");
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_in_the_environment_is_named() {
        let names = ["PATH", "LOMS_LISTEN", "LOMS_LISTNE"].map(str::to_owned);
        assert!(matches!(refuse_unknown(names.into_iter()), Err(ConfigError::Unknown(name)) if name == "LOMS_LISTNE"));
    }
}
