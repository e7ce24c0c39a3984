//! Far more buyers than units: exactly what is there is sold, in one process and across two.

use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::support::client::Client;
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, skus};
use crate::support::program::Settings;
use crate::support::rounds::Rounds;

const ROUNDS: usize = 2;
const ROUNDS_FULL: usize = 100;
const STOCK: i64 = 100;
const BUYERS: usize = 500;
const BUYERS_FULL: usize = 10_000;
/// How many of them ask at the same moment; below what is refused as overload.
const AT_ONCE: usize = 500;

async fn exactly_what_is_there_is_sold(bar: &str, shop: &Shop, doors: &[Client]) {
    let mut rounds = Rounds::of(bar, ROUNDS, ROUNDS_FULL);
    let buyers = if rounds.total() > ROUNDS { BUYERS_FULL } else { BUYERS };
    while let Some(round) = rounds.next_round() {
        let sku = &format!("S{round}");
        let buy = async |number: usize| {
            let order = order_of(&format!("buyer-{number}"), sku, 1);
            let answer = doors[number % doors.len()].post("/orders", &order).await;
            if answer.status != 201 {
                assert!(answer.is_refusal(409, "out_of_stock"), "{answer:?}");
                assert_eq!(answer.body["shortages"], json!([{"sku": sku, "requested": 1, "available": 0}]));
            }
            i64::from(answer.status == 201)
        };
        let sold = stream::iter(0..buyers).map(buy).buffer_unordered(AT_ONCE);
        let sold = sold.fold(0, async |sum, one| sum + one).await;
        assert_eq!((sold, available(&doors[0], sku).await), (STOCK, 0), "in round {round}");
    }
    shop.verify();
    rounds.held(format_args!("{buyers} buyers each, {STOCK} sold each time"));
}

fn open(ground: Ground) -> Shop {
    Shop::open(ground, &skus(ROUNDS_FULL, STOCK), Settings::new())
}

async fn a_crowd_buys_exactly_what_is_there(ground: Ground) {
    let bar = format!("F3 a crowd of buyers for stock 100, {}", ground.name());
    let shop = open(ground);
    exactly_what_is_there_is_sold(&bar, &shop, &[shop.client()]).await;
}

on_each_store!(a_crowd_buys_exactly_what_is_there);

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_two_processes_buys_exactly_what_is_there() {
    let Some(ground) = Ground::postgres() else { return };
    let shop = open(ground);
    let second = shop.second_process();
    let doors = [shop.client(), Client::new(second.url())];
    exactly_what_is_there_is_sold("F3 a crowd of buyers for stock 100, at two processes", &shop, &doors).await;
}
