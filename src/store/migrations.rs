//! The migrations of both databases, built into the program.

use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Database, Pool, SqlSafeStr};
use tokio::time::{Instant, sleep};

use super::OpenError;

/// A migration, with its wait for another process that migrates, ends within this time.
pub(super) const MIGRATION_MS_MAX: u64 = 60 * 60 * 1_000;
/// How often a process tries that finds another one at the same migrations. It loses each of them once at most,
/// and mostly gets ahead of the other one or far behind it.
const ATTEMPTS_MAX: u32 = 20;
const PAUSE_MS: u64 = 100;

/// The name and the text of each. What is new comes last; nothing is changed after a release.
macro_rules! files {
    ($database:literal) => {
        files!(
            $database,
            "0001_purchase_path",
            "0002_notifications",
            "0003_refused_payments",
            "0004_notifications_of_orders",
            "0005_orders_of_status",
            "0006_orders_of_any_status",
            "0007_notification_leases",
            "0008_orders_by_deadline"
        )
    };
    ($database:literal, $($name:literal),+) => {
        [$(($name, include_str!(concat!("../../migrations/", $database, "/", $name, ".sql")))),+]
    };
}

pub(super) fn postgres() -> Migrator {
    migrator(files!("postgres"))
}

pub(super) fn sqlite() -> Migrator {
    migrator(files!("sqlite"))
}

/// Brings the database to the present schema, without a lock that not every database has. A migration and the row that
/// tells of it are one transaction: of several processes at the same one, all but one are refused by the
/// database, and see at their next attempt what the other one did.
pub(super) async fn run<DB>(migrator: &Migrator, pool: &Pool<DB>) -> Result<(), MigrateError>
where
    DB: Database,
    DB::Connection: Migrate,
{
    let began = Instant::now();
    let mut attempt = 1;
    loop {
        let error = match migrator.run(pool).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let in_time = began.elapsed() < Duration::from_millis(MIGRATION_MS_MAX);
        if attempt == ATTEMPTS_MAX || !in_time || !was_refused(&error) {
            return Err(error);
        }
        tracing::debug!(%error, attempt, "a migration is tried again: another process may be at it");
        attempt += 1;
        sleep(Duration::from_millis(PAUSE_MS)).await;
    }
}

/// By the database itself: what is wrong with the migrations is so at each attempt.
fn was_refused(error: &MigrateError) -> bool {
    matches!(
        error,
        MigrateError::Execute(sqlx::Error::Database(_)) | MigrateError::ExecuteMigration(sqlx::Error::Database(_), _)
    )
}

/// Whether a database that has these migrations is at the present schema.
pub(super) fn check(migrator: &Migrator, applied: &[i64]) -> Result<(), OpenError> {
    if let Some(unknown) = applied.iter().find(|version| !migrator.version_exists(**version)) {
        return Err(MigrateError::VersionMissing(*unknown).into());
    }
    if migrator.iter().any(|migration| !applied.contains(&migration.version)) {
        return Err(OpenError::OldSchema);
    }
    Ok(())
}

fn migrator<const N: usize>(files: [(&'static str, &'static str); N]) -> Migrator {
    let numbered = (1..).zip(files).map(|(version, (name, sql))| {
        let description = name.trim_start_matches(|letter: char| !letter.is_ascii_lowercase()).replace('_', " ");
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(numbered.collect());
    migrator.set_locking(false);
    migrator
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The same numbers, descriptions and texts as the files have: none is forgotten.
    #[tokio::test]
    async fn every_file_is_built_in() {
        for (folder, built_in) in [("migrations/postgres", postgres()), ("migrations/sqlite", sqlite())] {
            let files = Migrator::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).await.expect("read");
            let of = |migrator: &Migrator| -> Vec<_> {
                migrator.iter().map(|one| (one.version, one.description.clone(), one.checksum.clone())).collect()
            };
            assert_eq!(of(&built_in), of(&files));
        }
    }
}
