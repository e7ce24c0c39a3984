//! Writes to the user by e-mail, over SMTP.
//!
//! A mail can be sent twice where a server takes it and the answer is lost; both then have the same
//! `Message-ID` and the same text, by which a mailbox knows them for one. Each mail has a connection
//! of its own.

use std::time::Duration;

use async_trait::async_trait;
use iso_currency::Currency;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp;
use lettre::transport::smtp::response::Category;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use tokio::time::timeout;

use super::{Channel, ChannelError, Contact, Delivery, Email};
use crate::domain::OrderEvent;

use letter::{Letter, Letters};
use one_line::one_line;

mod amount;
mod letter;
mod one_line;
mod settings;
#[cfg(test)]
mod tests;

pub(super) use settings::parse_sender;
pub use settings::{Settings, SettingsError};

/// One mail, from the connection to the server's last answer. Servers may let a client wait to keep
/// unwanted mail away, so this is longer than a webhook has.
pub const SEND_MS_MAX: u64 = 30_000;
/// Of what a server answers, so much is kept for the operator.
const ANSWER_CHARS_MAX: usize = 300;

pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    letters: Letters,
    send_max: Duration,
}

impl Mailer {
    /// # Errors
    /// Where a template is not valid, which the tests rule out for those of the program.
    pub fn new(settings: Settings, currency: Currency) -> Result<Self, minijinja::Error> {
        Self::with_limit(settings, currency, Duration::from_millis(SEND_MS_MAX))
    }

    fn with_limit(settings: Settings, currency: Currency, send_max: Duration) -> Result<Self, minijinja::Error> {
        let (server, from) = settings.into_parts();
        let transport = server.timeout(Some(send_max)).build();
        Ok(Self { transport, from, letters: Letters::new(currency)?, send_max })
    }

    fn message(&self, event: &OrderEvent, to: &Email, letter: Letter) -> Result<Message, lettre::error::Error> {
        // The same for each attempt at one event, and another in each installation that sends in the
        // name of the same domain.
        let moment_us = event.at.timestamp_micros();
        let id = format!("<{}.{}.{moment_us}@{}>", event.id, event.order, self.from.email.domain());
        // Asks mailboxes not to answer that their owner is away (RFC 3834).
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.address().clone()))
            .subject(letter.subject)
            .date(event.at.into())
            .message_id(Some(id))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .singlepart(SinglePart::plain(letter.text))
    }
}

#[async_trait]
impl Channel for Mailer {
    fn name(&self) -> &'static str {
        "email"
    }

    fn needs_contact(&self) -> bool {
        true
    }

    async fn send(&self, event: &OrderEvent, contact: Option<&Contact>) -> Result<Delivery, ChannelError> {
        let Some(contact) = contact else {
            return Ok(Delivery::Skipped("no contact"));
        };
        let letter = self.letters.write(event, contact.locale);
        let Some(letter) = letter.map_err(|error| ChannelError::Never(format!("no letter can be written: {error}")))?
        else {
            return Ok(Delivery::Skipped("no mail for this status"));
        };
        let message = self.message(event, &contact.email, letter);
        let message = message.map_err(|error| ChannelError::Never(format!("no mail can be made: {error}")))?;
        match timeout(self.send_max, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(Delivery::Sent),
            Ok(Err(error)) => Err(refusal(&error)),
            Err(_) => Err(ChannelError::Later("the mail server did not answer in time".to_owned())),
        }
    }
}

fn refusal(error: &smtp::Error) -> ChannelError {
    // 530 to 539 speak of our name and password at the server (RFC 4954), which an operator can set
    // right; they say nothing of the mail.
    let is_about_the_mail = error.status().is_none_or(|code| code.category != Category::Unspecified3);
    let text = one_line(&format!("the mail server: {error}"), ANSWER_CHARS_MAX);
    if error.is_permanent() && is_about_the_mail { ChannelError::Never(text) } else { ChannelError::Later(text) }
}
