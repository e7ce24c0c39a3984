//! Tells users of events: on every channel once, however often an event arrives.
//!
//! What became of an event on a channel is recorded before the event is acknowledged to whoever
//! brought it. A crash in between brings the event again, and what was sent is not sent again. A crash
//! between the sending and the record repeats the sending, under the same event id. Of several notifiers one has an event
//! in hand under a lease: where the broker takes that one for dead, and it is not, the next one waits until it has
//! recorded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use futures_util::future::join_all;

use crate::clock::Clock;
use crate::domain::contact::Contact;
use crate::domain::order::Status;
use crate::domain::{EventId, Offer, OrderEvent, OrderId, Time, UserId};
use crate::store::notification_log::{Attempt, NotificationLog, Told};
use crate::store::{StoreError, in_time};

use super::channels::{Channel, ChannelError, Delivery};
use super::circuit_breaker::CircuitBreaker;
use super::insist;
use super::lease::Lease;
use super::topology::{RETRY_QUEUES, retry_queue};

/// After so many attempts, the first and one after each delay, an event is given up.
pub const ATTEMPTS_MAX: u32 = 4;
const _: () = assert!(ATTEMPTS_MAX as usize == RETRY_QUEUES.len() + 1);

const LEFT_ALONE: &str = "it did not answer several times in a row, and is left alone for a moment";

/// So many notifications are under way at once. All events of an order are in the same lane, so that its user
/// hears of them in their order.
const LANES: usize = 16;
/// So many events are recorded at once where a channel takes its time: what a kill comes in between is sent again.
const PART_EVENTS: usize = 100;

pub struct Notifier {
    channels: Vec<CircuitBreaker>,
    log: Arc<dyn NotificationLog>,
    clock: Arc<dyn Clock>,
    stopping: AtomicBool,
}

/// Who has brought events, and will bring back those that have to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Broker,
    /// The broker, but an operator has put them back: what has given up is tried anew.
    Operator,
    /// The relay of this program, without a broker.
    Relay(Offer),
    /// This program, without a broker: what is to be tried again is due.
    Retry,
}

impl Source {
    fn is_broker(self) -> bool {
        matches!(self, Self::Broker | Self::Operator)
    }

    fn offer(self) -> Offer {
        match self {
            Self::Relay(offer) => offer,
            Self::Broker | Self::Operator | Self::Retry => Offer::Again,
        }
    }
}

/// What is to be done with an event now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every channel has sent it, or has nobody to send it to.
    Done,
    /// Some channel is to try again; so many attempts were made.
    Again { attempts: u32 },
    /// Another notifier has it in hand, or one of its order, or this one stops: it is to come again in a moment.
    InHand,
    /// Some channel has given up.
    GivenUp { reason: String },
}

/// What is known before anybody is told.
struct Known<'a> {
    source: Source,
    attempts: HashMap<(EventId, &'a str), (Told, u32)>,
    contacts: HashMap<UserId, Contact>,
    /// Of the events that the broker has brought.
    lease: Option<&'a Lease<'a>>,
}

/// What was done in a lane; each with the place of its event.
#[derive(Default)]
struct Lane<'a> {
    verdicts: Vec<(usize, Verdict)>,
    attempts: Vec<(usize, Attempt<'a>)>,
}

impl Notifier {
    #[must_use]
    pub fn new(channels: Vec<Box<dyn Channel>>, log: Arc<dyn NotificationLog>, clock: Arc<dyn Clock>) -> Self {
        let channels = channels.into_iter().map(CircuitBreaker::around).collect();
        Self { channels, log, clock, stopping: AtomicBool::new(false) }
    }

    /// From now on no sending begins that may take its time; those under way end, and are recorded.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Tells of each of the events where that was not done yet; a verdict for each, in their order. What was sent is
    /// recorded before this returns, however long the database does not take it.
    ///
    /// # Errors
    /// [`StoreError`]: what is known of some of the events cannot be read, and nobody was told of them. All may come
    /// again.
    pub async fn notify(&self, events: &[OrderEvent], source: Source) -> Result<Vec<Verdict>, StoreError> {
        let part = if self.is_local() { usize::MAX } else { PART_EVENTS };
        let mut verdicts = Vec::with_capacity(events.len());
        for part in events.chunks(part) {
            verdicts.extend(self.notify_part(part, source).await?);
        }
        Ok(verdicts)
    }

    async fn notify_part(&self, events: &[OrderEvent], source: Source) -> Result<Vec<Verdict>, StoreError> {
        if source == Source::Relay(Offer::First) && self.is_local() {
            // Done at once, where a lease would take longer.
            return self.tell(events, source, None).await;
        }
        let lease = Lease::take(&*self.log, &*self.clock, &ids_told(events)).await?;
        let verdicts = lease.during(self.tell(events, source, Some(&lease))).await;
        lease.release().await;
        verdicts
    }

