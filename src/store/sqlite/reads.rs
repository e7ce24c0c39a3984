//! What is read of SQLite, beside the writer.

use std::ops::Range;

use async_trait::async_trait;
use sqlx::{Connection as _, SqliteExecutor, SqlitePool};

use crate::domain::cart::{Cart, Line};
use crate::domain::order::{Order, Status};
use crate::domain::stock::Shelf;
use crate::domain::{OrderId, Sku, Time, UserId};
use crate::store::migrations;
use crate::store::reading::{self, IntoTime, OTHER_WRITERS, OrderLineRow, OrderRow, ShelfRow, select_orders};
use crate::store::{
    HistoryEntry, Key, OpenError, OrderFilter, OtherWriter, Store, StoreError, StoredOutcome, Writer, WriterIdentity,
};

use super::{Sqlite, json, verify};

const ORDERS_OF_STATUS: &str =
    select_orders!("indexed by orders_of_status where status = $2 and order_id < $1 order by order_id desc limit $3");
/// By an index that has their order: SQLite would rather read all of the status, and sort them for each page.
const ORDERS_BY_DEADLINE: &str = select_orders!(
    "indexed by orders_awaiting_payment
     where status = 'awaiting_payment' and (expires_at, order_id) > ($1, $2) and expires_at <= $3
     order by expires_at, order_id limit $4"
);

#[async_trait]
impl Store for Sqlite {
    async fn migrate(&self) -> Result<(), OpenError> {
        Ok(migrations::run(&migrations::sqlite(), &self.pool).await?)
    }

    async fn open_writer(&self, owner: i64, now: Time) -> Result<(WriterIdentity, Box<dyn Writer>), StoreError> {
        self.claim_writer(owner, now).await.map_err(StoreError::from)
    }

    async fn reopen_writer(&self, identity: WriterIdentity, now: Time) -> Result<Option<Box<dyn Writer>>, StoreError> {
        self.reclaim_writer(identity, now).await.map_err(StoreError::from)
    }

    async fn other_writers(&self, owner: i64) -> Result<Vec<OtherWriter>, StoreError> {
        let rows = sqlx::query_as(OTHER_WRITERS).bind(owner);
        reading::other_writers(rows.fetch_all(&self.pool).await.map_err(StoreError::from)?)
    }

    async fn dismiss_writer(&self, seen: &OtherWriter) -> Result<(), StoreError> {
        let mut writing = self.writing().await?;
        let dismissed = sqlx::query(
            "update writers set owner = 0, epoch = epoch + 1 where writer_id = $1 and epoch = $2 and seen_at = $3",
        )
        .bind(seen.writer_id)
        .bind(seen.epoch)
        .bind(seen.seen_at.timestamp_micros())
        .execute(&mut writing.connection)
        .await;
        writing.ended(dismissed).map(drop)
    }

    async fn take_order_ids(&self, count: i64) -> Result<Range<i64>, StoreError> {
        let mut writing = self.writing().await?;
        // To the end: after the first row sqlx would not tell of a commit that failed.
        let ends = sqlx::query_scalar("update order_ids set next_id = next_id + $1 returning next_id")
            .bind(count)
            .fetch_all(&mut writing.connection)
            .await;
        let ends: Vec<i64> = writing.ended(ends)?;
        let end = ends.into_iter().next().ok_or(StoreError::Database(sqlx::Error::RowNotFound))?;
        Ok(end - count..end)
    }

    async fn cart(&self, user: &UserId) -> Result<Cart, StoreError> {
        cart(&self.pool, user).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        let rows = sqlx::query_as(select_orders!("where order_id = $1")).bind(id.0);
        let rows = rows.fetch_all(&self.pool).await.map_err(StoreError::from)?;
        Ok(with_lines(&self.pool, rows).await?.pop())
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<Order>, StoreError> {
        let mut query = sqlx::query_as(reading::list_orders(filter, ORDERS_OF_STATUS))
            .bind(filter.before.map_or(i64::MAX, |id| id.0))
            .bind(filter.status.map(Status::as_str))
            .bind(i64::from(filter.limit));
        if let Some(user) = &filter.user {
            query = query.bind(user.as_str());
        }
        let rows = query.fetch_all(&self.pool).await.map_err(StoreError::from)?;
        with_lines(&self.pool, rows).await
    }

    async fn history(&self, id: OrderId) -> Result<Vec<HistoryEntry>, StoreError> {
        let rows: Vec<(i32, i64, String, i64, Option<String>)> = sqlx::query_as(
            "select writer_id, seq, status, occurred_at, reason from events
             where order_id = $1 and status <> 'payment_refused' order by version",
        )
        .bind(id.0)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::from)?;
        let entry = |(writer_id, seq, status, at, reason): (i32, i64, String, i64, Option<String>)| {
            Ok(HistoryEntry {
                event_id: format!("{writer_id}-{seq}"),
                status: reading::status(&status)?,
                at: at.into_time()?,
                reason,
            })
        };
        rows.into_iter().map(entry).collect()
    }

