//! SIGKILL and SIGTERM under load: what was acknowledged is there after the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::buyers::{Buyer, SKUS};
use crate::support::client::Client;
use crate::support::distant_shop::DistantShop;
use crate::support::fragile_shop::{Ground, Shop, on_each_store, order_of, path_of, skus};
use crate::support::program::Settings;
use crate::support::raw_connection::{RawConnection, address_of, post};
use crate::support::rounds::Rounds;
use crate::support::tcp_proxy::Action;

const CYCLES: usize = 20;
const CYCLES_FULL: usize = 500;
const BUYERS: usize = 16;
/// How long there is load before the blow. It varies, so that it falls at many places.
const LOAD_MS: (u64, u64) = (300, 25);
const LOADS: usize = 20;
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

fn open(ground: Ground) -> (Shop, Vec<Buyer>) {
    let shop = Shop::open(ground, &skus(SKUS, 1_000_000_000), Settings::new());
    (shop, (0..BUYERS).map(|number| Buyer::new(&format!("buyer-{number}"))).collect())
}

/// All of them buy, each on a connection of its own, until they are told to stop or cannot go on.
fn start_buying(client: &Client, buyers: Vec<Buyer>, stop: &Arc<AtomicBool>) -> JoinSet<Buyer> {
    let buy = |mut buyer: Buyer| {
        let (client, stop) = (client.clone(), Arc::clone(stop));
        async move {
            buyer.buy(&client, &stop).await;
            buyer
        }
    };
    buyers.into_iter().map(buy).collect()
}

async fn check_all(client: &Client, buyers: &mut [Buyer]) {
    for buyer in buyers {
        buyer.check(client).await;
    }
}

async fn what_was_acknowledged_survives_a_kill(ground: Ground) {
    let bar = format!("B1 SIGKILL of the server under load, {}", ground.name());
    let (mut cycles, (mut shop, mut buyers)) = (Rounds::of(&bar, CYCLES, CYCLES_FULL), open(ground));
    while let Some(cycle) = cycles.next_round() {
        let stop = Arc::default();
        let buying = start_buying(&shop.client(), buyers, &stop);
        let load_ms = LOAD_MS.0 + LOAD_MS.1 * u64::try_from(cycle % LOADS).expect("small");
        tokio::time::sleep(Duration::from_millis(load_ms)).await;
        shop.program.kill();
        stop.store(true, Ordering::Relaxed);
        buyers = buying.join_all().await;
        shop.program.restart();
        check_all(&shop.client(), &mut buyers).await;
        shop.verify();
    }
    let told: usize = buyers.iter().map(|buyer| buyer.told).sum();
    assert!(told > cycles.total() * BUYERS, "there was no load");
    cycles.held(format_args!("{told} acknowledged requests, none lost"));
}

/// Whoever was answered was answered in full and truly; who was not finds their request done or
/// not done, but never half; and the program ends in good order within its limit.
async fn a_stop_under_load_is_in_good_order(ground: Ground) {
    let (mut shop, mut buyers) = open(ground);
    for _ in 0..3 {
        let stop = Arc::default();
        let buying = start_buying(&shop.client(), buyers, &stop);
        tokio::time::sleep(Duration::from_millis(LOAD_MS.0)).await;
        let began = Instant::now();
        let ended = shop.program.terminate();
        eprintln!("stopped under load in {:?}", began.elapsed());
        assert_eq!(ended.code(), Some(0), "{}", shop.program.output());
        assert!(began.elapsed() < STOP_TIME_MAX, "it took {:?} to stop", began.elapsed());
        stop.store(true, Ordering::Relaxed);
        buyers = buying.join_all().await;
        shop.program.restart();
        check_all(&shop.client(), &mut buyers).await;
        shop.verify();
    }
}

on_each_store!(what_was_acknowledged_survives_a_kill, a_stop_under_load_is_in_good_order);

/// Each order takes a second on the way to the database: all are under way when the program is told to stop.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_admitted_is_answered_before_the_program_ends() {
    const ORDERS: usize = 8;
    let Some(mut scene) = DistantShop::open(0).await else { return };
    scene.proxy.set_hook(|_| Action::Delay(Duration::from_millis(200)));
    let address = address_of(scene.shop.program.url());
    let mut asked = Vec::new();
    for number in 0..ORDERS {
        let mut connection = RawConnection::open(address).await.expect("connected");
        let order = order_of(&format!("buyer-{number}"), "S0", 1).to_string();
        connection.send(&post("/orders", "", &order)).await.expect("sent");
        asked.push(connection);
    }
    // Who comes after them is served, so they are being served too.
    assert_eq!(scene.shop.client().get("/livez").await.status, 200);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ended = scene.shop.program.terminate();
    assert_eq!(ended.code(), Some(0), "{}", scene.shop.program.output());
    let mut orders = Vec::new();
    for connection in &mut asked {
        let answer = connection.receive().await.expect("an answer");
        assert_eq!(answer.status, 201, "{answer:?}");
        orders.push(serde_json::from_str::<Value>(&answer.body).expect("an order"));
    }
    scene.proxy.pass();
    scene.shop.program.restart();
    let client = scene.shop.client();
    for order in orders {
        assert_eq!(client.get(&path_of(&order)).await.body, order);
    }
    scene.shop.verify();
}
