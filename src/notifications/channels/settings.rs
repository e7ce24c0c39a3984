//! Which channels there are, beside the log.

use std::sync::Arc;

use iso_currency::Currency;
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::Clock;

use super::{Channel, Log, email, webhook};

/// A channel is there where its address is set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Its path may be as secret as a password.
    pub webhook_url: Option<SecretString>,
    /// `whsec_…`, separated by spaces: several while they are changed.
    pub webhook_secrets: SecretString,
    pub webhook_private_addresses: bool,
    /// Holds the password at the mail server.
    pub smtp_url: Option<SecretString>,
    pub mail_from: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("LOMS_WEBHOOK_URL, LOMS_WEBHOOK_SECRETS: {0}")]
    Webhook(#[from] webhook::SettingsError),
    #[error("LOMS_SMTP_URL, LOMS_MAIL_FROM: {0}")]
    Mail(#[from] email::SettingsError),
    #[error("the HTTP client of the webhook cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    #[error("a letter's template is not valid: {0}")]
    Template(#[from] minijinja::Error),
}

impl Settings {
    /// # Errors
    /// [`SettingsError`], naming what is wrong and no secret.
    pub fn open(&self, currency: Currency, clock: &Arc<dyn Clock>) -> Result<Vec<Box<dyn Channel>>, SettingsError> {
        let mut channels: Vec<Box<dyn Channel>> = vec![Box::new(Log)];
        if let Some(url) = &self.webhook_url {
            let settings =
                webhook::Settings::parse(url.expose_secret(), &self.webhook_secrets, self.webhook_private_addresses)?;
            channels.push(Box::new(webhook::Webhook::new(settings, currency, Arc::clone(clock))?));
        }
        if let Some(url) = &self.smtp_url {
            let settings = email::Settings::parse(url, &self.mail_from)?;
            channels.push(Box::new(email::Mailer::new(settings, currency)?));
        }
        Ok(channels)
    }
}
