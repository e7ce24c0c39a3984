//! The fences and the form of the code, kept by an ordinary test.
//!
//! Each rule is a function from a file to its findings, and each has a test with a planted fault:
//! a rule that cannot fail keeps nothing.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod fences;
mod form;
mod locks;
mod migrations;
mod source;

use std::fmt;
use std::path::Path;

use source::Source;

type Rule = fn(&Source) -> Vec<Finding>;

const OF_RUST_FILES: [Rule; 10] = [
    fences::sql_only_in_the_store,
    fences::actix_web_only_at_the_edge,
    fences::lapin_only_in_notifications,
    fences::the_domain_knows_nobody,
    fences::actors_know_no_database,
    form::starts_with_what_it_is,
    form::files_are_short,
    form::functions_are_short,
    form::names_say_what_is_inside,
    form::panics_have_a_reason,
];
const OF_ALL_FILES: [Rule; 3] =
    [form::lines_end_with_their_last_word, form::nothing_depends_on_our_machines, migrations::tables_are_commented];

/// Made by tools, by users or by others; not part of the source.
const NOT_OURS: [&str; 8] = ["target", "data", ".git", ".env", "config.yaml", "Cargo.lock", "node_modules", "vendor"];
/// The files that people write. Recorded outputs and data keep the spaces that they have.
const ENDINGS: [&str; 14] =
    [".rs", ".toml", ".md", ".sh", ".sql", ".yaml", ".yml", ".html", ".css", ".js", ".mjs", ".env", "Makefile", "run"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    path: String,
    /// From 1.
    line: usize,
    what: String,
}

fn finding(source: &Source, line: usize, what: &str) -> Finding {
    Finding { path: source.path.clone(), line, what: what.to_owned() }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.what)
    }
}

#[test]
fn the_code_keeps_its_fences_and_its_form() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    read(root, root, &mut sources);
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the files were not found");

    let mut findings = Vec::new();
    for source in &sources {
        let rules = if source.path.ends_with(".rs") { &OF_RUST_FILES[..] } else { &[] };
        findings.extend(rules.iter().chain(&OF_ALL_FILES).flat_map(|rule| rule(source)));
    }
    let paths: Vec<_> = sources.iter().map(|source| source.path.as_str()).collect();
    findings.extend(migrations::both_stores_have_the_same_migrations(&paths));
    let lock = |path: &str| std::fs::read_to_string(root.join(path)).expect("a lock");
    findings.extend(locks::the_fuzz_targets_lock_follows(&lock("Cargo.lock"), &lock("fuzz/Cargo.lock")));

    let list: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    assert!(findings.is_empty(), "{} places are against the rules of CONTRIBUTING.md:\n{list}", findings.len());
}

fn read(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let kind = entry.file_type().expect("a file's kind");
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            read(root, &path, sources);
        } else if kind.is_file() && ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            let text = std::fs::read_to_string(&path).expect("a text file in UTF-8");
            let path = path.strip_prefix(root).expect("inside of the root").to_string_lossy().replace('\\', "/");
            sources.push(Source::new(&path, &text));
        }
    }
}

/// Runs a rule on a planted text and compares the lines that it finds.
#[cfg(test)]
fn check(rule: Rule, path: &str, text: &str, lines: &[usize]) {
    let findings = rule(&Source::new(path, text));
    let found: Vec<_> = findings.iter().map(|finding| finding.line).collect();
    assert_eq!(found, lines, "in {path}:\n{text}");
}
