//! Who may know what: SQL, HTTP, the broker and the layers of our own.

use crate::source::Source;
use crate::{Finding, finding};

/// SQL and sqlx stand under `src/store/` only.
pub fn sql_only_in_the_store(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with("src/") || source.path.starts_with("src/store/") {
        return vec![];
    }
    let mut findings = word_outside(source, "sqlx", &["src/store/"]);
    let statements = source.texts.iter().filter(|(_, text)| is_sql(text));
    findings.extend(statements.map(|(line, _)| finding(source, *line, "SQL outside of src/store/")));
    findings
}

pub fn actix_web_only_at_the_edge(source: &Source) -> Vec<Finding> {
    word_outside(source, "actix_web", &["src/http/", "src/application.rs"])
}

pub fn lapin_only_in_notifications(source: &Source) -> Vec<Finding> {
    word_outside(source, "lapin", &["src/notifications/"])
}

/// `src/domain/` imports nothing of ours from outside of it.
pub fn the_domain_knows_nobody(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with("src/domain/") {
        return vec![];
    }
    let leaves = |code: &str| {
        words_after(code, "crate::").any(|next| !next.starts_with("domain")) || code.contains("super::super::super")
    };
    lines_where(source, leaves, "src/domain/ reaches outside of itself")
}

/// `src/actors/` know the store's trait, not which database is behind it.
pub fn actors_know_no_database(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with("src/actors/") {
        return vec![];
    }
    let names = |code: &str| {
        words_after(code, "store::").any(|next| {
            let next = next.trim_start_matches(['{', ' ']);
            next.starts_with("postgres") || next.starts_with("sqlite")
        })
    };
    lines_where(source, names, "src/actors/ name a database")
}

fn word_outside(source: &Source, word: &str, allowed: &[&str]) -> Vec<Finding> {
    if !source.path.starts_with("src/") || allowed.iter().any(|place| source.path.starts_with(place)) {
        return vec![];
    }
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let names = |code: &str| code.split(|character| !is_word(character)).any(|part| part == word);
    lines_where(source, names, &format!("{word} outside of {}", allowed.join(", ")))
}

fn lines_where(source: &Source, holds: impl Fn(&str) -> bool, what: &str) -> Vec<Finding> {
    let lines = source.lines.iter().enumerate().filter(|(_, line)| holds(&line.code));
    lines.map(|(at, _)| finding(source, at + 1, what)).collect()
}

fn words_after<'code>(code: &'code str, before: &'code str) -> impl Iterator<Item = &'code str> {
    code.split(before).skip(1)
}

/// A statement, told by its first word and one that must follow; a sentence has no such pair.
fn is_sql(text: &str) -> bool {
    const PAIRS: [(&str, &[&str]); 9] = [
        ("select", &["from"]),
        ("with", &["select"]),
        ("insert", &["into"]),
        ("update", &["set"]),
        ("delete", &["from"]),
        ("create", &["table", "index", "database"]),
        ("alter", &["table"]),
        ("drop", &["table", "index", "database"]),
        ("pragma", &["journal_mode", "synchronous", "foreign_keys", "busy_timeout"]),
    ];
    let lower = text.to_lowercase();
    let mut words = lower.split([' ', '\n', '\t', '=', ';', '(']).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    let follows = PAIRS.iter().find(|(starts, _)| *starts == first).map(|(_, follows)| *follows);
    follows.is_some_and(|follows| words.any(|word| follows.contains(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn sql_is_found_outside_of_the_store() {
        let planted = "use sqlx::query;\nlet q = \"select id\n from orders\";\nlet s = \"select an order\"; // sqlx";
        check(sql_only_in_the_store, "src/http/orders.rs", planted, &[1, 2]);
        check(sql_only_in_the_store, "src/actors/journal.rs", "r#\"UPDATE carts SET version = 1\"#", &[1]);
        check(sql_only_in_the_store, "src/store/postgres/orders.rs", planted, &[]);
        check(sql_only_in_the_store, "tests/integration/store.rs", planted, &[]);
    }

    #[test]
    fn frameworks_are_found_outside_of_their_folders() {
        check(actix_web_only_at_the_edge, "src/actors/cart.rs", "//! x\nuse actix_web::web;", &[2]);
        check(actix_web_only_at_the_edge, "src/application.rs", "use actix_web::web;", &[]);
        check(actix_web_only_at_the_edge, "src/actors/cart.rs", "use actix_web_lab::x; // actix_web", &[]);
        check(lapin_only_in_notifications, "src/actors/outbox_relay.rs", "lapin::Connection::connect()", &[1]);
        check(lapin_only_in_notifications, "src/notifications/rabbitmq.rs", "use lapin::Channel;", &[]);
    }

    #[test]
    fn a_layer_that_reaches_past_its_fence_is_found() {
        let planted = "use crate::domain::Sku;\nuse crate::store::Store;\n/// as in crate::store";
        check(the_domain_knows_nobody, "src/domain/cart.rs", planted, &[2]);
        check(the_domain_knows_nobody, "src/http/carts.rs", planted, &[]);
        let planted =
            "use crate::store::{Store, Change};\nuse crate::store::postgres::Postgres;\nuse crate::store::{sqlite};";
        check(actors_know_no_database, "src/actors/journal.rs", planted, &[2, 3]);
        check(actors_know_no_database, "src/application.rs", planted, &[]);
    }
}
