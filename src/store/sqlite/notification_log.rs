//! What users were told, and how they can be reached.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::QueryBuilder;

use crate::domain::contact::Contact;
use crate::domain::{EventId, Offer, Time, UserId};
use crate::store::notification_log::{
    Attempt, Known, Notification, NotificationFilter, NotificationLog, OR_KEEP_UP_TO_DATE, SELECT_UNTOLD, select_due,
};
use crate::store::reading::{self, NotificationRow};
use crate::store::{StoreError, WRITER_DEAD_AFTER_MS};

use super::{Sqlite, json};

#[async_trait]
impl NotificationLog for Sqlite {
    async fn lease(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<Vec<EventId>, StoreError> {
        let mut writing = self.writing().await?;
        let leased = sqlx::query_scalar(
            "insert into notification_leases (event_id, holder, expires_at)
             select value, $2, cast(unixepoch('subsec') * 1000000 as integer) + $3 from jsonb_each($1) where true
             on conflict (event_id) do update set holder = excluded.holder, expires_at = excluded.expires_at
             where notification_leases.expires_at <= excluded.expires_at - $3
             returning event_id",
        )
        .bind(texts(events))
        .bind(holder)
        .bind(micros(time_to_live))
        .fetch_all(&mut writing.connection)
        .await;
        let leased: Vec<String> = writing.ended(leased)?;
        leased.iter().map(|id| reading::event_id_of(id)).collect()
    }

    async fn prolong(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<bool, StoreError> {
        let mut writing = self.writing().await?;
        let prolonged = sqlx::query(
            "update notification_leases set expires_at = cast(unixepoch('subsec') * 1000000 as integer) + $3
             where event_id in (select value from jsonb_each($1)) and holder = $2",
        )
        .bind(texts(events))
        .bind(holder)
        .bind(micros(time_to_live))
        .execute(&mut writing.connection)
        .await;
        Ok(writing.ended(prolonged)?.rows_affected() == events.len() as u64)
    }

    async fn release(&self, events: &[EventId], holder: i64) -> Result<(), StoreError> {
        let mut writing = self.writing().await?;
        let released = sqlx::query(
            "delete from notification_leases where event_id in (select value from jsonb_each($1)) and holder = $2",
        )
        .bind(texts(events))
        .bind(holder)
        .execute(&mut writing.connection)
        .await;
        writing.ended(released).map(drop)
    }

    async fn known(&self, events: &[EventId]) -> Result<Vec<Known>, StoreError> {
        let rows = sqlx::query_as("select event_id, channel, outcome, attempts from notifications where event_id in (select value from jsonb_each($1))")
            .bind(texts(events))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::from)?;
        reading::known(rows)
    }

    async fn untold(&self, after: EventId, until: i64) -> Result<Vec<EventId>, StoreError> {
        let seqs: Vec<i64> = sqlx::query_scalar(SELECT_UNTOLD)
            .bind(after.writer)
            .bind(after.seq)
            .bind(until)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::from)?;
        Ok(seqs.into_iter().map(|seq| EventId { seq, ..after }).collect())
    }

    async fn record(&self, attempts: &[Attempt<'_>], offer: Offer) -> Result<(), StoreError> {
        let mut query = QueryBuilder::new(
            "insert into notifications (event_id, channel, user_id, order_id, status, outcome, attempts, reason,
                                        attempted_at, next_attempt_at)
             select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                    value ->> 7, value ->> 8, value ->> 9
             from jsonb_each(",
        );
        query.push_bind(json(&attempts.iter().map(row).collect::<Vec<_>>())).push(") where true");
        if offer == Offer::Again {
            query.push(OR_KEEP_UP_TO_DATE);
        }
        let mut writing = self.writing().await?;
        let recorded = query.build().execute(&mut writing.connection).await;
        writing.ended(recorded).map(drop)
    }

    async fn due(&self, now: Time, heir: i32, channels: &[&str], limit: u32) -> Result<Vec<EventId>, StoreError> {
        let dead_before = now - chrono::TimeDelta::milliseconds(WRITER_DEAD_AFTER_MS);
        let ids: Vec<String> = sqlx::query_scalar(select_due!("channel in (select value from jsonb_each($4))"))
            .bind(now.timestamp_micros())
            .bind(heir)
            .bind(dead_before.timestamp_micros())
            .bind(json(channels))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::from)?;
        ids.iter().map(|id| reading::event_id_of(id)).collect()
    }

    async fn notifications(&self, filter: &NotificationFilter) -> Result<Vec<Notification>, StoreError> {
        let mut query = sqlx::query_as(reading::list_notifications(filter))
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(i64::from(filter.limit));
        if let Some(user) = &filter.user {
            query = query.bind(user.as_str());
        }
        let rows: Vec<NotificationRow<i64>> = query.fetch_all(&self.pool).await.map_err(StoreError::from)?;
        reading::notifications(rows)
    }

    async fn contacts(&self, users: &[UserId]) -> Result<Vec<(UserId, Contact)>, StoreError> {
        let rows = sqlx::query_as(
            "select user_id, email, locale from contacts where user_id in (select value from jsonb_each($1))",
        )
        .bind(json(users))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(reading::contacts(rows))
    }

    async fn set_contact(&self, user: &UserId, contact: &Contact, now: Time) -> Result<(), StoreError> {
        let mut writing = self.writing().await?;
        let set = sqlx::query(
            "insert into contacts (user_id, email, locale, updated_at) values ($1, $2, $3, $4)
             on conflict (user_id) do update set
                 email = excluded.email, locale = excluded.locale, updated_at = excluded.updated_at",
        )
        .bind(user.as_str())
        .bind(contact.email.as_str())
        .bind(contact.locale.as_str())
        .bind(now.timestamp_micros())
        .execute(&mut writing.connection)
        .await;
        writing.ended(set).map(drop)
    }
}

/// As `record` unfolds it.
fn row<'a>(attempt: &'a Attempt<'_>) -> impl serde::Serialize + 'a {
    let event = attempt.event;
    (
        event.id.to_string(),
        attempt.channel,
        event.user.as_str(),
        event.order.0,
        event.name(),
        attempt.told.as_str(),
        attempt.attempts,
        attempt.reason.as_deref(),
        attempt.at.timestamp_micros(),
        attempt.next_attempt_at.map(|at| at.timestamp_micros()),
    )
}

fn texts(events: &[EventId]) -> String {
    json(&events.iter().map(EventId::to_string).collect::<Vec<_>>())
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
