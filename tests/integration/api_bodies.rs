//! How bodies are read, and the words in which it is told that they cannot be.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Answer, answered};
use crate::support::shop::{Shop, assert_problem, new_order, on_each_store};

const ORDER: &str = r#"{"user":"ann","items":[{"sku":"PEN","count":1}]}"#;

/// Each address that takes a JSON body, with one that it takes.
fn taken() -> Vec<(Method, &'static str, Value)> {
    let item = json!({"sku": "PEN", "count": 1});
    let order = new_order("ann", &[("PEN", 1)]);
    let of_user = json!({"user": "ann", "sku": "PEN", "count": 1});
    vec![
        (Method::POST, "/orders", order.clone()),
        (Method::POST, "/carts/ann/items", item.clone()),
        (Method::PUT, "/carts/ann/items/PEN", json!({"count": 1})),
        (Method::PUT, "/stocks/PEN/1", json!({"on_hand": 5})),
        (Method::POST, "/stocks/PEN/1/adjustments", json!({"delta": 1, "reason": "found"})),
        (Method::PUT, "/users/ann/contact", json!({"email": "ann@shop.example", "locale": "en"})),
        (Method::POST, "/addToCart", of_user.clone()),
        (Method::POST, "/deleteFromCart", of_user),
        (Method::POST, "/listCart", json!({"user": "ann"})),
        (Method::POST, "/purchase", json!({"user": "ann"})),
        (Method::POST, "/createOrder", order),
        (Method::POST, "/listOrder", json!({"orderID": 1})),
        (Method::POST, "/orderPayed", json!({"orderID": 1})),
        (Method::POST, "/cancelOrder", json!({"orderID": 1})),
        (Method::POST, "/stocks", json!({"sku": "PEN"})),
    ]
}

async fn send(shop: &Shop, method: &Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = shop.client.request(method.clone(), path, None).header("Content-Type", "application/json");
    answered(request.body(body)).await
}

/// # Panics
/// Where the answer is not a 400 in words that a client can understand.
fn assert_told_plainly(answer: &Answer, sent: &str) {
    assert_problem(answer, 400, "invalid_request");
    let detail = answer.body["detail"].as_str().expect("a detail");
    for word in ["struct ", "enum ", "i64", "u32", "deserialize", "serde", "variant", "EOF"] {
        assert!(!detail.contains(word), "{sent} is answered with {detail}");
    }
}

fn array_of(object: &Value) -> Value {
    object.as_object().expect("an object").values().cloned().collect()
}

