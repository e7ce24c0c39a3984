//! How a file looks: its first words, its length, its name, and what it may not contain.

use crate::source::Source;
use crate::{Finding, finding};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
/// Fewer words are no reason; the `//` before them is not counted.
const REASON_WORDS_MIN: usize = 3;
/// How far above an attribute with a reason may stand, as on the function around the line.
const ATTRIBUTE_LINES_MAX: usize = 20;
/// Names that say where something was put, not what it is.
const NAMES: [&str; 10] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "shared", "stuff"];

/// Every file says first what it is.
pub fn starts_with_what_it_is(source: &Source) -> Vec<Finding> {
    let says = source.lines.first().is_some_and(|line| line.whole.starts_with("//!"));
    if says { vec![] } else { vec![finding(source, 1, "does not start with //! and what it is")] }
}

pub fn files_are_short(source: &Source) -> Vec<Finding> {
    let lines = source.lines.len();
    let long = lines > FILE_LINES_MAX;
    long.then(|| finding(source, lines, &format!("over {FILE_LINES_MAX} lines"))).into_iter().collect()
}

pub fn functions_are_short(source: &Source) -> Vec<Finding> {
    let functions = source.functions();
    let long = functions.iter().filter(|function| function.last_line + 1 - function.first_line > FUNCTION_LINES_MAX);
    long.map(|function| finding(source, function.first_line, &format!("over {FUNCTION_LINES_MAX} lines"))).collect()
}

/// No file, folder or module has a name that would take anything.
pub fn names_say_what_is_inside(source: &Source) -> Vec<Finding> {
    let path = source.path.trim_end_matches(".rs");
    let mut findings = Vec::new();
    if let Some(name) = path.split('/').find(|part| NAMES.contains(part)) {
        findings.push(finding(source, 1, &format!("the name {name} says nothing")));
    }
    for (at, line) in source.lines.iter().enumerate() {
        let mut words = line.code.split([' ', ';', '{']).filter(|word| !word.is_empty());
        let module = words.any(|word| word == "mod").then(|| words.next()).flatten();
        if let Some(name) = module.filter(|name| NAMES.contains(name)) {
            findings.push(finding(source, at + 1, &format!("the name {name} says nothing")));
        }
    }
    findings
}

/// What can panic says on its line, on the line before, or in an attribute above why it does not.
pub fn panics_have_a_reason(source: &Source) -> Vec<Finding> {
    const PANICS: [&str; 5] = [".unwrap()", ".expect(", "todo!", "dbg!", "unimplemented!"];
    if !source.path.starts_with("src/") {
        return vec![];
    }
    let has_reason = |at: usize| {
        let comments = [Some(at), at.checked_sub(1)].into_iter().flatten().map(|at| &source.lines[at].comment);
        let above = &source.lines[at.saturating_sub(ATTRIBUTE_LINES_MAX)..=at];
        let allowed = |line: &str| line.contains("clippy::expect_used") || line.contains("clippy::unwrap_used");
        comments.into_iter().any(|comment| comment.split_whitespace().count() > REASON_WORDS_MIN)
            || above.iter().any(|line| allowed(&line.code))
    };
    let lines = source.lines.iter().enumerate().filter(|(_, line)| !line.is_test);
    let panics = lines.filter(|(_, line)| PANICS.iter().any(|panic| line.code.contains(panic)));
    let without = panics.filter(|(at, _)| !has_reason(*at));
    without.map(|(at, _)| finding(source, at + 1, "can panic and does not say why it will not")).collect()
}

/// No trailing spaces, in any text file.
pub fn lines_end_with_their_last_word(source: &Source) -> Vec<Finding> {
    let lines = source.lines.iter().enumerate().filter(|(_, line)| line.whole.ends_with([' ', '\t']));
    lines.map(|(at, _)| finding(source, at + 1, "trailing space")).collect()
}

/// What exists only on the machines that build this is named by the tests and tasks only.
pub fn nothing_depends_on_our_machines(source: &Source) -> Vec<Finding> {
    const FOLDER: &str = "shared/";
    let allowed = ["tests/", ".ci/"].iter().any(|place| source.path.starts_with(place)) || source.path == "Makefile";
    if allowed {
        return vec![];
    }
    let names = |line: &str| {
        let before = line.split(FOLDER).next().filter(|before| before.len() < line.len());
        before.is_some_and(|before| !before.ends_with(|character: char| character.is_alphanumeric()))
    };
    let lines = source.lines.iter().enumerate().filter(|(_, line)| names(&line.whole));
    lines.map(|(at, _)| finding(source, at + 1, "names a folder that users do not have")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_found() {
        check(starts_with_what_it_is, "src/a.rs", "use std::fmt;\n//! Late.", &[1]);
        check(starts_with_what_it_is, "src/a.rs", "", &[1]);
        check(starts_with_what_it_is, "src/a.rs", "//! What it is.", &[]);
    }

    #[test]
    fn long_files_and_functions_are_found() {
        check(files_are_short, "src/a.rs", &"//\n".repeat(401), &[401]);
        check(files_are_short, "src/a.rs", &"//\n".repeat(400), &[]);
        let function = |lines: usize| format!("//! A.\nfn long() {{\n{}}}\n", "    // \" {\n".repeat(lines - 2));
        check(functions_are_short, "src/a.rs", &function(71), &[2]);
        check(functions_are_short, "src/a.rs", &function(70), &[]);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        check(names_say_what_is_inside, "src/http/helpers.rs", "", &[1]);
        check(names_say_what_is_inside, "src/common/mod.rs", "", &[1]);
        check(names_say_what_is_inside, "src/lib.rs", "pub mod domain;\npub(crate) mod utils;", &[2]);
        check(names_say_what_is_inside, "src/commonly.rs", "mod manager_of_shop; // mod utils", &[]);
    }

    #[test]
    fn panics_without_a_reason_are_found() {
        let planted = "a.unwrap();\nb.expect(\"x\"); // ok\ntodo!()\ndbg!(c)\n\"a.unwrap()\"";
        check(panics_have_a_reason, "src/a.rs", planted, &[1, 2, 3, 4]);
        let reasoned = "// The lock is never poisoned.\na.unwrap();\nb.expect(\"x\"); // parsed when it was read";
        check(panics_have_a_reason, "src/a.rs", reasoned, &[]);
        let attribute = "#[expect(clippy::expect_used, reason = \"x\")]\nfn a() {\n    b.expect(\"x\");\n}";
        check(panics_have_a_reason, "src/a.rs", attribute, &[]);
        check(panics_have_a_reason, "src/a.rs", "#[cfg(test)]\nmod tests {\n    a.unwrap();\n}\nb.unwrap()", &[5]);
    }

    #[test]
    fn trailing_spaces_are_found() {
        check(lines_end_with_their_last_word, "README.md", "one \ntwo\n\t\nthree\n", &[1, 3]);
    }

    #[test]
    fn folders_of_our_machines_are_found() {
        check(nothing_depends_on_our_machines, "README.md", "see shared/data\nsee /x/shared/y\nunshared/z", &[1, 2]);
        check(nothing_depends_on_our_machines, "tests/replay.rs", "see shared/data", &[]);
        check(nothing_depends_on_our_machines, "Makefile", "see shared/data", &[]);
    }
}
