//! The events that others have not heard of yet.

use async_trait::async_trait;
use sqlx::PgPool;

use crate::domain::{EventId, OrderEvent, Time};
use crate::store::outbox::{Outbox, before, told_after};
use crate::store::reading::{self, EventRow, select_events, select_orders};
use crate::store::{StoreError, WRITER_DEAD_AFTER_MS};

use super::{Postgres, reads};

#[async_trait]
impl Outbox for Postgres {
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
            "select min(position) - 1 from unnest($2::bigint[], $3::integer[]) with ordinality
                 as told (order_id, version, position)
             join events on events.order_id = told.order_id and events.version < told.version
             join writers on writers.writer_id = events.writer_id and writers.published < events.seq
             where events.writer_id <> $1
                 and exists (select 1 from writers where writer_id <> $1 and published < last_event)",
        )
        .bind(first.id.writer)
        .bind(events.iter().map(|event| event.order.0).collect::<Vec<_>>())
        .bind(events.iter().map(told_after).collect::<Vec<_>>())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(before(held, events))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<OrderEvent>, StoreError> {
        let rows = sqlx::query_as(select_events!(
            "join unnest($1::integer[], $2::bigint[]) as wanted (writer_id, seq) using (writer_id, seq)
             order by writer_id, seq"
        ))
        .bind(ids.iter().map(|id| id.writer).collect::<Vec<_>>())
        .bind(ids.iter().map(|id| id.seq).collect::<Vec<_>>())
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
        .bind(dead_before)
        .bind(heir)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(rows.into_iter().map(|(writer, seq)| EventId { writer, seq }).collect())
    }

    async fn mark_published(&self, up_to: EventId) -> Result<(), StoreError> {
        sqlx::query("update writers set published = greatest(published, $2) where writer_id = $1")
            .bind(up_to.writer)
            .bind(up_to.seq)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(StoreError::from)
    }
}

async fn with_orders(pool: &PgPool, rows: Vec<EventRow<Time>>) -> Result<Vec<OrderEvent>, StoreError> {
    let orders = sqlx::query_as(select_orders!("where order_id = any($1)")).bind(reading::orders_of(&rows));
    let orders = orders.fetch_all(pool).await.map_err(StoreError::from)?;
    reading::events(rows, &reads::with_lines(pool, orders).await?)
}