    /// The names of its channels.
    #[must_use]
    pub fn channels(&self) -> Vec<&'static str> {
        self.channels.iter().map(|breaker| breaker.channel.name()).collect()
    }

    fn is_local(&self) -> bool {
        self.channels.iter().all(|breaker| breaker.channel.is_local())
    }

    async fn tell(
        &self,
        events: &[OrderEvent],
        source: Source,
        lease: Option<&Lease<'_>>,
    ) -> Result<Vec<Verdict>, StoreError> {
        // Without a lease they are offered for the first time. With one, somebody may have told of them meanwhile: whoever
        // took this process for dead while it was halted.
        let known = match lease {
            None => Vec::new(),
            Some(_) => in_time(self.log.known(&ids_told(events))).await?,
        };
        let attempts = known.iter().map(|row| ((row.event, &*row.channel), (row.told, row.attempts))).collect();
        let known = Known { source, attempts, contacts: self.contacts(events).await?, lease };
        let (mut verdicts, mut made) = (vec![Verdict::Done; events.len()], Vec::with_capacity(events.len()));
        let ours = ours(events, lease, &mut verdicts);
        let mut lanes = [const { Vec::new() }; LANES];
        ours.into_iter().for_each(|(at, event)| lanes[lane_of(event)].push((at, event)));
        let lanes = lanes.iter().map(|lane| self.send_lane(lane, &known));
        for lane in join_all(lanes).await {
            lane.verdicts.into_iter().for_each(|(at, verdict)| verdicts[at] = verdict);
            made.extend(lane.attempts);
        }
        made.sort_by_key(|(at, _)| *at);
        let attempts: Vec<Attempt<'_>> = made.into_iter().map(|(_, attempt)| attempt).collect();
        if !attempts.is_empty() {
            self.record(&attempts, source.offer()).await;
        }
        Ok(verdicts)
    }

    async fn record(&self, attempts: &[Attempt<'_>], offer: Offer) {
        // Of the first try, the answer may be all that is lost.
        let mut first = Some(offer);
        insist(|| in_time(self.log.record(attempts, first.take().unwrap_or(Offer::Again)))).await;
    }

    /// Notifies of the events of a lane, one after another.
    async fn send_lane<'a>(&self, events: &[(usize, &'a OrderEvent)], known: &Known<'_>) -> Lane<'a> {
        let mut made = Lane::default();
        for &(at, event) in events {
            let (mut verdict, mut ended_in_part) = (Verdict::Done, false);
            for breaker in &self.channels {
                let channel = &*breaker.channel;
                let number = match known.attempts.get(&(event.id, channel.name())) {
                    Some((Told::Sent | Told::Skipped, _)) => {
                        ended_in_part = true;
                        continue;
                    }
                    // It is tried again when its time has come.
                    Some((Told::Waiting, _)) if matches!(known.source, Source::Relay(_)) => continue,
                    Some((Told::Failed, _)) if known.source != Source::Operator => {
                        let reason = format!("the channel {} has given up before", channel.name());
                        verdict = verdict.and(Verdict::GivenUp { reason });
                        ended_in_part = true;
                        continue;
                    }
                    Some((Told::Failed, _)) | None => 1,
                    Some((Told::Waiting, attempts)) => attempts + 1,
                };
                if !self.may_send(channel, known.lease) {
                    verdict = Verdict::InHand;
                    if ended_in_part && known.source.is_broker() {
                        made.attempts.push((at, self.put_off(event, channel.name(), number - 1)));
                    }
                    break;
                }
                ended_in_part = true;
                let (number, sent) = match breaker.send(event, known.contacts.get(&event.user)).await {
                    Some(sent) => (number, sent),
                    // Nothing is given up that was not tried.
                    None => (number.min(ATTEMPTS_MAX - 1), Err(ChannelError::Later(LEFT_ALONE.to_owned()))),
                };
                let attempt = self.attempt(event, channel.name(), number, sent, known.source);
                verdict = verdict.and(Verdict::of(&attempt));
                made.attempts.push((at, attempt));
            }
            made.verdicts.push((at, verdict));
        }
        made
    }

    /// If not now, then no more in this window: users hear of an order's events in their order.
    fn may_send(&self, channel: &dyn Channel, lease: Option<&Lease<'_>>) -> bool {
        let stops = self.is_stopping() && !channel.is_local();
        !stops && lease.is_none_or(Lease::is_held)
    }

    async fn contacts(&self, events: &[OrderEvent]) -> Result<HashMap<UserId, Contact>, StoreError> {
        if !self.channels.iter().any(|breaker| breaker.channel.needs_contact()) {
            return Ok(HashMap::new());
        }
        let mut users: Vec<UserId> =
            events.iter().filter(|event| is_told(event)).map(|event| event.user.clone()).collect();
        users.sort_unstable();
        users.dedup();
        Ok(in_time(self.log.contacts(&users)).await?.into_iter().collect())
    }

    /// That it waits for this channel is written down, for what is recorded of the others says that it was told; and the
    /// broker may lose the message.
    fn put_off<'a>(&self, event: &'a OrderEvent, channel: &'static str, attempts: u32) -> Attempt<'a> {
        let (told, reason) = (Told::Waiting, Some("put off for a moment".to_owned()));
        Attempt { event, channel, told, attempts, reason, at: self.clock.now(), next_attempt_at: None }
    }

    fn attempt<'a>(
        &self,
        event: &'a OrderEvent,
        channel: &'static str,
        attempts: u32,
        sent: Result<Delivery, ChannelError>,
        source: Source,
    ) -> Attempt<'a> {
        let at = self.clock.now();
        let (told, reason) = match sent {
            Ok(Delivery::Sent) => (Told::Sent, None),
            Ok(Delivery::Skipped(why)) => (Told::Skipped, Some(why.to_owned())),
            Err(ChannelError::Later(why)) if attempts < ATTEMPTS_MAX => (Told::Waiting, Some(why)),
            Err(ChannelError::Later(why) | ChannelError::Never(why)) => (Told::Failed, Some(why)),
        };
        if let Some(reason) = reason.as_deref().filter(|_| matches!(told, Told::Waiting | Told::Failed)) {
            tracing::warn!(event.id = %event.id, channel, attempts, reason, "a user could not be notified");
        }
        let is_ours = matches!(source, Source::Relay(_) | Source::Retry) && told == Told::Waiting;
        let next_attempt_at = is_ours.then(|| next_attempt_at(at, attempts));
        Attempt { event, channel, told, attempts, reason, at, next_attempt_at }
    }
}

