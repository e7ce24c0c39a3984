//! The broker is killed, stopped, paused, loses its queue, has no memory or no room, while orders
//! come in: every order is answered, every event is told, each once, and in order per order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use loms::notifications::broker::BROKER_MS_MAX;
use loms::notifications::topology;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client::{Client, eventually};
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::receiver::{Behaviour, Receiver};
use crate::support::rounds::Rounds;
use crate::support::shop::{Shop, new_order};
use crate::support::witness;

const PATIENCE: Duration = Duration::from_secs(120);
const SHOPPERS: usize = 4;
/// How many orders come before a fault, while it lasts, and after it.
const ORDERS_PER_STEP: usize = 25;
/// So many that a notifier looks for what was lost in several steps, and is stopped between them.
const LOST_ORDERS: usize = 800;
const STOPS: usize = 3;
/// So many that a notifier that is stopped has some of their events in hand, and told only in the log.
const PUT_OFF_ORDERS: usize = 40;
const SLOW_ANSWER: Duration = Duration::from_secs(1);
/// In full, of seven faults each: 105 in all.
const ROUNDS_FULL: usize = 15;
/// Who waits for a broker that says nothing waits about twice as long.
const WAITED_MS: u64 = BROKER_MS_MAX / 2;
/// A steady stream is wanted, not the highest rate.
const BETWEEN_ORDERS: Duration = Duration::from_millis(150);
const ROOM_MESSAGES: &str = r#"{"max-length": 10}"#;
/// Of a memory watermark that is not exceeded; RabbitMQ's own default.
const MEMORY_SHARE: &str = "0.4";

/// They order and pay until they are told to stop.
struct Load {
    shoppers: JoinSet<()>,
    orders: Arc<AtomicUsize>,
    slowest_ms: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(shop: &Shop) -> Self {
        let (orders, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let slowest_ms = Arc::<AtomicU64>::default();
        let mut shoppers = JoinSet::new();
        for number in 0..SHOPPERS {
            let (client, orders, stop) = (shop.client.clone(), Arc::clone(&orders), Arc::clone(&stop));
            let slowest_ms = Arc::clone(&slowest_ms);
            shoppers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    order_and_pay(&client, &format!("shopper-{number}")).await;
                    let took_ms = u64::try_from(began.elapsed().as_millis()).expect("a short time");
                    slowest_ms.fetch_max(took_ms, Ordering::Relaxed);
                    orders.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(BETWEEN_ORDERS).await;
                }
            });
        }
        Self { shoppers, orders, slowest_ms, stop }
    }

    /// Waits until so many more orders were answered.
    async fn go_on(&self) {
        let goal = self.orders.load(Ordering::Relaxed) + ORDERS_PER_STEP;
        let reached = || async { self.orders.load(Ordering::Relaxed) >= goal };
        assert!(eventually(PATIENCE, reached).await, "orders are not answered");
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.shoppers.join_all().await;
        let slowest_ms = self.slowest_ms.load(Ordering::Relaxed);
        assert!(slowest_ms < WAITED_MS, "an order took {slowest_ms} ms: it has waited for the broker");
        self.orders.load(Ordering::Relaxed)
    }
}

async fn order_and_pay(client: &Client, user: &str) {
    let order = client.post("/orders", &new_order(user, &[("PEN", 1)])).await;
    assert_eq!(order.status, 201, "{}", order.body);
    let payed = client.post(&format!("/orders/{}/pay", order.body["order_id"]), &Value::Null).await;
    assert_eq!(payed.status, 200, "{}", payed.body);
}

async fn readiness(client: &Client) -> Value {
    let ready = client.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.body);
    ready.body
}

async fn wait_until_degraded(client: &Client) {
    let degraded = || async { readiness(client).await["status"] == "degraded" };
    assert!(eventually(PATIENCE, degraded).await, "the fault is not seen: {}", readiness(client).await);
    let waiting = || async { readiness(client).await["events_waiting"].as_i64() > Some(0) };
    assert!(eventually(PATIENCE, waiting).await, "nothing waits: {}", readiness(client).await);
}

/// Everything that was ordered so far is published. (Under load there is always something on its way.)
async fn wait_until_recovered(client: &Client, what: &str) {
    let ready = || async {
        let readiness = readiness(client).await;
        readiness["status"] == "ready" && readiness["events_waiting"].as_i64() < Some(50)
    };
    assert!(eventually(PATIENCE, ready).await, "{what}: it does not recover: {}", readiness(client).await);
}

async fn break_and_mend(broker: &mut PrivateRabbit, load: &Load, client: &Client) {
    broker.kill();
    load.go_on().await;
    wait_until_degraded(client).await;
    broker.start_again();
    wait_until_recovered(client, "kill").await;

    load.go_on().await;
    broker.stop();
    load.go_on().await;
    broker.start_again();
    wait_until_recovered(client, "restart").await;

    load.go_on().await;
    broker.pause();
    // Nothing says that it is paused, but that it does not answer in time.
    wait_until_degraded(client).await;
    broker.resume();
    wait_until_recovered(client, "pause").await;

    load.go_on().await;
    let connections = || broker.control(&["list_connections", "name"]).lines().count();
    let before = connections();
    broker.control(&["set_vm_memory_high_watermark", "0"]);
    wait_until_degraded(client).await;
    // The relay goes on trying, and the broker closes nothing that it does not read.
    load.go_on().await;
    let meanwhile = connections();
    assert!(meanwhile <= before, "{meanwhile} connections to the broker under its alarm, of {before}");
    broker.control(&["set_vm_memory_high_watermark", MEMORY_SHARE]);
    wait_until_recovered(client, "memory alarm").await;
    load.go_on().await;
}

