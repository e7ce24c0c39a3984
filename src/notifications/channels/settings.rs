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
    /// Whether they can be used, before anything is done.
    ///
    /// # Errors
    /// As [`Settings::open`].
    pub fn check(&self) -> Result<(), SettingsError> {
        self.webhook()?;
        self.mail()?;
        Ok(())
    }

    /// # Errors
    /// [`SettingsError`], naming what is wrong and no secret.
    pub fn open(&self, currency: Currency, clock: &Arc<dyn Clock>) -> Result<Vec<Box<dyn Channel>>, SettingsError> {
        let mut channels: Vec<Box<dyn Channel>> = vec![Box::new(Log)];
        if let Some(settings) = self.webhook()? {
            channels.push(Box::new(webhook::Webhook::new(settings, currency, Arc::clone(clock))?));
        }
        if let Some(settings) = self.mail()? {
            channels.push(Box::new(email::Mailer::new(settings, currency)?));
        }
        Ok(channels)
    }

    fn webhook(&self) -> Result<Option<webhook::Settings>, SettingsError> {
        let parse = |url: &SecretString| {
            webhook::Settings::parse(url.expose_secret(), &self.webhook_secrets, self.webhook_private_addresses)
        };
        Ok(self.webhook_url.as_ref().map(parse).transpose()?)
    }

    fn mail(&self) -> Result<Option<email::Settings>, SettingsError> {
        if self.smtp_url.is_none() && !self.mail_from.is_empty() {
            // It will be used one day.
            email::parse_sender(&self.mail_from)?;
        }
        Ok(self.smtp_url.as_ref().map(|url| email::Settings::parse(url, &self.mail_from)).transpose()?)
    }
}
