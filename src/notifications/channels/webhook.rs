//! Tells another program over HTTP: the event as it is on the wire, signed as Standard Webhooks
//! has it (<https://www.standardwebhooks.com>).
//!
//! Of the answer only the status counts. Its body is not read, so that none is too long.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iso_currency::Currency;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

use super::{Channel, ChannelError, Contact, Delivery};
use crate::clock::Clock;
use crate::domain::OrderEvent;
use crate::notifications::message;

use addresses::PublicOnly;

mod addresses;
mod secret;
mod settings;
#[cfg(test)]
mod tests;

pub use secret::InvalidSecret;
pub use settings::{Settings, SettingsError};

/// One notification, from looking up the name to the head of the answer.
pub const REQUEST_MS_MAX: u64 = 10_000;

pub struct Webhook {
    http: reqwest::Client,
    settings: Settings,
    currency: Currency,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// # Errors
    /// Where the HTTP client cannot be set up, as without any trusted certificates.
    pub fn new(settings: Settings, currency: Currency, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        Self::with_limit(settings, currency, clock, Duration::from_millis(REQUEST_MS_MAX))
    }

    fn with_limit(
        settings: Settings,
        currency: Currency,
        clock: Arc<dyn Clock>,
        request_max: Duration,
    ) -> Result<Self, reqwest::Error> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("loms/", env!("CARGO_PKG_VERSION")))
            // A redirect would lead the request to wherever the answer says.
            .redirect(Policy::none())
            // A proxy would look the name up itself, past the check of its addresses.
            .no_proxy()
            .timeout(request_max);
        if !settings.allows_private_addresses() {
            http = http.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Self { http: http.build()?, settings, currency, clock })
    }
}

#[async_trait]
impl Channel for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn send(&self, event: &OrderEvent, _: Option<&Contact>) -> Result<Delivery, ChannelError> {
        let id = event.id.to_string();
        // The moment of this attempt: a receiver refuses what was signed too long ago.
        let timestamp = self.clock.now().timestamp();
        let body = message::write(event, self.currency.code());
        let request = self
            .http
            .post(self.settings.url().clone())
            .header(CONTENT_TYPE, message::CONTENT_TYPE)
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.settings.signatures(&id, timestamp, &body))
            .body(body);
        match request.send().await {
            Ok(answer) => outcome(answer.status()),
            Err(error) => Err(ChannelError::Later(cause(&error))),
        }
    }
}

fn outcome(status: StatusCode) -> Result<Delivery, ChannelError> {
    let number = status.as_u16();
    match number {
        200..=299 => Ok(Delivery::Sent),
        // The receiver has moved and our setting has not. An operator can fix that, so the event is
        // kept for them.
        300..=399 => {
            Err(ChannelError::Later(format!("the receiver redirects with status {number}, which is not followed")))
        }
        // It is gone for good (so says Standard Webhooks); or it does not take this body, which is the same each time.
        410 | 413 | 422 => Err(ChannelError::Never(format!("the receiver refuses the event with status {number}"))),
        // Others may be a gateway's, which answers 401 or 404 while the receiver behind it is replaced.
        _ => Err(ChannelError::Later(format!("the receiver answered with status {number}"))),
    }
}

/// The innermost cause: the outer ones say only that a request failed, or hold the address, which
/// may hold a token.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "the receiver did not answer in time".to_owned();
    }
    let Some(mut innermost) = error.source() else {
        return "the request to the receiver failed".to_owned();
    };
    while let Some(deeper) = innermost.source() {
        innermost = deeper;
    }
    format!("the receiver cannot be reached: {innermost}")
}
