//! An order that nobody pays ends at its deadline: not before, hardly after, and also where the
//! program was killed in between. A payment that comes too late is refused, cancelled or not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::Value;

use crate::support::client::{Client, eventually};
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, path_of, skus, time};
use crate::support::program::Settings;

const PAYMENT_TIMEOUT: &str = "3s";
const ORDERS: i64 = 20;
/// What an order is for that the others have nothing to do with.
const EARLY: &str = "S1";
/// How late a cancel may be.
const LATE_MS_MAX: i64 = 250;
/// After a restart past the deadline: how long the first look at the orders may take.
const LATE_AFTER_START: Duration = Duration::from_millis(1_000);
const PATIENCE: Duration = Duration::from_secs(12);

fn open(ground: Ground) -> Shop {
    Shop::open(ground, &skus(2, ORDERS), Settings::new().variable("LOMS_PAYMENT_TIMEOUT", PAYMENT_TIMEOUT))
}

/// Orders of one unit each, which together take all there is.
async fn place_orders(client: &Client) -> Vec<Value> {
    let mut orders = Vec::new();
    for number in 0..ORDERS {
        let placed = client.post("/orders", &order_of(&format!("buyer-{number}"), "S0", 1)).await;
        assert_eq!(placed.status, 201, "{placed:?}");
        assert_eq!(time(&placed.body, "expires_at") - time(&placed.body, "created_at"), TimeDelta::seconds(3));
        orders.push(placed.body);
    }
    assert_eq!(available(client, "S0").await, 0);
    orders
}

async fn all_are_cancelled(client: &Client, orders: &[Value]) -> bool {
    for order in orders {
        if client.get(&path_of(order)).await.body["status"] != "cancelled" {
            return false;
        }
    }
    true
}

/// All are cancelled for this reason, at their deadlines or, where it was too late for that, at the
/// latest at the time given; and the stock is back. Gives the greatest lateness.
async fn assert_cancelled_in_time(client: &Client, orders: &[Value], at_the_latest: Option<DateTime<Utc>>) -> i64 {
    assert!(eventually(PATIENCE, || all_are_cancelled(client, orders)).await, "not all orders were cancelled");
    let mut latest_ms = 0;
    for order in orders {
        let (cancelled, deadline) = (client.get(&path_of(order)).await.body, time(order, "expires_at"));
        let at = time(&cancelled, "updated_at");
        assert_eq!(cancelled["reason"], "payment_timeout");
        assert!(at >= deadline, "cancelled at {at}, before its deadline {deadline}");
        latest_ms = latest_ms.max((at - deadline).num_milliseconds());
        let limit = at_the_latest.unwrap_or(deadline + TimeDelta::milliseconds(LATE_MS_MAX));
        assert!(at <= limit, "cancelled at {at}, the deadline was {deadline}");
        let history = client.get(&format!("{}/events", path_of(order))).await.body;
        let statuses: Vec<_> =
            history["events"].as_array().into_iter().flatten().map(|event| &event["status"]).collect();
        assert_eq!(statuses, ["new", "awaiting_payment", "cancelled"]);
    }
    assert_eq!(available(client, "S0").await, ORDERS, "the stock is not back");
    latest_ms
}

async fn pay_is_refused(client: &Client, order: &Value) {
    let payment = client.post(&format!("{}/pay", path_of(order)), &Value::Null).await;
    assert!(payment.is_refusal(409, "wrong_status"), "payed after its deadline: {payment:?}");
}

async fn minds_an_order(client: &Client) -> bool {
    let metrics = client.get("/metrics").await.body;
    metrics.as_str().is_some_and(|text| text.lines().any(|line| line == "loms_orders_live 1"))
}

async fn wait_for(moment: DateTime<Utc>) {
    assert!(eventually(PATIENCE, || async { now() >= moment }).await);
}

#[expect(clippy::disallowed_methods, reason = "the time of another process, which nobody can move")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

async fn an_unpaid_order_ends_at_its_deadline(ground: Ground) {
    let shop = open(ground);
    let client = shop.client();
    let orders = place_orders(&client).await;
    let latest_ms = assert_cancelled_in_time(&client, &orders, None).await;
    eprintln!("cancelled at most {latest_ms} ms late");
    pay_is_refused(&client, &orders[0]).await;
    shop.verify();
}

