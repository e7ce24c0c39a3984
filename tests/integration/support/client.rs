//! A JSON client that keeps whatever it is answered: status, headers and body.

use std::future::Future;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The server closes a connection that was idle for 5 s; no request may meet that on its way.
const IDLE_TIME_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `Null` where there is none, a string where it is not JSON.
    pub body: Value,
}

impl Client {
    /// Of the server at `http://HOST:PORT`.
    pub fn new(base: &str) -> Self {
        let http = reqwest::Client::builder().timeout(ANSWER_TIME_MAX).pool_idle_timeout(IDLE_TIME_MAX).no_proxy();
        let http = http.build().expect("a client");
        Self { http, base: base.to_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        answered(self.request(Method::GET, path, None)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answered(self.request(Method::DELETE, path, None)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        answered(self.request(Method::PUT, path, None).json(body)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answered(self.request(Method::POST, path, None).json(body)).await
    }

    pub async fn post_with_key(&self, path: &str, key: &str, body: &Value) -> Answer {
        answered(self.request(Method::POST, path, Some(key)).json(body)).await
    }

    pub async fn post_csv(&self, path: &str, rows: &str) -> Answer {
        let request = self.request(Method::POST, path, None).header(CONTENT_TYPE, "text/csv");
        answered(request.body(rows.to_owned())).await
    }

    /// For a test that changes the request further, or that expects no answer: see [`try_answered`].
    pub fn request(&self, method: Method, path: &str, key: Option<&str>) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        }
    }
}

impl Answer {
    /// Whether nobody knows what became of the request. Whoever sends it again without a key may do it twice.
    pub fn leaves_in_doubt(&self) -> bool {
        self.status == 503 && !self.body["detail"].as_str().is_some_and(|detail| detail.contains("nothing was"))
    }

    /// Whether it says that the request may be sent again.
    pub fn says_when_to_ask_again(&self) -> bool {
        self.headers.contains_key("Retry-After")
    }
}

/// # Panics
/// Where no answer comes.
pub async fn answered(request: RequestBuilder) -> Answer {
    try_answered(request).await.expect("an answer")
}

/// # Errors
/// Where no whole answer comes: the server was killed, or the time limit is over.
pub async fn try_answered(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) };
    Ok(Answer { status, headers, body })
}

/// Waits until the condition holds, looking every 10 ms; whether it did within the limit.
#[must_use]
pub async fn eventually<Look: Future<Output = bool>>(limit: Duration, mut look: impl FnMut() -> Look) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if look().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

#[tokio::test]
async fn every_answer_is_kept_whole() {
    use serde_json::json;
    use wiremock::matchers::{body_json, body_string, header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    let server = MockServer::start().await;
    let order = json!({"order_id": 1});
    let request = Mock::given(method("POST")).and(path("/orders"));
    let request = request.and(header("Idempotency-Key", "k1")).and(body_json(json!({"user": "ann"})));
    let created = ResponseTemplate::new(201).insert_header("Location", "/orders/1").set_body_json(&order);
    request.respond_with(created).mount(&server).await;
    let teapot = ResponseTemplate::new(418).set_body_string("no JSON");
    Mock::given(method("POST")).and(body_string("a,1\n")).respond_with(teapot).mount(&server).await;
    for (verb, status) in [("GET", 200), ("PUT", 409), ("DELETE", 204)] {
        Mock::given(method(verb)).respond_with(ResponseTemplate::new(status)).mount(&server).await;
    }

    let client = Client::new(&server.uri());
    let created = client.post_with_key("/orders", "k1", &json!({"user": "ann"})).await;
    assert_eq!((created.status, &created.body, &created.headers["Location"] == "/orders/1"), (201, &order, true));
    assert_eq!(client.post("/orders", &json!({"user": "ann"})).await.status, 404, "there was no key");
    let refused = client.post_csv("/stocks/import", "a,1\n").await;
    assert_eq!((refused.status, refused.body), (418, json!("no JSON")));
    assert_eq!(client.get("/livez").await.status, 200);
    assert_eq!(client.put("/stocks/A/1", &json!({})).await.status, 409);
    assert_eq!(client.delete("/carts/ann").await.body, Value::Null);

    drop(server);
    let nobody = Client::new("http://127.0.0.1:1");
    assert!(try_answered(nobody.request(Method::GET, "/livez", None)).await.is_err());
}

#[tokio::test]
async fn a_condition_is_looked_at_until_it_holds_or_the_limit_is_over() {
    let looks = std::cell::Cell::new(0);
    let third_look = || async {
        looks.set(looks.get() + 1);
        looks.get() >= 3
    };
    assert!(eventually(Duration::from_secs(10), third_look).await);
    assert_eq!(looks.get(), 3);
    assert!(!eventually(Duration::from_millis(30), || async { false }).await);
}
