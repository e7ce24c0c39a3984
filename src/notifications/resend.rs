//! What the broker has lost with the notifiers' queue is published again, out of the database.
//!
//! Whoever connects and finds that the queue is not the one that was there before leaves a mark in it. The notifier that meets a
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
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// What is still to be looked through; `None` where nobody has begun.
    left: Option<Vec<Stretch>>,
    /// How many events were published again.
    resent: usize,
}

/// A writer's events after one of them, up to another.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    writer: i32,
    after: i64,
    until: i64,
}

impl Progress {
    /// What a mark says; of what cannot be read nobody has begun.
    fn read(mark: &[u8]) -> Self {
        serde_json::from_slice(mark).unwrap_or_default()
    }

    /// What is left of both: two processes may each have left a mark, or one be met again beside the next.
    fn and(self, other: Self) -> Self {
        let resent = self.resent.saturating_add(other.resent);
        let (Some(mut left), Some(others)) = (self.left, other.left) else { return Self { left: None, resent } };
        for stretch in others {
            match left.iter_mut().find(|same| same.writer == stretch.writer) {
                Some(same) => {
                    same.after = same.after.min(stretch.after);
                    same.until = same.until.max(stretch.until);
                }
                None => left.push(stretch),
            }
        }
        Self { left: Some(left), resent }
    }
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

/// Gives what is to be put into the queue before the marks are acknowledged: those of the next events of which
/// users were not told, and the next mark where more are left.
///
/// # Errors
/// [`StoreError`]; the marks are to be met again.
pub(super) async fn go_on(
    marks: &[&Delivery],
    store: &dyn Store,
    currency: &str,
    now: Time,
) -> Result<Vec<Outgoing>, StoreError> {
    let began = Instant::now();
    let met = marks.iter().map(|mark| Progress::read(&mark.data)).reduce(Progress::and);
    let Some(Progress { left, mut resent }) = met else { return Ok(Vec::new()) };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn left(stretches: &[(i32, i64, i64)]) -> Progress {
        let stretch = |&(writer, after, until)| Stretch { writer, after, until };
        Progress { left: Some(stretches.iter().map(stretch).collect()), resent: 2 }
    }

    #[test]
    fn of_several_marks_all_is_left_that_is_left_of_any() {
        let both = left(&[(1, 500, 900), (2, 0, 70)]).and(left(&[(3, 5, 6), (1, 0, 800)]));
        assert_eq!(both, Progress { resent: 4, ..left(&[(1, 0, 900), (2, 0, 70), (3, 5, 6)]) });
        let new = Progress::read(&first_mark().body);
        assert_eq!(left(&[(1, 500, 900)]).and(new), Progress { left: None, resent: 2 });
    }
}
