//! The events that others have not heard of yet.

use async_trait::async_trait;
use sqlx::SqlitePool;

use crate::domain::{EventId, OrderEvent, Time};
use crate::store::outbox::{Outbox, before, told_after};
use crate::store::reading::{self, EventRow, select_events, select_orders};
use crate::store::{StoreError, WRITER_DEAD_AFTER_MS};

use super::{Sqlite, json, reads};

#[async_trait]
impl Outbox for Sqlite {
    async fn published(&self, writer: i32) -> Result<EventId, StoreError> {
        let seq = sqlx::query_scalar("select published from writers where writer_id = $1").bind(writer);
        let seq: i64 = seq.fetch_one(&self.pool).await.map_err(StoreError::from)?;
        Ok(EventId { writer, seq })
    }

    async fn last_events(&self) -> Result<Vec<EventId>, StoreError> {
        let rows: Vec<(i32, i64)> = sqlx::query_as("select writer_id, last_event from writers order by writer_id")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::from)?;
        Ok(rows.into_iter().map(|(writer, seq)| EventId { writer, seq }).collect())
    }

    async fn events_after(&self, after: EventId, limit: u32) -> Result<Vec<OrderEvent>, StoreError> {
        let rows = sqlx::query_as(select_events!("where writer_id = $1 and seq > $2 order by seq limit $3"))
            .bind(after.writer)
            .bind(after.seq)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::from)?;
        with_orders(&self.pool, rows).await
    }

    async fn ready(&self, events: &[OrderEvent]) -> Result<usize, StoreError> {
        let Some(first) = events.first() else { return Ok(0) };
        let held = sqlx::query_scalar(
            "select min(told.key) from jsonb_each($2) told
             join events on events.order_id = told.value ->> 0 and events.version < told.value ->> 1
             join writers on writers.writer_id = events.writer_id and writers.published < events.seq
             where events.writer_id <> $1
                 and exists (select 1 from writers where writer_id <> $1 and published < last_event)",
        )
        .bind(first.id.writer)
        .bind(json(&events.iter().map(|event| (event.order, told_after(event))).collect::<Vec<_>>()))
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(before(held, events))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<OrderEvent>, StoreError> {
        let rows = sqlx::query_as(select_events!(
            "where (writer_id, seq) in (select value ->> 0, value ->> 1 from jsonb_each($1))
             order by writer_id, seq"
        ))
        .bind(json(&ids.iter().map(|id| (id.writer, id.seq)).collect::<Vec<_>>()))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::from)?;
        with_orders(&self.pool, rows).await
    }

    async fn abandoned(&self, now: Time, heir: i32) -> Result<Vec<EventId>, StoreError> {
        let dead_before = now - chrono::TimeDelta::milliseconds(WRITER_DEAD_AFTER_MS);
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "select writer_id, published from writers
             where (owner = 0 or seen_at < $1) and published < last_event and writer_id <> $2
                 and not exists (select 1 from writers where writer_id < $2 and owner <> 0 and seen_at >= $1)
             order by writer_id",
        )
        .bind(dead_before.timestamp_micros())
        .bind(heir)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(rows.into_iter().map(|(writer, seq)| EventId { writer, seq }).collect())
    }

    async fn mark_published(&self, up_to: EventId) -> Result<(), StoreError> {
        let mut writing = self.writing().await?;
        let marked = sqlx::query("update writers set published = max(published, $2) where writer_id = $1")
            .bind(up_to.writer)
            .bind(up_to.seq)
            .execute(&mut writing.connection)
            .await;
        writing.ended(marked).map(drop)
    }
}

async fn with_orders(pool: &SqlitePool, rows: Vec<EventRow<i64>>) -> Result<Vec<OrderEvent>, StoreError> {
    let orders = sqlx::query_as(select_orders!("where order_id in (select value from jsonb_each($1))"));
    let orders = orders.bind(json(&reading::orders_of(&rows)));
    let orders = orders.fetch_all(pool).await.map_err(StoreError::from)?;
    reading::events(rows, &reads::with_lines(pool, orders).await?)
}
