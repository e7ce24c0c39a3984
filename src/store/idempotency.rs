//! Idempotency keys: a request that carries one happens once, and is answered alike ever after.
//!
//! The key, a fingerprint of the request and the outcome are written in the transaction of the
//! change itself. A refusal that changed nothing is not kept. Keys are unique in the whole
//! database, not per user. After the IETF draft "The Idempotency-Key HTTP Header Field".

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::cart::{Cart, Line};
use crate::domain::stock::{Shelf, Shortage};
use crate::domain::{Count, Money, OrderId, Sku};

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
    /// Of an edit of a cart: names and prices for its answer.
    pub tags: Option<Arc<PriceTags>>,
}

/// Names and prices as an answer shows them, so that it can be given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceTags {
    /// ISO 4217.
    pub currency: String,
    /// `None` where it was no longer sold.
    pub of: BTreeMap<Sku, Option<PriceTag>>,
}

/// A product as it was sold at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceTag {
    pub name: Arc<str>,
    pub price: Money,
}

/// What a request did, with what its answer is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An order was placed, or failed where there are shortages.
    Order { order_id: OrderId, shortages: Vec<Shortage> },
    /// A cart was edited and then held this. What was kept before names and prices were has none.
    Cart {
        version: i64,
        lines: Vec<(Sku, Count)>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tags: Option<Arc<PriceTags>>,
    },
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

impl PriceTags {
    /// Whether it tells of each of the cart's lines: somebody else may have added one meanwhile.
    #[must_use]
    pub fn covers(&self, cart: &Cart) -> bool {
        cart.lines().iter().all(|line| self.of.contains_key(&line.sku))
    }
}

impl Outcome {
    #[must_use]
    pub fn of_cart(cart: &Cart, keyed: &Keyed) -> Self {
        let lines = cart.lines().iter().map(|line| (line.sku.clone(), line.count)).collect();
        Self::Cart { version: cart.version, lines, tags: keyed.tags.clone() }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sku(text: &str) -> Sku {
        Sku::parse(text).expect("a SKU")
    }

    #[test]
    fn the_outcome_of_an_edit_is_kept_with_its_prices() {
        let mug = PriceTag { name: "Mug".into(), price: Money(450) };
        let of = [(sku("MUG"), Some(mug)), (sku("S \"6\""), None)].into();
        let tags = Some(Arc::new(PriceTags { currency: "RUB".to_owned(), of }));
        let one = Count::new(1).expect("a count");
        let outcome = Outcome::Cart { version: 2, lines: vec![(sku("MUG"), one), (sku("S \"6\""), one)], tags };
        assert_eq!(serde_json::from_str::<Outcome>(&outcome.to_json()).expect("read"), outcome);
    }

    #[test]
    fn an_outcome_from_before_prices_were_kept_is_read() {
        let kept = r#"{"cart":{"version":3,"lines":[["MUG",2]]}}"#;
        let outcome: Outcome = serde_json::from_str(kept).expect("read");
        let lines = vec![(sku("MUG"), Count::new(2).expect("a count"))];
        assert_eq!(outcome, Outcome::Cart { version: 3, lines, tags: None });
        assert_eq!(outcome.to_json(), kept);
    }
}
