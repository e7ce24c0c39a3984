//! What users were told, and how they can be reached.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::contact::Contact;
use crate::domain::{EventId, Offer, OrderEvent, OrderId, Time, UserId};

use super::StoreError;

/// What became of an event on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Sent,
    /// There was nobody to send it to.
    Skipped,
    /// It is to be tried again.
    Waiting,
    /// It will not be tried again by itself.
    Failed,
}

/// An attempt to tell a user of an event on a channel, and what became of it.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    pub event: &'a OrderEvent,
    pub channel: &'static str,
    pub told: Told,
    /// Which attempt it was, from 1.
    pub attempts: u32,
    pub reason: Option<String>,
    pub at: Time,
    /// When the program itself is to try again, where no broker brings the event again.
    pub next_attempt_at: Option<Time>,
}

/// Ends a statement that records attempts at events of which something may be recorded.
pub(super) const OR_KEEP_UP_TO_DATE: &str = "
    on conflict (event_id, channel) do update set
        outcome = excluded.outcome, attempts = excluded.attempts, reason = excluded.reason,
        attempted_at = excluded.attempted_at, next_attempt_at = excluded.next_attempt_at
    where notifications.outcome <> 'sent'";

/// Finds the events that are due for the heir $2 by $1 on one of some channels, where writers not seen since $3 are dead: the
/// longest due first.
macro_rules! select_due {
    ($of_channels:literal) => {
        concat!(
            "select distinct event_id from (
                select event_id from notifications
                where next_attempt_at <= $1 and ",
            $of_channels,
            " and not exists (select 1 from writers where writer_id < $2 and owner <> 0 and seen_at >= $3)
                order by next_attempt_at limit $5) as due"
        )
    };
}

pub(super) use select_due;

/// Finds a writer's events of which some attempt waits, or nothing is recorded.
pub(super) const SELECT_UNTOLD: &str = "
    select seq from events
    where writer_id = $1 and seq > $2 and seq <= $3 and status <> 'new'
        and coalesce((select max(case outcome when 'waiting' then 1 else 0 end) from notifications
                      where event_id = writer_id || '-' || seq), 1) = 1
    order by seq";

/// An event and a channel of which something is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub event: EventId,
    pub channel: String,
    pub told: Told,
    pub attempts: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Ascending in the order of the first attempts.
    pub id: i64,
    pub event_id: String,
    pub channel: String,
    pub user: UserId,
    pub order: OrderId,
    /// The order's status that was told, or `payment_refused`.
    pub status: String,
    pub told: Told,
    pub attempts: u32,
    pub reason: Option<String>,
    pub at: Time,
}

/// Which notifications to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct NotificationFilter {
    pub user: Option<UserId>,
    /// Only those with a smaller id.
    pub before: Option<i64>,
    pub limit: u32,
}

#[async_trait]
pub trait NotificationLog: Send + Sync {
    /// Leases to the holder those of these different events that are leased to nobody; gives them. A lease ends with its
    /// release or after the time to live, by the database's clock. What is known of an event is to be read after it was
    /// leased: whoever had it before has recorded what became of it.
    async fn lease(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<Vec<EventId>, StoreError>;

    /// From now on, the holder's lease of these events has this time to live; `false` where somebody else has some of them.
    async fn prolong(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<bool, StoreError>;

    /// Ends what is still leased to the holder of these events.
    async fn release(&self, events: &[EventId], holder: i64) -> Result<(), StoreError>;

    /// What is known of these events.
    async fn known(&self, events: &[EventId]) -> Result<Vec<Known>, StoreError>;

    /// Of the writer's events after this one, up to that number, those that users are still to be told of:
    /// nothing is recorded, or an attempt that waits for the next. That an order is new is not told.
    async fn untold(&self, after: EventId, until: i64) -> Result<Vec<EventId>, StoreError>;

    /// Records attempts, all or none. Of events that are offered first nothing is recorded yet; where
    /// something is, that is an error.
    async fn record(&self, attempts: &[Attempt<'_>], offer: Offer) -> Result<(), StoreError>;

    /// Events that are to be tried again by now on one of these channels, each once; but only for the heir, the living writer
    /// with the lowest number, so that no two try the same. What waits for a channel that was switched off stands in
    /// nobody's way.
    async fn due(&self, now: Time, heir: i32, channels: &[&str], limit: u32) -> Result<Vec<EventId>, StoreError>;

    async fn notifications(&self, filter: &NotificationFilter) -> Result<Vec<Notification>, StoreError>;

    /// How these users can be reached, as far as they said.
    async fn contacts(&self, users: &[UserId]) -> Result<Vec<(UserId, Contact)>, StoreError>;

    async fn set_contact(&self, user: &UserId, contact: &Contact, now: Time) -> Result<(), StoreError>;
}

impl Told {
    pub const ALL: [Self; 4] = [Self::Sent, Self::Skipped, Self::Waiting, Self::Failed];

    /// As it stands in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Skipped => "skipped",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|told| told.as_str() == text)
    }
}
