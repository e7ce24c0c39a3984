//! Events through RabbitMQ: each arrives once in effect and in order, whatever dies on the way.

use std::time::Duration;

use lapin::BasicProperties;
use loms::notifications::topology;
use serde_json::Value;

use crate::support::client::{Client, eventually};
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::shop::Shop;
use crate::support::witness;

const PATIENCE: Duration = Duration::from_secs(60);
const ORDERS: usize = 100;

async fn wait_until(what: &str, look: impl AsyncFn() -> bool) {
    assert!(eventually(PATIENCE, || look()).await, "not in time: {what}");
}

async fn told(client: &Client, query: &str) -> Vec<Value> {
    let listed = client.get(&format!("/notifications?limit=500{query}")).await;
    listed.body["notifications"].as_array().unwrap_or_else(|| panic!("{}", listed.body)).clone()
}

#[tokio::test]
async fn every_event_arrives_once_though_broker_notifier_and_program_are_killed() {
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let mut shop = Shop::with_broker(&broker.url());
    let mut notifier = Notifier::start(&shop.program, &broker.url(), &[]);

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
                notifier = Notifier::start(&shop.program, &broker.url(), &[]);
            }
            80 => {
                shop.program.kill();
                shop.program.restart();
                shop.client = Client::new(shop.program.url());
            }
            _ => {}
        }
        shop.order_and_pay(&format!("user-{number}")).await;
    }
    for number in 0..ORDERS {
        let user = format!("&user=user-{number}");
        wait_until("each user is told", async || told(&shop.client, &user).await.len() == 2).await;
        let told = told(&shop.client, &user).await;
        assert!(told.iter().all(|one| one["outcome"] == "sent"), "{told:?}");
    }
    wait_until("nothing waits", async || shop.client.get("/readyz").await.body["events_waiting"] == 0).await;
    let versions = witness::hear_all(&broker, 3 * ORDERS).await.orders_in_order();
    assert!(versions.len() == ORDERS && versions.values().all(|last| *last == 3), "{versions:?}");
    assert_eq!(witness::parked(&broker).await, Vec::<String>::new());

    // What is no event is parked, and the queue behind it moves on.
    for poison in [&b"poison"[..], b"{\"dataschema\": \"urn:loms:order-event:9\"}"] {
        witness::publish(&broker, topology::QUEUE, poison, BasicProperties::default()).await;
    }
    shop.order_and_pay("last").await;
    wait_until("the next user is told", async || told(&shop.client, "&user=last").await.len() == 2).await;
    let reasons = witness::parked(&broker).await;
    assert!(reasons.len() == 2 && reasons[0].contains("not an event in JSON"), "{reasons:?}");
    assert!(reasons[1].contains("version urn:loms:order-event:9"), "{reasons:?}");
    shop.assert_books_are_right();
}
