//! Whoever races for the same thing: one gets it and the other is told so, within one process and
//! across two on one database.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::support::client::{Answer, Client, eventually};
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, path_of, skus};
use crate::support::program::Settings;

const LAST_UNITS: usize = 1_000;
const PAIRS_AT_ONCE: usize = 24;
const PAYMENTS: usize = 200;
const REPETITIONS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(10);

/// Both want the last unit of each SKU at once.
async fn race_for_last_units(shop: &Shop, one: &Client, other: &Client) {
    let began = Instant::now();
    let race = async |number: usize| {
        let sku = format!("S{number}");
        let (ann, bob) = (order_of("ann", &sku, 1), order_of("bob", &sku, 1));
        let (first, second) = tokio::join!(one.post("/orders", &ann), other.post("/orders", &bob));
        let (winner, loser) = if first.status == 201 { (first, second) } else { (second, first) };
        assert_eq!(winner.status, 201, "{winner:?} and {loser:?}");
        assert!(loser.is_refusal(409, "out_of_stock"), "{winner:?} and {loser:?}");
        assert_eq!(loser.body["shortages"], json!([{"sku": sku, "requested": 1, "available": 0}]));
    };
    stream::iter(0..LAST_UNITS).map(race).buffer_unordered(PAIRS_AT_ONCE).collect::<Vec<()>>().await;
    eprintln!("{LAST_UNITS} races in {:?}", began.elapsed());
    shop.verify();
}

async fn two_buyers_of_the_last_unit_get_one_order_and_one_refusal(ground: Ground) {
    let shop = Shop::open(ground, &skus(LAST_UNITS, 1), Settings::new());
    race_for_last_units(&shop, &shop.client(), &shop.client()).await;
}

/// Payed, or cancelled, never both.
async fn race_to_pay_and_cancel(shop: &Shop, one: &Client, other: &Client) {
    let race = async |number: usize| {
        let order = one.post("/orders", &order_of(&format!("buyer-{number}"), "S0", 1)).await.body;
        let (pay, cancel) = (format!("{}/pay", path_of(&order)), format!("{}/cancel", path_of(&order)));
        let (payed, cancelled) = tokio::join!(one.post(&pay, &Value::Null), other.post(&cancel, &Value::Null));
        let status = one.get(&path_of(&order)).await.body["status"].clone();
        match (payed.status, cancelled.status) {
            (200, 409) => assert_eq!(status, "payed"),
            (409, 200) => assert_eq!(status, "cancelled"),
            both => panic!("{both:?}: {payed:?} and {cancelled:?}"),
        }
        i64::from(payed.status == 200)
    };
    let payed = stream::iter(0..PAYMENTS).map(race).buffer_unordered(PAIRS_AT_ONCE);
    let payed = payed.fold(0, async |sum, one| sum + one).await;
    assert!(eventually(PATIENCE, || async { available(one, "S0").await == 1_000 - payed }).await);
    eprintln!("{payed} of {PAYMENTS} were payed");
    shop.verify();
}

async fn of_a_payment_and_a_cancel_one_wins(ground: Ground) {
    let shop = Shop::open(ground, &skus(1, 1_000), Settings::new());
    race_to_pay_and_cancel(&shop, &shop.client(), &shop.client()).await;
}

async fn a_key_that_comes_often_at_once_makes_one_order(ground: Ground) {
    let shop = Shop::open(ground, &skus(1, 1_000), Settings::new());
    let client = shop.client();
    one_order_for_one_key(&client, &[&client]).await;
    shop.verify();
}

on_each_store!(
    two_buyers_of_the_last_unit_get_one_order_and_one_refusal,
    of_a_payment_and_a_cancel_one_wins,
    a_key_that_comes_often_at_once_makes_one_order,
);

