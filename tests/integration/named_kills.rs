//! SIGKILL of the server at points that are known by name: a proxy sees what it sends and gets.
//!
//! Between the effect and the acknowledgement of an event the notifier is killed: see
//! `consumer_kills`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use crate::support::batches::{Hold, hold_next_batch};
use crate::support::client::{Client, eventually, try_answered};
use crate::support::distant_shop::DistantShop;
use crate::support::fragile_shop::order_of;
use crate::support::notifier::Notifier;
use crate::support::postgres::{Database, forget_writers};
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::receiver::{Behaviour, Receiver};
use crate::support::rounds::Rounds;
use crate::support::shop::Shop;
use crate::support::tcp_proxy::{Action, Direction, TcpProxy};
use crate::support::witness;

const KILLS: usize = 5;
const KILLS_WITH_BROKER: usize = 3;
const KILLS_FULL: usize = 100;
const BUYERS: usize = 6;
/// They order with a key, and ask again with it.
const KEYED: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// From one kill to the next so many messages further: a prime, so that each has its turn in the end.
const START_STEP: usize = 101;

/// What becomes of the bytes that were under way when the server died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lost,
    /// They arrive when it is dead.
    Arrives,
}

impl Fate {
    fn of(round: usize) -> Self {
        if round.is_multiple_of(2) { Self::Lost } else { Self::Arrives }
    }

    fn befall(self, proxy: &TcpProxy) {
        if self == Self::Lost {
            proxy.cut_all();
        }
        proxy.pass();
    }
}

/// An order of the user, whose key is the user's name.
async fn ask_with_key(client: Client, user: String) -> Option<Value> {
    let order = order_of(&user, "S0", 1);
    let answer = try_answered(client.request(Method::POST, "/orders", Some(&user)).json(&order)).await.ok()?;
    (answer.status == 201).then_some(answer.body)
}

/// Whoever got no answer asks again, and whoever got one too: one order each, and the same.
async fn keys_have_acted_once(client: &Client, asked: Vec<(String, Option<Value>)>) {
    for (user, told) in asked {
        let again = ask_with_key(client.clone(), user.clone()).await.expect("an order");
        if let Some(told) = told {
            assert_eq!(again, told, "{user} was told of another order");
        }
        let listed = client.get(&format!("/orders?user={user}")).await.body;
        assert_eq!(listed["orders"].as_array().map(Vec::len), Some(1), "{listed}");
    }
}

