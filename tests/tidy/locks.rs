//! The fuzz targets are a workspace of their own, with a lock of their own, and nobody who builds LOMS
//! builds them: their lock must follow the program's, or `make fuzz` ends before it begins.

use std::collections::HashMap;

use crate::Finding;

/// What both locks have is the same in both, but for the program itself, which has no test
/// dependencies there.
pub fn the_fuzz_targets_lock_follows(lock: &str, fuzz_lock: &str) -> Vec<Finding> {
    let locked: HashMap<_, _> = packages(lock).map(|(_, package, rest)| (package, rest)).collect();
    let differs = |package: &str, rest: &str| locked.get(package).is_some_and(|ours| *ours != rest);
    packages(fuzz_lock)
        .filter(|(_, package, rest)| !package.starts_with("name = \"loms\"") && differs(package, rest))
        .map(|(line, _, _)| {
            let what = "not as in Cargo.lock: cargo update -w --manifest-path fuzz/Cargo.toml".to_owned();
            Finding { path: "fuzz/Cargo.lock".to_owned(), line, what }
        })
        .collect()
}

/// The line at which each package begins, its name with its version, and the rest: source, dependencies.
fn packages(lock: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut line = 1;
    lock.split("\n\n").filter_map(move |block| {
        let begins = line;
        line += block.matches('\n').count() + 2;
        let package = block.trim().strip_prefix("[[package]]\n")?;
        let (end, _) = package.match_indices('\n').nth(1)?;
        let (package, rest) = package.split_at(end);
        Some((begins, package, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_differs_is_found() {
        let package = |name: &str, dependency: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\ndependencies = [\n \"{dependency}\",\n]\n")
        };
        let lock = ["version = 4\n".to_owned(), package("csv", "serde"), package("loms", "csv")].join("\n");
        let fuzz_lock = [package("arbitrary", "serde"), package("csv", "memchr"), package("loms", "serde")].join("\n");
        let found = the_fuzz_targets_lock_follows(&lock, &fuzz_lock);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [8]);
        assert!(the_fuzz_targets_lock_follows(&lock, &lock).is_empty());
    }
}
