//! An independent consumer: a queue of its own, bound to the exchange to which the program
//! publishes, and read by nobody but a test.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use loms::notifications::{parking, topology};
use serde_json::Value;

use super::private_rabbitmq::PrivateRabbit;

const QUEUE: &str = "witness";
/// A message that is in the queue comes much sooner.
const SILENCE: Duration = Duration::from_secs(3);
/// A program is taken for dead after fifteen seconds, and what it left is looked for every five.
const SILENCE_OF_THE_DEAD: Duration = Duration::from_secs(60);
const PREFETCH_MESSAGES: u16 = 500;

/// What the witness has got, in its order.
#[derive(Default)]
pub struct Testimony {
    pub events: Vec<Value>,
}

pub async fn channel(broker: &PrivateRabbit) -> (Connection, Channel) {
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// From here on the witness gets what is published; and every queue survives a kill of the broker.
pub async fn call(broker: &mut PrivateRabbit) {
    let (_connection, channel) = channel(broker).await;
    topology::declare(&channel).await.expect("declared");
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), quorum).await.expect("declared");
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(QUEUE.into(), topology::EXCHANGE.into(), "#".into(), options, FieldTable::default());
    bound.await.expect("bound");
    let retry_queues = topology::RETRY_QUEUES.iter().map(|queue| queue.name);
    for queue in [QUEUE, topology::QUEUE, topology::PARKING_QUEUE].into_iter().chain(retry_queues) {
        broker.wait_until_on_disk(queue);
    }
}

/// Takes what there is, until nothing comes any more.
pub async fn hear(broker: &PrivateRabbit) -> Testimony {
    hear_all(broker, 0).await
}

/// The same, but waits for so many different events: what a killed program has left is published by
/// another one, once it is known to be dead.
pub async fn hear_all(broker: &PrivateRabbit, events_expected: usize) -> Testimony {
    let (_connection, channel) = channel(broker).await;
    channel.basic_qos(PREFETCH_MESSAGES, BasicQosOptions::default()).await.expect("limited");
    let consumer =
        channel.basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = consumer.await.expect("consumed");
    let (mut events, mut bodies) = (Vec::new(), HashSet::new());
    loop {
        let silence = if bodies.len() < events_expected { SILENCE_OF_THE_DEAD } else { SILENCE };
        let Ok(Some(message)) = tokio::time::timeout(silence, consumer.next()).await else { break };
        let message = message.expect("a message");
        events.push(serde_json::from_slice(&message.data).expect("JSON"));
        message.acker.ack(BasicAckOptions::default()).await.expect("acknowledged");
        bodies.insert(message.data);
    }
    Testimony { events }
}

/// Puts a message into a queue, and waits until the broker has it.
pub async fn publish(broker: &PrivateRabbit, queue: &str, body: &[u8], properties: BasicProperties) {
    let (_connection, channel) = channel(broker).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let sent = channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties);
    sent.await.expect("published").await.expect("taken");
}

/// How many messages lie in a queue, of those that no consumer holds. (What `rabbitmqctl` tells of a
/// quorum queue is some seconds old.)
pub async fn waiting_in(broker: &PrivateRabbit, queue: &str) -> u32 {
    let (_connection, channel) = channel(broker).await;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("it is there");
    queue.message_count()
}

/// Why messages are parked, in the order in which they were.
pub async fn parked(broker: &PrivateRabbit) -> Vec<String> {
    let parked = parking::redrive(&broker.url().into(), &[], true).await.expect("looked at");
    parked.into_iter().map(|parked| parked.reason).collect()
}

impl Testimony {
    pub fn ids(&self) -> BTreeSet<&str> {
        self.events.iter().map(|event| event["id"].as_str().expect("an id")).collect()
    }

    /// The versions of each order, by the first arrival of each event.
    ///
    /// # Panics
    /// Where an order's events do not begin with the first version, leave one out, or come in
    /// another order.
    pub fn orders_in_order(&self) -> HashMap<i64, i64> {
        let mut met = BTreeSet::new();
        let mut versions: HashMap<i64, i64> = HashMap::new();
        for event in &self.events {
            assert_eq!(event["specversion"], "1.0");
            if !met.insert(event["id"].as_str().expect("an id")) {
                continue;
            }
            let number = |field: &str| event["data"][field].as_i64().expect("a number");
            let last = versions.entry(number("order_id")).or_default();
            assert_eq!(number("version"), *last + 1, "order {} after version {last}", number("order_id"));
            *last += 1;
        }
        versions
    }
}
