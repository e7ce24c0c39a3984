//! The tests at the system's boundaries: one crate, so that their support is built and linked once.
//!
//! Each module beside this file is about one boundary; `support` is what they stand on.
#![expect(clippy::expect_used, reason = "a test fails by panicking, its support too")]

mod deadlines;
mod kills;
mod lost_commits;
mod outages;
mod races;
mod support;
