//! The ways in which a user can be told.

use async_trait::async_trait;

use crate::domain::OrderEvent;

pub mod email;
mod log;
mod settings;
#[cfg(test)]
mod tests;
pub mod webhook;

pub use crate::domain::contact::{Contact, Email, Locale};
pub use log::Log;
pub use settings::{Settings, SettingsError};

/// What became of an attempt that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Sent,
    /// There is nobody to send it to, and why.
    Skipped(&'static str),
}

/// Why a notification was not sent. The text is for the operator, and names no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// May succeed later: the other side is away, slow, or says so.
    #[error("{0}")]
    Later(String),
    /// Will never succeed as it is.
    #[error("{0}")]
    Never(String),
}

#[async_trait]
pub trait Channel: Send + Sync {
    /// As it stands in the `notifications` table.
    fn name(&self) -> &'static str;

    /// Whether it sends to what the user has said of how to be reached.
    fn needs_contact(&self) -> bool {
        false
    }

    /// Whether it waits for nobody outside of the program.
    fn is_local(&self) -> bool {
        false
    }

    /// Tells the user of the event, within a limited time.
    ///
    /// # Errors
    /// [`ChannelError`].
    async fn send(&self, event: &OrderEvent, contact: Option<&Contact>) -> Result<Delivery, ChannelError>;
}
