//! What becomes of status changes outside: messages to RabbitMQ, and notifications to users.
//!
//! The outbox relay hands committed events to an [`Outlet`]: the [`publisher`], or without a broker
//! the [`in_process`] notifier. Behind the broker, [`consumer`]s hand them to the same [`notifier`].
//! Knows no HTTP API, no actors and no SQL.

pub mod asyncapi;
pub mod broker;
pub mod channels;
mod circuit_breaker;
pub mod consumer;
pub mod in_process;
mod lease;
pub mod message;
pub mod notifier;
pub mod parking;
pub mod publisher;
pub mod resend;
pub mod topology;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{Offer, OrderEvent};
use crate::store::StoreError;

use broker::BrokerError;

/// Pause between two attempts to write down what was done, rising from the first to the second: soon enough for nobody
/// else to do it again.
const INSIST_PAUSE_MS: (u64, u64) = (100, 1_000);

/// Where committed events go.
#[async_trait]
pub trait Outlet: Send {
    /// Takes responsibility for all of the events, in their order. After an error some of them may
    /// be taken; all of them will be offered again.
    ///
    /// # Errors
    /// [`OutletError`].
    async fn deliver(&mut self, events: &[OrderEvent], offer: Offer) -> Result<(), OutletError>;

    /// Ends connections in good order.
    async fn close(&mut self);
}

/// Why events were not taken.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    #[error(transparent)]
    Broker(BrokerError),
    #[error(transparent)]
    Store(StoreError),
    #[error("another process has some of the events in hand, or this one stops")]
    InHand,
}

/// Asks until the database answers, without an end: whoever was told must not be told again, and what is given back to
/// the broker counts against it there, so that an outage of some seconds would park it.
async fn insist<T, A: Future<Output = Result<T, StoreError>>>(mut ask: impl FnMut() -> A) -> T {
    let mut pause_ms = INSIST_PAUSE_MS.0;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => tracing::warn!(%error, "the database does not answer; trying again"),
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = INSIST_PAUSE_MS.1.min(2 * pause_ms);
    }
}