/// With nobody who takes events the queue is full at once.
async fn fill_and_empty(broker: &PrivateRabbit, load: &Load, client: &Client) {
    broker.control(&["set_policy", "full", &format!("^{}$", topology::QUEUE), ROOM_MESSAGES, "--apply-to", "queues"]);
    load.go_on().await;
    wait_until_degraded(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_the_broker_orders_go_on_and_each_event_is_told_once() {
    let mut rounds = Rounds::of("B5 seven faults of the broker under load", 1, ROUNDS_FULL);
    let mut orders = 0;
    while rounds.next_round().is_some() {
        let Some(broker) = PrivateRabbit::start() else { return };
        orders += everything_happens_to(broker).await;
    }
    rounds.held(format_args!("{orders} orders, each event told once"));
}

/// Gives how many orders came meanwhile.
async fn everything_happens_to(mut broker: PrivateRabbit) -> usize {
    witness::call(&mut broker).await;
    let shop = Shop::with_broker(&broker.url());
    let receiver = Receiver::start(|_, _| Behaviour::Answer(200)).await;
    let notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    let load = Load::start(&shop);
    load.go_on().await;
    break_and_mend(&mut broker, &load, &shop.client).await;

    assert!(notifier.terminate().success());
    fill_and_empty(&broker, &load, &shop.client).await;
    broker.control(&["clear_policy", "full"]);
    wait_until_recovered(&shop.client, "full queue").await;
    // There are messages in it, and the witness takes what comes meanwhile: the exchange returns none.
    broker.control(&["delete_queue", topology::QUEUE]);
    load.go_on().await;
    let notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    load.go_on().await;
    broker.control(&["delete_queue", topology::QUEUE]);
    load.go_on().await;
    let orders = load.end().await;

    let all = || async { receiver.book().counts.len() == 2 * orders };
    assert!(eventually(PATIENCE, all).await, "told of {} events of {}", receiver.book().counts.len(), 2 * orders);
    wait_until_recovered(&shop.client, "the end").await;
    assert!(notifier.terminate().success());
    let twice: Vec<_> =
        receiver.book().counts.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id.clone()).collect();
    assert_eq!(twice, Vec::<String>::new(), "told twice");
    assert_eq!(witness::parked(&broker).await, Vec::<String>::new());
    let heard = witness::hear(&broker).await;
    let versions = heard.orders_in_order();
    assert!(versions.len() == orders && versions.values().all(|last| *last == 3), "{versions:?}");
    eprintln!("{orders} orders; the witness got {} messages of {} events", heard.events.len(), heard.ids().len());
    assert_eq!(shop.client.get("/readyz").await.body["broker"], json!("up"));
    shop.assert_books_are_right();
    orders
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_queue_has_lost_is_told_by_notifiers_that_are_stopped_on_the_way() {
    let Some(broker) = PrivateRabbit::start() else { return };
    let shop = Shop::with_broker(&broker.url());
    let receiver = Receiver::start(|_, _| Behaviour::Answer(200)).await;
    let shoppers: Vec<_> = (0..SHOPPERS).map(|number| format!("shopper-{number}")).collect();
    for _ in 0..LOST_ORDERS / SHOPPERS {
        join_all(shoppers.iter().map(|user| shop.order_and_pay(user))).await;
    }
    wait_until_recovered(&shop.client, "the start").await;
    broker.control(&["delete_queue", topology::QUEUE]);

    for _ in 0..STOPS {
        let before = receiver.book().counts.len();
        let notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
        let has_begun = || async { receiver.book().counts.len() > before };
        assert!(eventually(PATIENCE, has_begun).await, "told of {before} events of {} and no more", 2 * LOST_ORDERS);
        assert!(notifier.terminate().success());
    }
    let notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    let all = || async { receiver.book().counts.len() == 2 * LOST_ORDERS };
    assert!(eventually(PATIENCE, all).await, "told of {} events of {}", receiver.book().counts.len(), 2 * LOST_ORDERS);
    assert!(notifier.terminate().success());
    assert_eq!(receiver.book().counts.values().max(), Some(&1), "told twice");
    assert_eq!(witness::parked(&broker).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_has_put_off_is_told_though_the_broker_loses_it() {
    let Some(broker) = PrivateRabbit::start() else { return };
    let shop = Shop::with_broker(&broker.url());
    let receiver = Receiver::start(|_, _| Behaviour::AnswerLate(SLOW_ANSWER)).await;
    for number in 0..PUT_OFF_ORDERS {
        shop.order_and_pay(&format!("shopper-{number}")).await;
    }
    wait_until_recovered(&shop.client, "the start").await;
    let notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    let has_begun = || async { !receiver.book().counts.is_empty() };
    assert!(eventually(PATIENCE, has_begun).await, "nobody is told");
    assert!(notifier.terminate().success());
    let waits = topology::retry_queue(1).name;
    assert_ne!(witness::waiting_in(&broker, waits).await, 0, "nothing was put off");
    broker.control(&["delete_queue", waits]);
    broker.control(&["delete_queue", topology::QUEUE]);

    let notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    let all = || async { receiver.book().counts.len() == 2 * PUT_OFF_ORDERS };
    let told = || receiver.book().counts.len();
    assert!(eventually(PATIENCE, all).await, "told of {} events of {}", told(), 2 * PUT_OFF_ORDERS);
    assert!(notifier.terminate().success());
    assert_eq!(receiver.book().counts.values().max(), Some(&1), "told twice");
}
