//! What the program declares and what `rabbitmq/definitions.json` loads are the same to a broker.

use std::path::Path;
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

/// What a node has of each part, in an order that does not depend on the node.
fn exported(node: &PrivateRabbit) -> Vec<(&'static str, Vec<Value>)> {
    let text = node.control(&["export_definitions", "-"]);
    let all: Value = serde_json::from_str(&text).expect("definitions in JSON");
    let part = |name: &'static str| {
        let mut entries = all[name].as_array().expect("a list").clone();
        // RabbitMQ 4 marks the virtual host with what its node's own defaults are.
        for entry in entries.iter_mut().filter(|_| name == "vhosts") {
            *entry = entry["name"].clone();
        }
        entries.sort_by_key(Value::to_string);
        (name, entries)
    };
    PARTS.map(part).into()
}

/// The whole path through this node: an order's two notifications.
async fn assert_works(node: &PrivateRabbit, user: &str) {
    let shop = Shop::with_broker(&node.url());
    let _notifier = Notifier::start(&shop.program, &node.url(), &[]);
    let order = shop.order(user, &[("PEN", 1)]).await;
    shop.client.post(&format!("/orders/{}/pay", order["order_id"]), &Value::Null).await;
    let path = format!("/notifications?user={user}");
    let told = || async { shop.client.get(&path).await.body["notifications"].as_array().map(Vec::len) == Some(2) };
    assert!(eventually(PATIENCE, told).await, "nobody is told:\n{}", shop.program.output());
    assert!(!shop.program.output().contains("PRECONDITION_FAILED"), "{}", shop.program.output());
}

/// No queue takes the next event, so the exchange returns it, and the relay makes the queue again.
async fn assert_made_again(node: &PrivateRabbit) {
    let shop = Shop::with_broker(&node.url());
    let published = || async { shop.client.get("/readyz").await.body["events_waiting"] == 0 };
    shop.order("eve", &[("PEN", 1)]).await;
    assert!(eventually(PATIENCE, published).await, "events are not published");
    node.control(&["delete_queue", topology::QUEUE]);
    shop.order("eve", &[("PEN", 1)]).await;
    assert!(eventually(PATIENCE, published).await, "events are not published again");
    let queues = node.control(&["list_queues", "name"]);
    assert!(queues.lines().any(|name| name == topology::QUEUE), "events went nowhere: {queues}");
    // What became of the second order (that it is new is for others), and the mark that there was a queue before.
    assert_eq!(witness::waiting_in(node, topology::QUEUE).await, 2);
}

#[tokio::test]
async fn the_program_and_the_definitions_file_make_the_same_broker() {
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("rabbitmq/definitions.json");
    let Some(defined) = PrivateRabbit::start_with_definitions(&definitions) else { return };
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
    declared.control(&["import_definitions", definitions.to_str().expect("in UTF-8")]);
    assert_eq!(exported(&declared), of_the_file);
    assert_eq!(witness::parked(&declared).await, Vec::<String>::new());
}
