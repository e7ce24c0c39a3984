//! The migrations of both databases, built into the program.

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::OpenError;

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
            "0007_notification_leases"
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
    Migrator::with_migrations(numbered.collect())
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
