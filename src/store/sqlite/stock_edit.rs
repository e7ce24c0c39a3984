//! A stock count, an adjustment or an import: a transaction of its own, with few guests.

use sqlx::{QueryBuilder, SqliteConnection};

use crate::domain::stock::{ON_HAND_MAX, Shelf};
use crate::domain::{Sku, Time};
use crate::store::WriteError;
use crate::store::change::{Refused, ShelfEdit, StockEdit, Verdict};
use crate::store::idempotency::{Keyed, Outcome};
use crate::store::rows::Numbers;
use crate::store::stock_edit::{ADD_TO_SHELF, BEGIN_SHELF, COUNT_AGAIN, KEEP_KEY, LEAVE, NOTE_ADJUSTMENT};

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
    let refused = match edit {
        StockEdit::Count(rows) => {
            Some(count(connection, rows).await?).filter(|rows| !rows.is_empty()).map(Refused::BelowReserved)
        }
        StockEdit::Begin(rows) => {
            insert(connection, rows, LEAVE).await?;
            None
        }
        StockEdit::Adjust { row, reason, at } => {
            if adjust(connection, row).await? {
                note(connection, row, reason, *at).await?;
                None
            } else {
                Some(row.not_taken())
            }
        }
    };
    if let Some(refused) = refused {
        return Ok(Err(refused));
    }
    let skus: Vec<Sku> = edit.rows().iter().map(|row| row.sku.clone()).collect();
    let shelves = reads::shelves(&mut *connection, &skus).await?;
    match key {
        Some(keyed) if !keep_key(connection, keyed, &shelves, now).await? => Ok(Err(Refused::KeyTaken)),
        _ => Ok(Ok(shelves)),
    }
}

/// Begins shelves; gives the number of those written. What becomes of one that is there, SQL says.
async fn insert(
    connection: &mut SqliteConnection,
    rows: &[ShelfEdit],
    where_there_is_one: &'static str,
) -> Result<u64, sqlx::Error> {
    let mut query = QueryBuilder::new(
        "insert into stocks (sku, warehouse_id, on_hand)
        select value ->> 0, value ->> 1, value ->> 2 from jsonb_each(",
    );
    query.push_bind(as_json(rows)).push(") where true on conflict (sku, warehouse_id) ");
    let inserted = query.push(where_there_is_one).build().execute(connection).await?;
    Ok(inserted.rows_affected())
}

/// Gives the positions of the rows that cannot be.
async fn count(connection: &mut SqliteConnection, rows: &[ShelfEdit]) -> Result<Vec<usize>, sqlx::Error> {
    if insert(&mut *connection, rows, COUNT_AGAIN).await? == rows.len() as u64 {
        return Ok(Vec::new());
    }
    let positions: Vec<i64> = sqlx::query_scalar(
        "select key from jsonb_each($1) join stocks on sku = value ->> 0 and warehouse_id = value ->> 1
         where reserved > value ->> 2 order by key",
    )
    .bind(as_json(rows))
    .fetch_all(connection)
    .await?;
    Ok(positions.into_iter().filter_map(|position| usize::try_from(position).ok()).collect())
}

fn as_json(rows: &[ShelfEdit]) -> String {
    let row = |row: &ShelfEdit| (row.sku.clone(), row.warehouse, row.units);
    json(&rows.iter().map(row).collect::<Vec<_>>())
}

/// `false` where the shelf does not take it. Nobody else writes meanwhile.
async fn adjust(connection: &mut SqliteConnection, row: &ShelfEdit) -> Result<bool, sqlx::Error> {
    Ok(write_shelf(connection, ADD_TO_SHELF, row).await? || write_shelf(connection, BEGIN_SHELF, row).await?)
}

/// Whether the statement, one of a row's shelf, has written it.
async fn write_shelf(
    connection: &mut SqliteConnection,
    statement: &'static str,
    row: &ShelfEdit,
) -> Result<bool, sqlx::Error> {
    let written = sqlx::query(statement)
        .bind(row.sku.as_str())
        .bind(row.warehouse.0)
        .bind(row.units)
        .bind(ON_HAND_MAX)
        .execute(connection)
        .await?;
    Ok(written.rows_affected() == 1)
}

async fn note(connection: &mut SqliteConnection, row: &ShelfEdit, reason: &str, at: Time) -> Result<(), sqlx::Error> {
    sqlx::query(NOTE_ADJUSTMENT)
        .bind(row.sku.as_str())
        .bind(row.warehouse.0)
        .bind(row.units)
        .bind(reason)
        .bind(at.timestamp_micros())
        .execute(connection)
        .await
        .map(drop)
}

/// `false` where the key is already there.
async fn keep_key(
    connection: &mut SqliteConnection,
    keyed: &Keyed,
    shelves: &[(Sku, Shelf)],
    now: Time,
) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query(KEEP_KEY)
        .bind(keyed.key.as_str())
        .bind(&keyed.fingerprint[..])
        .bind(Outcome::of_stock(shelves).to_json())
        .bind(now.timestamp_micros())
        .execute(connection)
        .await?;
    Ok(kept.rows_affected() == 1)
}