async fn an_order_ends_in_time_though_the_program_was_killed(ground: Ground) {
    let mut shop = open(ground);
    let orders = place_orders(&shop.client()).await;
    shop.program.kill();
    shop.program.restart();
    assert!(now() < time(&orders[0], "expires_at"), "this machine is too slow for this test");
    let latest_ms = assert_cancelled_in_time(&shop.client(), &orders, None).await;
    eprintln!("killed, started, and cancelled at most {latest_ms} ms late");
    shop.verify();
}

async fn an_overdue_order_ends_promptly_after_the_start(ground: Ground) {
    let mut shop = open(ground);
    let orders = place_orders(&shop.client()).await;
    shop.program.kill();
    wait_for(time(&orders[orders.len() - 1], "expires_at")).await;
    shop.program.restart();
    let started = now();
    let client = shop.client();
    // Whether or not the cancel has run already. The others are not touched by anybody.
    join_all(orders.iter().step_by(2).map(|order| pay_is_refused(&client, order))).await;
    assert_cancelled_in_time(&client, &orders, Some(started + LATE_AFTER_START)).await;
    shop.verify();
}

/// Each is payed at another moment around its deadline.
async fn a_payment_counts_before_the_deadline_only(ground: Ground) {
    let shop = open(ground);
    let client = shop.client();
    let orders = place_orders(&client).await;
    let pay_around_the_deadline = |(number, order): (i64, &Value)| {
        let (client, path, deadline) = (client.clone(), path_of(order), time(order, "expires_at"));
        async move {
            wait_for(deadline + TimeDelta::milliseconds(5 * (number - ORDERS / 2))).await;
            let payment = client.post(&format!("{path}/pay"), &Value::Null).await;
            let order = client.get(&path).await.body;
            if payment.status == 200 {
                assert!(time(&order, "updated_at") < deadline, "payed at its deadline or later: {order}");
                assert_eq!(order["status"], "payed");
            } else {
                assert!(payment.is_refusal(409, "wrong_status"), "{payment:?}");
                assert_ne!(order["status"], "payed");
            }
            payment.status == 200
        }
    };
    let payed = join_all((0..).zip(&orders).map(pay_around_the_deadline)).await;
    let payed = payed.into_iter().filter(|payed| *payed).count();
    eprintln!("{payed} of {ORDERS} were payed in time");
    let left = ORDERS - i64::try_from(payed).expect("a few");
    assert!(eventually(PATIENCE, || async { available(&client, "S0").await == left }).await);
    shop.verify();
}

on_each_store!(
    an_unpaid_order_ends_at_its_deadline,
    an_order_ends_in_time_though_the_program_was_killed,
    an_overdue_order_ends_promptly_after_the_start,
    a_payment_counts_before_the_deadline_only,
);

/// The process that minds the orders is gone and the other one leaves it some time to come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_payment_is_refused_where_nobody_has_cancelled_yet() {
    let Some(ground) = Ground::postgres() else { return };
    let mut shop = open(ground);
    let early = shop.client().post("/orders", &order_of("early", EARLY, 1)).await;
    assert_eq!(early.status, 201, "{early:?}");
    let second = shop.second_process();
    let client = Client::new(second.url());
    // It minds all orders that it finds at its start; those that come later must not be among them.
    assert!(eventually(PATIENCE, || minds_an_order(&client)).await, "it did not look for orders");
    let orders = place_orders(&shop.client()).await;
    shop.program.kill();
    // The last one: on a busy machine the first may be overdue for so long that it is taken care of.
    let last = orders.last().expect("orders");
    wait_for(time(last, "expires_at")).await;
    let still_waits = client.get(&path_of(last)).await.body["status"] == "awaiting_payment";
    assert!(still_waits, "it was cancelled already: nothing is seen here");
    join_all(orders.iter().rev().step_by(2).map(|order| pay_is_refused(&client, order))).await;
    // The living process takes care of those, too, that nobody asked about.
    assert_cancelled_in_time(&client, &orders, Some(now() + TimeDelta::seconds(10))).await;
    shop.verify();
}
