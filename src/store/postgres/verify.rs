//! The checks of the books, in one snapshot and without a time limit.

use sqlx::PgPool;

use crate::store::books::CHECKS;

pub(super) async fn differences(pool: &PgPool, limit: u32) -> Result<Vec<String>, sqlx::Error> {
    let mut connection = pool.acquire().await?.detach();
    // The checks read whole tables.
    sqlx::raw_sql(
        "begin transaction isolation level repeatable read read only; set local statement_timeout = 0;
         set local enable_seqscan = on; set local enable_hashjoin = on; set local enable_mergejoin = on",
    )
    .execute(&mut connection)
    .await?;
    let mut differences = Vec::new();
    for check in CHECKS {
        let found: Vec<String> = sqlx::query_scalar(check).bind(i64::from(limit)).fetch_all(&mut connection).await?;
        differences.extend(found);
    }
    sqlx::raw_sql("rollback").execute(&mut connection).await?;
    Ok(differences)
}