#[tokio::test]
async fn an_array_is_no_object() {
    on_each_store(async |shop| {
        for (method, path, body) in taken() {
            let array = array_of(&body).to_string();
            assert_told_plainly(&send(shop, &method, path, array.clone()).await, &array);
        }
        for path in ["/orders", "/createOrder"] {
            let order = r#"{"user": "ann", "items": [["PEN", 1]]}"#;
            let refused = send(shop, &Method::POST, path, order).await;
            assert_told_plainly(&refused, order);
            let detail = refused.body["detail"].as_str().expect("a detail");
            assert!(detail.contains("items[0]") && detail.contains("an object with sku and count"), "{detail}");
        }
        let refused = shop.client.post("/orders", &json!(["ann", [{"sku": "PEN", "count": 1}]])).await;
        let detail = refused.body["detail"].as_str().expect("a detail");
        assert!(detail.contains("expected an object with user and items"), "{detail}");
        assert_eq!(shop.client.get("/orders").await.body["orders"], json!([]));
        assert_eq!(
            (shop.available("PEN").await, &shop.client.get("/carts/ann").await.body["version"]),
            (1_000_000, &json!(0))
        );
    })
    .await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_body_is_told_in_words_that_clients_know() {
    on_each_store(async |shop| {
        for (method, path, body) in taken() {
            for text in ["", " ", "{", "nonsense", "null", "5", "\"text\"", "[]", "true"] {
                assert_told_plainly(&send(shop, &method, path, text).await, text);
            }
            for field in body.as_object().expect("an object").keys() {
                for wrong in [json!(null), json!(true), json!([]), json!({}), json!([1]), json!({"a": 1})] {
                    // An empty list is of the right type.
                    if field == "items" && wrong == json!([]) {
                        continue;
                    }
                    let mut changed = body.clone();
                    changed[field] = wrong;
                    let refused = send(shop, &method, path, changed.to_string()).await;
                    assert_told_plainly(&refused, &changed.to_string());
                    assert!(refused.body["field"].is_string(), "{}", refused.body);
                }
                let mut without = body.clone();
                without.as_object_mut().expect("an object").remove(field);
                let refused = send(shop, &method, path, without.to_string()).await;
                assert_told_plainly(&refused, &without.to_string());
                assert_eq!(refused.body["field"], *field, "{}", refused.body);
            }
        }
        let empty = send(shop, &Method::POST, "/orders", "").await;
        assert_eq!(empty.body["detail"], "the body is empty");
        for id in ["1.5", "1e30", "\"1\"", "18446744073709551616"] {
            let refused = send(shop, &Method::POST, "/listOrder", format!("{{\"orderID\":{id}}}")).await;
            assert_told_plainly(&refused, id);
            assert_eq!(refused.body["field"], "orderID");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_field_is_named_wherever_it_stands() {
    on_each_store(async |shop| {
        for (body, field) in [
            (json!({"user": "ann", "items": [{"sku": 5, "count": 1}]}), "sku"),
            (json!({"user": "ann", "items": [{"sku": "PEN", "count": "1"}]}), "count"),
            (json!({"user": "ann", "items": [{"sku": "PEN"}]}), "count"),
            (json!({"user": 5, "items": []}), "user"),
            (json!({"user": "ann"}), "items"),
            (json!({"user": "ann", "items": [], "coupon": 1}), "coupon"),
        ] {
            assert_eq!(shop.client.post("/orders", &body).await.body["field"], field, "{body}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_told_in_words_that_clients_know() {
    on_each_store(async |shop| {
        for path in ["/orders", "/products", "/notifications"] {
            for query in ["coupon=1", "limit=1&limit=2"] {
                let refused = shop.client.get(&format!("{path}?{query}")).await;
                assert_told_plainly(&refused, query);
                assert_eq!(refused.body["field"], query.split('=').next().expect("a name"));
            }
        }
        assert_told_plainly(&shop.client.delete("/carts/ann/items/PEN?coupon=1").await, "coupon");
    })
    .await;
}

#[tokio::test]
async fn a_body_is_in_utf_8_and_not_packed() {
    on_each_store(async |shop| {
        let order = |header: &'static str, value: &'static str| {
            let request = shop.client.request(Method::POST, "/orders", None);
            let request =
                if header == "Content-Type" { request } else { request.header("Content-Type", "application/json") };
            answered(request.header(header, value).body(ORDER))
        };
        for coding in ["gzip", "br", "identity, gzip", "nonsense"] {
            assert_problem(&order("Content-Encoding", coding).await, 415, "unsupported_media_type");
        }
        for charset in ["utf-16", "ISO-8859-1", "\"windows-1251\"", ""] {
            let refused = shop.client.request(Method::POST, "/orders", None);
            let refused = refused.header("Content-Type", format!("application/json; charset={charset}")).body(ORDER);
            assert_problem(&answered(refused).await, 415, "unsupported_media_type");
        }
        assert_eq!(shop.client.get("/orders").await.body["orders"], json!([]));
        assert_eq!(order("Content-Encoding", "identity").await.status, 201);
        for media_type in
            ["application/json;charset=UTF-8", "application/json; charset=\"utf-8\"", "application/json; q=1"]
        {
            assert_eq!(order("Content-Type", media_type).await.status, 201, "{media_type}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_header_that_may_come_only_once_is_refused_when_it_comes_twice() {
    on_each_store(async |shop| {
        let json = |request: reqwest::RequestBuilder| request.header("Content-Type", "application/json").body(ORDER);
        let keys = shop.client.request(Method::POST, "/orders", Some("one")).header("Idempotency-Key", "two");
        let types = shop.client.request(Method::POST, "/orders", None).header("Content-Type", "text/csv");
        for (request, header) in [(keys, "idempotency-key"), (types, "content-type")] {
            let refused = answered(json(request)).await;
            assert_problem(&refused, 400, "invalid_request");
            assert_eq!(refused.body["field"], header);
        }
        assert_eq!(shop.client.get("/orders").await.body["orders"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_body_that_means_nothing_has_its_limit_all_the_same() {
    on_each_store(async |shop| {
        shop.add("ann", "PEN", 1).await;
        let id = shop.order("bob", &[("PEN", 1)]).await["order_id"].clone();
        let long = " ".repeat((1 << 20) + 1);
        let paths = ["/carts/ann/purchase".to_owned(), format!("/orders/{id}/pay"), format!("/orders/{id}/cancel")];
        for path in &paths {
            assert_problem(&send(shop, &Method::POST, path, long.clone()).await, 413, "payload_too_large");
        }
        assert_eq!(shop.client.get(&format!("/orders/{id}")).await.body["status"], "awaiting_payment");
        for path in &paths[..2] {
            let request = shop.client.request(Method::POST, path, None).header("Content-Type", "text/plain");
            assert!([200, 201].contains(&answered(request.body("anything")).await.status), "{path}");
        }
    })
    .await;
}
