//! A panic in an actor, or in what it stands on: whoever can be made anew is, and nobody else hears
//! of it; where everything stands on the part, the process ends and says so. What was told is true
//! afterwards in either case. The handlers' panics are in `handler_panic_faults`.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Answer, Client, eventually, try_answered};
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, path_of, skus, time};
use crate::support::in_process::InProcess;
use crate::support::program::Settings;
use crate::support::traps::Place;

const SKUS: usize = 4;
const ON_HAND: i64 = 1_000;
const PAYMENT_TIMEOUT: Duration = Duration::from_secs(600);
/// From the panic to the end of the process.
const END_MAX: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(20);

/// The shop's own program has gone and left its database.
fn leave(ground: Ground) -> Shop {
    let mut shop = Shop::open(ground, &skus(SKUS, ON_HAND), Settings::new());
    assert!(shop.program.terminate().success());
    shop
}

/// An order that was asked for with a key, and what became of that; `None` where nobody answered.
struct Asked {
    key: String,
    order: Value,
    answer: Option<Answer>,
}

async fn ask(client: &Client, key: &str, order: Value) -> Asked {
    let request = client.request(Method::POST, "/orders", Some(key)).json(&order);
    let answer = tokio::time::timeout(PATIENCE, try_answered(request)).await.expect("an answer or none").ok();
    Asked { key: key.to_owned(), order, answer }
}

impl Asked {
    /// What was told is true; and the same key makes the order that it made, or makes it now.
    async fn check(&self, client: &Client) {
        let user = self.order["user"].as_str().expect("a user");
        let orders = async || client.get(&format!("/orders?user={user}")).await.body["orders"].clone();
        let before = orders().await;
        if let Some(answer) = &self.answer {
            let nothing = answer.body["detail"].as_str().is_some_and(|detail| detail.contains("nothing was changed"));
            match answer.status {
                201 => assert_eq!(before, json!([answer.body]), "{} is not as it was told", self.key),
                503 if nothing => assert_eq!(before, json!([]), "{}: nothing was changed, it was said", self.key),
                status => assert_eq!(status, 503, "{}: {answer:?}", self.key),
            }
        }
        let again = client.post_with_key("/orders", &self.key, &self.order).await;
        assert!([201, 409].contains(&again.status), "{}: {again:?}", self.key);
        let after = orders().await;
        assert_eq!(after.as_array().map(Vec::len), Some(1), "{} has acted twice", self.key);
        if before != json!([]) {
            assert_eq!(before, after, "{} has made another order", self.key);
        }
    }
}

/// The parts without which the process must not go on.
async fn the_process_ends_and_the_next_one_is_right(ground: Ground) {
    let mut shop = leave(ground);
    let (more_than_there_is, one) = (2 * ON_HAND, 1);
    let parts = [
        (Place::BeforeCommit, "the journal has ended", one),
        (Place::AfterCommit, "the journal has ended", one),
        (Place::Shelves, "the stock keeper has ended", more_than_there_is),
        (Place::Relay, "the outbox relay has ended", one),
        (Place::Notifier, "the notifier has ended", one),
    ];
    let mut asked: Vec<Asked> = Vec::new();
    for (place, end, count) in parts {
        let mut program = InProcess::start(&shop, PAYMENT_TIMEOUT);
        let client = Client::new(program.url());
        for earlier in &asked {
            earlier.check(&client).await;
        }
        asked.push(ask(&client, &format!("{place:?}-0"), order_of(&format!("{place:?}-0"), "S0", 1)).await);
        program.traps.plant(place);
        asked.push(ask(&client, &format!("{place:?}-1"), order_of(&format!("{place:?}-1"), "S1", count)).await);
        let why = program.ends_within(END_MAX).await;
        assert!(why.contains(end), "{place:?}: {why}");
        assert!(program.traps.is_sprung(place), "nobody has come to {place:?}");
    }
    shop.program.restart();
    let client = shop.client();
    for earlier in &asked {
        earlier.check(&client).await;
    }
    let waits = || async { client.get("/readyz").await.body["events_waiting"] != 0 };
    assert!(eventually(PATIENCE, || async { !waits().await }).await, "events wait");
    let sold = ON_HAND - available(&client, "S0").await;
    assert_eq!(sold, i64::try_from(parts.len()).expect("few"), "sold more or less than was ordered");
    shop.verify();
}

/// Nobody would cancel what another process left.
async fn a_panic_in_the_minding_of_deadlines_ends_the_process(ground: Ground) {
    let shop = leave(ground);
    let mut program = InProcess::start(&shop, PAYMENT_TIMEOUT);
    program.traps.plant(Place::ClockOfMain);
    let why = program.ends_within(END_MAX).await;
    assert!(why.contains("the minding of deadlines has ended"), "{why}");
}

