//! What is read of PostgreSQL, beside the writer.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgExecutor, PgPool};

use crate::domain::cart::{Cart, Line};
use crate::domain::order::{Order, Status};
use crate::domain::stock::Shelf;
use crate::domain::{OrderId, Sku, Time, UserId};
use crate::store::migrations::{self, MIGRATION_MS_MAX};
use crate::store::reading::{self, OTHER_WRITERS, OrderLineRow, OrderRow, ShelfRow, select_orders};
use crate::store::{
    CONNECT_MS_MAX, HistoryEntry, Key, OpenError, OrderFilter, OtherWriter, Store, StoreError, StoredOutcome, Writer,
    WriterIdentity,
};

use super::{Postgres, verify};

/// As a range of the index: of a status by itself PostgreSQL believes that the next order will have it.
const ORDERS_OF_STATUS: &str = select_orders!(
    "where (status, order_id) < ($2, $1) and (status, order_id) > ($2, 0)
     order by status desc, order_id desc limit $3"
);

#[async_trait]
impl Store for Postgres {
    async fn migrate(&self) -> Result<(), OpenError> {
        // Whoever is first builds the indexes of large tables, and the others wait for it.
        let limit = MIGRATION_MS_MAX.to_string();
        let options = self.options.clone().options([("statement_timeout", &limit), ("lock_timeout", &limit)]);
        let connect = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(CONNECT_MS_MAX));
        let pool = connect.connect_lazy_with(options);
        let migrated = migrations::run(&migrations::postgres(), &pool).await;
        pool.close().await;
        Ok(migrated?)
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
        sqlx::query(
            "update writers set owner = 0, epoch = epoch + 1 where writer_id = $1 and epoch = $2 and seen_at = $3",
        )
        .bind(seen.writer_id)
        .bind(seen.epoch)
        .bind(seen.seen_at)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::from)
    }

    async fn take_order_ids(&self, count: i64) -> Result<Range<i64>, StoreError> {
        let end: i64 = sqlx::query_scalar("update order_ids set next_id = next_id + $1 returning next_id")
            .bind(count)
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::from)?;
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
        let rows: Vec<(i32, i64, String, Time, Option<String>)> = sqlx::query_as(
            "select writer_id, seq, status, occurred_at, reason from events
             where order_id = $1 and status <> 'payment_refused' order by version",
        )
        .bind(id.0)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::from)?;
        let entry = |(writer_id, seq, status, at, reason): (i32, i64, String, Time, Option<String>)| {
            Ok(HistoryEntry { event_id: format!("{writer_id}-{seq}"), status: reading::status(&status)?, at, reason })
        };
        rows.into_iter().map(entry).collect()
    }

    async fn awaiting_payment(
        &self,
        after: (Time, OrderId),
        until: Time,
        limit: u32,
    ) -> Result<Vec<Order>, StoreError> {
        let rows = sqlx::query_as(select_orders!(
            "where status = 'awaiting_payment' and (expires_at, order_id) > ($1, $2) and expires_at <= $3
             order by expires_at, order_id limit $4"
        ))
        .bind(after.0)
        .bind(after.1.0)
        .bind(until)
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
            "select not exists (select from orders) and not exists (select from carts)
                 and not exists (select from stocks)",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::from)
    }

    async fn differences(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        verify::differences(&self.pool, limit).await.map_err(StoreError::from)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// For the writer too, which reads on its own connection what its last batch left.
pub(super) async fn shelves(executor: impl PgExecutor<'_>, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, sqlx::Error> {
    let skus: Vec<&str> = skus.iter().map(Sku::as_str).collect();
    let rows = sqlx::query_as(
        "select sku, warehouse_id, on_hand, reserved from stocks where sku = any($1) order by sku, warehouse_id",
    );
    Ok(reading::shelves(rows.bind(skus).fetch_all(executor).await?))
}

/// One statement, so that version and lines are of one moment.
async fn cart(pool: &PgPool, user: &UserId) -> Result<Cart, StoreError> {
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

pub(super) async fn with_lines(pool: &PgPool, rows: Vec<OrderRow<Time>>) -> Result<Vec<Order>, StoreError> {
    let ids: Vec<i64> = rows.iter().map(|row| row.order_id).collect();
    let lines: Vec<OrderLineRow> = sqlx::query_as(
        "select order_id, sku, name, price, count, warehouse_id from order_lines
         where order_id = any($1) order by order_id, line",
    )
    .bind(ids)
    .fetch_all(pool)
    .await
    .map_err(StoreError::from)?;
    reading::orders(rows, lines)
}
