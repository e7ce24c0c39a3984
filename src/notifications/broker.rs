//! A connection to RabbitMQ, for one who publishes or consumes. It is never repaired: after any error
//! it is dropped and another one is opened.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, Either};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use secrecy::{ExposeSecret, SecretString};

use super::{resend, topology};

/// Every answer of the broker is there within this time: under an alarm it stops reading, and
/// would let everybody wait.
pub const BROKER_MS_MAX: u64 = 10_000;

/// How often it is looked whether an alarm has ended.
const ALARM_LOOK_MS: u64 = 500;

/// Why the broker did not do what was asked. Names no password.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("the broker does not answer in time")]
    TimedOut,
    #[error("the broker has an alarm, and takes nothing")]
    Alarm,
    #[error("the broker failed: {0}")]
    Failed(#[from] lapin::Error),
    /// It has no room, or no queue takes the message.
    #[error("the broker refuses messages: {0}")]
    Refused(String),
}

pub struct Broker {
    connection: Connection,
    pub channel: Channel,
}

/// A message to be published.
pub struct Outgoing {
    /// Empty for the exchange that takes a queue's name as the routing key.
    pub exchange: &'static str,
    pub routing_key: String,
    /// It is refused where no queue takes it.
    pub mandatory: bool,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Broker {
    /// Connects, declares what the program needs, and asks for confirms. Where the notifiers' queue is not the one that
    /// was there before, what was in that is to be sent again.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn connect(url: &SecretString, name: &str) -> Result<Self, BrokerError> {
        let broker = Self::open(url, name).await?;
        broker.prepare().await?;
        Ok(broker)
    }

    /// Connects, and no more.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(url: &SecretString, name: &str) -> Result<Self, BrokerError> {
        limited(async {
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            let connection = Connection::connect(url.expose_secret(), properties).await?;
            let channel = connection.create_channel().await?;
            Ok(Self { connection, channel })
        })
        .await
    }

    /// What [`Broker::connect`] does once there is a connection.
    ///
    /// # Errors
    /// [`BrokerError`]; the connection is of no further use.
    pub async fn prepare(&self) -> Result<(), BrokerError> {
        limited(async {
            topology::declare(&self.channel).await?;
            self.channel.confirm_select(ConfirmSelectOptions::default()).await?;
            // Only now: a queue that is deleted and made anew between a look and its declaration looks as if it had stayed.
            if !topology::is_marked(&self.connection.create_channel().await?).await? {
                self.publish_without_limit(vec![resend::first_mark()]).await?;
                topology::declare_marked(&self.channel).await?;
            }
            // Whoever declared it may have died before this.
            Ok(topology::bind_marked(&self.channel).await?)
        })
        .await
    }

    /// Publishes the messages in their order, and waits until the broker has taken responsibility
    /// for every one. After an error some of them may be there.
    ///
    /// # Errors
    /// [`BrokerError`]; the connection is of no further use.
    pub async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), BrokerError> {
        limited(self.publish_without_limit(messages)).await
    }

    /// As [`Broker::publish`], for whoever limits the time.
    ///
    /// # Errors
    /// [`BrokerError`]; the connection is of no further use.
    pub async fn publish_without_limit(&self, messages: Vec<Outgoing>) -> Result<(), BrokerError> {
        let mut sending = Vec::with_capacity(messages.len());
        for message in messages {
            let mut sent = Box::pin(self.send(message));
            // Its first poll puts it behind the others; it ends when the socket has taken it. Whoever waits for that
            // writes, and wakes two threads, for each message.
            sending.push(match sent.as_mut().now_or_never() {
                Some(confirm) => Either::Left(future::ready(confirm)),
                None => Either::Right(sent),
            });
        }
        for sent in sending {
            match sent.await?.await? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                    return Err(BrokerError::Refused(returned.reply_text.to_string()));
                }
                Confirmation::Nack(None) => return Err(BrokerError::Refused("a queue is full".to_owned())),
                Confirmation::NotRequested => return Err(BrokerError::Refused("it confirms nothing".to_owned())),
            }
        }
        Ok(())
    }

    /// As [`limited`], but time under an alarm does not count: the broker reads nothing then, and whoever gave up would have
    /// all that it holds delivered again when the alarm ends, beside what it has sent.
    ///
    /// # Errors
    /// [`BrokerError`]; the connection is of no further use.
    pub async fn after_alarms<T>(
        &self,
        answer: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let mut answer = std::pin::pin!(answer);
        loop {
            match limited(&mut answer).await {
                Err(BrokerError::TimedOut) if self.is_blocked() => {}
                answer => return answer,
            }
        }
    }

    /// Whether the broker has said that under an alarm it reads nothing of this connection.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        let status = self.connection.status();
        status.connected() && status.blocked()
    }

    /// Returns at the end of an alarm. Until then the broker does not read that the connection is closed, and each further
    /// one would stay open beside it.
    pub async fn unblocked(&self) {
        while self.is_blocked() {
            tokio::time::sleep(Duration::from_millis(ALARM_LOOK_MS)).await;
        }
    }

    async fn send(&self, message: Outgoing) -> Result<PublisherConfirm, lapin::Error> {
        let Outgoing { exchange, routing_key, mandatory, properties, body } = message;
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        self.channel.basic_publish(exchange.into(), routing_key.into(), options, &body, properties).await
    }

    pub async fn close(self) {
        let closed = limited(async { Ok(self.connection.close(200, "OK".into()).await?) }).await;
        if let Err(error) = closed {
            tracing::debug!(%error, "the broker's connection was not closed in good order");
        }
    }
}

/// Whether it can be one of a broker. What is wrong with it is not told: the password may stand there.
#[must_use]
pub fn is_address(url: &SecretString) -> bool {
    url.expose_secret().parse::<AMQPUri>().is_ok()
}

/// Ends a wait that the broker does not end in time.
pub async fn limited<T>(answer: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    let limit = Duration::from_millis(BROKER_MS_MAX);
    tokio::time::timeout(limit, answer).await.unwrap_or(Err(BrokerError::TimedOut))
}
