//! What users were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use loms::domain::contact::Contact;
use loms::domain::order::Status;
use loms::domain::{EventId, Offer, Time, UserId};
use loms::store::StoreError;
use loms::store::notification_log::{Attempt, Known, Notification, NotificationFilter, NotificationLog, Told};
use tokio::time::Instant;

use super::MemoryStore;

#[derive(Default)]
pub struct Notifications {
    rows: BTreeMap<(EventId, &'static str), (Notification, Option<Time>)>,
    contacts: BTreeMap<UserId, Contact>,
    /// Whose an event is, and until when.
    leases: BTreeMap<EventId, (i64, Instant)>,
    /// When an event was last taken from somebody who has not prolonged his lease.
    taken_over: BTreeMap<EventId, Instant>,
}

impl Notifications {
    /// The row of an event on a channel may be written until it says that it was sent.
    fn record(&mut self, attempt: &Attempt<'_>, offer: Offer) {
        let event = attempt.event;
        let id = i64::try_from(self.rows.len()).unwrap_or(i64::MAX) + 1;
        let known = self.rows.get(&(event.id, attempt.channel)).map(|(row, _)| (row.id, row.told));
        assert!(offer == Offer::Again || known.is_none(), "{} was told before it was offered first", event.id);
        if matches!(known, Some((_, Told::Sent))) {
            return;
        }
        let row = Notification {
            id: known.map_or(id, |(id, _)| id),
            event_id: event.id.to_string(),
            channel: attempt.channel.to_owned(),
            user: event.user.clone(),
            order: event.order,
            status: event.name().to_owned(),
            told: attempt.told,
            attempts: attempt.attempts,
            reason: attempt.reason.clone(),
            at: attempt.at,
        };
        self.rows.insert((event.id, attempt.channel), (row, attempt.next_attempt_at));
    }

    pub fn taken_over(&self, event: EventId) -> Option<Instant> {
        self.taken_over.get(&event).copied()
    }

    pub fn told(&self, event: EventId, channel: &'static str) -> Option<Told> {
        self.rows.get(&(event, channel)).map(|(row, _)| row.told)
    }
}

#[async_trait]
impl NotificationLog for MemoryStore {
    async fn lease(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<Vec<EventId>, StoreError> {
        self.call(|database| {
            let (mut log, now) = (database.notifications(), Instant::now());
            let is_free = |log: &Notifications, event: &EventId| {
                log.leases.get(event).is_none_or(|(_, expires_at)| *expires_at <= now)
            };
            let leased: Vec<EventId> = events.iter().copied().filter(|event| is_free(&log, event)).collect();
            let ended = leased.iter().filter(|event| log.leases.contains_key(event)).map(|event| (*event, now));
            let ended: Vec<(EventId, Instant)> = ended.collect();
            log.taken_over.extend(ended);
            log.leases.extend(leased.iter().map(|event| (*event, (holder, now + time_to_live))));
            leased
        })
        .await
    }

    async fn prolong(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<bool, StoreError> {
        self.call(|database| {
            let (mut log, expires_at) = (database.notifications(), Instant::now() + time_to_live);
            let ours = log.leases.iter_mut().filter(|(event, (of, _))| *of == holder && events.contains(event));
            ours.map(|(_, (_, end))| *end = expires_at).count() == events.len()
        })
        .await
    }

    async fn release(&self, events: &[EventId], holder: i64) -> Result<(), StoreError> {
        self.call(|database| {
            database.notifications().leases.retain(|event, (other, _)| *other != holder || !events.contains(event));
        })
        .await
    }

    async fn known(&self, events: &[EventId]) -> Result<Vec<Known>, StoreError> {
        self.call(|database| {
            let log = database.notifications();
            let rows = log.rows.iter().filter(|((event, _), _)| events.contains(event));
            let known = rows.map(|((event, channel), (row, _))| Known {
                event: *event,
                channel: (*channel).to_owned(),
                told: row.told,
                attempts: row.attempts,
            });
            known.collect()
        })
        .await
    }

    async fn untold(&self, after: EventId, until: i64) -> Result<Vec<EventId>, StoreError> {
        let is_next = |id: EventId| id.writer == after.writer && id.seq > after.seq && id.seq <= until;
        self.call(|database| {
            let (log, tables) = (database.notifications(), database.tables());
            let is_settled = |event: EventId| {
                let mut rows = log.rows.range((event, "")..).take_while(|((of, _), _)| *of == event).peekable();
                rows.peek().is_some() && rows.all(|(_, (row, _))| row.told != Told::Waiting)
            };
            let told = tables.events.iter().filter(|(id, event)| is_next(**id) && event.status != Status::New);
            told.map(|(id, _)| *id).filter(|id| !is_settled(*id)).collect()
        })
        .await
    }

    async fn record(&self, attempts: &[Attempt<'_>], offer: Offer) -> Result<(), StoreError> {
        self.call(|database| {
            let mut log = database.notifications();
            attempts.iter().for_each(|attempt| log.record(attempt, offer));
        })
        .await
    }

    async fn due(&self, now: Time, heir: i32, channels: &[&str], limit: u32) -> Result<Vec<EventId>, StoreError> {
        self.call(|database| {
            if !database.tables().is_heir(heir, now) {
                return Vec::new();
            }
            let log = database.notifications();
            let of_channels = log.rows.iter().filter(|((_, channel), _)| channels.contains(channel));
            let due = of_channels.filter_map(|((event, _), (_, next))| Some((next.filter(|at| *at <= now)?, *event)));
            let mut due: Vec<(Time, EventId)> = due.collect();
            due.sort_unstable();
            let due: BTreeSet<EventId> = due.into_iter().take(limit as usize).map(|(_, event)| event).collect();
            due.into_iter().collect()
        })
        .await
    }

    async fn notifications(&self, filter: &NotificationFilter) -> Result<Vec<Notification>, StoreError> {
        let matches = |row: &Notification| {
            filter.user.as_ref().is_none_or(|user| row.user == *user) && filter.before.is_none_or(|id| row.id < id)
        };
        let mut rows: Vec<Notification> = self
            .call(|database| {
                let log = database.notifications();
                log.rows.values().map(|(row, _)| row).filter(|row| matches(row)).cloned().collect()
            })
            .await?;
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id));
        rows.truncate(filter.limit as usize);
        Ok(rows)
    }

    async fn contacts(&self, users: &[UserId]) -> Result<Vec<(UserId, Contact)>, StoreError> {
        self.call(|database| {
            let log = database.notifications();
            let known = log.contacts.iter().filter(|(user, _)| users.contains(user));
            known.map(|(user, contact)| (user.clone(), contact.clone())).collect()
        })
        .await
    }

    async fn set_contact(&self, user: &UserId, contact: &Contact, _: Time) -> Result<(), StoreError> {
        self.call(|database| database.notifications().contacts.insert(user.clone(), contact.clone())).await.map(drop)
    }
}
