//! PostgreSQL, for production.

mod batch;
mod notification_log;
mod outbox;
mod reads;
mod stock_edit;
mod unnest;
mod verify;
mod writer;

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use super::{ACQUIRE_MS_MAX, CONNECT_MS_MAX, OpenError, POOL_CONNECTIONS_MAX, STATEMENT_MS_MAX, migrations};

/// Every statement finds its rows through an index. Its plan is made once, at a time when the tables may
/// be empty and reading them whole looks cheap; that must not be kept. None is worth compiling.
const BY_KEYS: [(&str, &str); 5] = [
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The session of a client whose machine is gone ends within 25 seconds, and with it what it had locked.
const KEEPALIVES: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "10"), ("tcp_keepalives_interval", "5"), ("tcp_keepalives_count", "3")];

pub struct Postgres {
    pool: PgPool,
    options: PgConnectOptions,
}

impl Postgres {
    /// # Errors
    /// [`OpenError::Unreachable`] where the address is wrong or nobody answers in time.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let unreachable = |source| OpenError::Unreachable { place: without_password(url), source };
        let options = PgConnectOptions::from_str(url)
            .map_err(unreachable)?
            .application_name("loms")
            .disable_statement_logging()
            .options([
                ("statement_timeout", STATEMENT_MS_MAX.to_string()),
                ("lock_timeout", STATEMENT_MS_MAX.to_string()),
                ("idle_in_transaction_session_timeout", STATEMENT_MS_MAX.to_string()),
            ])
            .options(KEEPALIVES)
            .options(BY_KEYS);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS_MAX)
            .acquire_timeout(Duration::from_millis(ACQUIRE_MS_MAX))
            .connect_lazy_with(options.clone());
        let postgres = Self { pool, options };
        let answered = connect(&postgres.options).await.map_err(unreachable)?;
        answered.close().await.map_err(unreachable)?;
        Ok(postgres)
    }

    /// # Errors
    /// As [`Postgres::open`], and where the database is not at the present schema.
    pub async fn open_existing(url: &str) -> Result<Self, OpenError> {
        let postgres = Self::open(url).await?;
        let applied = postgres.applied().await;
        let applied = applied.map_err(|source| OpenError::Unreachable { place: without_password(url), source })?;
        migrations::check(&migrations::postgres(), &applied)?;
        Ok(postgres)
    }

    async fn applied(&self) -> Result<Vec<i64>, sqlx::Error> {
        let known = "select to_regclass('_sqlx_migrations') is not null";
        if !sqlx::query_scalar::<_, bool>(known).fetch_one(&self.pool).await? {
            return Ok(vec![]);
        }
        sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(&self.pool).await
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let limit = Duration::from_millis(CONNECT_MS_MAX);
    tokio::time::timeout(limit, options.connect()).await.unwrap_or_else(|_| Err(no_answer()))
}

/// Where the server was given up, not the pool, of which it would be said otherwise.
fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// The address as it may stand in a log: the password may stand before the host, or among the parameters.
fn without_password(url: &str) -> String {
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), _) if parameters.contains('@') => format!("{scheme}://…"),
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_is_said_to_be_so() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("postgres://{}/loms", silent.local_addr().expect("its address"));
        let said = Postgres::open(&url).await.err().expect("it is silent").to_string();
        assert!(said.ends_with("timed out"), "{said}");
    }

    #[test]
    fn no_password_is_shown() {
        for url in ["postgres://loms:s3cret@db/loms", "postgres://db/loms?user=loms&password=s3cret"] {
            let shown = without_password(url);
            assert!(shown.starts_with("postgres://") && shown.ends_with("db/loms"), "{shown}");
        }
        assert_eq!(without_password("postgres://loms:s3?cret@db/loms"), "postgres://…");
    }
}
