//! What cannot be told goes out of the way with its reason, and comes back when an operator says so;
//! and a webhook's receiver that misbehaves is called again, later.

use std::process::Command;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use loms::notifications::consumer::REASON_HEADER;
use loms::notifications::message;
use loms::notifications::topology::{PARKING_QUEUE, QUEUE, RETRY_QUEUES};
use serde_json::Value;

use crate::support::client::eventually;
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::receiver::{Behaviour, Call, Receiver};
use crate::support::shop::Shop;
use crate::support::witness;

const PATIENCE: Duration = Duration::from_secs(60);

async fn wait_until(what: &str, look: impl AsyncFn() -> bool) {
    assert!(eventually(PATIENCE, || look()).await, "not in time: {what}");
}

/// Outcome, attempts and reason of each notification of a user by webhook, the oldest first.
async fn by_webhook(shop: &Shop, user: &str) -> Vec<(String, i64, String)> {
    let listed = shop.client.get(&format!("/notifications?user={user}")).await.body;
    let listed = listed["notifications"].as_array().expect("a list").iter().rev();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    listed
        .filter(|one| one["channel"] == "webhook")
        .map(|one| (text(one, "outcome"), one["attempts"].as_i64().expect("a number"), text(one, "reason")))
        .collect()
}

async fn wait_for(shop: &Shop, user: &str, outcome: &str, attempts: i64) {
    let reached =
        async || by_webhook(shop, user).await.iter().any(|one| (one.0.as_str(), one.1) == (outcome, attempts));
    wait_until(&format!("{user} has {outcome} after {attempts} attempts"), reached).await;
}

fn messages_in(broker: &PrivateRabbit, queue: &str) -> i64 {
    let listed = broker.control(&["list_queues", "name", "messages"]);
    let count = listed.lines().find_map(|line| line.strip_prefix(&format!("{queue}\t")));
    count.expect("a queue").parse().expect("a number")
}

