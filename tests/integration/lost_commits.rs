//! The connection to PostgreSQL breaks while a batch is under way. Whatever a client was told then
//! is true: what was done is there, and nothing is there of which it was said that it was not done.

use std::time::{Duration, Instant};

use crate::support::batches::{Break, break_next_batch, is_batch};
use crate::support::client::{Client, eventually};
use crate::support::crowd::Crowd;
use crate::support::distant_shop::DistantShop;
use crate::support::fragile_shop::order_of;
use crate::support::rounds::Rounds;
use crate::support::tcp_proxy::Action;

const BREAKS: usize = 40;
/// Of each of four ways: 1,336 in all.
const BREAKS_FULL: usize = 334;
const BUYERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the network is away: longer than any limit of the program.
const BLACK_HOLE: Duration = Duration::from_secs(7);
/// Nobody waits longer for an answer, whatever the network does.
const ANSWER_MAX: Duration = Duration::from_secs(6);
const RECOVERY_MAX: Duration = Duration::from_secs(5);

async fn stop_buying_and_check(crowd: &mut Crowd, client: &Client) {
    crowd.stop().await;
    assert!(eventually(RECOVERY_MAX, || is_served(client)).await, "it does not serve again");
    crowd.check(client).await;
}

async fn is_served(client: &Client) -> bool {
    client.post("/orders", &order_of("anybody", "S0", 1)).await.status == 201
}

async fn every_answer_is_true_though_the_connection_breaks(how: Break, what: &str) {
    let mut breaks = Rounds::of(&format!("D1 {what}"), BREAKS, BREAKS_FULL);
    let Some(DistantShop { shop, proxy, mut crowd, database: _database }) = DistantShop::open(BUYERS).await else {
        return;
    };
    let client = shop.client();
    while breaks.next_round().is_some() {
        crowd.start(&client).await;
        let broken = break_next_batch(&proxy, how);
        tokio::time::timeout(PATIENCE, broken).await.expect("a batch within the time limit").expect("broken");
        if how == Break::DeliveredLate {
            // It must not be written, when it arrives after the program went on without it.
            assert!(eventually(RECOVERY_MAX, || is_served(&client)).await, "it does not serve again");
            proxy.pass();
        }
        stop_buying_and_check(&mut crowd, &client).await;
    }
    proxy.pass();
    shop.verify();
    breaks.held(format_args!("{} acknowledged requests, none lost", crowd.told()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_lost_before_it_arrives_misleads_nobody() {
    every_answer_is_true_though_the_connection_breaks(Break::BeforeItArrives, "a batch is lost on its way").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_is_lost_misleads_nobody() {
    every_answer_is_true_though_the_connection_breaks(Break::BeforeItsAnswer, "the answer of a commit is lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_is_a_panic_misleads_nobody() {
    every_answer_is_true_though_the_connection_breaks(Break::AnsweredWithAPanic, "the server panics after a commit")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_arrives_late_misleads_nobody() {
    every_answer_is_true_though_the_connection_breaks(Break::DeliveredLate, "a batch arrives late").await;
}

/// Nothing arrives for a while and nobody is told: every request still ends within its limit, and
/// the service recovers by itself. Whether the old connections then live again or not.
async fn a_black_hole_ends_no_promise(connections_survive: bool) {
    let Some(mut scene) = DistantShop::open(BUYERS).await else { return };
    let client = scene.shop.client();
    scene.crowd.start(&client).await;
    assert!(eventually(PATIENCE, || is_served(&client)).await);
    scene.proxy.black_hole();
    let began = Instant::now();
    while began.elapsed() < BLACK_HOLE {
        let asked = Instant::now();
        let order = client.post("/orders", &order_of("anybody", "S0", 1)).await;
        assert!(order.is_refusal(503, "unavailable"), "{order:?}");
        let order = client.get("/orders/1").await;
        assert!(order.is_refusal(503, "unavailable"), "{order:?}");
        assert!(asked.elapsed() < 2 * ANSWER_MAX, "answered after {:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if !connections_survive {
        scene.proxy.cut_all();
    }
    scene.proxy.pass();
    let back = Instant::now();
    stop_buying_and_check(&mut scene.crowd, &client).await;
    eprintln!("after a black hole (connections survive: {connections_survive}) it served within {:?}", back.elapsed());
    scene.shop.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_that_ends_misleads_nobody() {
    a_black_hole_ends_no_promise(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_that_swallows_the_connections_misleads_nobody() {
    a_black_hole_ends_no_promise(false).await;
}

/// The network dies in the middle of a read, when the program waits for nothing but the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_answer_never_comes_is_given_up() {
    let Some(scene) = DistantShop::open(BUYERS).await else { return };
    let client = scene.shop.client();
    assert!(is_served(&client).await);
    scene.proxy.set_hook(|chunk| if chunk.is_sent_with("from orders") { Action::Stall } else { Action::Pass });
    let asked = Instant::now();
    let order = client.get("/orders/1").await;
    assert!(order.is_refusal(503, "unavailable"), "{order:?}");
    assert!(asked.elapsed() < ANSWER_MAX, "answered after {:?}", asked.elapsed());
    assert!(is_served(&client).await, "one lost read stops the rest");
}

/// A commit is in doubt, and the connection that was to clear it up dies in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_is_cleared_up_though_the_next_connection_dies_too() {
    let Some(mut scene) = DistantShop::open(BUYERS).await else { return };
    let client = scene.shop.client();
    scene.crowd.start(&client).await;
    let (mut cut, mut lost) = (None, None);
    let (dies, died) = tokio::sync::oneshot::channel();
    let mut dies = Some(dies);
    scene.proxy.set_hook(move |chunk| {
        if cut.is_none() && is_batch(&chunk) {
            cut = Some(chunk.connection);
            return Action::Cut;
        }
        if lost.is_none() && cut.is_some() && chunk.is_sent_with("update writers set epoch") {
            lost = Some(chunk.connection);
            dies.take().map(|dies| dies.send(()));
        }
        if lost == Some(chunk.connection) { Action::Stall } else { Action::Pass }
    });
    tokio::time::timeout(PATIENCE, died).await.expect("within the time limit").expect("a connection that died");
    assert!(eventually(2 * ANSWER_MAX, || is_served(&client)).await, "it waits for a dead connection");
    stop_buying_and_check(&mut scene.crowd, &client).await;
    scene.shop.verify();
}
