//! A stock count, an adjustment or an import: a transaction of its own, with few guests.

use sqlx::{PgConnection, QueryBuilder};

use crate::domain::stock::{ON_HAND_MAX, Shelf};
use crate::domain::{Sku, Time};
use crate::store::WriteError;
use crate::store::change::{Refused, ShelfEdit, StockEdit, Verdict};
use crate::store::idempotency::{Keyed, Outcome};
use crate::store::rows::Numbers;
use crate::store::stock_edit::{ADD_TO_SHELF, BEGIN_SHELF, COUNT_AGAIN, KEEP_KEY, LEAVE, NOTE_ADJUSTMENT};

use super::reads;
use super::unnest::column;
use super::writer::{begin, commit, execute, limited, undo_collision};

pub(super) async fn write(
    connection: &mut PgConnection,
    numbers: Numbers,
    edit: &StockEdit,
    key: Option<&Keyed>,
    now: Time,
) -> Result<Vec<Verdict>, WriteError> {
    let tried = attempt(connection, numbers, edit, key, now).await;
    match undo_collision(connection, tried).await? {
        Ok(shelves) => commit(connection, vec![Verdict::StockWritten(shelves)]).await,
        Err(refused) => {
            execute(connection, "rollback").await.map_err(WriteError::NotWritten)?;
            Ok(vec![Verdict::Refused(refused)])
        }
    }
}

type Edited = Result<Vec<(Sku, Shelf)>, Refused>;

async fn attempt(
    connection: &mut PgConnection,
    numbers: Numbers,
    edit: &StockEdit,
    key: Option<&Keyed>,
    now: Time,
) -> Result<Edited, WriteError> {
    begin(connection, numbers, now).await?;
    limited(apply(connection, edit, key, now)).await.map_err(|error| WriteError::NotWritten(error.into()))
}

async fn apply(
    connection: &mut PgConnection,
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

/// Begins shelves, in an order of locking that all writers keep; gives the number of those written. What becomes of one
/// that is there, SQL says.
async fn insert(
    connection: &mut PgConnection,
    rows: &[ShelfEdit],
    where_there_is_one: &'static str,
) -> Result<u64, sqlx::Error> {
    let mut query = QueryBuilder::new("insert into stocks (sku, warehouse_id, on_hand) select * from unnest(");
    query.push_bind(column(rows, |row| row.sku.as_str())).push(", ");
    query.push_bind(column(rows, |row| row.warehouse.0)).push(", ");
    query.push_bind(column(rows, |row| row.units));
    query.push(
        ") as counted (sku, warehouse_id, on_hand)
        order by sku collate \"C\", warehouse_id
        on conflict (sku, warehouse_id) ",
    );
    let inserted = query.push(where_there_is_one).build().execute(connection).await?;
    Ok(inserted.rows_affected())
}

/// Gives the positions of the rows that cannot be.
async fn count(connection: &mut PgConnection, rows: &[ShelfEdit]) -> Result<Vec<usize>, sqlx::Error> {
    if insert(&mut *connection, rows, COUNT_AGAIN).await? == rows.len() as u64 {
        return Ok(Vec::new());
    }
    let positions: Vec<i64> = sqlx::query_scalar(
        "select position - 1
         from unnest($1::text[], $2::integer[], $3::bigint[]) with ordinality
             as counted (sku, warehouse_id, on_hand, position)
         join stocks using (sku, warehouse_id)
         where stocks.reserved > counted.on_hand
         order by position",
    )
    .bind(column(rows, |row| row.sku.as_str()))
    .bind(column(rows, |row| row.warehouse.0))
    .bind(column(rows, |row| row.units))
    .fetch_all(connection)
    .await?;
    Ok(positions.into_iter().filter_map(|position| usize::try_from(position).ok()).collect())
}

/// `false` where the shelf does not take it. Who finds no shelf, and then cannot begin one, was overtaken by whoever
/// began it just now, and adds to it.
async fn adjust(connection: &mut PgConnection, row: &ShelfEdit) -> Result<bool, sqlx::Error> {
    Ok(write_shelf(connection, ADD_TO_SHELF, row).await?
        || write_shelf(connection, BEGIN_SHELF, row).await?
        || write_shelf(connection, ADD_TO_SHELF, row).await?)
}

/// Whether the statement, one of a row's shelf, has written it.
async fn write_shelf(
    connection: &mut PgConnection,
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

async fn note(connection: &mut PgConnection, row: &ShelfEdit, reason: &str, at: Time) -> Result<(), sqlx::Error> {
    sqlx::query(NOTE_ADJUSTMENT)
        .bind(row.sku.as_str())
        .bind(row.warehouse.0)
        .bind(row.units)
        .bind(reason)
        .bind(at)
        .execute(connection)
        .await
        .map(drop)
}

/// `false` where the key is already there.
async fn keep_key(
    connection: &mut PgConnection,
    keyed: &Keyed,
    shelves: &[(Sku, Shelf)],
    now: Time,
) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query(KEEP_KEY)
        .bind(keyed.key.as_str())
        .bind(&keyed.fingerprint[..])
        .bind(Outcome::of_stock(shelves).to_json())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(kept.rows_affected() == 1)
}
