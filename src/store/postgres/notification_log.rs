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

use super::Postgres;
use super::unnest::Rows;

#[async_trait]
impl NotificationLog for Postgres {
    async fn lease(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<Vec<EventId>, StoreError> {
        // In one order, for two notifiers that want the same wait for each other's rows.
        let leased: Vec<String> = sqlx::query_scalar(
            "insert into notification_leases (event_id, holder, expires_at)
             select event_id, $2, now() + $3 from unnest($1::text[]) as wanted (event_id) order by event_id
             on conflict (event_id) do update set holder = excluded.holder, expires_at = excluded.expires_at
             where notification_leases.expires_at <= now()
             returning event_id",
        )
        .bind(texts(events))
        .bind(holder)
        .bind(time_to_live)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::from)?;
        leased.iter().map(|id| reading::event_id_of(id)).collect()
    }

    async fn prolong(&self, events: &[EventId], holder: i64, time_to_live: Duration) -> Result<bool, StoreError> {
        let prolonged = sqlx::query(
            "update notification_leases set expires_at = now() + $3 where event_id = any($1) and holder = $2",
        )
        .bind(texts(events))
        .bind(holder)
        .bind(time_to_live)
        .execute(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(prolonged.rows_affected() == events.len() as u64)
    }

    async fn release(&self, events: &[EventId], holder: i64) -> Result<(), StoreError> {
        sqlx::query("delete from notification_leases where event_id = any($1) and holder = $2")
            .bind(texts(events))
            .bind(holder)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(StoreError::from)
    }

    async fn known(&self, events: &[EventId]) -> Result<Vec<Known>, StoreError> {
        let rows =
            sqlx::query_as("select event_id, channel, outcome, attempts from notifications where event_id = any($1)")
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
                                        attempted_at, next_attempt_at) ",
        );
        let mut rows = Rows::of(&mut query);
        rows.column("event_id", attempts, |attempt| attempt.event.id.to_string());
        rows.column("channel", attempts, |attempt| attempt.channel);
        rows.column("user_id", attempts, |attempt| attempt.event.user.as_str());
        rows.column("order_id", attempts, |attempt| attempt.event.order.0);
        rows.column("status", attempts, |attempt| attempt.event.name());
        rows.column("outcome", attempts, |attempt| attempt.told.as_str());
        rows.column("attempts", attempts, |attempt| i32::try_from(attempt.attempts).unwrap_or(i32::MAX));
        rows.column("reason", attempts, |attempt| attempt.reason.as_deref());
        rows.column("attempted_at", attempts, |attempt| attempt.at);
        rows.column("next_attempt_at", attempts, |attempt| attempt.next_attempt_at);
        if offer == Offer::Again {
            query.push(OR_KEEP_UP_TO_DATE);
        }
        query.build().execute(&self.pool).await.map(drop).map_err(StoreError::from)
    }

    async fn due(&self, now: Time, heir: i32, channels: &[&str], limit: u32) -> Result<Vec<EventId>, StoreError> {
        let dead_before = now - chrono::TimeDelta::milliseconds(WRITER_DEAD_AFTER_MS);
        let ids: Vec<String> = sqlx::query_scalar(select_due!("channel = any($4)"))
            .bind(now)
            .bind(heir)
            .bind(dead_before)
            .bind(channels)
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
        let rows: Vec<NotificationRow<Time>> = query.fetch_all(&self.pool).await.map_err(StoreError::from)?;
        reading::notifications(rows)
    }

    async fn contacts(&self, users: &[UserId]) -> Result<Vec<(UserId, Contact)>, StoreError> {
        let rows = sqlx::query_as("select user_id, email, locale from contacts where user_id = any($1)")
            .bind(users.iter().map(UserId::as_str).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::from)?;
        Ok(reading::contacts(rows))
    }

    async fn set_contact(&self, user: &UserId, contact: &Contact, now: Time) -> Result<(), StoreError> {
        sqlx::query(
            "insert into contacts (user_id, email, locale, updated_at) values ($1, $2, $3, $4)
             on conflict (user_id) do update set
                 email = excluded.email, locale = excluded.locale, updated_at = excluded.updated_at",
        )
        .bind(user.as_str())
        .bind(contact.email.as_str())
        .bind(contact.locale.as_str())
        .bind(now)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::from)
    }
}

fn texts(events: &[EventId]) -> Vec<String> {
    events.iter().map(EventId::to_string).collect()
}
