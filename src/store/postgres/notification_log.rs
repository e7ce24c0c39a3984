//! What users were told, and how they can be reached.

use async_trait::async_trait;
use sqlx::QueryBuilder;
use sqlx::pool::PoolConnection;

use crate::domain::contact::Contact;
use crate::domain::{EventId, Offer, Time, UserId};
use crate::store::notification_log::{
    Attempt, Claim, Held, Known, Notification, NotificationFilter, NotificationLog, OR_KEEP_UP_TO_DATE, SELECT_DUE,
    SELECT_UNTOLD,
};
use crate::store::reading::{self, NotificationRow};
use crate::store::{StoreError, WRITER_DEAD_AFTER_MS};

use super::Postgres;
use super::unnest::Rows;

/// How far the number of a writer is moved, to stand before that of its event in one number.
const SEQ_BITS: u32 = 40;

/// A session that holds an advisory lock for each event. If its process dies, PostgreSQL ends the session and with it
/// the locks.
struct Locks {
    session: PoolConnection<sqlx::Postgres>,
    released: bool,
}

impl Drop for Locks {
    fn drop(&mut self) {
        if !self.released {
            self.session.close_on_drop();
        }
    }
}

#[async_trait]
impl Held for Locks {
    async fn release(mut self: Box<Self>) -> Result<(), StoreError> {
        let unlock = sqlx::query("select pg_advisory_unlock_all()");
        unlock.execute(&mut *self.session).await.map_err(StoreError::from)?;
        self.released = true;
        Ok(())
    }
}

#[async_trait]
impl NotificationLog for Postgres {
    async fn claim(&self, events: &[EventId]) -> Result<Claim, StoreError> {
        let session = self.pool.acquire().await.map_err(StoreError::from)?;
        let mut locks = Locks { session, released: false };
        let keys: Vec<i64> = events.iter().map(|event| i64::from(event.writer) << SEQ_BITS ^ event.seq).collect();
        let taken: Vec<bool> =
            sqlx::query_scalar("select pg_try_advisory_lock(key) from unnest($1::bigint[]) as keys (key)")
                .bind(keys)
                .fetch_all(&mut *locks.session)
                .await
                .map_err(StoreError::from)?;
        let elsewhere = events.iter().zip(taken).filter(|(_, taken)| !taken).map(|(event, _)| *event).collect();
        Ok(Claim::new(elsewhere, locks))
    }

    async fn known(&self, events: &[EventId]) -> Result<Vec<Known>, StoreError> {
        let rows =
            sqlx::query_as("select event_id, channel, outcome, attempts from notifications where event_id = any($1)")
                .bind(events.iter().map(EventId::to_string).collect::<Vec<_>>())
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

    async fn due(&self, now: Time, heir: i32, limit: u32) -> Result<Vec<EventId>, StoreError> {
        let dead_before = now - chrono::TimeDelta::milliseconds(WRITER_DEAD_AFTER_MS);
        let ids: Vec<String> = sqlx::query_scalar(SELECT_DUE)
            .bind(now)
            .bind(heir)
            .bind(dead_before)
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
        reading::contacts(rows)
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