impl Verdict {
    fn of(attempt: &Attempt<'_>) -> Self {
        match attempt.told {
            Told::Sent | Told::Skipped => Self::Done,
            Told::Waiting => Self::Again { attempts: attempt.attempts },
            Told::Failed => Self::GivenUp { reason: attempt.reason.clone().unwrap_or_default() },
        }
    }

    /// The verdict on an event, with that of another channel: as long as one is to try again, the event comes again.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Again { attempts }, Self::Again { attempts: others }) => {
                Self::Again { attempts: attempts.min(others) }
            }
            (again @ Self::Again { .. }, _) | (_, again @ Self::Again { .. }) => again,
            (Self::Done, verdict) | (verdict, _) => verdict,
        }
    }
}

/// That an order is new is told by what it becomes at once.
pub(super) const NOT_TOLD: Status = Status::New;

pub(super) fn is_told(event: &OrderEvent) -> bool {
    event.status != NOT_TOLD
}

fn ids_told(events: &[OrderEvent]) -> Vec<EventId> {
    events.iter().filter(|event| is_told(event)).map(|event| event.id).collect()
}

/// The events to tell of, with their places. Those in hand elsewhere are not, nor others of their orders, for users hear of
/// these in their order.
fn ours<'a>(
    events: &'a [OrderEvent],
    lease: Option<&Lease<'_>>,
    verdicts: &mut [Verdict],
) -> Vec<(usize, &'a OrderEvent)> {
    let told = events.iter().enumerate().filter(|(_, event)| is_told(event));
    let Some(lease) = lease else { return told.collect() };
    let leased = lease.events();
    let elsewhere: HashSet<OrderId> =
        told.clone().filter(|(_, event)| !leased.contains(&event.id)).map(|(_, event)| event.order).collect();
    let (theirs, ours): (Vec<_>, Vec<_>) = told.partition(|(_, event)| elsewhere.contains(&event.order));
    theirs.into_iter().for_each(|(at, _)| verdicts[at] = Verdict::InHand);
    ours
}

fn lane_of(event: &OrderEvent) -> usize {
    usize::try_from(event.order.0.unsigned_abs() % LANES as u64).unwrap_or_default()
}

/// As late as the broker would bring it again.
fn next_attempt_at(now: Time, attempts: u32) -> Time {
    now + TimeDelta::milliseconds(retry_queue(attempts).delay_ms)
}

#[cfg(test)]
mod tests;
