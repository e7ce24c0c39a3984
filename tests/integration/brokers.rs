//! Private RabbitMQ nodes keep what tests of events stand on: what was confirmed survives, and no
//! node knows of another.

use std::future::Future;
use std::time::Duration;

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use crate::support::postgres::block_on;
use crate::support::private_rabbitmq::PrivateRabbit;

const QUEUE: &str = "kept";
const PERSISTENT: u8 = 2;
/// A paused node would not answer in a year; one that is up answers in a few milliseconds.
const SILENCE: Duration = Duration::from_secs(1);

/// Runs it on a connection of its own.
fn on_channel<Output, Act, Acting>(node: &PrivateRabbit, act: Act) -> lapin::Result<Output>
where
    Output: Send + 'static,
    Act: FnOnce(Channel) -> Acting + Send + 'static,
    Acting: Future<Output = lapin::Result<Output>> + Send,
{
    let url = node.url();
    block_on(async move {
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        act(connection.create_channel().await?).await
    })
}

fn publish(node: &PrivateRabbit, body: &'static str) {
    let confirmation = on_channel(node, async move |channel| {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), options, arguments).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        channel.basic_publish("".into(), QUEUE.into(), options, body.as_bytes(), properties).await?.await
    });
    assert_eq!(confirmation.expect("published"), Confirmation::Ack(None));
}

/// Everything in the queue; it stays there.
fn read(node: &PrivateRabbit) -> Vec<String> {
    let bodies = on_channel(node, async move |channel| {
        let mut bodies = Vec::new();
        // What is not acknowledged goes back to the queue with the connection.
        while let Some(message) = channel.basic_get(QUEUE.into(), BasicGetOptions::default()).await? {
            bodies.push(String::from_utf8_lossy(&message.delivery.data).into_owned());
        }
        Ok(bodies)
    });
    bodies.expect("read")
}

#[test]
fn what_was_confirmed_survives_a_kill_and_a_stop() {
    let Some(mut node) = PrivateRabbit::start() else { return };
    publish(&node, "before the kill");
    node.wait_until_on_disk(QUEUE);
    let url = node.url();

    node.kill();
    assert!(on_channel(&node, async |_| Ok(())).is_err(), "it still answers after a kill");
    node.start_again();
    assert_eq!(node.url(), url);
    publish(&node, "before the stop");

    node.stop();
    assert!(on_channel(&node, async |_| Ok(())).is_err(), "it still answers after a stop");
    node.start_again();
    assert_eq!(read(&node), ["before the kill", "before the stop"]);

    node.pause();
    let connecting = {
        let url = url.clone();
        async move { tokio::time::timeout(SILENCE, Connection::connect(&url, ConnectionProperties::default())).await }
    };
    assert!(block_on(connecting).is_err(), "it answers while it is paused");
    node.resume();
    assert_eq!(read(&node).len(), 2);
}

#[test]
fn two_nodes_run_side_by_side_and_only_one_has_the_definitions() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let definitions = folder.path().join("definitions.json");
    let text = r#"{"vhosts": [{"name": "/"}], "queues": [
        {"name": "defined", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}}]}"#;
    std::fs::write(&definitions, text).expect("written");
    let Some(defined) = PrivateRabbit::start_with_definitions(&definitions) else { return };
    let Some(plain) = PrivateRabbit::start() else { return };

    publish(&plain, "for one");
    assert_eq!(defined.control(&["list_queues", "name", "messages"]).trim(), "defined\t0");
    assert_eq!(plain.control(&["list_queues", "name"]).trim(), QUEUE);
    on_channel(&defined, async |_| Ok(())).expect("guest may use the node with definitions");
}
