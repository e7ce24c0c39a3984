//! The ProductService as the shop sees it: fast, remembered for a short while, and never wrong
//! by more than a stated age.
//!
//! The price policy, for listing a cart and for a purchase alike:
//! - A remembered product is served without asking while it is at most [`PRICE_FRESH_MS_MAX`] old.
//! - After that it is asked for again, and whoever could be served with the remembered one waits
//!   at most [`REFRESH_WAIT_MS_MAX`] for the answer.
//! - While the service is away, slow or gives an answer that cannot be used, or while the rate
//!   limit is used up, a remembered product is served that is at most [`PRICE_AGE_MS_MAX`] old.
//! - Never an older one: then there is no price, and no purchase.
//! - "No such SKU" is believed for [`UNKNOWN_AGE_MS_MAX`] and replaces what was known before.
//!
//! The age counts from the moment at which the question was sent, so a price is never older than
//! it is taken for.
//!
//! With C calls a second, C × 30 products can be held at a servable age: at the default of ten,
//! a cart with more than about 300 different products cannot be priced.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use reqwest::Url;
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::limits::{CALLS_IN_FLIGHT_MAX, Limits, PAGES_REMEMBERED_MAX, PRODUCTS_REMEMBERED_MAX};
#[cfg(doc)]
use super::limits::{PRICE_AGE_MS_MAX, PRICE_FRESH_MS_MAX, QUESTIONS_MS_MAX, REFRESH_WAIT_MS_MAX, UNKNOWN_AGE_MS_MAX};
use super::remembered::{Ageing, Freshness, Known, Remembered};
use super::service::Service;
use super::{Listed, Product, ProductError, State};
use crate::domain::Sku;

/// Asks a ProductService. Cheap to clone; all clones share one memory and one set of limits.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Parts>,
}

