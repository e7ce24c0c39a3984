//! A process is halted (SIGSTOP) in the middle of a batch, and another one takes over its place.
//! When the first goes on, whatever it still writes is refused, and nothing that it says is false.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::support::batches::{Hold, hold_next_batch};
use crate::support::client::{Client, eventually};
use crate::support::crowd::Crowd;
use crate::support::distant_shop::DistantShop;
use crate::support::postgres::{Database, forget_writers};
use crate::support::private_server::signal_process;
use crate::support::program::Program;
use crate::support::rounds::Rounds;
use crate::support::shop::{Shop, assert_problem};

const TAKEOVERS: usize = 4;
const TAKEOVERS_FULL: usize = 100;
const BUYERS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a process may be silent before its place is free.
const REFUSED_FOR: Duration = Duration::from_secs(17);
/// So many that one of them always waits for the end of another one's batch.
const REFUSED_CLIENTS: usize = 32;
/// What a process says that finds its place taken, before it ends.
const LAST_WORDS: &str = "another process has taken over this writer's place";

async fn count_writers(database: &Database) -> i64 {
    let mut connection = PgConnection::connect(&database.url()).await.expect("connected");
    sqlx::query_scalar("select count(*) from writers").fetch_one(&mut connection).await.expect("counted")
}

/// Other buyers come to the successor, and find everything in order there.
async fn go_on_at(successor: &Client, crowd: &mut Crowd) {
    let told = crowd.told();
    crowd.start(successor).await;
    crowd.stop().await;
    crowd.check(successor).await;
    assert!(crowd.told() > told, "there was no load");
}

/// Halts the shop's process at this point of a batch and gives the process that took over its place.
async fn replace(scene: &mut DistantShop, hold: Hold, successor: Option<Program>, guests: &mut Crowd) -> Program {
    let client = scene.shop.client();
    scene.crowd.start(&client).await;
    let held = hold_next_batch(&scene.proxy, hold);
    tokio::time::timeout(PATIENCE, held).await.expect("a batch within the time limit").expect("held");
    signal_process(scene.shop.program.id(), "STOP");
    forget_writers(&scene.database.url());
    let successor = match successor {
        Some(mut ended) => {
            ended.restart();
            ended
        }
        None => scene.shop.second_process(),
    };
    assert_eq!(count_writers(&scene.database).await, 1, "nobody's place was taken");
    go_on_at(&Client::new(successor.url()), guests).await;
    successor
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_halted_and_replaced_is_refused() {
    let mut rounds = Rounds::of("B7 halted in a batch, replaced, resumed", TAKEOVERS, TAKEOVERS_FULL);
    let Some(mut scene) = DistantShop::open(BUYERS).await else { return };
    let (mut ended, mut guests) = (None, Crowd::of(BUYERS, "guest"));
    while let Some(round) = rounds.next_round() {
        let hold = if round % 2 == 0 { Hold::OnItsWay } else { Hold::ItsAnswer };
        let successor = replace(&mut scene, hold, ended.take(), &mut guests).await;
        let mut replaced = std::mem::replace(&mut scene.shop.program, successor);
        let words_before = replaced.output().matches(LAST_WORDS).count();

        // What was on its way arrives now, and the process does not know yet.
        scene.proxy.pass();
        signal_process(replaced.id(), "CONT");
        let status = replaced.wait_for_end(PATIENCE);
        assert_eq!(status.code(), Some(1), "{}", replaced.output());
        let said = || async { replaced.output().matches(LAST_WORDS).count() == words_before + 1 };
        assert!(eventually(PATIENCE, said).await, "{}", replaced.output());

        scene.crowd.stop().await;
        let client = scene.shop.client();
        scene.crowd.check(&client).await;
        guests.check(&client).await;
        scene.shop.verify();
        ended = Some(replaced);
    }
    let told = scene.crowd.told() + guests.told();
    rounds.held(format_args!("the old one always refused; {told} acknowledged requests, none lost"));
}

/// Nothing is written for what is refused, not even that the process lives.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_refuses_keeps_its_place() {
    let Some(shop) = Shop::on_postgres() else { return };
    shop.order("ann", &[("PEN", 1)]).await;
    let began = Instant::now();
    let refused = async || {
        while began.elapsed() < REFUSED_FOR {
            let refused = shop.client.put("/stocks/PEN/1", &json!({"on_hand": 0})).await;
            assert_problem(&refused, 409, "below_reserved");
        }
    };
    join_all((0..REFUSED_CLIENTS).map(|_| refused())).await;
    // Whoever starts takes the place of a process that was silent for so long.
    let _second = shop.second_process();
    shop.order("bob", &[("PEN", 1)]).await;
    shop.assert_books_are_right();
}
