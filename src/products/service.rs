//! Calls to the ProductService over HTTP: few at a time, few a second, few tries, bounded in time
//! and size, and none for a moment where it keeps failing.
//!
//! Remembers nothing. Everything here must be polled on the runtime that owns the sockets.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::FutureExt;
use recloser::{AsyncRecloser, Recloser};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::limits::{
    BREAKER_TRIAL_CALLS, CALL_TRIES_MAX, CALLS_IN_FLIGHT_MAX, Limits, PAGE_BYTES_MAX, PRODUCT_BYTES_MAX,
};
use super::protocol::{FoundProduct, GET_PRODUCT, GetProduct, LIST_SKUS, ListSkus, SkuForm, SkuPage};
use super::rate_limit::RateLimit;
use super::remembered::Known;
use super::{Listed, Product};
use crate::domain::Sku;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection, or one that broke.
    #[error("it could not be reached")]
    Away(#[source] reqwest::Error),
    #[error("it did not answer in time")]
    TooSlow,
    #[error("it answered with status {0}")]
    Refused(StatusCode),
    /// It answered, and the answer makes no sense.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
    #[error("it failed too often and is left alone for a moment")]
    LeftAlone,
    #[error("no more calls are allowed at this moment")]
    RateLimitUsedUp,
    /// Too many questions wait, or this one waited for its turn until its time was up.
    #[error("too many other questions are to be asked first")]
    Busy,
}

impl Failure {
    /// Stopped on our side: no news of the service, and as frequent as requests are.
    pub fn was_never_sent(&self) -> bool {
        matches!(self, Self::LeftAlone | Self::RateLimitUsedUp | Self::Busy)
    }

    /// Whether another try may help. 420 is how some services write 429.
    fn may_pass(&self) -> bool {
        match self {
            Self::Away(_) | Self::TooSlow => true,
            Self::Refused(status) => status.is_server_error() || matches!(status.as_u16(), 420 | 429),
            Self::Unusable(_) | Self::LeftAlone | Self::RateLimitUsedUp | Self::Busy => false,
        }
    }

    /// Whether it says that the service as a whole is not well, or not for us. One bad product does not, nor does a
    /// refusal of what was asked: else a user who asks for odd SKUs would end the sale for all others.
    fn is_of_the_service(&self) -> bool {
        match self {
            Self::Away(_) | Self::TooSlow => true,
            Self::Refused(status) => status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 408 | 420 | 429),
            Self::Unusable(_) | Self::LeftAlone | Self::RateLimitUsedUp | Self::Busy => false,
        }
    }
}

pub struct Service {
    http: reqwest::Client,
    base: String,
    token: SecretString,
    /// For calls in flight.
    places: Semaphore,
    rate_limit: RateLimit,
    breaker: AsyncRecloser,
    limits: Limits,
}

impl Service {
    /// # Errors
    /// Where the HTTP client cannot be set up, as without any trusted certificates.
    pub fn new(base: &Url, token: SecretString, limits: Limits) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("loms/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the token to wherever the answer says.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits.call_max)
            .build()?;
        let breaker = Recloser::custom()
            .error_rate(0.5)
            .closed_len(limits.breaker_calls.max(1))
            .half_open_len(BREAKER_TRIAL_CALLS)
            .open_wait(limits.breaker_open)
            .build();
        Ok(Self {
            http,
            base: base.as_str().trim_end_matches('/').to_owned(),
            token,
            places: Semaphore::new(CALLS_IN_FLIGHT_MAX),
            rate_limit: RateLimit::new(limits.calls_per_second_max),
            breaker: breaker.into(),
            limits,
        })
    }

    /// Whether it makes sense to ask at all, before anything is set in motion.
    pub fn admit(&self, wait_max: Duration) -> Result<(), Failure> {
        if self.is_left_alone() {
            return Err(Failure::LeftAlone);
        }
        let now = Instant::now();
        if self.rate_limit.next_free(now) > now + wait_max {
            return Err(Failure::RateLimitUsedUp);
        }
        Ok(())
    }

    pub fn is_left_alone(&self) -> bool {
        // The breaker does not show its state, but refuses at the first poll while it is open. A
        // call that never ends and is dropped counts neither as success nor as failure.
        let probe = self.breaker.call(std::future::pending::<Result<(), ()>>());
        matches!(probe.now_or_never(), Some(Err(recloser::Error::Rejected)))
    }

