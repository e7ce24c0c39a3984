//! Migrations of a database that is in use.

use std::time::Duration;

use loms::store::{self, STATEMENT_MS_MAX};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::postgres::Database;

/// As an index of a large table does; SQLite has no limit that could end it.
#[tokio::test]
async fn a_migration_may_take_longer_than_any_statement() {
    let Some(database) = Database::create() else { return };
    let store = store::open(&database.url()).await.expect("opened");
    store.migrate().await.expect("migrated");
    let mut other = PgConnection::connect(&database.url()).await.expect("a connection");
    for statement in
        ["delete from _sqlx_migrations where version = 6", "begin", "lock table orders in access exclusive mode"]
    {
        other.execute(statement).await.expect("done");
    }
    let migrating = tokio::spawn(async move { store.migrate().await });
    tokio::time::sleep(Duration::from_millis(STATEMENT_MS_MAX + 1_000)).await;
    assert!(!migrating.is_finished(), "it waits for the table");
    other.execute("commit").await.expect("done");
    migrating.await.expect("no panic").expect("migrated");
}
