//! More actors than there is room for: who has to leave has answered everything that was sent to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;

const MESSAGES: usize = 20;

/// Counts what it was asked, and what all were asked.
struct Counter {
    own: usize,
    all: Arc<AtomicUsize>,
}

#[derive(Message)]
#[rtype(usize)]
struct Count;

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Resident for Counter {
    type Shown = ();

    fn shown(&self) {}
}

impl Handler<Count> for Counter {
    type Result = usize;

    fn handle(&mut self, _: Count, _: &mut Self::Context) -> usize {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.own += 1;
        self.own
    }
}

impl Handler<Leave> for Counter {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Self::Context) {
        context.stop();
    }
}

struct Room {
    live: Live<usize, Counter>,
    all: Arc<AtomicUsize>,
}

impl Room {
    fn for_so_many(live_max: usize) -> Self {
        Self { live: Live::new(live_max), all: Arc::default() }
    }

    fn ask(&self, key: usize) -> Request<Counter, Count> {
        self.live.send(&key, Count, || Counter { own: 0, all: Arc::clone(&self.all) })
    }
}

#[actix_rt::test]
async fn who_has_to_give_way_answers_what_was_sent_before() {
    let keys = 10 * SHARDS;
    let room = Room::for_so_many(SHARDS);
    // All are sent before anybody comes to handle one.
    let asked: Vec<_> = (0..keys).flat_map(|key| (0..MESSAGES).map(move |_| key)).map(|key| room.ask(key)).collect();
    assert!(room.live.count() <= SHARDS, "{} are live", room.live.count());
    let answers = join_all(asked).await;
    let own: Vec<usize> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    assert!(own.chunks(MESSAGES).all(|answers| answers.iter().copied().eq(1..=MESSAGES)));
    assert_eq!(room.all.load(Ordering::Relaxed), keys * MESSAGES);
}

#[actix_rt::test]
async fn who_retires_answers_what_was_sent_before_and_another_one_comes_after() {
    let room = Room::for_so_many(SHARDS);
    let before = [room.ask(1), room.ask(1)];
    let address = room.live.shard(&1).get(&1).expect("it is live").address.clone();
    room.live.retire(&1, &address);
    assert!(!room.live.is_live(&1));
    let after = room.ask(1);
    // One that is not live any more takes nobody's place with it.
    room.live.retire(&1, &address);
    assert!(room.live.is_live(&1));
    let before = join_all(before).await;
    assert!(before.into_iter().map(|answer| answer.expect("an answer")).eq([1, 2]));
    assert_eq!(after.await.expect("an answer"), 1);
}

#[test]
fn a_panic_while_an_actor_is_made_harms_no_other() {
    let live = Live::<OrderId, Order>::new(10);
    let torn = std::panic::AssertUnwindSafe(|| live.tell(&OrderId(1), Leave, || panic!("planted")));
    assert!(std::panic::catch_unwind(torn).is_err());
    assert!((0..100).all(|id| !live.is_live(&OrderId(id))), "every shard can be looked at");
    assert_eq!(live.count(), 0);
}
