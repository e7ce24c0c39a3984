//! A stock count, an adjustment or an import: a transaction of its own, with few guests.

use sqlx::SqliteConnection;

use crate::domain::stock::Shelf;
use crate::domain::{Sku, Time};
use crate::store::WriteError;
use crate::store::change::{Refused, ShelfEdit, StockEdit, Verdict};
use crate::store::idempotency::{Keyed, Outcome};
use crate::store::rows::Numbers;

use super::writer::{begin, commit};
use super::{json, reads};

pub(super) async fn write(
    connection: &mut SqliteConnection,
    numbers: Numbers,
    edit: &StockEdit,
    key: Option<&Keyed>,
    now: Time,
) -> Result<Vec<Verdict>, WriteError> {
    begin(connection, numbers, now).await?;
    let edited = apply(connection, edit, key, now).await;
    match edited.map_err(|error| WriteError::NotWritten(error.into()))? {
        Ok(shelves) => commit(connection, vec![Verdict::StockWritten(shelves)]).await,
        Err(refused) => {
            let rolled_back = sqlx::raw_sql("rollback").execute(connection).await;
            rolled_back.map_err(|error| WriteError::NotWritten(error.into()))?;
            Ok(vec![Verdict::Refused(refused)])
        }
    }
}

type Edited = Result<Vec<(Sku, Shelf)>, Refused>;

async fn apply(
    connection: &mut SqliteConnection,
    edit: &StockEdit,
    key: Option<&Keyed>,
    now: Time,
) -> Result<Edited, sqlx::Error> {
    let below_reserved = match edit {
        StockEdit::Count(rows) => count(connection, rows).await?,
        StockEdit::Adjust { row, reason, at } => adjust(connection, row, reason, *at).await?,
    };
    if !below_reserved.is_empty() {
        return Ok(Err(Refused::BelowReserved(below_reserved)));
    }
    let mut skus: Vec<Sku> = edit.rows().iter().map(|row| row.sku.clone()).collect();
    skus.dedup();
    let shelves = reads::shelves(&mut *connection, &skus).await?;
    match key {
        Some(keyed) if !keep_key(connection, keyed, &shelves, now).await? => Ok(Err(Refused::KeyTaken)),
        _ => Ok(Ok(shelves)),
    }
}

/// Gives the positions of the rows that cannot be.
async fn count(connection: &mut SqliteConnection, rows: &[ShelfEdit]) -> Result<Vec<usize>, sqlx::Error> {
    let row = |row: &ShelfEdit| (row.sku.clone(), row.warehouse, row.units);
    let counted = json(&rows.iter().map(row).collect::<Vec<_>>());
    let written = sqlx::query(
        "insert into stocks (sku, warehouse_id, on_hand)
         select value ->> 0, value ->> 1, value ->> 2 from jsonb_each($1) where true
         on conflict (sku, warehouse_id) do update set on_hand = excluded.on_hand
         where stocks.reserved <= excluded.on_hand",
    )
    .bind(&counted)
    .execute(&mut *connection)
    .await?;
    if written.rows_affected() == rows.len() as u64 {
        return Ok(Vec::new());
    }
    let positions: Vec<i64> = sqlx::query_scalar(
        "select key from jsonb_each($1) join stocks on sku = value ->> 0 and warehouse_id = value ->> 1
         where reserved > value ->> 2 order by key",
    )
    .bind(&counted)
    .fetch_all(connection)
    .await?;
    Ok(positions.into_iter().filter_map(|position| usize::try_from(position).ok()).collect())
}

async fn adjust(
    connection: &mut SqliteConnection,
    row: &ShelfEdit,
    reason: &str,
    at: Time,
) -> Result<Vec<usize>, sqlx::Error> {
    let updated = sqlx::query(
        "update stocks set on_hand = on_hand + $3
         where sku = $1 and warehouse_id = $2 and on_hand + $3 >= reserved",
    )
    .bind(row.sku.as_str())
    .bind(row.warehouse.0)
    .bind(row.units)
    .execute(&mut *connection)
    .await?;
    let inserted = match updated.rows_affected() {
        0 => {
            let inserted = sqlx::query(
                "insert into stocks (sku, warehouse_id, on_hand) select $1, $2, $3 where $3 >= 0
                 on conflict (sku, warehouse_id) do nothing",
            );
            let inserted = inserted.bind(row.sku.as_str()).bind(row.warehouse.0).bind(row.units);
            inserted.execute(&mut *connection).await?.rows_affected()
        }
        _ => 1,
    };
    if inserted == 0 {
        return Ok(vec![0]);
    }
    sqlx::query(
        "insert into stock_adjustments (sku, warehouse_id, delta, reason, adjusted_at) values ($1, $2, $3, $4, $5)",
    )
    .bind(row.sku.as_str())
    .bind(row.warehouse.0)
    .bind(row.units)
    .bind(reason)
    .bind(at.timestamp_micros())
    .execute(connection)
    .await?;
    Ok(Vec::new())
}

/// `false` where the key is already there.
async fn keep_key(
    connection: &mut SqliteConnection,
    keyed: &Keyed,
    shelves: &[(Sku, Shelf)],
    now: Time,
) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query(
        "insert into idempotency_keys (key, fingerprint, outcome, created_at) values ($1, $2, $3, $4)
         on conflict (key) do nothing",
    )
    .bind(keyed.key.as_str())
    .bind(&keyed.fingerprint[..])
    .bind(Outcome::of_stock(shelves).to_json())
    .bind(now.timestamp_micros())
    .execute(connection)
    .await?;
    Ok(kept.rows_affected() == 1)
}
