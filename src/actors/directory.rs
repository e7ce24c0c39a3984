//! Which carts and orders are live, and where. It owns the only long-lived address of each.
//!
//! A message is put into the mailbox under the directory's lock. An actor that leaves is taken out
//! under the same lock and then told by a last message: everything that was sent before stands in
//! front of it, so passivation loses nothing. Should the next incarnation start while the old one
//! still drains its mailbox, the versions in the database decide who is right.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use actix::dev::ToEnvelope;
use actix::prelude::*;
use indexmap::IndexMap;

use crate::domain::{OrderId, UserId};

use super::COMMANDS_UNDER_WAY_MAX;
use super::cart::Cart;
use super::order::Order;

/// How many carts stay in memory; past it, one leaves for each that comes.
const CARTS_LIVE_MAX: usize = 200_000;
/// How many orders may be live. Past it they are left to the sweep of the deadlines.
const ORDERS_LIVE_MAX: usize = 4_000_000;
const SHARDS: usize = 64;

pub struct Directory {
    pub carts: Live<UserId, Cart>,
    pub orders: Live<OrderId, Order>,
}

/// The live actors of one kind.
pub struct Live<K, A: Resident> {
    shards: Vec<Mutex<Shard<K, A>>>,
    hasher: RandomState,
    shard_live_max: usize,
}

/// In a table from which any entry can be taken at once: to look for one in millions takes longer than an order.
type Shard<K, A> = IndexMap<K, Entry<A>>;

/// An actor that can be live here.
pub trait Resident: Actor<Context = Context<Self>> + Handler<Leave> {
    /// What others may look at without a message; nothing for most.
    type Shown: Clone;

    fn shown(&self) -> Self::Shown;
}

struct Entry<A: Resident> {
    address: Addr<A>,
    shown: A::Shown,
}

/// The last message of an actor that was taken out of the directory.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave;

impl Default for Directory {
    fn default() -> Self {
        Self { carts: Live::new(CARTS_LIVE_MAX), orders: Live::new(ORDERS_LIVE_MAX) }
    }
}

impl<K: Hash + Eq + Clone, A: Resident> Live<K, A> {
    fn new(live_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), shard_live_max: live_max.div_ceil(SHARDS) }
    }

    /// Sends to the live actor, or to a new one that starts on the current thread. A message
    /// whose answer is no longer awaited when its turn comes is skipped.
    pub fn send<M>(&self, key: &K, message: M, start: impl FnOnce() -> A) -> Request<A, M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        self.at_address(key, start, |address| address.send(message))
    }

    /// Sends where no answer is awaited; gives whether the mailbox had room.
    pub fn tell<M>(&self, key: &K, message: M, start: impl FnOnce() -> A) -> bool
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        self.at_address(key, start, |address| address.try_send(message).is_ok())
    }

    fn at_address<R>(&self, key: &K, start: impl FnOnce() -> A, send: impl FnOnce(&Addr<A>) -> R) -> R {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.get(key).filter(|entry| entry.address.connected()) {
            return send(&entry.address);
        }
        if shard.len() >= self.shard_live_max {
            let any = rand::random_range(0..shard.len());
            shard.swap_remove_index(any).iter().for_each(|(_, entry)| dismiss(&entry.address));
        }
        let actor = start();
        let shown = actor.shown();
        let address = A::create(|context| {
            // Before the first message, or only a few would have room until the actor runs, and who waits for room is
            // torn off where it has to leave.
            context.set_mailbox_capacity(COMMANDS_UNDER_WAY_MAX);
            actor
        });
        let sent = send(&address);
        shard.insert(key.clone(), Entry { address, shown });
        sent
    }

    /// What the live actor shows.
    #[must_use]
    pub fn shown(&self, key: &K) -> Option<A::Shown> {
        self.shard(key).get(key).filter(|entry| entry.address.connected()).map(|entry| entry.shown.clone())
    }

    #[must_use]
    pub fn is_live(&self, key: &K) -> bool {
        self.shown(key).is_some()
    }

    /// Takes the actor out; it ends when it has handled what was sent to it so far.
    pub fn retire(&self, key: &K, address: &Addr<A>) {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|entry| entry.address == *address) {
            shard.swap_remove(key);
        }
        dismiss(address);
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// A panic under this lock leaves the map whole: at the worst one has left, and nobody came instead.
    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, A>> {
        let shard = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "one last message, which a full mailbox must not refuse")]
fn dismiss<A: Resident>(address: &Addr<A>) {
    address.do_send(Leave);
}

#[cfg(test)]
mod tests;
