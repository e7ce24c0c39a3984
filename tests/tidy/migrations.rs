//! The two databases change in step, and their tables are explained where they are made.

use crate::Finding;
use crate::source::Source;

const STORES: [&str; 2] = ["migrations/postgres/", "migrations/sqlite/"];

/// A migration of one database has its counterpart, under the same name.
pub fn both_stores_have_the_same_migrations(paths: &[&str]) -> Vec<Finding> {
    let [postgres, sqlite] = STORES;
    let missing = |here: &str, there: &str| -> Vec<Finding> {
        let names = paths.iter().filter_map(|path| path.strip_prefix(here));
        let without = names.filter(|name| !paths.contains(&format!("{there}{name}").as_str()));
        without
            .map(|name| Finding { path: format!("{here}{name}"), line: 1, what: format!("not in {there}") })
            .collect()
    };
    [missing(postgres, sqlite), missing(sqlite, postgres)].concat()
}

/// Every table has a comment: `comment on table`, or `--` on the line before (SQLite has only that).
pub fn tables_are_commented(source: &Source) -> Vec<Finding> {
    if !STORES.iter().any(|store| source.path.starts_with(store)) {
        return vec![];
    }
    let lines: Vec<String> = source.lines.iter().map(|line| line.whole.to_lowercase()).collect();
    let text = lines.join("\n");
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix("create table ") else { continue };
        let rest = rest.trim_start_matches("if not exists ");
        let name = rest.split([' ', '(']).next().unwrap_or_default();
        let above = at > 0 && lines[at - 1].trim_start().starts_with("--");
        if !above && !text.contains(&format!("comment on table {name} ")) {
            let what = format!("the table {name} has no comment");
            findings.push(Finding { path: source.path.clone(), line: at + 1, what });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn a_migration_of_one_database_alone_is_found() {
        let paths =
            ["migrations/postgres/0001_a.sql", "migrations/postgres/0002_b.sql", "migrations/sqlite/0001_a.sql"];
        let findings = both_stores_have_the_same_migrations(&paths);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "migrations/postgres/0002_b.sql");
        assert!(both_stores_have_the_same_migrations(&["migrations/sqlite/0001_a.sql"; 1]).len() == 1);
    }

    #[test]
    fn a_table_without_a_comment_is_found() {
        let planted = "-- Goods.\ncreate table stocks (\n);\n\nCREATE TABLE orders (\n);\ncreate table if not exists carts(\n);\ncomment on table carts is 'x';";
        check(tables_are_commented, "migrations/postgres/0001_a.sql", planted, &[5]);
        check(tables_are_commented, "docs/example.sql", planted, &[]);
    }
}