/// What `loms notifications redrive` prints.
fn redrive(shop: &Shop, broker: &PrivateRabbit, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    command.args(["notifications", "redrive"]).args(arguments).current_dir(shop.program.folder());
    let output = command.envs([("DATABASE_URL", shop.database_url()), ("AMQP_URL", &broker.url())]).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// Not JSON, of another version, without what an event must have, and larger than any event.
fn poison() -> [(Vec<u8>, &'static str); 4] {
    let event = |schema: &str| format!(r#"{{"specversion": "1.0", "dataschema": "{schema}", "id": "1-1"}}"#);
    [
        (b"poison".to_vec(), "it is not an event in JSON"),
        (event("urn:loms:order-event:9").into_bytes(), "of the version urn:loms:order-event:9"),
        (event(message::SCHEMA).into_bytes(), "it is not an event in JSON: missing field"),
        (vec![b' '; message::BYTES_MAX + 1], "it has more than 1048576 bytes"),
    ]
}

/// Takes what the user `refused` gets only once the operator has mended it.
fn refuses_at_first(call: &Call, before: usize) -> Behaviour {
    let refuses = call.event()["data"]["user"] == "refused" && before == 0;
    Behaviour::Answer(if refuses { 410 } else { 200 })
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_parked_with_its_reason_the_queue_moves_on_and_redrive_brings_back() {
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let shop = Shop::with_broker(&broker.url());
    let receiver = Receiver::start(refuses_at_first).await;
    // All of it is in the queue before anybody looks.
    for (body, _) in poison() {
        witness::publish(&broker, QUEUE, &body, BasicProperties::default()).await;
    }
    shop.order("refused", &[("PEN", 1)]).await;
    shop.order_and_pay("ann").await;
    let _notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    wait_until("the queue moves on", async || by_webhook(&shop, "ann").await.len() == 2).await;
    wait_for(&shop, "refused", "failed", 1).await;
    wait_until("all are parked", async || messages_in(&broker, PARKING_QUEUE) == 5).await;

    let shown = redrive(&shop, &broker, &["--dry-run"]);
    for (at, (_, reason)) in poison().iter().enumerate() {
        assert!(shown[at].starts_with("no event\tleft\t") && shown[at].contains(reason), "{shown:?}");
    }
    let refused = shown[4].split('\t').next().expect("an id").to_owned();
    assert!(shown[4].contains("the receiver refuses the event with status 410"), "{shown:?}");
    assert_eq!(messages_in(&broker, PARKING_QUEUE), 5, "a dry run leaves everything");

    // One by its id: it is told, and the others stay.
    assert_eq!(redrive(&shop, &broker, &[&refused]).last().expect("a sum"), "5 parked, 1 put back");
    wait_for(&shop, "refused", "sent", 1).await;
    wait_until("the others stay", async || messages_in(&broker, PARKING_QUEUE) == 4).await;
    // All: poison stays poison, and is parked once more.
    assert_eq!(redrive(&shop, &broker, &[]).last().expect("a sum"), "4 parked, 4 put back");
    wait_until("they are parked again", async || messages_in(&broker, PARKING_QUEUE) == 4).await;
    let reasons = witness::parked(&broker).await;
    assert!(poison().iter().all(|(_, reason)| reasons.iter().any(|parked| parked.contains(reason))), "{reasons:?}");
    let counts = receiver.book().counts.clone();
    let repeated: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert_eq!(repeated, [(&refused, &2)], "{counts:?}");
}

/// An event that is delivered twice at once, as after a confirm that was lost, is told once.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_an_event_that_come_together_are_told_once() {
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let shop = Shop::with_broker(&broker.url());
    for number in 0..10 {
        shop.order(&format!("user-{number}"), &[("PEN", 1)]).await;
    }
    wait_until("all is published", async || shop.client.get("/readyz").await.body["events_waiting"] == 0).await;
    for event in witness::hear(&broker).await.events {
        for _ in 0..3 {
            let mut headers = FieldTable::default();
            headers.insert(REASON_HEADER.into(), AMQPValue::LongString("a copy".into()));
            let properties = BasicProperties::default().with_headers(headers);
            witness::publish(&broker, QUEUE, event.to_string().as_bytes(), properties).await;
        }
    }
    let receiver = Receiver::start(|_, _| Behaviour::Answer(200)).await;
    let notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    wait_until("the queue is empty", async || messages_in(&broker, QUEUE) == 0).await;
    assert!(notifier.terminate().success());
    let counts = receiver.book().counts.clone();
    assert!(counts.len() == 10 && counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(witness::parked(&broker).await, Vec::<String>::new());
}

/// By the name of the user who is told.
fn misbehaves(call: &Call, before: usize) -> Behaviour {
    let user = call.event()["data"]["user"].as_str().expect("a user").to_owned();
    match (user.as_str(), before) {
        ("fails", 0) | ("fails-on", _) => Behaviour::Answer(500),
        ("redirects", 0) => Behaviour::Answer(307),
        ("closes", 0) => Behaviour::Close,
        ("hangs", 0) => Behaviour::Hang,
        _ => Behaviour::Answer(200),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_redirects_closes_or_hangs_is_called_again_later_under_the_same_id() {
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let shop = Shop::with_broker(&broker.url());
    let receiver = Receiver::start(misbehaves).await;
    let _notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    for user in ["fails", "redirects", "closes", "fails-on", "hangs", "ann"] {
        shop.order(user, &[("PEN", 1)]).await;
    }
    wait_for(&shop, "ann", "sent", 1).await;
    for user in ["fails", "redirects", "closes", "hangs"] {
        wait_for(&shop, user, "sent", 2).await;
    }
    // After its second failure it waits in the queue of the next delay.
    wait_for(&shop, "fails-on", "waiting", 2).await;
    wait_until("it waits a minute", async || messages_in(&broker, RETRY_QUEUES[1].name) == 1).await;
    let reason = &by_webhook(&shop, "fails-on").await[0].2;
    assert_eq!(reason, "the receiver answered with status 500");

    let book = receiver.book();
    assert!(book.calls.iter().all(|call| call.is_signed() && call.path == "/hook"), "a redirect is not followed");
    let delay = Duration::from_millis(u64::try_from(RETRY_QUEUES[0].delay_ms).expect("a delay"));
    for (id, count) in &book.counts {
        let came: Vec<_> = book.calls.iter().filter(|call| call.id() == id).map(|call| call.came).collect();
        let user = book.calls.iter().find(|call| call.id() == id).expect("called").event()["data"]["user"].clone();
        assert_eq!(*count, if user == "ann" { 1 } else { 2 }, "{user}");
        assert!(came.windows(2).all(|pair| pair[1] - pair[0] >= delay), "{user} was called again too soon");
    }
}
