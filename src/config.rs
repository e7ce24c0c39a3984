//! The settings: `config.yaml`, then the environment (and `.env`), then flags; later ones win.
//! An unknown key or a bad value is an error that names it.

mod dot_env;
mod flags;
mod values;

use std::env::VarError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, File, FileFormat};
use iso_currency::Currency;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::notifications::channels;
use values::bad;

pub use dot_env::read_dot_env;
pub use flags::{BaseFlags, Flags, ServeFlags, WITHOUT_FLAG};
pub use values::payment_timeout;

/// Read where it exists, unless another file is named.
const FILE: &str = "config.yaml";
/// What is logged where nothing else is set.
pub const LOG: &str = "info";
/// The same of a replay, whose progress is drawn among the lines.
pub const LOG_OF_REPLAY: &str = "warn";
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

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Source(#[from] config::ConfigError),
    #[error("{} cannot be read", file.display())]
    DotEnv { file: PathBuf, source: std::io::Error },
    /// What stands there may be a secret.
    #[error("{}: line {line} is not like NAME=value or NAME=\"a value\"", file.display())]
    DotEnvLine { file: PathBuf, line: usize },
    #[error("there is no setting {0}")]
    Unknown(String),
    #[error("{name} {why}")]
    Value { name: &'static str, why: String },
    #[error(transparent)]
    Channels(#[from] channels::SettingsError),
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

impl Settings {
    /// Reads the file, the environment and the flags. `log` is what is logged where none of them says.
    ///
    /// # Errors
    /// [`ConfigError`], naming what is wrong.
    pub fn load(flags: &ServeFlags, log: &str) -> Result<Self, ConfigError> {
        refuse_unknown(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
        let path = flags.flags.base.config.as_deref();
        // One that is there and cannot be read is not passed over.
        let is_required = path.is_some() || Path::new(FILE).exists();
        let file = File::from(path.unwrap_or(Path::new(FILE))).format(FileFormat::Yaml).required(is_required);
        let mut builder = Config::builder().set_default("log", log)?.add_source(file);
        for (name, key) in NAMES {
            let value = match std::env::var(name) {
                Err(VarError::NotUnicode(_)) => return Err(bad(name, "is not UTF-8")),
                value => value.ok().filter(|value| !value.is_empty()),
            };
            builder = builder.set_override_option(key, value)?;
        }
        for (key, value) in flags.given() {
            builder = builder.set_override_option(key, value)?;
        }
        Self::parse(builder.build()?.try_deserialize()?)
    }

    fn parse(texts: Texts) -> Result<Self, ConfigError> {
        let database_url = texts.database_url.unwrap_or_else(|| "sqlite://data/loms.db".to_owned());
        let channels = channels::Settings {
            webhook_url: texts.webhook_url.map(Into::into),
            webhook_secrets: texts.webhook_secrets.unwrap_or_default().into(),
            webhook_private_addresses: texts.webhook_private_addresses.unwrap_or_default(),
            smtp_url: texts.smtp_url.map(Into::into),
            mail_from: texts.mail_from.unwrap_or_default(),
        };
        channels.check()?;
        Ok(Self {
            database_url: database_url.into(),
            amqp_url: texts.amqp_url.map(values::amqp_url).transpose()?,
            channels,
            product_service_url: texts.product_service_url,
            product_service_token: texts.product_service_token.unwrap_or_default().into(),
            product_service_calls_per_second: values::calls_per_second(texts.product_service_calls_per_second)?,
            listen: values::listen(texts.listen.as_deref().unwrap_or("127.0.0.1:8080"))?,
            catalog: texts.catalog.map(PathBuf::from),
            stock: texts.stock.map(PathBuf::from),
            payment_timeout: payment_timeout(texts.payment_timeout.as_deref().unwrap_or("10m"))?,
            currency: values::currency(texts.currency.as_deref().unwrap_or("RUB"))?,
            log: values::log_filter(texts.log.as_deref().unwrap_or(LOG))?,
        })
    }

    /// Whether the database is the embedded one.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.database_url.expose_secret().starts_with("sqlite:")
    }
}

fn refuse_unknown(names: impl Iterator<Item = String>) -> Result<(), ConfigError> {
    let known = |name: &str| NAMES.iter().any(|(known, _)| *known == name);
    let ours = |name: &str| name.starts_with("LOMS_") && !name.starts_with("LOMS_TEST_") && !is_service_link(name);
    match names.into_iter().find(|name| ours(name) && !known(name)) {
        Some(name) => Err(ConfigError::Unknown(name)),
        None => Ok(()),
    }
}

/// What Kubernetes tells each container of a Service that is named `loms`.
fn is_service_link(name: &str) -> bool {
    name == "LOMS_PORT" || name.starts_with("LOMS_PORT_") || name.starts_with("LOMS_SERVICE_")
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
            parse(|texts| texts.amqp_url = Some("foo".into())),
            parse(|texts| texts.log = Some("nonsense".into())),
            parse(|texts| texts.webhook_url = Some("https://shop.example/".into())),
            parse(|texts| texts.smtp_url = Some("smtp://mail".into())),
            parse(|texts| texts.mail_from = Some("nobody".into())),
        ];
        let names = [
            "LOMS_LISTEN",
            "LOMS_LISTEN",
            "LOMS_PAYMENT_TIMEOUT",
            "LOMS_PAYMENT_TIMEOUT",
            "LOMS_CURRENCY",
            "PRODUCT_SERVICE_CALLS_PER_SECOND",
            "AMQP_URL",
            "LOMS_LOG",
            "LOMS_WEBHOOK_URL, LOMS_WEBHOOK_SECRETS",
            "LOMS_SMTP_URL, LOMS_MAIL_FROM",
            "LOMS_SMTP_URL, LOMS_MAIL_FROM",
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
        for name in ["LOMS_PORTS", "LOMS_SERVICE", "LOMS_SERVICES_HOST", "LOMS_HOST"] {
            assert!(refuse_unknown([name.to_owned()].into_iter()).is_err(), "{name} was passed over");
        }
    }

    #[test]
    fn what_kubernetes_tells_of_a_service_of_our_name_is_passed_over() {
        let names = [
            "LOMS_SERVICE_HOST",
            "LOMS_SERVICE_PORT",
            "LOMS_SERVICE_PORT_HTTP",
            "LOMS_PORT",
            "LOMS_PORT_8080_TCP",
            "LOMS_PORT_8080_TCP_PROTO",
            "LOMS_PORT_8080_TCP_PORT",
            "LOMS_PORT_8080_TCP_ADDR",
        ];
        let refused = refuse_unknown(names.map(str::to_owned).into_iter());
        assert!(refused.is_ok(), "{refused:?}");
    }
}
