//! SIGKILL of the notifier between the effect and the acknowledgement: the moment is known from the
//! bytes of the acknowledgement, which a proxy in front of the broker sees.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use loms::domain::EventId;
use loms::notifications::topology;
use serde_json::Value;

use crate::support::client::eventually;
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::receiver::{Behaviour, Receiver};
use crate::support::rounds::Rounds;
use crate::support::shop::Shop;
use crate::support::tcp_proxy::{Action, Direction, TcpProxy};
use crate::support::witness;

const PATIENCE: Duration = Duration::from_secs(60);
const KILLS: usize = 15;
const KILLS_FULL: usize = 500;
/// Afterwards it is stopped in good order so often.
const STOPS: usize = 5;
/// How long whoever is told takes then, so that a stop comes while some are being told.
const STOP_ANSWER: Duration = Duration::from_millis(300);
/// More than a notifier holds at once, so that it is always full.
const EVENTS_AHEAD: usize = 400;
const SHOPPERS: usize = 25;
/// An order that is paid is told of twice.
const EVENTS_PER_ORDER: usize = 2;
/// In a frame of AMQP 0-9-1: the length of the arguments, and the number of basic.ack.
const ACKNOWLEDGEMENT: [u8; 8] = [0, 0, 0, 13, 0, 60, 0, 80];

const TAKES: Behaviour = Behaviour::Answer(200);

/// What becomes of the acknowledgement at which the notifier is killed.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It never reaches the broker, which delivers everything again.
    Lost,
    /// The broker has it: what was not recorded before is lost for good.
    Arrives,
}

/// Kills the notifier at its n-th acknowledgement of something that its users did not know before.
struct Killer {
    proxy: TcpProxy,
    receiver: Arc<Receiver>,
    /// It closes between the kill and the end of the process: nobody is told any more.
    mood: Arc<Mood>,
}

/// How the receiver behaves now.
struct Mood(Mutex<Behaviour>);

impl Mood {
    fn get(&self) -> Behaviour {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, behaviour: Behaviour) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }
}

impl Killer {
    /// The events of which users were told while it ran.
    async fn run_once(&self, shop: &Shop, nth: usize, fate: Fate) -> Vec<String> {
        self.mood.set(TAKES);
        let (told_before, calls_before) = {
            let book = self.receiver.book();
            (book.counts.len(), book.calls.len())
        };
        let victim = Arc::<Mutex<Option<Notifier>>>::default();
        let (receiver, mood, target) = (Arc::clone(&self.receiver), Arc::clone(&self.mood), Arc::clone(&victim));
        let seen = AtomicUsize::new(0);
        self.proxy.set_hook(move |chunk| {
            let is_acknowledgement = chunk.direction == Direction::ToServer
                && chunk.bytes.windows(ACKNOWLEDGEMENT.len()).any(|window| window == ACKNOWLEDGEMENT);
            let is_new = receiver.book().counts.len() > told_before;
            if !is_acknowledgement || !is_new || seen.fetch_add(1, Ordering::SeqCst) + 1 < nth {
                return Action::Pass;
            }
            mood.set(Behaviour::Close);
            if let Some(notifier) = target.lock().unwrap_or_else(PoisonError::into_inner).take() {
                notifier.kill();
            }
            match fate {
                Fate::Lost => Action::Cut,
                Fate::Arrives => Action::Pass,
            }
        });
        let url = format!("amqp://guest:guest@{}/%2f", self.proxy.address());
        let notifier = Notifier::start(&shop.program, &url, &self.receiver.settings());
        *victim.lock().unwrap_or_else(PoisonError::into_inner) = Some(notifier.clone());
        let killed = || async { notifier.has_ended() && self.mood.get() == Behaviour::Close };
        assert!(eventually(PATIENCE, killed).await, "nothing was acknowledged");
        self.receiver.book().calls[calls_before..].iter().map(|call| call.id().to_owned()).collect()
    }
}

async fn place_orders(shop: &Shop, placed: &mut usize, told: usize) {
    while *placed * EVENTS_PER_ORDER < told + EVENTS_AHEAD {
        let users: Vec<_> = (*placed..*placed + SHOPPERS).map(|number| format!("user-{number}")).collect();
        join_all(users.iter().map(|user| shop.order_and_pay(user))).await;
        *placed += SHOPPERS;
    }
    let published = || async { shop.client.get("/readyz").await.body["events_waiting"] == 0 };
    assert!(eventually(PATIENCE, published).await, "events are not published");
}

