//! What is for sale and at what price: asked of the shop's ProductService, or read from a
//! catalogue that the program holds itself.
//!
//! Knows nothing of stock, carts or orders. An order keeps name and price as sold, so nothing
//! here is needed to read an order back.

mod catalogue;
mod client;
mod limits;
pub mod protocol;
mod rate_limit;
mod remembered;
mod service;

use std::sync::Arc;

pub use catalogue::{Catalogue, CatalogueError, RowProblem};
pub use client::{Client, ClientError};
pub use limits::*;

use crate::domain::{Money, Sku};

/// A product as it is sold at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// May be empty; never longer than [`NAME_CHARS_MAX`], never with unprintable characters.
    pub name: Arc<str>,
    /// The price of one unit; may be zero, never negative.
    pub price: Money,
}

/// Why a name or a price is not one that can be sold under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProduct {
    #[error("the name has more than {NAME_CHARS_MAX} characters")]
    NameLength,
    /// Line ends and tabs are taken, as real catalogues have them; other control characters are not.
    #[error("the name has a control character")]
    NameCharacter,
    #[error("the price is negative: {0}")]
    NegativePrice(i64),
}

impl Product {
    /// # Errors
    /// [`InvalidProduct`] says what is wrong with the name or the price.
    pub fn new(name: &str, price_minor_units: i64) -> Result<Self, InvalidProduct> {
        if name.chars().count() > NAME_CHARS_MAX {
            return Err(InvalidProduct::NameLength);
        }
        if name.chars().any(|character| character.is_control() && !character.is_whitespace()) {
            return Err(InvalidProduct::NameCharacter);
        }
        if price_minor_units < 0 {
            return Err(InvalidProduct::NegativePrice(price_minor_units));
        }
        Ok(Self { name: name.into(), price: Money(price_minor_units) })
    }
}

/// Why there is no product to show or to sell. The cause is in the log: it is the operator's
/// concern and not the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    /// Nothing is sold under this SKU.
    #[error("there is no such product")]
    Unknown,
    /// The ProductService is away, refuses, is too slow, or gave an answer that cannot be used,
    /// and there is no remembered price that is young enough.
    #[error("the price is not available at this moment")]
    Unavailable,
}

/// A page of what is for sale.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub skus: Vec<Sku>,
    /// Whether there are further ones behind them. A remote service may have none behind a full page.
    pub more: bool,
}

/// How the source of prices is, as far as it is known without asking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Prices come from the program's own catalogue.
    BuiltIn,
    /// The ProductService is asked.
    Asking,
    /// The ProductService failed too often and is left alone for a moment; remembered prices
    /// are served while they are young enough.
    LeftAlone,
}

/// Where prices come from. Cheap to clone; all clones share one memory and one set of limits.
#[derive(Clone)]
pub enum Products {
    BuiltIn(Arc<Catalogue>),
    Remote(Client),
}

impl Products {
    /// # Errors
    /// [`ProductError::Unknown`], and [`ProductError::Unavailable`] from a remote service only.
    pub async fn get(&self, sku: &Sku) -> Result<Product, ProductError> {
        match self {
            Self::BuiltIn(catalogue) => catalogue.get(sku).cloned().ok_or(ProductError::Unknown),
            Self::Remote(client) => client.get(sku).await,
        }
    }

    /// The products in the order in which they were asked for, with `None` for each SKU that has none.
    ///
    /// # Errors
    /// [`ProductError::Unavailable`] from a remote service only.
    pub async fn get_each<'sku>(
        &self,
        skus: impl IntoIterator<Item = &'sku Sku>,
    ) -> Result<Vec<Option<Product>>, ProductError> {
        match self {
            Self::BuiltIn(catalogue) => Ok(skus.into_iter().map(|sku| catalogue.get(sku).cloned()).collect()),
            Self::Remote(client) => client.get_each(skus.into_iter().cloned().collect()).await,
        }
    }

    /// The same, of the first so many SKUs: of one at the least, and of all unless a remote service is too slow.
    ///
    /// # Errors
    /// [`ProductError::Unavailable`] from a remote service only, where not even the first could be learnt.
    pub async fn get_first(&self, skus: Vec<Sku>) -> Result<Vec<Option<Product>>, ProductError> {
        match self {
            Self::BuiltIn(_) => self.get_each(&skus).await,
            Self::Remote(client) => client.get_first(skus).await,
        }
    }

    /// At most `count` SKUs that follow `after`, in SKU order. A remote service gives them in an
    /// order of its own, which is kept, as the next page starts after the last SKU of this one.
    /// `count` is limited to [`PAGE_SKUS_MAX`].
    ///
    /// # Errors
    /// [`ProductError::Unavailable`].
    pub async fn list(&self, after: Option<&Sku>, count: usize) -> Result<Listed, ProductError> {
        let count = count.min(PAGE_SKUS_MAX);
        match self {
            Self::BuiltIn(catalogue) => {
                let mut skus = catalogue.list(after, count + 1);
                let more = skus.len() > count;
                skus.truncate(count);
                Ok(Listed { skus, more })
            }
            Self::Remote(client) => client.list(after, count).await,
        }
    }

    /// How the source of prices is; asks nobody.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self::BuiltIn(_) => State::BuiltIn,
            Self::Remote(client) => client.state(),
        }
    }
}
