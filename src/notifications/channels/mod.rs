//! The ways in which a user can be told.

use async_trait::async_trait;

use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::OrderEvent;

mod log;

pub use crate::domain::contact::{Contact, Locale};
pub use log::Log;

/// Which channels there are, beside the log.
#[derive(Debug, Clone, Default)]
pub struct Settings {}

impl Settings {
    /// # Errors
    /// Where a channel cannot be used as it is set.
    pub fn open(&self, _: &Arc<dyn Clock>) -> anyhow::Result<Vec<Box<dyn Channel>>> {
        Ok(vec![Box::new(Log)])
    }
}

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

    /// Tells the user of the event, within a limited time.
    ///
    /// # Errors
    /// [`ChannelError`].
    async fn send(&self, event: &OrderEvent, contact: Option<&Contact>) -> Result<Delivery, ChannelError>;
}
