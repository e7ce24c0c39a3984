//! What cannot be told goes out of the way with its reason, and comes back when an operator says so;
//! and a webhook's receiver that misbehaves is called again, later.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use loms::notifications::broker::BROKER_MS_MAX;
use loms::notifications::message;
use loms::notifications::topology::{PARKING_QUEUE, QUEUE, RETRY_QUEUES};
use serde_json::Value;

use crate::support::client::eventually;
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::program::resident_bytes_max;
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

/// `loms notifications redrive`
fn redrive_command(shop: &Shop, broker: &PrivateRabbit, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    command.args(["notifications", "redrive"]).args(arguments).current_dir(shop.program.folder());
    command.envs([("DATABASE_URL", shop.database_url()), ("AMQP_URL", &broker.url())]);
    command
}

/// What it prints.
fn redrive(shop: &Shop, broker: &PrivateRabbit, arguments: &[&str]) -> Vec<String> {
    let output = redrive_command(shop, broker, arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// Not JSON, of another version, without what an event must have, larger than any event, and one of which an error would
/// repeat more than fits into a header.
fn poison() -> [(Vec<u8>, &'static str); 5] {
    let event = |schema: &str| format!(r#"{{"specversion": "1.0", "dataschema": "{schema}", "id": "1-1"}}"#);
    let number = "x".repeat(200_000);
    let endless = format!(r#"{{"dataschema": "{}", "data": {{"order_id": "{number}"}}}}"#, message::SCHEMA);
    [
        (b"poison".to_vec(), "it is not an event in JSON"),
        (event("urn:loms:order-event:9").into_bytes(), "of the version urn:loms:order-event:9"),
        (event(message::SCHEMA).into_bytes(), "it is not an event in JSON: missing field"),
        (vec![b' '; message::BYTES_MAX + 1], "it has more than 15728640 bytes"),
        (endless.into_bytes(), "it is not an event in JSON: invalid type: string \"xxx"),
    ]
}

/// A broker with a shop, and whom its notifier calls.
struct Scene {
    broker: PrivateRabbit,
    shop: Shop,
    receiver: Receiver,
}

impl Scene {
    fn start_notifier(&self) -> Notifier {
        Notifier::start(&self.shop.program, &self.broker.url(), &self.receiver.settings())
    }

    async fn wait_for_messages(&self, queue: &str, count: u32) {
        let there = async || witness::waiting_in(&self.broker, queue).await == count;
        wait_until(&format!("{queue} has {count} messages"), there).await;
    }

    fn redrive(&self, arguments: &[&str]) -> Vec<String> {
        redrive(&self.shop, &self.broker, arguments)
    }
}

/// By the name of the user who is told, and how often that was tried before.
fn behaves(call: &Call, before: usize) -> Behaviour {
    let event = call.event();
    match (event["data"]["user"].as_str().expect("a user"), before) {
        // Until the operator has fixed it.
        ("refused", 0) => Behaviour::Answer(410),
        ("fails" | "alarm", 0) | ("fails-on", _) => Behaviour::Answer(500),
        ("redirects", 0) => Behaviour::Answer(307),
        ("closes", 0) => Behaviour::Close,
        ("hangs", 0) => Behaviour::Hang,
        _ => Behaviour::Answer(200),
    }
}

/// How long a message waits in a retry queue.
fn delay(queue: usize) -> Duration {
    Duration::from_millis(u64::try_from(RETRY_QUEUES[queue].delay_ms).expect("a delay"))
}

/// As after a confirm that was lost.
async fn copies_of_an_event_that_come_together_are_told_once(scene: &Scene) {
    let Scene { broker, shop, receiver } = scene;
    for number in 0..10 {
        shop.order(&format!("user-{number}"), &[("PEN", 1)]).await;
    }
    wait_until("all is published", async || shop.client.get("/readyz").await.body["events_waiting"] == 0).await;
    for event in witness::hear(broker).await.events {
        for _ in 0..3 {
            witness::publish(broker, QUEUE, event.to_string().as_bytes(), BasicProperties::default()).await;
        }
    }
    let notifier = scene.start_notifier();
    scene.wait_for_messages(QUEUE, 0).await;
    wait_until("the last is told", async || by_webhook(shop, "user-9").await.len() == 1).await;
    assert!(notifier.terminate().success());
    let counts = receiver.book().counts.clone();
    assert!(counts.len() == 10 && counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(witness::parked(broker).await, Vec::<String>::new());
}

async fn poison_is_parked_the_queue_moves_on_and_redrive_brings_back(scene: &Scene) {
    let Scene { broker, shop, receiver } = scene;
    // All of it is in the queue before anybody looks.
    for (body, _) in poison() {
        witness::publish(broker, QUEUE, &body, BasicProperties::default()).await;
    }
    shop.order("refused", &[("PEN", 1)]).await;
    shop.order_and_pay("ann").await;
    let notifier = scene.start_notifier();
    wait_until("the queue moves on", async || by_webhook(shop, "ann").await.len() == 2).await;
    wait_for(shop, "refused", "failed", 1).await;
    scene.wait_for_messages(PARKING_QUEUE, 6).await;

    let shown = scene.redrive(&["--dry-run"]);
    for (at, (_, reason)) in poison().iter().enumerate() {
        assert!(shown[at].starts_with("no event\tleft\t") && shown[at].contains(reason), "{shown:?}");
    }
    let refused = shown[5].split('\t').next().expect("an id").to_owned();
    assert!(shown[5].contains("the receiver refuses the event with status 410"), "{shown:?}");
    scene.wait_for_messages(PARKING_QUEUE, 6).await;

    // One by its id: it is told, and the others stay.
    assert_eq!(scene.redrive(&[&refused]).last().expect("a sum"), "6 parked, 1 put back");
    wait_for(shop, "refused", "sent", 1).await;
    scene.wait_for_messages(PARKING_QUEUE, 5).await;
    // All: poison stays poison, and is parked once more.
    assert_eq!(scene.redrive(&[]).last().expect("a sum"), "5 parked, 5 put back");
    scene.wait_for_messages(PARKING_QUEUE, 5).await;
    let reasons = witness::parked(broker).await;
    assert!(poison().iter().all(|(_, reason)| reasons.iter().any(|parked| parked.contains(reason))), "{reasons:?}");
    assert!(notifier.terminate().success());
    let counts = receiver.book().counts.clone();
    let repeated: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert_eq!(repeated, [(&refused, &2)], "{counts:?}");
}

async fn a_receiver_that_misbehaves_is_called_again_later_under_the_same_id(scene: &Scene) {
    let Scene { shop, receiver, .. } = scene;
    receiver.book().calls.clear();
    receiver.book().counts.clear();
    let _notifier = scene.start_notifier();
    for user in ["fails", "redirects", "closes", "fails-on", "hangs", "eve"] {
        shop.order(user, &[("PEN", 1)]).await;
    }
    wait_for(shop, "eve", "sent", 1).await;
    for user in ["fails", "redirects", "closes", "hangs"] {
        wait_for(shop, user, "sent", 2).await;
    }
    // After its second failure it waits in the queue of the next delay.
    wait_for(shop, "fails-on", "waiting", 2).await;
    scene.wait_for_messages(RETRY_QUEUES[1].name, 1).await;
    let reason = &by_webhook(shop, "fails-on").await[0].2;
    assert_eq!(reason, "the receiver answered with status 500");

    let book = receiver.book();
    assert!(book.calls.iter().all(|call| call.is_signed() && call.path == "/hook"), "a redirect is not followed");
    for (id, count) in &book.counts {
        let calls: Vec<_> = book.calls.iter().filter(|call| call.id() == id).collect();
        let user = calls[0].event()["data"]["user"].clone();
        assert_eq!(*count, if user == "eve" { 1 } else { 2 }, "{user}");
        let soonest = calls.windows(2).map(|pair| pair[1].came - pair[0].came).min();
        assert!(soonest.is_none_or(|pause| pause >= delay(0)), "{user} was called again after {soonest:?}");
    }
}

/// The broker takes no message for a retry queue then. Whoever gave up would have it both in the queue and delivered
/// again, when the alarm ends.
async fn an_alarm_of_the_broker_is_waited_for(scene: &Scene) {
    let Scene { broker, shop, receiver } = scene;
    shop.order("alarm", &[("PEN", 1)]).await;
    wait_until("all is published", async || shop.client.get("/readyz").await.body["events_waiting"] == 0).await;
    broker.control(&["set_vm_memory_high_watermark", "0"]);
    receiver.book().counts.clear();
    let notifier = scene.start_notifier();
    wait_for(shop, "alarm", "waiting", 1).await;
    tokio::time::sleep(Duration::from_millis(BROKER_MS_MAX) + Duration::from_secs(3)).await;
    assert_eq!(receiver.book().counts.values().sum::<usize>(), 1, "called again during the alarm");
    let lifted = Instant::now();
    broker.control(&["set_vm_memory_high_watermark", "0.4"]);
    wait_for(shop, "alarm", "sent", 2).await;
    let called = receiver.book().calls.last().map(|call| call.came - lifted);
    assert!(called.is_some_and(|after| after >= delay(0)), "called again {called:?} after the alarm");
    assert!(notifier.terminate().success());
    receiver.book().counts.clear();
}

/// There may be thousands of them, each as large as the broker takes.
async fn a_redrive_holds_few_of_the_parked_messages_at_a_time(scene: &Scene) {
    const MESSAGES: usize = 16;
    const MEMORY_BYTES_MAX: u64 = 128 * 1024 * 1024;
    let Scene { broker, shop, .. } = scene;
    for _ in 0..MESSAGES {
        let body = vec![b' '; message::BYTES_MAX];
        witness::publish(broker, PARKING_QUEUE, &body, BasicProperties::default()).await;
    }
    let mut child = redrive_command(shop, broker, &["--dry-run"]).stdout(Stdio::null()).spawn().expect("it runs");
    let mut most = 0;
    while child.try_wait().expect("it can be asked").is_none() {
        most = most.max(resident_bytes_max(child.id()).unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(child.wait().expect("it has ended").success());
    assert!((1..MEMORY_BYTES_MAX).contains(&most), "it held {most} bytes");
    eprintln!("a redrive held {most} bytes");
}

/// One after the other: a broker takes long to start.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_goes_out_of_the_way_and_comes_back() {
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let shop = Shop::with_broker(&broker.url());
    let receiver = Receiver::start(behaves).await;
    let scene = Scene { broker, shop, receiver };
    copies_of_an_event_that_come_together_are_told_once(&scene).await;
    an_alarm_of_the_broker_is_waited_for(&scene).await;
    poison_is_parked_the_queue_moves_on_and_redrive_brings_back(&scene).await;
    a_receiver_that_misbehaves_is_called_again_later_under_the_same_id(&scene).await;
    a_redrive_holds_few_of_the_parked_messages_at_a_time(&scene).await;
}
