//! What becomes of status changes outside: messages to RabbitMQ, and notifications to users.
//!
//! The outbox relay hands committed events to an [`Outlet`]: the [`publisher`], or without a broker
//! the [`in_process`] notifier. Behind the broker, [`consumer`]s hand them to the same [`notifier`].
//! Knows no HTTP API, no actors and no SQL.

pub mod asyncapi;
pub mod broker;
pub mod channels;
pub mod consumer;
pub mod in_process;
pub mod message;
pub mod notifier;
pub mod parking;
pub mod publisher;
pub mod resend;
pub mod topology;

use async_trait::async_trait;

use crate::domain::{Offer, OrderEvent};
use crate::store::StoreError;

use broker::BrokerError;

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
}
