//! Idempotency keys: a request that carries one happens once, and is answered alike ever after.
//!
//! The key, a fingerprint of the request and the outcome are written in the transaction of the
//! change itself. A refusal that changed nothing is not kept. Keys are unique in the whole
//! database, not per user. After the IETF draft "The Idempotency-Key HTTP Header Field".

use serde::{Deserialize, Serialize};

use crate::domain::cart::{Cart, Line};
use crate::domain::stock::{Shelf, Shortage};
use crate::domain::{Count, OrderId, Sku};

/// SHA-256 over the request's method, path and body.
pub type Fingerprint = [u8; 32];

/// 1–255 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Box<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 255 printable ASCII characters")]
pub struct InvalidKey;

/// A key with the fingerprint of the request that carries it.
#[derive(Debug, Clone)]
pub struct Keyed {
    pub key: Key,
    pub fingerprint: Fingerprint,
}

/// What a request did, with what its answer is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An order was placed, or failed where there are shortages.
    Order { order_id: OrderId, shortages: Vec<Shortage> },
    /// A cart was edited and then held this. Names and prices are live in every answer.
    Cart { version: i64, lines: Vec<(Sku, Count)> },
    /// A shelf was adjusted; its SKU then had these shelves.
    Stock { shelves: Vec<(Sku, Shelf)> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOutcome {
    pub fingerprint: Fingerprint,
    pub outcome: Outcome,
}

impl Key {
    /// # Errors
    /// [`InvalidKey`] where the text is empty, too long or not printable ASCII.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if text.is_empty() || text.len() > 255 || !printable { Err(InvalidKey) } else { Ok(Self(text.into())) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Outcome {
    #[must_use]
    pub fn of_cart(cart: &Cart) -> Self {
        let lines = cart.lines().iter().map(|line| (line.sku.clone(), line.count)).collect();
        Self::Cart { version: cart.version, lines }
    }

    #[must_use]
    pub fn of_stock(shelves: &[(Sku, Shelf)]) -> Self {
        Self::Stock { shelves: shelves.to_vec() }
    }

    /// As it is kept in the database.
    pub(super) fn to_json(&self) -> String {
        // Plain data with string keys: writing it as JSON cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The cart of [`Outcome::Cart`].
    #[must_use]
    pub fn cart(version: i64, lines: Vec<(Sku, Count)>) -> Cart {
        Cart::new(version, lines.into_iter().map(|(sku, count)| Line { sku, count }).collect())
    }
}