    async fn awaiting_payment(
        &self,
        after: (Time, OrderId),
        until: Time,
        limit: u32,
    ) -> Result<Vec<Order>, StoreError> {
        let rows = sqlx::query_as(ORDERS_BY_DEADLINE)
            .bind(after.0.timestamp_micros())
            .bind(after.1.0)
            .bind(until.timestamp_micros())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::from)?;
        with_lines(&self.pool, rows).await
    }

    async fn shelves(&self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        shelves(&self.pool, skus).await.map_err(StoreError::from)
    }

    async fn shelves_after(&self, after: Option<&(Sku, Shelf)>, limit: u32) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        let rows: Vec<ShelfRow> = sqlx::query_as(
            "select sku, warehouse_id, on_hand, reserved from stocks
             where (sku, warehouse_id) > ($1, $2) order by sku, warehouse_id limit $3",
        )
        .bind(after.map_or("", |(sku, _)| sku.as_str()))
        .bind(after.map_or(0, |(_, shelf)| shelf.warehouse.0))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(reading::shelves(rows))
    }

    async fn outcome(&self, key: &Key) -> Result<Option<StoredOutcome>, StoreError> {
        let row: Option<(Vec<u8>, String)> =
            sqlx::query_as("select fingerprint, outcome from idempotency_keys where key = $1")
                .bind(key.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(StoreError::from)?;
        row.map(|(fingerprint, outcome)| reading::outcome(&fingerprint, &outcome)).transpose()
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "select not exists (select 1 from orders) and not exists (select 1 from carts)
                 and not exists (select 1 from stocks)",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::from)
    }

    async fn differences(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        verify::differences(&self.pool, limit).await.map_err(StoreError::from)
    }

    async fn close(&self) {
        if let Some(connection) = self.beside.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "a connection was not closed in good order");
        }
        self.pool.close().await;
    }
}

/// For the writer too, which reads on its own connection what its last batch left.
pub(super) async fn shelves(executor: impl SqliteExecutor<'_>, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, sqlx::Error> {
    let rows = sqlx::query_as(
        "select sku, warehouse_id, on_hand, reserved from stocks where sku in (select value from jsonb_each($1)) order by sku, warehouse_id",
    );
    Ok(reading::shelves(rows.bind(json(skus)).fetch_all(executor).await?))
}

/// One statement, so that version and lines are of one moment.
async fn cart(pool: &SqlitePool, user: &UserId) -> Result<Cart, StoreError> {
    let rows: Vec<(i64, Option<String>, Option<i32>)> =
        sqlx::query_as("select version, sku, count from carts left join cart_items using (user_id) where user_id = $1")
            .bind(user.as_str())
            .fetch_all(pool)
            .await
            .map_err(StoreError::from)?;
    let version = rows.first().map_or(0, |row| row.0);
    let mut lines = Vec::with_capacity(rows.len());
    for (_, sku, count) in rows {
        if let (Some(sku), Some(count)) = (sku, count) {
            lines.push(Line { sku: Sku::from_store(&sku), count: reading::count(count)? });
        }
    }
    Ok(Cart::new(version, lines))
}

pub(super) async fn with_lines(pool: &SqlitePool, rows: Vec<OrderRow<i64>>) -> Result<Vec<Order>, StoreError> {
    let ids: Vec<i64> = rows.iter().map(|row| row.order_id).collect();
    let lines: Vec<OrderLineRow> = sqlx::query_as(
        "select order_id, sku, name, price, count, warehouse_id from order_lines
         where order_id in (select value from jsonb_each($1)) order by order_id, line",
    )
    .bind(json(&ids))
    .fetch_all(pool)
    .await
    .map_err(StoreError::from)?;
    reading::orders(rows, lines)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, SqlitePool};

    use super::*;

    #[tokio::test]
    async fn a_page_of_waiting_orders_is_read_in_the_order_of_its_index() {
        let pool = SqlitePool::connect("sqlite::memory:").await.expect("opened");
        migrations::run(&migrations::sqlite(), &pool).await.expect("migrated");
        let explain = AssertSqlSafe(format!("explain query plan {ORDERS_BY_DEADLINE}"));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain).fetch_all(&pool).await.expect("explained");
        assert_eq!(plan.len(), 1, "they are sorted: {plan:?}");
    }
}