async fn a_panic_in_a_cart_or_an_order_harms_no_other(ground: Ground) {
    let mut shop = Shop::open(ground, &skus(SKUS, ON_HAND), Settings::new());
    assert_eq!(shop.client().put("/carts/ann/items/S0", &json!({"count": 3})).await.status, 200);
    assert!(shop.program.terminate().success());
    let program = InProcess::start(&shop, PAYMENT_TIMEOUT);
    let (client, traps) = (Client::new(program.url()), &program.traps);
    let unharmed = async |name: &str| {
        let order = client.post("/orders", &order_of(name, "S3", 1)).await;
        assert_eq!(order.status, 201, "{order:?}");
        assert_eq!(client.put(&format!("/carts/{name}/items/S3"), &json!({"count": 2})).await.status, 200);
    };

    traps.plant(Place::OrderIds);
    let refused = client.post("/orders", &order_of("ann", "S0", 1)).await;
    assert!(refused.is_refusal(503, "unavailable"), "{refused:?}");
    unharmed("bob").await;

    traps.plant(Place::Cart);
    let torn = client.delete("/carts/ann").await;
    assert_eq!(torn.status, 503, "{torn:?}");
    unharmed("cid").await;
    assert_eq!(client.get("/carts/ann").await.body["version"], 1, "half an edit was made");
    assert_eq!(client.delete("/carts/ann").await.status, 204);
    assert_eq!(client.get("/carts/ann").await.body["version"], 2);

    let order = client.post("/orders", &order_of("ann", "S0", 1)).await.body;
    traps.plant(Place::ClockOfWorkers);
    let pay = async || client.post(&format!("{}/pay", path_of(&order)), &Value::Null).await;
    let torn = pay().await;
    assert_eq!(torn.status, 503, "{torn:?}");
    unharmed("dan").await;
    let again = pay().await;
    assert_eq!((again.status, &again.body["status"]), (200, &json!("payed")), "{again:?}");

    traps.plant(Place::ReadOrder);
    assert_eq!(client.get(&path_of(&order)).await.status, 503);
    assert_eq!(client.get(&path_of(&order)).await.status, 200);
    for place in [Place::OrderIds, Place::Cart, Place::ClockOfWorkers, Place::ReadOrder] {
        assert!(traps.is_sprung(place), "nobody has come to {place:?}");
    }
    assert_eq!((available(&client, "S0").await, available(&client, "S3").await), (ON_HAND - 1, ON_HAND - 3));
    program.stop();
    shop.verify();
}

/// The order is gone with its timer: it is found again because it is overdue.
async fn an_order_that_panics_at_its_deadline_is_cancelled_all_the_same(ground: Ground) {
    let shop = leave(ground);
    let program = InProcess::start(&shop, Duration::from_millis(500));
    let client = Client::new(program.url());
    let order = client.post("/orders", &order_of("ann", "S0", 1)).await;
    assert_eq!(order.status, 201, "{order:?}");
    program.traps.plant(Place::ClockOfWorkers);
    let path = path_of(&order.body);
    let cancelled = || async { client.get(&path).await.body["status"] == "cancelled" };
    assert!(eventually(PATIENCE, cancelled).await, "nobody minds it any more");
    assert!(program.traps.is_sprung(Place::ClockOfWorkers), "the order has not looked at the clock");
    let cancelled = client.get(&path).await.body;
    let late = time(&cancelled, "updated_at") - time(&cancelled, "expires_at");
    eprintln!("cancelled {} ms late", late.num_milliseconds());
    assert_eq!(available(&client, "S0").await, ON_HAND);
    program.stop();
    shop.verify();
}

/// It may be refused for what it has done itself.
async fn a_refusal_of_a_key_that_cannot_be_looked_up_is_in_doubt(ground: Ground) {
    let shop = leave(ground);
    let program = InProcess::start(&shop, PAYMENT_TIMEOUT);
    let client = Client::new(program.url());
    assert_eq!(client.put("/carts/ann/items/S0", &json!({"count": 3})).await.status, 200);
    let purchase = async || client.post_with_key("/carts/ann/purchase", "all", &Value::Null).await;
    let bought = purchase().await;
    assert_eq!(bought.status, 201, "{bought:?}");
    program.traps.plant(Place::Outcome);
    let in_doubt = purchase().await;
    assert!(program.traps.is_sprung(Place::Outcome), "nobody has looked");
    assert!(in_doubt.is_refusal(503, "unavailable"), "{in_doubt:?}");
    assert!(!in_doubt.body["detail"].to_string().contains("nothing was changed"), "{in_doubt:?}");
    let again = purchase().await;
    assert_eq!((again.status, &again.body), (201, &bought.body));
    program.stop();
    shop.verify();
}

on_each_store!(
    the_process_ends_and_the_next_one_is_right,
    a_panic_in_the_minding_of_deadlines_ends_the_process,
    a_panic_in_a_cart_or_an_order_harms_no_other,
    an_order_that_panics_at_its_deadline_is_cancelled_all_the_same,
    a_refusal_of_a_key_that_cannot_be_looked_up_is_in_doubt,
);
