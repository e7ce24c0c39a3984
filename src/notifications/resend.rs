//! What the broker has lost with the notifiers' queue is published again, out of the database.
//!
//! Whoever finds the queue missing makes it again, and leaves a mark in it. The notifier that meets a
//! mark looks through some of the day's events, puts those that nobody was told of into the queue, and
//! the next mark behind them, which says how far it has come. So other messages are worked off in
//! between, and it survives every kill: what was told already is not told again.

use std::time::Duration;

use chrono::TimeDelta;
use lapin::BasicProperties;
use lapin::message::Delivery;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::domain::{EventId, OrderEvent, Time};
use crate::store::{Store, StoreError, in_time};

use super::broker::Outgoing;
use super::publisher;
use super::topology::QUEUE;

/// The type of a mark.
const QUEUE_MADE: &str = "loms.queue.made";
/// What is older is no news to anybody.
const AGE_HOURS_MAX: i64 = 24;
/// How many events are looked through for one mark.
const WINDOW_EVENTS: i64 = 500;
/// So many times as long as that has taken, nothing is done afterwards: customers use the same database.
const REST_TIMES: u32 = 29;
/// No rest is longer than this, for the messages that came with the mark wait for its end.
const REST_MS_MAX: u64 = 1_000;

/// What a mark says.
#[derive(Default, Serialize, Deserialize)]
struct Progress {
    /// What is still to be looked through; `None` where nobody has begun.
    left: Option<Vec<Stretch>>,
    /// How many events were published again.
    resent: usize,
}

/// A writer's events after one of them, up to another.
#[derive(Serialize, Deserialize)]
struct Stretch {
    writer: i32,
    after: i64,
    until: i64,
}

/// Says in the queue that it is new.
pub(super) fn first_mark() -> Outgoing {
    mark(&Progress::default())
}

fn mark(progress: &Progress) -> Outgoing {
    let properties = BasicProperties::default().with_delivery_mode(publisher::PERSISTENT).with_type(QUEUE_MADE.into());
    // Plain data: writing it as JSON cannot fail.
    let body = serde_json::to_vec(progress).unwrap_or_default();
    Outgoing { exchange: "", routing_key: QUEUE.to_owned(), mandatory: true, properties, body }
}

pub(super) fn is_mark(delivery: &Delivery) -> bool {
    delivery.properties.kind().as_ref().is_some_and(|kind| kind.as_str() == QUEUE_MADE)
}

/// Gives what is to be put into the queue before the mark is acknowledged: those of the next events of which
/// users were not told, and the next mark where more are left.
///
/// # Errors
/// [`StoreError`]; the mark is to be met again.
pub(super) async fn go_on(
    mark_met: &[u8],
    store: &dyn Store,
    currency: &str,
    now: Time,
) -> Result<Vec<Outgoing>, StoreError> {
    let began = Instant::now();
    // Of what cannot be read nobody has begun.
    let Progress { left, mut resent } = serde_json::from_slice(mark_met).unwrap_or_default();
    let mut left = match left {
        Some(left) => left,
        None => last_hours(store, now).await?,
    };
    let mut messages = Vec::new();
    if let Some(Stretch { writer, after, until }) = left.first_mut() {
        let next = after.saturating_add(WINDOW_EVENTS).min(*until);
        let untold = in_time(store.untold(EventId { writer: *writer, seq: *after }, next)).await?;
        messages.extend(in_time(store.events(&untold)).await?.iter().map(|event| again(event, currency)));
        *after = next;
    }
    resent = resent.saturating_add(messages.len());
    left.retain(|stretch| stretch.after < stretch.until);
    if left.is_empty() {
        tracing::info!(events = resent, "the queue was made anew; published again what it may have lost");
    } else {
        messages.push(mark(&Progress { left: Some(left), resent }));
    }
    sleep(Duration::from_millis(REST_MS_MAX).min(REST_TIMES * began.elapsed())).await;
    Ok(messages)
}

/// Of each writer, what came in the last hours.
async fn last_hours(store: &dyn Store, now: Time) -> Result<Vec<Stretch>, StoreError> {
    let since = now - TimeDelta::hours(AGE_HOURS_MAX);
    let mut stretches = Vec::new();
    for last in in_time(store.last_events()).await? {
        let before = last_before(store, last, since).await?;
        stretches.push(Stretch { writer: last.writer, after: before.seq, until: last.seq });
    }
    Ok(stretches)
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

/// For the notifiers alone: other queues at the exchange have it.
fn again(event: &OrderEvent, currency: &str) -> Outgoing {
    Outgoing { exchange: "", routing_key: QUEUE.to_owned(), ..publisher::message(event, currency) }
}