/// The same request with the same key from all clients at once: fifty equal answers, one order.
async fn one_order_for_one_key(reader: &Client, clients: &[&Client]) {
    for round in 0..4 {
        let (key, user) = (format!("key-{round}"), format!("ann-{round}"));
        let order = order_of(&user, "S0", 2);
        let before = available(reader, "S0").await;
        let clients = clients.iter().cycle().take(REPETITIONS);
        let answers = join_all(clients.map(|client| client.post_with_key("/orders", &key, &order))).await;
        let seen = |answer: &Answer| (answer.status, answer.body.clone());
        assert_eq!(answers[0].status, 201, "{:?}", answers[0]);
        for answer in &answers {
            assert_eq!(seen(answer), seen(&answers[0]));
        }
        let orders = reader.get(&format!("/orders?user={user}")).await.body;
        assert_eq!(orders["orders"].as_array().map(Vec::len), Some(1), "{orders}");
        assert_eq!(available(reader, "S0").await, before - 2, "the stock was taken more than once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_sell_the_last_unit_once() {
    let Some(ground) = Ground::postgres() else { return };
    let shop = Shop::open(ground, &skus(LAST_UNITS, 1), Settings::new());
    let second = shop.second_process();
    race_for_last_units(&shop, &shop.client(), &Client::new(second.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_payment_in_one_process_and_a_cancel_in_another_one_wins() {
    let Some(ground) = Ground::postgres() else { return };
    let shop = Shop::open(ground, &skus(1, 1_000), Settings::new());
    let second = shop.second_process();
    race_to_pay_and_cancel(&shop, &shop.client(), &Client::new(second.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_make_one_order_for_one_key() {
    let Some(ground) = Ground::postgres() else { return };
    let shop = Shop::open(ground, &skus(1, 1_000), Settings::new());
    let second = shop.second_process();
    let (one, other) = (shop.client(), Client::new(second.url()));
    one_order_for_one_key(&one, &[&one, &other]).await;
    shop.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn goods_that_one_process_takes_in_can_be_bought_in_the_other() {
    let Some(ground) = Ground::postgres() else { return };
    let shop = Shop::open(ground, &skus(2, 1), Settings::new());
    let second = shop.second_process();
    let (one, other) = (shop.client(), Client::new(second.url()));
    assert_eq!(other.post("/orders", &order_of("ann", "S0", 1)).await.status, 201);
    assert!(other.post("/orders", &order_of("ann", "S0", 2)).await.is_refusal(409, "out_of_stock"));

    let goods_in = one.post("/stocks/S0/1/adjustments", &json!({"delta": 5, "reason": "delivery"})).await;
    assert_eq!(goods_in.status, 200, "{goods_in:?}");
    // The other believes in its shortage for a moment, and then looks again.
    let bought = || async { other.post("/orders", &order_of("bob", "S0", 5)).await.status == 201 };
    assert!(eventually(Duration::from_secs(2), bought).await, "the other process does not see the goods");

    // And a warehouse that the other has never seen.
    assert_eq!(one.put("/stocks/S1/7", &json!({"on_hand": 3})).await.status, 200);
    let bought = || async { other.post("/orders", &order_of("cid", "S1", 4)).await.status == 201 };
    assert!(eventually(Duration::from_secs(2), bought).await, "the other process does not see the warehouse");
    shop.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_has_sold_out_goes_into_no_cart_of_the_other() {
    let Some(ground) = Ground::postgres() else { return };
    let shop = Shop::open(ground, &skus(1, 10), Settings::new());
    let second = shop.second_process();
    let (one, other) = (shop.client(), Client::new(second.url()));
    let add = |buyer: usize| {
        let other = &other;
        async move { other.post(&format!("/carts/buyer-{buyer}/items"), &json!({"sku": "S0", "count": 1})).await }
    };
    assert_eq!(add(0).await.status, 200);
    assert_eq!(one.post("/orders", &order_of("ann", "S0", 10)).await.status, 201);
    // The other believes for a moment in what it has read.
    let mut buyers = 0;
    let refused = || {
        buyers += 1;
        async move { add(buyers).await.is_refusal(409, "out_of_stock") }
    };
    assert!(eventually(Duration::from_secs(2), refused).await, "the other process does not see that all is sold");
    shop.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_is_the_same_in_two_processes() {
    let Some(ground) = Ground::postgres() else { return };
    let shop = Shop::open(ground, &skus(1, 1_000), Settings::new());
    let one = shop.client();
    let item = |count: u32| json!({"sku": "S0", "count": count});
    let holds = |answer: &Answer, count: u32| match count {
        0 => answer.body["items"] == json!([]),
        _ => answer.body["items"][0]["count"] == count,
    };
    // It writes alone, and remembers the carts.
    for number in 0..REPETITIONS {
        let items = format!("/carts/buyer-{number}/items");
        assert!(holds(&one.post(&items, &item(1)).await, 1));
    }
    let second = shop.second_process();
    let other = Client::new(second.url());
    for number in 0..REPETITIONS {
        let cart = format!("/carts/buyer-{number}");
        let (items, purchase) = (format!("{cart}/items"), format!("{cart}/purchase"));
        assert!(holds(&other.post(&items, &item(2)).await, 3));
        let shown = one.get(&cart).await;
        assert!(holds(&shown, 3), "{shown:?}");
        assert!(holds(&one.post(&items, &item(4)).await, 7));
        let shown = other.get(&cart).await;
        assert!(holds(&shown, 7), "{shown:?}");
        assert_eq!(one.post(&purchase, &Value::Null).await.status, 201);
        assert!(other.post(&purchase, &Value::Null).await.is_refusal(409, "empty_cart"));
        assert!(holds(&other.post(&items, &item(1)).await, 1));
        let bought = one.post(&purchase, &Value::Null).await;
        assert_eq!(bought.status, 201, "{bought:?}");
        let shown = other.get(&cart).await;
        assert!(holds(&shown, 0), "{shown:?}");
    }
    shop.verify();
}
