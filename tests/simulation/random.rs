//! The one source of chance of a simulation: everything that may turn out this way or that asks here.

use std::sync::{Mutex, PoisonError};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

pub struct Random(Mutex<ChaCha8Rng>);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    /// From `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(low..=high)
    }

    pub fn below(&self, limit: usize) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..limit)
    }

    pub fn chance(&self, per_mille: u64) -> bool {
        per_mille > 0 && self.between(1, 1_000) <= per_mille
    }

    pub fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Mostly nothing or next to nothing, at times long, never over `max`.
    pub fn delay_ms(&self, max: u64) -> u64 {
        match self.between(0, 99) {
            0..50 => 0,
            50..85 => self.between(0, 3.min(max)),
            85..98 => self.between(0, 60.min(max)),
            _ => self.between(0, max),
        }
    }
}