    /// `None` where nothing is sold under this SKU.
    pub async fn product(self: Arc<Self>, sku: Sku) -> Result<Known<Option<Product>>, Failure> {
        let question = GetProduct { token: self.token.expose_secret().to_owned(), sku: SkuForm::text(&sku) };
        let Known { value: found, asked_at } =
            self.ask::<FoundProduct>(GET_PRODUCT, &question, PRODUCT_BYTES_MAX).await?;
        let product = found.map(|found| Product::new(&found.name, found.price)).transpose();
        let value = product.map_err(|problem| Failure::Unusable(problem.to_string()))?;
        Ok(Known { value, asked_at })
    }

    /// At most `count` SKUs that follow `after`, in the order of the service.
    pub async fn page(self: Arc<Self>, after: Option<Sku>, count: usize) -> Result<Known<Arc<Listed>>, Failure> {
        let question = ListSkus {
            token: self.token.expose_secret().to_owned(),
            // Sent even where it is empty: a service that wants the field gets it.
            start_after_sku: Some(after.as_ref().map_or(SkuForm::Text(String::new()), SkuForm::text)),
            count: i64::try_from(count).unwrap_or(i64::MAX),
        };
        let Known { value: page, asked_at } = self.ask::<SkuPage>(LIST_SKUS, &question, PAGE_BYTES_MAX).await?;
        let page = page.ok_or(Failure::Refused(StatusCode::NOT_FOUND))?;
        let mut skus = Vec::with_capacity(page.skus.len().min(count));
        for form in page.skus.iter().take(count) {
            match form.parse() {
                Some(sku) => skus.push(sku),
                None => tracing::warn!(?form, "the product service listed something that is no SKU"),
            }
        }
        if skus.is_empty() && !page.skus.is_empty() {
            // An empty page would read as the end of the list.
            return Err(Failure::Unusable("no SKU of the page is valid".to_owned()));
        }
        // By what the service listed: what is no SKU does not end the list. A full page may be the last one.
        Ok(Known { value: Arc::new(Listed { skus, more: page.skus.len() >= count }), asked_at })
    }

    /// The answer to a question, without a value where it is 404.
    async fn ask<A: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl Serialize,
        bytes_max: usize,
    ) -> Result<Known<Option<A>>, Failure> {
        let deadline = Instant::now() + self.limits.question_max;
        let body = serde_json::to_vec(question).map_err(|error| unusable(&error))?;
        let tries = ExponentialBuilder::default()
            .with_min_delay(self.limits.retry_delay_min)
            .with_max_times(CALL_TRIES_MAX - 1)
            .with_jitter();
        let answer = (|| self.try_once(path, &body, bytes_max, deadline)).retry(tries).when(Failure::may_pass);
        let Known { value, asked_at } = timeout_at(deadline, answer).await.unwrap_or(Err(Failure::TooSlow))?;
        let value = value.map(|body| serde_json::from_slice(&body)).transpose().map_err(|error| unusable(&error))?;
        Ok(Known { value, asked_at })
    }

    /// One call, once it is its turn.
    async fn try_once(
        &self,
        path: &str,
        body: &[u8],
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Known<Option<Vec<u8>>>, Failure> {
        // First the place in flight, then the moment: a call that waited for its place would go
        // out late, in the same second as those whose moment is then.
        let Ok(Ok(_place)) = timeout_at(deadline, self.places.acquire()).await else {
            return Err(Failure::Busy);
        };
        if self.is_left_alone() {
            return Err(Failure::LeftAlone);
        }
        let moment = self.rate_limit.reserve(Instant::now(), deadline).ok_or(Failure::RateLimitUsedUp)?;
        sleep_until(moment).await;

        let asked_at = Instant::now();
        let time_limit = deadline.min(asked_at + self.limits.call_max);
        let call =
            async { timeout_at(time_limit, self.call(path, body, bytes_max)).await.unwrap_or(Err(Failure::TooSlow)) };
        match self.breaker.call_with(Failure::is_of_the_service, call).await {
            Ok(value) => Ok(Known { value, asked_at }),
            Err(recloser::Error::Inner(failure)) => Err(failure),
            Err(recloser::Error::Rejected) => Err(Failure::LeftAlone),
        }
    }

    async fn call(&self, path: &str, body: &[u8], bytes_max: usize) -> Result<Option<Vec<u8>>, Failure> {
        let response = self
            .http
            .post(format!("{}/{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_vec())
            .send()
            .await
            .map_err(away)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => read_body(response, bytes_max).await.map(Some),
            status => Err(Failure::Refused(status)),
        }
    }
}

async fn read_body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(away)? {
        if body.len() + part.len() > bytes_max {
            return Err(Failure::Unusable(format!("it is longer than {bytes_max} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The address may hold a password, which has no place in a log.
fn away(error: reqwest::Error) -> Failure {
    Failure::Away(error.without_url())
}

fn unusable(error: &serde_json::Error) -> Failure {
    Failure::Unusable(error.to_string())
}
