//! The shop as a user sees it: the HTTP API, one method per request, each answer put into one of
//! the outcomes that a user expects, or a [`Refusal`].
//!
//! Reads from an answer only what the replay needs. A request that `429` or `503` asks to send
//! again is sent again a few times; one whose connection broke is sent again once. Where asking
//! twice would do harm, it is sent again only if the answer says that nothing was done.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::report::{Refusal, RefusalKind};
use super::timings::{Request, Timings};
use crate::domain::{Count, OrderId, Sku, UserId};

/// How long one answer may take, its body included.
const ANSWER_SECONDS_MAX: u64 = 30;

/// How often a request is sent again because `Retry-After` asks for it.
const RETRIES_MAX: u32 = 3;

/// The longest wait for a `Retry-After`, whatever it says.
const RETRY_AFTER_SECONDS_MAX: u64 = 2;

/// How often a request is sent again because its connection broke.
const BROKEN_MAX: u32 = 1;

/// How much of an answer that is no problem document goes into a [`Refusal`].
const DETAIL_CHARACTERS_MAX: usize = 200;

pub struct Shop {
    http: reqwest::Client,
    /// Without a slash at its end.
    url: String,
    /// Makes this run's idempotency keys its own, also on a database that saw the recording before.
    run: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    InCart,
    OutOfStock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purchased {
    /// With the units that the order holds.
    Placed {
        order: OrderId,
        units: i64,
    },
    OutOfStock,
}

impl Shop {
    /// `run` must be new in every run: see [`Shop::purchase`].
    ///
    /// # Errors
    /// Where the HTTP client cannot be made.
    pub fn at(url: &Url, connections: usize, run: u128) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .http1_only()
            // Proxies of the environment would be measured instead of the shop.
            .no_proxy()
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(connections)
            .timeout(Duration::from_secs(ANSWER_SECONDS_MAX))
            .build()
            .context("the HTTP client cannot be made")?;
        Ok(Self { http, url: url.as_str().trim_end_matches('/').to_owned(), run: format!("{run:032x}") })
    }

    /// `POST /stocks/import`: each body whole or not at all.
    ///
    /// # Errors
    /// Where the shop does not take one of them; those before it stay imported.
    pub async fn import_stock(&self, bodies: Vec<String>) -> anyhow::Result<()> {
        let parts = bodies.len();
        for (part, body) in (1..).zip(bodies) {
            let request = self.http.post(format!("{}/stocks/import", self.url));
            let sent = request.header(CONTENT_TYPE, "text/csv").body(body).send().await;
            let response = sent.with_context(|| format!("the stock cannot be imported at {}", self.url))?;
            let answer = Answer::of(response).await.context("the answer to the stock import broke off")?;
            let (status, detail) = (answer.status, answer.excerpt());
            let (is_taken, url) = (status.is_success(), &self.url);
            anyhow::ensure!(is_taken, "the stock, part {part} of {parts}, was refused at {url}: {status} {detail}");
        }
        Ok(())
    }

    /// `POST /carts/{user}/items`.
    ///
    /// # Errors
    /// [`Refusal`] for any answer but success and lack of stock, and where none came.
    pub async fn add(&self, user: &UserId, sku: &Sku, count: Count, times: &mut Timings) -> Result<Added, Refusal> {
        let line = CartLine { sku: sku.as_str(), count: count.units() };
        let url = format!("{}/carts/{user}/items", self.url);
        let answer = self.ask(Request::Add, || self.http.post(&url).json(&line), times).await?;
        match (answer.status, answer.code()) {
            (StatusCode::OK, _) => Ok(Added::InCart),
            (StatusCode::CONFLICT, Some(code)) if code == OUT_OF_STOCK => Ok(Added::OutOfStock),
            _ => Err(answer.unexpected(Request::Add)),
        }
    }

    /// `GET /carts/{user}`.
    ///
    /// # Errors
    /// [`Refusal`] for any answer but success, and where none came.
    pub async fn list(&self, user: &UserId, times: &mut Timings) -> Result<(), Refusal> {
        let url = format!("{}/carts/{user}", self.url);
        let answer = self.ask(Request::List, || self.http.get(&url), times).await?;
        answer.must_be(Request::List, StatusCode::OK)
    }

    /// `DELETE /carts/{user}`.
    ///
    /// # Errors
    /// [`Refusal`] for any answer but success, and where none came.
    pub async fn empty(&self, user: &UserId, times: &mut Timings) -> Result<(), Refusal> {
        let url = format!("{}/carts/{user}", self.url);
        let answer = self.ask(Request::Empty, || self.http.delete(&url), times).await?;
        answer.must_be(Request::Empty, StatusCode::NO_CONTENT)
    }

    /// `POST /carts/{user}/purchase`. The idempotency key is made of the run and the invoice: a purchase that is sent again
    /// after a broken connection makes one order, and the next run makes its own.
    ///
    /// # Errors
    /// [`Refusal`] for any answer but success and lack of stock, and where none came.
    pub async fn purchase(&self, user: &UserId, invoice: &str, times: &mut Timings) -> Result<Purchased, Refusal> {
        let url = format!("{}/carts/{user}/purchase", self.url);
        let key = format!("{}-{invoice}", self.run);
        let request = || self.http.post(&url).header("Idempotency-Key", &key);
        let answer = self.ask(Request::Purchase, request, times).await?;
        match (answer.status, answer.code()) {
            (StatusCode::CREATED, _) => {
                let order: PlacedOrder = answer.read(Request::Purchase)?;
                let units = order.items.iter().map(|item| item.count).sum();
                Ok(Purchased::Placed { order: OrderId(order.order_id), units })
            }
            (StatusCode::CONFLICT, Some(code)) if code == OUT_OF_STOCK => Ok(Purchased::OutOfStock),
            _ => Err(answer.unexpected(Request::Purchase)),
        }
    }

