//! What the tests of the channels share.

pub mod samples;