struct Parts {
    service: Arc<Service>,
    products: Remembered<Sku, Option<Product>>,
    pages: Remembered<Page, Arc<Listed>>,
    questions_max: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Page {
    after: Option<Sku>,
    count: usize,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the service is not one that can be called.
    #[error("the address of the product service must be like http://host:port")]
    Address,
    /// The HTTP client cannot be set up, as without any trusted certificates.
    #[error("the HTTP client of the product service cannot be set up")]
    Setup(#[source] reqwest::Error),
}

impl Client {
    /// `runtime` is where all calls are made, with time and I/O enabled; it must outlive the
    /// runtimes of the callers, as sockets end with the runtime that opened them. Callers need a
    /// tokio runtime with time enabled.
    ///
    /// # Errors
    /// [`ClientError`] where `base` is no HTTP address or the client cannot be set up.
    pub fn new(base: &str, token: SecretString, runtime: Handle, limits: Limits) -> Result<Self, ClientError> {
        let base = Url::parse(base).map_err(|_| ClientError::Address)?;
        let callable = matches!(base.scheme(), "http" | "https") && base.query().is_none() && base.fragment().is_none();
        if !callable {
            return Err(ClientError::Address);
        }
        let service = Service::new(&base, token, limits.clone()).map_err(ClientError::Setup)?;
        let questions_max = limits.questions_max;
        let shared = Parts {
            service: Arc::new(service),
            products: Remembered::new(PRODUCTS_REMEMBERED_MAX, runtime.clone(), limits.clone()),
            pages: Remembered::new(PAGES_REMEMBERED_MAX, runtime, limits),
            questions_max,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// # Errors
    /// [`ProductError`], within [`super::QUESTION_MS_MAX`].
    pub async fn get(&self, sku: &Sku) -> Result<Product, ProductError> {
        let known = self.known(sku).await?;
        known.value.ok_or(ProductError::Unknown)
    }

    /// The products in the order in which they were asked for; `None` for a SKU that has none.
    ///
    /// # Errors
    /// [`ProductError::Unavailable`] where they could not all be learnt within [`QUESTIONS_MS_MAX`].
    pub async fn get_each(&self, skus: Vec<Sku>) -> Result<Vec<Option<Product>>, ProductError> {
        let count = skus.len();
        let found = self.get_first(skus).await?;
        if found.len() == count { Ok(found) } else { Err(ProductError::Unavailable) }
    }

    /// The same, of as many of the first SKUs as could be learnt within [`QUESTIONS_MS_MAX`].
    ///
    /// # Errors
    /// [`ProductError::Unavailable`] where not even the first could be.
    pub async fn get_first(&self, skus: Vec<Sku>) -> Result<Vec<Option<Product>>, ProductError> {
        let deadline = Instant::now() + self.shared.questions_max;
        let none_wanted = skus.is_empty();
        let mut found = Vec::with_capacity(skus.len());
        // No more at a time than can be asked at a time, so that a long cart takes its place
        // among the others and not all places.
        let all = stream::iter(skus).map(|sku| {
            let client = self.clone();
            async move { client.known(&sku).await }
        });
        let mut all = pin!(all.buffered(CALLS_IN_FLIGHT_MAX));
        while let Ok(Some(Ok(known))) = timeout_at(deadline, all.next()).await {
            found.push(known);
        }
        // What was young enough when it was found may have grown too old while others were asked.
        let is_young = |known: &Known<_>| self.shared.products.freshness(known) != Freshness::TooOld;
        let found: Vec<_> = found.into_iter().take_while(is_young).map(|known| known.value).collect();
        if found.is_empty() && !none_wanted { Err(ProductError::Unavailable) } else { Ok(found) }
    }

    /// At most `count` SKUs that follow `after`, in the order of the service.
    ///
    /// # Errors
    /// [`ProductError::Unavailable`], within [`super::QUESTION_MS_MAX`].
    pub async fn list(&self, after: Option<&Sku>, count: usize) -> Result<Listed, ProductError> {
        let page = Page { after: after.cloned(), count };
        let service = &self.shared.service;
        let question = || Arc::clone(service).page(after.cloned(), count);
        let known = self.shared.pages.get(&page, |wait_max| service.admit(wait_max), question).await;
        Ok(Listed::clone(&known.ok_or(ProductError::Unavailable)?.value))
    }

    /// [`State::Asking`] or [`State::LeftAlone`]; asks nobody.
    #[must_use]
    pub fn state(&self) -> State {
        if self.shared.service.is_left_alone() { State::LeftAlone } else { State::Asking }
    }

    async fn known(&self, sku: &Sku) -> Result<Known<Option<Product>>, ProductError> {
        let service = &self.shared.service;
        let question = || Arc::clone(service).product(sku.clone());
        let known = self.shared.products.get(sku, |wait_max| service.admit(wait_max), question).await;
        known.ok_or(ProductError::Unavailable)
    }
}

impl Ageing for Option<Product> {
    fn freshness(&self, age: Duration, limits: &Limits) -> Freshness {
        match self {
            // Not served past its freshness at all: where nobody can say whether there is a
            // product, "unavailable" is the truth.
            None if age <= limits.unknown_age_max => Freshness::Fresh,
            None => Freshness::TooOld,
            Some(_) => freshness_of_prices(age, limits),
        }
    }
}

/// Pages hold no prices; they follow the same rule so that there is only one.
impl Ageing for Arc<Listed> {
    fn freshness(&self, age: Duration, limits: &Limits) -> Freshness {
        freshness_of_prices(age, limits)
    }
}

fn freshness_of_prices(age: Duration, limits: &Limits) -> Freshness {
    if age > limits.price_age_max {
        Freshness::TooOld
    } else if age > limits.price_fresh_max {
        Freshness::Usable
    } else {
        Freshness::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_fresh_for_a_second_usable_for_thirty_and_never_served_after() {
        let limits = Limits::default();
        let product = Product::new("Mug", 1).ok();
        for (age_ms, freshness) in [
            (0, Freshness::Fresh),
            (1_000, Freshness::Fresh),
            (1_001, Freshness::Usable),
            (30_000, Freshness::Usable),
            (30_001, Freshness::TooOld),
        ] {
            assert_eq!(product.freshness(Duration::from_millis(age_ms), &limits), freshness, "{age_ms} ms");
        }
    }

    #[test]
    fn that_there_is_no_such_sku_is_believed_for_five_seconds_only() {
        let limits = Limits::default();
        let unknown: Option<Product> = None;
        assert_eq!(unknown.freshness(Duration::from_millis(5_000), &limits), Freshness::Fresh);
        assert_eq!(unknown.freshness(Duration::from_millis(5_001), &limits), Freshness::TooOld);
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_called_is_refused() {
        for base in ["", "shop", "ftp://shop", "http://", "http://shop/?a=b"] {
            let client = Client::new(base, "token".into(), Handle::current(), Limits::default());
            assert!(matches!(client, Err(ClientError::Address)), "{base:?} was taken");
        }
    }
}
