//! A fresh PostgreSQL database per test, on the server that `tests/with-postgres.sh` started.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const SERVER: &str = "LOMS_TEST_POSTGRES";

/// An empty database, dropped with this value.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// `None` where the tests run without a server; that is printed, so that a skip is not taken
    /// for a success.
    pub fn create() -> Option<Self> {
        let Ok(server) = std::env::var(SERVER) else {
            eprintln!("skipped: {SERVER} is not set; run the tests with `make test`");
            return None;
        };
        Some(Self::create_on(&server))
    }

    /// On a server whose URL ends in `/`.
    pub fn create_on(server: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("loms_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let database = Self { server: server.to_owned(), name };
        // A process id comes back one day; what an earlier process of that id left is dropped.
        database.run_on_server(&format!("drop database if exists {} with (force)", database.name)).expect("dropped");
        database.run_on_server(&format!("create database {} template template0", database.name)).expect("created");
        database
    }

    pub fn url(&self) -> String {
        format!("{}{}", self.server, self.name)
    }

    fn run_on_server(&self, statement: &str) -> sqlx::Result<()> {
        let url = format!("{}postgres", self.server);
        let statement = AssertSqlSafe(statement.to_owned());
        block_on(async move { PgConnection::connect(&url).await?.execute(statement).await.map(|_| ()) })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Best effort: the server may be gone, and the whole server goes after the tests anyway.
        let _ = self.run_on_server(&format!("drop database if exists {} with (force)", self.name));
    }
}

/// As if no writer had been seen for longer than it takes to be given up as dead: the next process to
/// start takes over a place, and what is left there.
pub fn forget_writers(url: &str) {
    let url = url.to_owned();
    let forget = "update writers set seen_at = seen_at - interval '1 minute'";
    let forgotten = block_on(async move { PgConnection::connect(&url).await?.execute(forget).await.map(drop) });
    forgotten.expect("the database answers");
}

/// Every batch of a writer takes so much longer from now on.
pub fn slow_batches(url: &str, seconds: f64) {
    let url = url.to_owned();
    let slow_down = format!(
        "create function take_time() returns trigger language plpgsql as
             $$ begin perform pg_sleep({seconds}); return new; end $$;
         create trigger take_time before update of last_batch on writers for each row execute function take_time()"
    );
    let slow_down = AssertSqlSafe(slow_down);
    let slowed = block_on(async move { PgConnection::connect(&url).await?.execute(slow_down).await.map(drop) });
    slowed.expect("the database answers");
}

/// Runs to the end on a thread of its own, so that it may be called inside and outside of a runtime.
pub fn block_on<Output: Send + 'static>(future: impl Future<Output = Output> + Send + 'static) -> Output {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    };
    std::thread::spawn(run).join().expect("the future did not panic")
}

#[tokio::test]
async fn a_database_is_fresh_and_gone_afterwards() {
    let (Some(one), Some(other)) = (Database::create(), Database::create()) else { return };
    assert_ne!(one.url(), other.url());

    let mut connection = PgConnection::connect(&one.url()).await.expect("connected");
    connection.execute("create table orders (id bigint primary key)").await.expect("created");
    let mut connection = PgConnection::connect(&other.url()).await.expect("connected");
    connection.execute("create table orders (id bigint primary key)").await.expect("the name is free here");

    // It goes though a connection to it is still open.
    let url = other.url();
    drop(other);
    assert!(PgConnection::connect(&url).await.is_err(), "the database outlived its value");
}
