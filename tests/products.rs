//! The ProductService client against a service that is well, slow, wrong, or away.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "products/failures.rs"]
mod failures;
#[path = "products/protocol.rs"]
mod protocol;
#[path = "products/remembering.rs"]
mod remembering;

use std::time::{Duration, Instant};

use loms::domain::{Money, Sku};
use loms::products::{Client, Limits, Product, ProductError, Products};
use serde_json::json;
use tokio::runtime::Handle;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockGuard, MockServer, ResponseTemplate};

/// Far more than any wait of these tests takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

fn sku(text: &str) -> Sku {
    Sku::parse(text).expect("a valid SKU")
}

fn mug(price: i64) -> Product {
    Product { name: "Mug".into(), price: Money(price) }
}

/// The real limits, without a rate limit or a breaker that a test would run into by accident,
/// and with retries that do not make it slow.
fn lenient() -> Limits {
    Limits {
        calls_per_second_max: 10_000,
        breaker_calls: 10_000,
        retry_delay_min: Duration::from_millis(1),
        ..Limits::default()
    }
}

/// As [`lenient`], and asks again for everything that it remembers.
fn always_asking() -> Limits {
    Limits { price_fresh_max: Duration::ZERO, ..lenient() }
}

fn client(service: &MockServer, limits: Limits) -> Client {
    Client::new(&service.uri(), "secret-token".into(), Handle::current(), limits).expect("a client")
}

fn found(price: i64) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "name": "Mug", "price": price }))
}

/// The service answers every question for a product so, until the guard is dropped.
async fn answering(service: &MockServer, answer: ResponseTemplate) -> MockGuard {
    Mock::given(method("POST")).and(path("/get_product")).respond_with(answer).mount_as_scoped(service).await
}

async fn calls(service: &MockServer) -> usize {
    service.received_requests().await.expect("requests are recorded").len()
}

/// Asks again and again until the answer is the expected one.
async fn until(client: &Client, expected: Result<Product, ProductError>) {
    let start = Instant::now();
    loop {
        let answer = client.get(&sku("MUG-01")).await;
        if answer == expected {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
