//! What the tests of several files work with.

pub mod samples;
pub mod small_shop;