    /// `POST /orders/{id}/pay`.
    ///
    /// # Errors
    /// [`Refusal`] for any answer but success, and where none came.
    pub async fn pay(&self, order: OrderId, times: &mut Timings) -> Result<(), Refusal> {
        self.settle(Request::Pay, order, "payed", times).await
    }

    /// `POST /orders/{id}/cancel`.
    ///
    /// # Errors
    /// [`Refusal`] for any answer but success, and where none came.
    pub async fn cancel(&self, order: OrderId, times: &mut Timings) -> Result<(), Refusal> {
        self.settle(Request::Cancel, order, "cancelled", times).await
    }

    async fn settle(&self, request: Request, order: OrderId, status: &str, times: &mut Timings) -> Result<(), Refusal> {
        let url = format!("{}/orders/{order}/{}", self.url, request.name());
        let answer = self.ask(request, || self.http.post(&url), times).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unexpected(request));
        }
        let settled: SettledOrder = answer.read(request)?;
        if settled.status == status { Ok(()) } else { Err(answer.refusal(request, "wrong_status_in_answer")) }
    }

    /// Sends until there is an answer to go by. Every answer's latency counts by itself, without
    /// the waits between them.
    async fn ask<F>(&self, request: Request, build: F, times: &mut Timings) -> Result<Answer, Refusal>
    where
        F: Fn() -> RequestBuilder,
    {
        let (mut retries, mut broken) = (0, 0);
        loop {
            let sent = Instant::now();
            match exchange(build()).await {
                Ok(answer) => {
                    times.record(request, sent.elapsed());
                    let may_be_repeated = request.may_be_repeated() || answer.says_that_nothing_was_done();
                    match answer.retry_after {
                        Some(wait) if retries < RETRIES_MAX && may_be_repeated => {
                            retries += 1;
                            tokio::time::sleep(wait).await;
                        }
                        _ => return Ok(answer),
                    }
                }
                Err(_) if broken < BROKEN_MAX && request.may_be_repeated() => broken += 1,
                Err(error) => return Err(unanswered(request, &error)),
            }
            times.repeated += 1;
        }
    }
}

async fn exchange(request: RequestBuilder) -> reqwest::Result<Answer> {
    Answer::of(request.send().await?).await
}

fn unanswered(request: Request, error: &reqwest::Error) -> Refusal {
    let code = if error.is_timeout() { "timed_out" } else { "connection_broken" };
    let mut detail = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        detail = format!("{detail}: {error}");
        cause = error.source();
    }
    Refusal { kind: RefusalKind { request, status: None, code: code.into() }, detail }
}

const OUT_OF_STOCK: &str = "out_of_stock";
const OVERLOADED: &str = "overloaded";

/// An answer, read to its end: only then does its connection serve the next request.
struct Answer {
    status: StatusCode,
    /// Only with a status that may be tried again.
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Answer {
    async fn of(response: Response) -> reqwest::Result<Self> {
        let status = response.status();
        let retry_after = retry_after(&response);
        Ok(Self { status, retry_after, body: response.bytes().await?.into() })
    }

    fn must_be(&self, request: Request, status: StatusCode) -> Result<(), Refusal> {
        if self.status == status { Ok(()) } else { Err(self.unexpected(request)) }
    }

    fn read<'body, T: Deserialize<'body>>(&'body self, request: Request) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body).map_err(|_| self.refusal(request, "unreadable_answer"))
    }

    /// The problem's stable word. Not looked for in a success: those bodies are large.
    fn code(&self) -> Option<String> {
        if self.status.is_success() {
            return None;
        }
        serde_json::from_slice::<Problem>(&self.body).ok().map(|problem| problem.code)
    }

    /// What is refused before anything is done: behind `unavailable` it may have been done.
    fn says_that_nothing_was_done(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.code().is_some_and(|code| code == OVERLOADED)
    }

    fn unexpected(&self, request: Request) -> Refusal {
        self.refusal(request, self.code().as_deref().unwrap_or("without_code"))
    }

    fn refusal(&self, request: Request, code: &str) -> Refusal {
        let kind = RefusalKind { request, status: Some(self.status.as_u16()), code: code.into() };
        Refusal { kind, detail: self.excerpt() }
    }

    fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(DETAIL_CHARACTERS_MAX).collect()
    }
}

/// RFC 9110, section 10.2.3. A date instead of seconds waits for the longest time.
fn retry_after(response: &Response) -> Option<Duration> {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status());
    let asked = response.headers().get(RETRY_AFTER).filter(|_| busy)?;
    let seconds = asked.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(RETRY_AFTER_SECONDS_MAX);
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_SECONDS_MAX)))
}

#[derive(Serialize)]
struct CartLine<'line> {
    sku: &'line str,
    count: i64,
}

#[derive(Deserialize)]
struct PlacedOrder {
    order_id: i64,
    items: Vec<PlacedItem>,
}

#[derive(Deserialize)]
struct PlacedItem {
    count: i64,
}

#[derive(Deserialize)]
struct SettledOrder {
    status: String,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
}