/// All that happened is told, to the last event. (Of a new order nobody is.)
async fn every_event_is_told(database: &Database) {
    let untold = "select writer_id || '-' || seq from events where status <> 'new' and not exists (
        select from notifications where event_id = writer_id || '-' || seq and outcome = 'sent') limit 10";
    let mut connection = PgConnection::connect(&database.url()).await.expect("connected");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let untold: Vec<String> = sqlx::query_scalar(untold).fetch_all(&mut connection).await.expect("read");
        if untold.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "nobody was told of {untold:?}");
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// The server is killed while its batch is held up.
async fn killed_at_a_batch(hold: Hold, bar: &str) {
    let mut rounds = Rounds::of(bar, KILLS, KILLS_FULL);
    let Some(mut scene) = DistantShop::open(BUYERS).await else { return };
    while let Some(round) = rounds.next_round() {
        let client = scene.shop.client();
        scene.crowd.start(&client).await;
        let mut asking = JoinSet::new();
        for number in 0..KEYED {
            let (client, user) = (client.clone(), format!("key-{round}-{number}"));
            asking.spawn(async move { (user.clone(), ask_with_key(client, user).await) });
        }
        let held = hold_next_batch(&scene.proxy, hold);
        tokio::time::timeout(PATIENCE, held).await.expect("a batch within the time limit").expect("held");
        scene.shop.program.kill();
        Fate::of(round).befall(&scene.proxy);
        scene.crowd.stop().await;
        let asked = asking.join_all().await;

        forget_writers(&scene.database.url());
        scene.shop.program.restart();
        let client = scene.shop.client();
        keys_have_acted_once(&client, asked).await;
        scene.crowd.check(&client).await;
        scene.shop.verify();
    }
    every_event_is_told(&scene.database).await;
    rounds.held(format_args!("{} acknowledged requests, none lost; each key acted once", scene.crowd.told()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_when_the_batch_was_sent_loses_nothing() {
    killed_at_a_batch(Hold::OnItsWay, "B2 SIGKILL when a batch was sent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_commit_and_answer_loses_nothing() {
    killed_at_a_batch(Hold::ItsAnswer, "B2 SIGKILL when a batch was committed and not answered").await;
}

/// Holds up the n-th message to the database from now on, and tells.
fn hold_nth_message(proxy: &TcpProxy, n: usize) -> tokio::sync::oneshot::Receiver<()> {
    let (held, holds) = tokio::sync::oneshot::channel();
    let (mut held, mut seen) = (Some(held), 0);
    proxy.set_hook(move |chunk| {
        seen += usize::from(held.is_some() && chunk.direction == Direction::ToServer);
        if seen < n || held.is_none() {
            return Action::Pass;
        }
        // The test may have stopped waiting.
        held.take().map(|held| held.send(()));
        Action::Stall
    });
    holds
}

/// How many messages a start sends until it serves.
fn count_messages_of_a_start(scene: &mut DistantShop) -> usize {
    let seen = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&seen);
    scene.proxy.set_hook(move |chunk| {
        counted.fetch_add(usize::from(chunk.direction == Direction::ToServer), Ordering::Relaxed);
        Action::Pass
    });
    scene.shop.program.restart();
    seen.load(Ordering::Relaxed)
}

/// Killed under load, and once more while it starts again: at one of the messages that it sends.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_recovery_loses_nothing() {
    let mut rounds = Rounds::of("B2 SIGKILL during recovery", KILLS, KILLS_FULL);
    let Some(mut scene) = DistantShop::open(BUYERS).await else { return };
    scene.shop.program.kill();
    let messages = count_messages_of_a_start(&mut scene);
    while let Some(round) = rounds.next_round() {
        let client = scene.shop.client();
        scene.proxy.pass();
        scene.crowd.start(&client).await;
        scene.shop.program.kill();
        scene.crowd.stop().await;

        forget_writers(&scene.database.url());
        let held = hold_nth_message(&scene.proxy, 1 + round * START_STEP % messages);
        scene.shop.program.begin_restart();
        tokio::time::timeout(PATIENCE, held).await.expect("so many messages").expect("held");
        scene.shop.program.kill();
        Fate::of(round).befall(&scene.proxy);

        forget_writers(&scene.database.url());
        scene.shop.program.restart();
        let client = scene.shop.client();
        scene.crowd.check(&client).await;
        scene.shop.verify();
    }
    every_event_is_told(&scene.database).await;
    let told = scene.crowd.told();
    rounds.held(format_args!("while it sends its {messages} messages; {told} acknowledged requests, none lost"));
}

/// In a frame of AMQP 0-9-1: the class and the number of a method.
const PUBLISH: [u8; 4] = [0, 60, 0, 40];
const CONFIRM: [u8; 4] = [0, 60, 0, 80];

/// Holds up what is published, or what confirms it.
fn hold_next_message(proxy: &TcpProxy, fate: Fate) -> tokio::sync::oneshot::Receiver<()> {
    let (held, holds) = tokio::sync::oneshot::channel();
    let (mut held, mut sent_on) = (Some(held), None);
    proxy.set_hook(move |chunk| {
        let contains = |method: [u8; 4]| chunk.bytes.windows(method.len()).any(|window| window == method);
        let is_message = chunk.direction == Direction::ToServer && contains(PUBLISH);
        if is_message {
            sent_on = Some(chunk.connection);
        }
        let is_confirm =
            chunk.direction == Direction::ToClient && sent_on == Some(chunk.connection) && contains(CONFIRM);
        let is_point = match fate {
            Fate::Lost => is_message,
            Fate::Arrives => is_confirm,
        };
        if held.is_none() || !is_point {
            return Action::Pass;
        }
        // The test may have stopped waiting.
        held.take().map(|held| held.send(()));
        Action::Stall
    });
    holds
}

/// The server has published events, and dies before it has marked them as published.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_publishing_and_marking_loses_nothing_and_repeats_nothing() {
    let mut rounds = Rounds::of("B2 SIGKILL when events were published and not marked", KILLS_WITH_BROKER, KILLS_FULL);
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let proxy = TcpProxy::start(broker.address()).await;
    let url = format!("amqp://guest:guest@{}/%2f", proxy.address());
    let Some(mut shop) = Shop::on_postgres_with_broker(&url) else { return };
    let receiver = Receiver::start(|_, _| Behaviour::Answer(200)).await;
    let notifier = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    let mut orders = 0;
    while let Some(round) = rounds.next_round() {
        let held = hold_next_message(&proxy, Fate::of(round));
        let users: Vec<_> = (0..KEYED).map(|number| format!("user-{round}-{number}")).collect();
        // None of them waits for the broker.
        join_all(users.iter().map(|user| shop.order_and_pay(user))).await;
        orders += KEYED;
        tokio::time::timeout(PATIENCE, held).await.expect("a message within the time limit").expect("held");
        shop.program.kill();
        proxy.cut_all();
        proxy.pass();
        forget_writers(shop.database_url());
        shop.program.restart();
        shop.client = Client::new(shop.program.url());
    }
    let all = || async { receiver.book().counts.len() == 2 * orders };
    assert!(eventually(PATIENCE, all).await, "lost: told of {} of {}", receiver.book().counts.len(), 2 * orders);
    let published = || async { shop.client.get("/readyz").await.body["events_waiting"] == 0 };
    assert!(eventually(PATIENCE, published).await, "events are not published");
    assert!(notifier.terminate().success());
    let twice = receiver.book().counts.iter().filter(|(_, count)| **count > 1).count();
    assert_eq!(twice, 0, "events were told twice");
    assert_eq!(witness::parked(&broker).await, Vec::<String>::new());
    let heard = witness::hear_all(&broker, 3 * orders).await;
    let versions = heard.orders_in_order();
    assert!(versions.len() == orders && versions.values().all(|last| *last == 3), "{versions:?}");
    let again = heard.events.len() - heard.ids().len();
    assert!(again >= rounds.total() / 2, "they were marked before the kill");
    shop.assert_books_are_right();
    rounds.held(format_args!("{} events, {again} copies more; each told once", 2 * orders));
}
