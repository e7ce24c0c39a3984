//! The checks of the books, in one snapshot.

use sqlx::SqlitePool;

use crate::store::books::CHECKS;

pub(super) async fn differences(pool: &SqlitePool, limit: u32) -> Result<Vec<String>, sqlx::Error> {
    let mut connection = pool.acquire().await?.detach();
    sqlx::raw_sql("begin").execute(&mut connection).await?;
    let mut differences = Vec::new();
    for check in CHECKS {
        let found: Vec<String> = sqlx::query_scalar(check).bind(limit).fetch_all(&mut connection).await?;
        differences.extend(found);
    }
    sqlx::raw_sql("rollback").execute(&mut connection).await?;
    Ok(differences)
}
