//! What was learnt from the ProductService, how old it is, and who is asking for it again.
//!
//! For one key at most one question is on its way (single flight). It runs in a task of its own,
//! so a caller who goes away neither ends it nor holds up the others, and each caller waits as
//! long as suits him. The flights are shared futures in a map and not the cache's own, because
//! there the first caller runs the question, and all wait for as long as he is polled.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use moka::future::Cache;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::limits::{Limits, QUESTIONS_WAITING_MAX};
use super::service::Failure;

/// A value and the moment before which it was certainly not read.
#[derive(Debug, Clone)]
pub struct Known<V> {
    pub value: V,
    pub asked_at: Instant,
}

/// What a remembered value is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Served without asking.
    Fresh,
    /// Asked for again, and served where that fails.
    Usable,
    /// As if it had never been known.
    TooOld,
}

/// How a kind of value grows old.
pub trait Ageing {
    fn freshness(&self, age: Duration, limits: &Limits) -> Freshness;
}

pub struct Remembered<K, V> {
    shared: Arc<Memory<K, V>>,
    runtime: Handle,
    limits: Limits,
}

struct Memory<K, V> {
    known: Cache<K, Known<V>>,
    flights: Mutex<HashMap<K, Flight<V>>>,
}

/// Resolves to what was learnt; to nothing where the question failed, which is then in the log.
type Flight<V> = Shared<oneshot::Receiver<Option<Known<V>>>>;

impl<K, V> Remembered<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Ageing + Send + Sync + 'static,
{
    pub fn new(entries_max: u64, runtime: Handle, limits: Limits) -> Self {
        // The age is checked at every use; this only frees what is of no use any more.
        let known = Cache::builder().max_capacity(entries_max).time_to_live(limits.price_age_max).build();
        Self { shared: Arc::new(Memory { known, flights: Mutex::default() }), runtime, limits }
    }

    /// The value, asked for by `question` where what is remembered is not fresh; none where there
    /// is neither an answer nor a remembered value that is young enough.
    ///
    /// `admit` may refuse a question before it is asked; it gets the time that there is to wait.
    pub async fn get<Q>(
        &self,
        key: &K,
        admit: impl FnOnce(Duration) -> Result<(), Failure>,
        question: impl FnOnce() -> Q,
    ) -> Option<Known<V>>
    where
        Q: Future<Output = Result<Known<V>, Failure>> + Send + 'static,
    {
        let known = self.shared.known.get(key).await;
        let (patience, may_queue) = match known.as_ref().map(|known| self.freshness(known)) {
            Some(Freshness::Fresh) => return known,
            // There is something to serve, so a place in the queue is left to those without.
            Some(Freshness::Usable) => (self.limits.refresh_wait_max, Duration::ZERO),
            Some(Freshness::TooOld) | None => (self.limits.question_max, self.limits.question_max),
        };
        let learnt = match self.flight(key, || admit(may_queue), question) {
            Ok(flight) => timeout(patience, flight).await.ok().and_then(Result::ok).flatten(),
            Err(refusal) => {
                tracing::debug!(question = ?key, reason = %refusal, "the product service was not asked");
                None
            }
        };
        match learnt {
            Some(learnt) => Some(learnt),
            // Looked up again: time has passed, and another caller may have learnt something newer.
            None => self.shared.known.get(key).await.filter(|known| self.freshness(known) != Freshness::TooOld),
        }
    }

    pub fn freshness(&self, known: &Known<V>) -> Freshness {
        known.value.freshness(known.asked_at.elapsed(), &self.limits)
    }

    /// The question that is on its way for this key, or a new one.
    fn flight<Q>(
        &self,
        key: &K,
        admit: impl FnOnce() -> Result<(), Failure>,
        question: impl FnOnce() -> Q,
    ) -> Result<Flight<V>, Failure>
    where
        Q: Future<Output = Result<Known<V>, Failure>> + Send + 'static,
    {
        let mut flights = self.shared.flights();
        if let Some(flight) = flights.get(key) {
            return Ok(flight.clone());
        }
        if flights.len() >= QUESTIONS_WAITING_MAX {
            return Err(Failure::Busy);
        }
        admit()?;
        let (landing, flight) = oneshot::channel();
        let flight = flight.shared();
        flights.insert(key.clone(), flight.clone());
        // A runtime that has ended drops the task inside `spawn`, which takes this lock.
        drop(flights);

        let entry = FlightEntry { memory: Arc::clone(&self.shared), key: key.clone() };
        let limits = self.limits.clone();
        let question = question();
        self.runtime.spawn(async move {
            let learnt = entry.ask(question, &limits).await;
            // In this order: who comes now either finds the value or starts a flight of his own.
            drop(entry);
            let _ = landing.send(learnt);
        });
        Ok(flight)
    }
}

impl<K: Eq + Hash, V> Memory<K, V> {
    fn flights(&self) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
        // Nothing under this lock can panic half-way, so what it guards is whole.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the flights, given back however the flight ends.
struct FlightEntry<K: Eq + Hash, V> {
    memory: Arc<Memory<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for FlightEntry<K, V> {
    fn drop(&mut self) {
        self.memory.flights().remove(&self.key);
    }
}

impl<K, V> FlightEntry<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Ageing + Send + Sync + 'static,
{
    async fn ask(
        &self,
        question: impl Future<Output = Result<Known<V>, Failure>>,
        limits: &Limits,
    ) -> Option<Known<V>> {
        // The flight before may have landed between our caller's look at the memory and his
        // look at the flights.
        if let Some(known) = self.memory.known.get(&self.key).await
            && known.value.freshness(known.asked_at.elapsed(), limits) == Freshness::Fresh
        {
            return Some(known);
        }
        match question.await {
            Ok(known) => {
                self.memory.known.insert(self.key.clone(), known.clone()).await;
                Some(known)
            }
            Err(failure) if failure.was_never_sent() => {
                tracing::debug!(question = ?self.key, reason = %failure, "the product service was not asked");
                None
            }
            Err(failure) => {
                let error: &(dyn std::error::Error + 'static) = &failure;
                tracing::warn!(question = ?self.key, error, "the product service gave no answer");
                None
            }
        }
    }
}
