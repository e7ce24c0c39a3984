//! Payments that come within 50 milliseconds of an order's deadline, on either side: each order is
//! payed before its deadline or cancelled at it or later, never both and never neither.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use crate::support::client::{Answer, Client, eventually};
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, path_of, skus, time};
use crate::support::program::Settings;
use crate::support::rounds::Rounds;

const ORDERS: usize = 200;
const ORDERS_FULL: usize = 10_000;
/// How many of them are alive at once.
const AT_ONCE: usize = 200;
const PAYMENT_TIMEOUT: &str = "1500ms";
const AROUND_MS: i64 = 50;
/// Every other payment aims at the very moment.
const NEAR_US: i64 = 3_000;
const ON_HAND: i64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(15);

#[expect(clippy::disallowed_methods, reason = "the time of another process, which nobody can move")]
fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}

async fn statuses(client: &Client, path: &str) -> Vec<Value> {
    let history = client.get(&format!("{path}/events")).await.body;
    history["events"].as_array().into_iter().flatten().map(|event| event["status"].clone()).collect()
}

/// Pays at a moment around the deadline; gives whether that was in time.
async fn pay_at_the_last_moment(client: &Client, number: usize) -> bool {
    let placed = client.post("/orders", &order_of(&format!("buyer-{number}"), "S0", 1)).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    let (path, deadline) = (path_of(&placed.body), time(&placed.body, "expires_at"));
    let spread = if number.is_multiple_of(2) { AROUND_MS * 1_000 } else { NEAR_US };
    let moment = deadline + TimeDelta::microseconds(rand::random_range(-spread..=spread));
    tokio::time::sleep((moment - now()).to_std().unwrap_or_default()).await;
    let payment = client.post(&format!("{path}/pay"), &Value::Null).await;
    let ended = || async { client.get(&path).await.body["status"] != "awaiting_payment" };
    assert!(eventually(PATIENCE, ended).await, "{path} still awaits payment");
    let order = client.get(&path).await.body;
    assert_is_truly(&payment, &order);
    let end = order["status"].clone();
    assert_eq!(statuses(client, &path).await, [Value::from("new"), Value::from("awaiting_payment"), end]);
    payment.status == 200
}

/// The order is as its payer was told, and its end lies on the right side of the deadline.
fn assert_is_truly(payment: &Answer, order: &Value) {
    let (at, deadline) = (time(order, "updated_at"), time(order, "expires_at"));
    if payment.status == 200 {
        assert_eq!(order["status"], "payed", "{order}");
        assert!(at < deadline, "payed at its deadline or later: {order}");
    } else {
        assert!(payment.is_refusal(409, "wrong_status"), "{payment:?}");
        assert_eq!((&order["status"], &order["reason"]), (&"cancelled".into(), &"payment_timeout".into()), "{order}");
        assert!(at >= deadline, "cancelled before its deadline: {order}");
    }
}

async fn payments_around_the_deadline_count_before_it_only(ground: Ground) {
    let bar = format!("E1 payments within 50 ms of the deadline, {}", ground.name());
    let mut orders = Rounds::of(&bar, ORDERS, ORDERS_FULL);
    let shop = Shop::open(ground, &skus(1, ON_HAND), Settings::new().variable("LOMS_PAYMENT_TIMEOUT", PAYMENT_TIMEOUT));
    let (client, payed) = (shop.client(), AtomicUsize::new(0));
    let each = std::iter::from_fn(|| orders.next_round());
    let pay = async |number| {
        let in_time = pay_at_the_last_moment(&client, number).await;
        payed.fetch_add(usize::from(in_time), Ordering::Relaxed);
    };
    stream::iter(each).map(pay).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    let payed = payed.into_inner();
    assert!(payed > 0 && payed < orders.total(), "{payed} were payed: nothing came around the deadline");
    let left = ON_HAND - i64::try_from(payed).expect("a few");
    assert!(eventually(PATIENCE, || async { available(&client, "S0").await == left }).await, "the stock is not back");
    shop.verify();
    orders.held(format_args!("{payed} payed before it, the others cancelled"));
}

on_each_store!(payments_around_the_deadline_count_before_it_only);
