//! Events through RabbitMQ: each arrives once in effect and in order, whatever dies on the way.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use loms::notifications::{parking, topology};
use serde_json::Value;

use crate::support::client::{Client, eventually};
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::shop::Shop;

const PATIENCE: Duration = Duration::from_secs(60);
/// Bound to the same exchange as the notifiers' queue, and read by nobody but this test.
const WITNESS: &str = "witness";
const ORDERS: usize = 100;

/// The notifier as a process, killed with this value.
struct Notifier {
    process: Child,
}

impl Notifier {
    fn start(shop: &Shop, broker: &PrivateRabbit) -> Self {
        let process = Command::new(env!("CARGO_BIN_EXE_loms"))
            .arg("notifications")
            .envs([("DATABASE_URL", shop.database_url()), ("AMQP_URL", &broker.url())])
            .current_dir(shop.program.folder())
            .stdin(Stdio::null())
            .spawn();
        Self { process: process.expect("the notifier starts") }
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn channel(broker: &PrivateRabbit) -> (Connection, Channel) {
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// From here on the witness gets what is published.
async fn call_witness(broker: &PrivateRabbit) {
    let (_connection, channel) = channel(broker).await;
    topology::declare(&channel).await.expect("declared");
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
    channel.queue_declare(WITNESS.into(), QueueDeclareOptions::durable(), quorum).await.expect("declared");
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(WITNESS.into(), "loms.orders".into(), "#".into(), options, FieldTable::default());
    bound.await.expect("bound");
}

/// What the witness has got, in its order.
async fn seen(broker: &PrivateRabbit) -> Vec<Value> {
    let (_connection, channel) = channel(broker).await;
    let mut seen = Vec::new();
    while let Some(message) = channel.basic_get(WITNESS.into(), BasicGetOptions::default()).await.expect("read") {
        seen.push(serde_json::from_slice(&message.delivery.data).expect("JSON"));
        message.delivery.acker.ack(BasicAckOptions::default()).await.expect("acknowledged");
    }
    seen
}

/// Why messages are parked, in the order in which they were.
async fn parked(broker: &PrivateRabbit) -> Vec<String> {
    let parked = parking::redrive(&broker.url().into(), &[], true).await.expect("looked at");
    parked.into_iter().map(|parked| parked.reason).collect()
}

async fn wait_until(what: &str, look: impl AsyncFn() -> bool) {
    assert!(eventually(PATIENCE, || look()).await, "not in time: {what}");
}

async fn told(client: &Client, query: &str) -> Vec<Value> {
    let listed = client.get(&format!("/notifications?limit=500{query}")).await;
    listed.body["notifications"].as_array().unwrap_or_else(|| panic!("{}", listed.body)).clone()
}

async fn order_and_pay(shop: &Shop, user: &str) {
    let order = shop.order(user, &[("PEN", 1)]).await;
    let payed = shop.client.post(&format!("/orders/{}/pay", order["order_id"]), &Value::Null).await;
    assert_eq!(payed.status, 200, "{}", payed.body);
}

/// First occurrences come in the order of the versions; each of the three statuses of each order is there.
fn assert_complete_and_in_order(events: &[Value]) {
    let mut ids = HashSet::new();
    let mut versions: HashMap<i64, Vec<i64>> = HashMap::new();
    for event in events {
        assert_eq!(event["specversion"], "1.0");
        if ids.insert(event["id"].as_str().expect("an id").to_owned()) {
            let data = &event["data"];
            let order = data["order_id"].as_i64().expect("an order");
            versions.entry(order).or_default().push(data["version"].as_i64().expect("a version"));
        }
    }
    assert_eq!(versions.len(), ORDERS);
    assert!(versions.values().all(|versions| *versions == [1, 2, 3]), "{versions:?}");
}

#[tokio::test]
async fn every_event_arrives_once_though_broker_notifier_and_program_are_killed() {
    let Some(mut broker) = PrivateRabbit::start() else { return };
    call_witness(&broker).await;
    let retry_queues = topology::RETRY_QUEUES.iter().map(|queue| queue.name);
    for queue in [WITNESS, topology::QUEUE, topology::PARKING_QUEUE].into_iter().chain(retry_queues) {
        broker.wait_until_on_disk(queue);
    }
    let mut shop = Shop::with_broker(&broker.url());
    let mut notifier = Notifier::start(&shop, &broker);

    for number in 0..ORDERS {
        match number {
            20 => broker.kill(),
            50 => {
                let ready = shop.client.get("/readyz").await;
                assert_eq!((ready.status, &ready.body["status"]), (200, &Value::from("degraded")));
                broker.start_again();
                shop.client = Client::new(shop.program.url());
            }
            60 => {
                notifier.kill();
                notifier = Notifier::start(&shop, &broker);
            }
            80 => {
                shop.program.kill();
                shop.program.restart();
                shop.client = Client::new(shop.program.url());
            }
            _ => {}
        }
        order_and_pay(&shop, &format!("user-{number}")).await;
    }
    for number in 0..ORDERS {
        let user = format!("&user=user-{number}");
        wait_until("each user is told", async || told(&shop.client, &user).await.len() == 2).await;
        let told = told(&shop.client, &user).await;
        assert!(told.iter().all(|one| one["outcome"] == "sent"), "{told:?}");
    }
    wait_until("nothing waits", async || shop.client.get("/readyz").await.body["events_waiting"] == 0).await;
    assert_complete_and_in_order(&seen(&broker).await);
    assert_eq!(parked(&broker).await, Vec::<String>::new());

    // What is no event is parked, and the queue behind it moves on.
    {
        let (_connection, channel) = channel(&broker).await;
        for poison in [&b"poison"[..], b"{\"dataschema\": \"urn:loms:order-event:9\"}"] {
            let options = BasicPublishOptions::default();
            let sent =
                channel.basic_publish("".into(), "notifications".into(), options, poison, BasicProperties::default());
            sent.await.expect("published").await.expect("taken");
        }
    }
    order_and_pay(&shop, "last").await;
    wait_until("the next user is told", async || told(&shop.client, "&user=last").await.len() == 2).await;
    let reasons = parked(&broker).await;
    assert!(reasons.len() == 2 && reasons[0].contains("not an event in JSON"), "{reasons:?}");
    assert!(reasons[1].contains("version urn:loms:order-event:9"), "{reasons:?}");
    shop.assert_books_are_right();
}
