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

use super::{CONNECT_MS_MAX, OpenError, READER_MS_MAX, READERS_MAX, STATEMENT_MS_MAX};

/// Every statement finds its rows through an index. Its plan is made once, at a time when the tables may
/// be empty and reading them whole looks cheap; that must not be kept. None is worth compiling.
const BY_KEYS: [(&str, &str); 5] = [
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

pub struct Postgres {
    readers: PgPool,
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
            .options(BY_KEYS);
        let readers = PgPoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(Duration::from_millis(READER_MS_MAX))
            .connect_lazy_with(options.clone());
        let postgres = Self { readers, options };
        let answered = postgres.connect().await.map_err(unreachable)?;
        answered.close().await.map_err(unreachable)?;
        Ok(postgres)
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let limit = Duration::from_millis(CONNECT_MS_MAX);
        tokio::time::timeout(limit, self.options.connect()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}

/// The address as it may stand in a log.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}
