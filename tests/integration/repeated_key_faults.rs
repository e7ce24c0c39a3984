//! A request with an idempotency key comes 2 to 100 times at once, and the program is killed in the
//! middle: one order, one answer. The key with another body, or as another user, gets nothing.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::client::{Answer, Client, try_answered};
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, skus};
use crate::support::program::Settings;
use crate::support::rounds::Rounds;

/// How many keys there are between two kills.
const KEYS_AT_ONCE: usize = 16;
const KEYS: usize = 48;
const KEYS_FULL: usize = 10_000;
const TIMES: (usize, usize) = (2, 100);
const SKUS: usize = 8;
const ON_HAND: i64 = 1_000_000;
/// The blow falls anywhere within this time of the first request.
const BLOW_MS_MAX: u64 = 120;

/// One key, and the request that it stands for.
struct Keyed {
    key: String,
    user: String,
    sku: String,
    times: usize,
}

impl Keyed {
    fn new(number: usize) -> Self {
        let times = rand::random_range(TIMES.0..=TIMES.1);
        Self { key: format!("key-{number}"), user: format!("user-{number}"), sku: format!("S{}", number % SKUS), times }
    }

    fn order(&self) -> Value {
        order_of(&self.user, &self.sku, 1)
    }

    /// All of them at once; gives the answers that came.
    async fn come(&self, client: &Client, times: usize) -> Vec<Answer> {
        let order = self.order();
        let ask = |_| try_answered(client.request(reqwest::Method::POST, "/orders", Some(&self.key)).json(&order));
        join_all((0..times).map(ask)).await.into_iter().filter_map(Result::ok).collect()
    }

    /// Whoever heard of an order heard of the same one; a refusal that has changed nothing says that it may be asked again.
    fn agree(&self, answers: &[Answer]) -> Option<Value> {
        let mut told = None;
        for answer in answers {
            if answer.status == 503 {
                assert_ne!(answer.says_when_to_ask_again(), answer.leaves_in_doubt(), "{answer:?}");
                continue;
            }
            assert_eq!(answer.status, 201, "{}: {answer:?}", self.key);
            assert_eq!(told.get_or_insert(&answer.body), &&answer.body, "{} has two answers", self.key);
        }
        told.cloned()
    }

    /// After everything: one order, and nobody else gets anything for this key.
    async fn check(&self, client: &Client, told: &Value) {
        let of_user = client.get(&format!("/orders?user={}", self.user)).await.body;
        let ids: Vec<_> = of_user["orders"].as_array().into_iter().flatten().map(|order| &order["order_id"]).collect();
        assert_eq!(ids, [&told["order_id"]], "the orders of {}", self.key);
        for other in [order_of(&self.user, &self.sku, 2), order_of("another", &self.sku, 1)] {
            let refused = client.post_with_key("/orders", &self.key, &other).await;
            assert!(refused.is_refusal(422, "idempotency_key_reused"), "{refused:?}");
        }
    }
}

/// The first half of each key's requests over a kill, then the second half, then what came of it.
/// Gives how many answers agreed.
async fn over_a_kill(shop: &mut Shop, keys: Vec<Keyed>) -> usize {
    let client = shop.client();
    let first_half = |keyed: Keyed| {
        let client = client.clone();
        async move { (keyed.come(&client, keyed.times / 2).await, keyed) }
    };
    let coming: JoinSet<_> = keys.into_iter().map(first_half).collect();
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..BLOW_MS_MAX))).await;
    shop.program.kill();
    let before = coming.join_all().await;
    shop.program.restart();
    let client = shop.client();
    let second_half = async |(answers, keyed): (Vec<Answer>, Keyed)| {
        let before = keyed.agree(&answers);
        let after = keyed.come(&client, keyed.times - keyed.times / 2).await;
        let told = keyed.agree(&after).expect("an order after the restart");
        assert!(before.is_none_or(|before| before == told), "{} has another order after the restart", keyed.key);
        keyed.check(&client, &told).await;
        answers.len() + after.len()
    };
    join_all(before.into_iter().map(second_half)).await.into_iter().sum()
}

async fn a_key_acts_once_however_often_it_comes(ground: Ground) {
    let bar = format!("I1 keys that come 2 to 100 times over a kill, {}", ground.name());
    let mut keys = Rounds::of(&bar, KEYS, KEYS_FULL);
    let mut shop = Shop::open(ground, &skus(SKUS, ON_HAND), Settings::new());
    let mut answers = 0;
    loop {
        let batch: Vec<_> = std::iter::from_fn(|| keys.next_round()).take(KEYS_AT_ONCE).collect();
        if batch.is_empty() {
            break;
        }
        answers += over_a_kill(&mut shop, batch.into_iter().map(Keyed::new).collect()).await;
    }
    let client = shop.client();
    let mut sold = 0;
    for number in 0..SKUS {
        sold += ON_HAND - available(&client, &format!("S{number}")).await;
    }
    assert_eq!(sold, i64::try_from(keys.total()).expect("some thousands"), "units were taken for nobody, or twice");
    shop.verify();
    keys.held(format_args!("one order each; {answers} answers agreed"));
}

on_each_store!(a_key_acts_once_however_often_it_comes);