/// Those of the events of which there is no record: they were under way when the blow came.
async fn unrecorded(shop: &Shop, ids: Vec<String>) -> Vec<String> {
    let store = loms::store::open(shop.database_url()).await.expect("opened");
    let parsed: Vec<_> = ids.iter().map(|id| EventId::parse(id).expect("an event's id")).collect();
    let known: HashSet<_> = store.known(&parsed).await.expect("read").into_iter().map(|known| known.event).collect();
    store.close().await;
    ids.into_iter().zip(parsed).filter(|(_, id)| !known.contains(id)).map(|(id, _)| id).collect()
}

/// With a batch in hand, which it is to finish.
async fn stop_in_the_middle(shop: &Shop, url: &str, receiver: &Receiver) {
    let before = receiver.book().counts.len();
    let notifier = Notifier::start(&shop.program, url, &receiver.settings());
    let has_begun = || async { receiver.book().counts.len() > before };
    assert!(eventually(PATIENCE, has_begun).await, "nobody is told");
    assert!(notifier.terminate().success(), "it did not end well");
}

async fn assert_each_was_told_once(shop: &Shop, receiver: &Receiver, orders: usize, under_way: &HashSet<String>) {
    let all = || async { receiver.book().counts.len() == orders * EVENTS_PER_ORDER };
    assert!(eventually(PATIENCE, all).await, "lost: {} of {}", receiver.book().counts.len(), orders * EVENTS_PER_ORDER);
    let recorded = || async {
        let last = shop.client.get(&format!("/notifications?user=user-{}", orders - 1)).await;
        let notifications = last.body["notifications"].as_array().expect("a list");
        // By the log, and by the webhook.
        notifications.len() == 2 * EVENTS_PER_ORDER && notifications.iter().all(|one| one["outcome"] == "sent")
    };
    assert!(eventually(PATIENCE, recorded).await, "the last order's events were not recorded");
    for (id, count) in &receiver.book().counts {
        let most = 1 + usize::from(under_way.contains(id));
        assert!(*count <= most, "the event {id} was told {count} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_killed_before_its_acknowledgement_loses_nothing_and_repeats_nothing() {
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let mut kills = Rounds::of("B6 notifier killed between effect and acknowledgement", KILLS, KILLS_FULL);
    let shop = Shop::with_broker(&broker.url());
    let mood = Arc::new(Mood(Mutex::new(TAKES)));
    let receiver = Arc::clone(&mood);
    let receiver = Arc::new(Receiver::start(move |_, _| receiver.get()).await);
    let proxy = TcpProxy::start(broker.address()).await;
    let killer = Killer { proxy, receiver: Arc::clone(&receiver), mood: Arc::clone(&mood) };

    let (mut placed, mut under_way) = (0, HashSet::new());
    while let Some(kill) = kills.next_round() {
        let told = receiver.book().counts.len();
        place_orders(&shop, &mut placed, told).await;
        let fate = if kill % 2 == 0 { Fate::Lost } else { Fate::Arrives };
        let ids = killer.run_once(&shop, 1 + kill % 3, fate).await;
        under_way.extend(unrecorded(&shop, ids).await);
    }
    mood.set(Behaviour::AnswerLate(STOP_ANSWER));
    for _ in 0..STOPS {
        let told = receiver.book().counts.len();
        place_orders(&shop, &mut placed, told).await;
        stop_in_the_middle(&shop, &broker.url(), &receiver).await;
    }
    mood.set(TAKES);
    let last = Notifier::start(&shop.program, &broker.url(), &receiver.settings());
    // Also what waits for the lease of a notifier that was killed with it in hand.
    let worked_off = || async {
        let queues = broker.control(&["list_queues", "name", "messages"]);
        queues.lines().filter(|queue| queue.starts_with(topology::QUEUE)).all(|queue| queue.ends_with("\t0"))
    };
    assert!(eventually(PATIENCE, worked_off).await, "something is left in a queue");
    assert_each_was_told_once(&shop, &receiver, placed, &under_way).await;
    assert!(last.terminate().success());
    assert_eq!(witness::parked(&broker).await, Vec::<String>::new());
    let versions = witness::hear(&broker).await.orders_in_order();
    assert!(versions.len() == placed && versions.values().all(|last| *last == 3), "{versions:?}");
    assert_eq!(shop.client.get("/readyz").await.body["events_waiting"], Value::from(0));
    kills.held(format_args!("{} events, each told once; {} of them were under way", 2 * placed, under_way.len()));
}
