//! The outlet towards RabbitMQ: publishes events with confirms, in their order.

use async_trait::async_trait;
use lapin::BasicProperties;
use secrecy::SecretString;

use crate::domain::{Offer, OrderEvent};

use super::broker::{Broker, BrokerError, Outgoing};
use super::notifier::is_told;
use super::{Outlet, OutletError, message, topology};

/// Delivery mode 2: the message is kept on disk.
pub(super) const PERSISTENT: u8 = 2;

pub struct Publisher {
    url: SecretString,
    /// ISO 4217.
    currency: String,
    broker: Option<Broker>,
    /// A connection that failed under an alarm: the broker does not even read that it is closed. Each further one would stay
    /// open beside it, until the program has no sockets left.
    blocked: Option<Broker>,
}

impl Publisher {
    #[must_use]
    pub fn new(url: SecretString, currency: String) -> Self {
        Self { url, currency, broker: None, blocked: None }
    }

    async fn publish(&mut self, events: &[OrderEvent]) -> Result<(), BrokerError> {
        if self.blocked.as_ref().is_some_and(Broker::is_blocked) {
            return Err(BrokerError::Alarm);
        }
        self.blocked = None;
        let (broker, is_prepared) = match self.broker.take() {
            Some(broker) => (broker, true),
            None => (Broker::open(&self.url, "loms outbox relay").await?, false),
        };
        let published = async {
            if !is_prepared {
                broker.prepare().await?;
            }
            let messages = events.iter().map(|event| message(event, &self.currency)).collect();
            broker.publish(messages).await
        };
        // Kept only after a success: a connection that failed once is not trusted again.
        let published = published.await;
        match &published {
            Ok(()) => self.broker = Some(broker),
            Err(_) => self.blocked = Some(broker).filter(Broker::is_blocked),
        }
        published
    }
}

/// The event as it is published.
pub(super) fn message(event: &OrderEvent, currency: &str) -> Outgoing {
    let properties = BasicProperties::default()
        .with_content_type(message::CONTENT_TYPE.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(event.id.to_string().into())
        .with_type(message::type_of(event).into());
    Outgoing {
        exchange: topology::EXCHANGE,
        routing_key: format!("{}{}", topology::ROUTING_PREFIX, event.name()),
        // For what users are told of there is a queue.
        mandatory: is_told(event),
        properties,
        body: message::write(event, currency),
    }
}

#[async_trait]
impl Outlet for Publisher {
    async fn deliver(&mut self, events: &[OrderEvent], _: Offer) -> Result<(), OutletError> {
        self.publish(events).await.map_err(OutletError::Broker)
    }

    async fn close(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.close().await;
        }
    }
}
