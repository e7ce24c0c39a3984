//! What the program declares and what `rabbitmq/definitions.json` loads are the same to a broker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loms::notifications::topology;
use serde_json::Value;

use crate::support::client::eventually;
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::shop::Shop;
use crate::support::witness;

const PATIENCE: Duration = Duration::from_secs(60);
/// Queues with all their arguments, exchanges, what is bound to what, and policies.
const PARTS: [&str; 5] = ["vhosts", "exchanges", "queues", "bindings", "policies"];

fn definitions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rabbitmq/definitions.json")
}

/// What a node has of each part, in an order that does not depend on the node; without what says that the queue is the one
/// that the program has known.
fn exported(node: &PrivateRabbit) -> Vec<(&'static str, Vec<Value>)> {
    let text = node.control(&["export_definitions", "-"]);
    let all: Value = serde_json::from_str(&text).expect("definitions in JSON");
    let part = |name: &'static str| {
        let mut entries = all[name].as_array().expect("a list").clone();
        entries.retain(|entry| entry["name"] != topology::MARKED && entry["source"] != topology::MARKED);
        // RabbitMQ 4 marks the virtual host with what its node's own defaults are.
        for entry in entries.iter_mut().filter(|_| name == "vhosts") {
            *entry = entry["name"].clone();
        }
        entries.sort_by_key(Value::to_string);
        (name, entries)
    };
    PARTS.map(part).into()
}

async fn assert_told(shop: &Shop, user: &str, times: usize) {
    let path = format!("/notifications?user={user}");
    let told = || async { shop.client.get(&path).await.body["notifications"].as_array().map(Vec::len) == Some(times) };
    assert!(eventually(PATIENCE, told).await, "nobody is told:\n{}", shop.program.output());
}

/// The whole path through this node: an order's two notifications.
async fn assert_works(node: &PrivateRabbit, user: &str) {
    let shop = Shop::with_broker(&node.url());
    let _notifier = Notifier::start(&shop.program, &node.url(), &[]);
    let order = shop.order(user, &[("PEN", 1)]).await;
    shop.client.post(&format!("/orders/{}/pay", order["order_id"]), &Value::Null).await;
    assert_told(&shop, user, 2).await;
    assert!(!shop.program.output().contains("PRECONDITION_FAILED"), "{}", shop.program.output());
}

async fn place_and_publish(shop: &Shop, user: &str) {
    shop.order(user, &[("PEN", 1)]).await;
    let published = || async { shop.client.get("/readyz").await.body["events_waiting"] == 0 };
    assert!(eventually(PATIENCE, published).await, "events are not published:\n{}", shop.program.output());
}

/// No queue takes the next event, so the exchange returns it, and the relay makes the queue again.
async fn assert_made_again(node: &PrivateRabbit) {
    let shop = Shop::with_broker(&node.url());
    place_and_publish(&shop, "eve").await;
    node.control(&["delete_queue", topology::QUEUE]);
    place_and_publish(&shop, "eve").await;
    let queues = node.control(&["list_queues", "name"]);
    assert!(queues.lines().any(|name| name == topology::QUEUE), "events went nowhere: {queues}");
    // What became of the second order (that it is new is for others), and the mark that there was a queue before.
    assert_eq!(witness::waiting_in(node, topology::QUEUE).await, 2);
}

fn import_definitions(node: &PrivateRabbit) {
    node.control(&["import_definitions", definitions().to_str().expect("in UTF-8")]);
}

#[tokio::test]
async fn the_program_and_the_definitions_file_make_the_same_broker() {
    let Some(defined) = PrivateRabbit::start_with_definitions(&definitions()) else { return };
    let Some(declared) = PrivateRabbit::start() else { return };
    let of_the_file = exported(&defined);
    assert!(exported(&declared).iter().any(|(part, entries)| *part == "queues" && entries.is_empty()));

    // The program takes what it finds there, and changes nothing of it.
    assert_works(&defined, "ann").await;
    assert_eq!(exported(&defined), of_the_file);

    assert_works(&declared, "bob").await;
    assert_eq!(exported(&declared), of_the_file);

    assert_made_again(&declared).await;
    assert_eq!(exported(&declared), of_the_file);

    // Loaded over what the program has declared, the file changes nothing either.
    import_definitions(&declared);
    assert_eq!(exported(&declared), of_the_file);
    assert_eq!(witness::parked(&declared).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_a_queue_took_with_it_is_told_though_the_definitions_have_made_it_again() {
    let Some(node) = PrivateRabbit::start_with_definitions(&definitions()) else { return };
    let shop = Shop::with_broker(&node.url());
    place_and_publish(&shop, "ann").await;
    node.control(&["delete_queue", topology::QUEUE]);
    import_definitions(&node);
    // The relay has seen nothing of it.
    place_and_publish(&shop, "bob").await;
    assert_eq!(witness::waiting_in(&node, topology::QUEUE).await, 1);

    let _notifier = Notifier::start(&shop.program, &node.url(), &[]);
    assert_told(&shop, "bob", 1).await;
    assert_told(&shop, "ann", 1).await;
    assert_eq!(witness::parked(&node).await, Vec::<String>::new());
}
