//! SIGKILL and SIGTERM under load: what was acknowledged is there after the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::buyers::{Buyer, SKUS};
use crate::support::client::Client;
use crate::support::fragile_shop::{Ground, Shop, on_each_store, skus};
use crate::support::program::Settings;
use crate::support::rounds::Rounds;

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
