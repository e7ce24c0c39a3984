//! Migrations of a database that is in use.

use std::time::Duration;

use loms::store::{self, OpenError, STATEMENT_MS_MAX};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::books::run;
use super::on_each_database;
use crate::support::postgres::Database;

const PROCESSES: usize = 8;

/// As `loms verify` opens it.
#[tokio::test]
async fn a_database_of_another_schema_is_told_and_left_as_it_is() {
    on_each_database(async |ground| {
        let opened = store::open_existing(&ground.url).await.expect("at the present schema");
        opened.close().await;
        run(ground, "update _sqlx_migrations set version = 1006 where version = 6").await;
        let newer = store::open_existing(&ground.url).await.err().expect("a newer program was here");
        assert!(newer.to_string().contains("1006"), "{newer}");
        run(ground, "delete from _sqlx_migrations where version = 1006").await;
        for _ in 0..2 {
            let older = store::open_existing(&ground.url).await.err().expect("an older program was here");
            assert!(matches!(older, OpenError::OldSchema) && older.to_string().contains("loms migrate"), "{older}");
        }
    })
    .await;
    let Some(fresh) = Database::create() else { return };
    assert!(matches!(store::open_existing(&fresh.url()).await.err(), Some(OpenError::OldSchema)), "an empty one");
}

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

/// As where all processes of a shop start at once with a new version of the program.
#[tokio::test(flavor = "multi_thread")]
async fn processes_that_migrate_at_once_do_it_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fresh = Database::create();
    let file = format!("sqlite://{}", folder.path().join("loms.db").display());
    for url in [Some(file), fresh.as_ref().map(Database::url)].into_iter().flatten() {
        let mut stores = Vec::new();
        for _ in 0..PROCESSES {
            stores.push(store::open(&url).await.expect("opened"));
        }
        let migrating = stores.into_iter().map(|store| {
            tokio::spawn(async move {
                let migrated = store.migrate().await;
                store.close().await;
                migrated
            })
        });
        for migrated in migrating.collect::<Vec<_>>() {
            migrated.await.expect("no panic").unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        store::open_existing(&url).await.expect("at the present schema").close().await;
    }
}
