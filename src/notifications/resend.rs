//! What the broker has lost with the notifiers' queue is published again, out of the database.
//!
//! Whoever finds the queue missing makes it again, and leaves a mark in it. The notifier that meets the
//! mark looks for the events that nobody was told of, and puts them into the queue; so this survives
//! every kill in between. What was told already is not told again.

use std::collections::HashMap;

use chrono::TimeDelta;
use lapin::BasicProperties;
use lapin::message::Delivery;
use tokio::time::{Instant, sleep};

use crate::domain::{EventId, OrderEvent, Time};
use crate::store::notification_log::Told;
use crate::store::{Store, StoreError, in_time};

use super::broker::{Broker, BrokerError, Outgoing};
use super::notifier::is_told;
use super::publisher;
use super::topology::QUEUE;

/// The type of the mark.
const QUEUE_MADE: &str = "loms.queue.made";
/// What is older is no news to anybody.
const AGE_HOURS_MAX: i64 = 24;
/// How many events are looked at, and published, at once.
const WINDOW_EVENTS: u32 = 100;
/// So many times as long as a window has taken, nothing is done before the next: customers use the same database.
const REST_TIMES: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Says in the queue that it is new.
pub(super) fn mark() -> Outgoing {
    let properties = BasicProperties::default().with_delivery_mode(publisher::PERSISTENT).with_type(QUEUE_MADE.into());
    Outgoing { exchange: "", routing_key: QUEUE.to_owned(), mandatory: true, properties, body: b"{}".to_vec() }
}

pub(super) fn is_mark(delivery: &Delivery) -> bool {
    delivery.properties.kind().as_ref().is_some_and(|kind| kind.as_str() == QUEUE_MADE)
}

/// Puts into the queue what users were not told of in the last hours; gives how many events.
///
/// # Errors
/// [`ResendError`]; some may be in the queue, and it is to be done again.
pub async fn resend(broker: &Broker, store: &dyn Store, currency: &str, now: Time) -> Result<usize, ResendError> {
    let since = now - TimeDelta::hours(AGE_HOURS_MAX);
    let mut resent = 0;
    for last in in_time(store.last_events()).await? {
        let mut cursor = last_before(store, last, since).await?;
        while cursor.seq < last.seq {
            let began = Instant::now();
            let events = in_time(store.events_after(cursor, WINDOW_EVENTS)).await?;
            let Some(end) = events.last().map(|event| event.id) else { break };
            let untold = untold(store, events).await?;
            resent += untold.len();
            broker.publish(untold.iter().map(|event| again(event, currency)).collect()).await?;
            cursor = end;
            sleep(REST_TIMES * began.elapsed()).await;
        }
    }
    Ok(resent)
}

/// The writer's last event before that time; its events come in the order of their times, give or
/// take a moment.
async fn last_before(store: &dyn Store, last: EventId, since: Time) -> Result<EventId, StoreError> {
    let (mut before, mut after) = (0, last.seq);
    while before < after {
        let middle = before + (after - before) / 2;
        let next = in_time(store.events_after(EventId { seq: middle, ..last }, 1)).await?;
        if next.first().is_some_and(|event| event.at < since) {
            before = middle + 1;
        } else {
            after = middle;
        }
    }
    Ok(EventId { seq: before, ..last })
}

/// Those of which there is no record, or one that waits for another attempt.
async fn untold(store: &dyn Store, mut events: Vec<OrderEvent>) -> Result<Vec<OrderEvent>, StoreError> {
    events.retain(is_told);
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let mut settled: HashMap<EventId, bool> = HashMap::new();
    for known in in_time(store.known(&ids)).await? {
        *settled.entry(known.event).or_insert(true) &= known.told != Told::Waiting;
    }
    events.retain(|event| !settled.get(&event.id).copied().unwrap_or(false));
    Ok(events)
}

/// For the notifiers alone: other queues at the exchange have it.
fn again(event: &OrderEvent, currency: &str) -> Outgoing {
    Outgoing { exchange: "", routing_key: QUEUE.to_owned(), ..publisher::message(event, currency) }
}
