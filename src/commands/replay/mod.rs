//! `loms replay`: plays a shop's recorded orders through the HTTP API, as its users would.

pub mod plan;
pub mod recording;
pub mod schedule;
pub mod stock;

#[cfg(test)]
mod samples;
