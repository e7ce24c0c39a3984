//! What clients must not send: each is refused with a clear problem, and changes nothing.

use reqwest::Method;
use serde_json::json;

use crate::support::client::{Answer, answered};
use crate::support::shop::{Shop, assert_problem, lines, new_order, on_each_store};

async fn post_text(shop: &Shop, path: &str, text: impl Into<reqwest::Body>) -> Answer {
    let request = shop.client.request(Method::POST, path, None).header("Content-Type", "application/json");
    answered(request.body(text)).await
}

fn assert_names(answer: &Answer, name: &str) {
    let detail = answer.body["detail"].as_str().expect("a detail");
    assert!(detail.contains(name), "{name} is not named: {detail}");
}

/// # Panics
/// Where a refused request left a trace.
async fn assert_nothing_changed(shop: &Shop) {
    assert_eq!(shop.client.get("/orders").await.body["orders"], json!([]));
    assert_eq!(shop.client.get("/carts/ann").await.body["version"], 0);
    assert_eq!(shop.available("MUG").await, 13);
    shop.assert_books_are_right();
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    on_each_store(async |shop| {
        let deep = "[".repeat(100_000);
        let texts = ["", "{", "nonsense", "{\"user\": \"ann\",}", "{\"user\": \"ann\" \"items\": []}", "\u{0}", &deep];
        for text in texts {
            for path in ["/orders", "/carts/ann/items", "/createOrder", "/stocks/MUG/1/adjustments"] {
                assert_problem(&post_text(shop, path, text.to_owned()).await, 400, "invalid_request");
            }
        }
        let not_utf_8 = post_text(shop, "/orders", b"{\"user\": \"\xff\xfe\", \"items\": []}".to_vec()).await;
        assert_problem(&not_utf_8, 400, "invalid_request");
        let followed = format!("{} more", new_order("ann", &[("PEN", 1)]));
        assert_problem(&post_text(shop, "/orders", followed).await, 400, "invalid_request");
        assert_nothing_changed(shop).await;
    })
    .await;
}

#[tokio::test]
async fn values_of_another_type_are_refused_by_name() {
    on_each_store(async |shop| {
        let item = json!({"sku": "PEN", "count": 1});
        let bodies = [
            (json!({"user": 1, "items": [item]}), "user"),
            (json!({"user": null, "items": [item]}), "user"),
            (json!({"user": "ann", "items": "PEN"}), "items"),
            (json!({"user": "ann", "items": {"sku": "PEN"}}), "items"),
            (json!({"user": "ann", "items": [{"sku": 5, "count": 1}]}), "sku"),
            (json!({"user": "ann", "items": [{"sku": "PEN", "count": "1"}]}), "count"),
            (json!({"user": "ann", "items": [{"sku": "PEN", "count": true}]}), "count"),
            (json!({"user": "ann", "items": [{"sku": "PEN"}]}), "count"),
            (json!({"user": "ann"}), "items"),
            (json!({"items": [item]}), "user"),
        ];
        for (body, field) in bodies {
            let refused = shop.client.post("/orders", &body).await;
            assert_problem(&refused, 400, "invalid_request");
            assert_names(&refused, field);
        }
        for body in [json!([]), json!(null), json!("order"), json!(5)] {
            assert_problem(&shop.client.post("/orders", &body).await, 400, "invalid_request");
        }
        assert_nothing_changed(shop).await;
    })
    .await;
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name() {
    on_each_store(async |shop| {
        let item = json!({"sku": "PEN", "count": 1});
        let bodies = [
            ("/orders", json!({"user": "ann", "items": [item], "coupon": "free"})),
            ("/orders", json!({"user": "ann", "items": [{"sku": "PEN", "count": 1, "coupon": 0}]})),
            ("/carts/ann/items", json!({"sku": "PEN", "count": 1, "coupon": 1})),
            ("/stocks/MUG/1/adjustments", json!({"delta": 1, "reason": "r", "coupon": 1})),
            ("/addToCart", json!({"user": "ann", "sku": "PEN", "count": 1, "coupon": 1})),
            ("/createOrder", json!({"user": "ann", "items": [item], "coupon": 1})),
        ];
        for (path, body) in bodies {
            let refused = shop.client.post(path, &body).await;
            assert_problem(&refused, 400, "invalid_request");
            assert_names(&refused, "coupon");
        }
        let refused = shop.client.put("/stocks/MUG/1", &json!({"on_hand": 1, "coupon": 1})).await;
        assert_names(&refused, "coupon");
        let refused = shop.client.put("/carts/ann/items/PEN", &json!({"count": 1, "coupon": 1})).await;
        assert_names(&refused, "coupon");
        let refused = shop.client.delete("/carts/ann/items/PEN?coupon=1").await;
        assert_names(&refused, "coupon");
        assert_nothing_changed(shop).await;
    })
    .await;
}

#[tokio::test]
async fn a_count_is_a_whole_number_from_one_to_a_million() {
    on_each_store(async |shop| {
        for count in ["0", "-1", "1000001", "1.5", "1e30", "-9223372036854775809", "18446744073709551616"] {
            let order = format!(r#"{{"user":"ann","items":[{{"sku":"PEN","count":{count}}}]}}"#);
            let refused = post_text(shop, "/orders", order).await;
            assert_problem(&refused, 422, "invalid_request");
            assert_names(&refused, "count");
            let item = format!(r#"{{"sku":"PEN","count":{count}}}"#);
            assert_problem(&post_text(shop, "/carts/ann/items", item).await, 422, "invalid_request");
            let set = shop.client.request(Method::PUT, "/carts/ann/items/PEN", None);
            let set = answered(set.header("Content-Type", "application/json").body(format!(r#"{{"count":{count}}}"#)));
            assert_problem(&set.await, 422, "invalid_request");
            let removed = shop.client.delete(&format!("/carts/ann/items/PEN?count={count}")).await;
            assert_problem(&removed, 422, "invalid_request");
        }
        let huge = format!(r#"{{"user":"ann","items":[{{"sku":"PEN","count":1{}}}]}}"#, "0".repeat(400));
        assert!((400..=422).contains(&post_text(shop, "/orders", huge).await.status));
        let sum = new_order("ann", &[("PEN", 600_000), ("PEN", 400_001)]);
        let refused = shop.client.post("/orders", &sum).await;
        assert_problem(&refused, 422, "invalid_request");
        assert_names(&refused, "count");
        assert_nothing_changed(shop).await;

        let million = shop.order("ann", &[("PEN", 1_000_000)]).await;
        assert_eq!(lines(&million), [("PEN", 1_000_000)]);
    })
    .await;
}

#[tokio::test]
async fn an_order_has_1_to_2000_lines() {
    on_each_store(async |shop| {
        let empty = shop.client.post("/orders", &new_order("ann", &[])).await;
        assert_problem(&empty, 422, "invalid_request");
        assert_names(&empty, "items");
        let too_many = shop.client.post("/orders", &new_order("ann", &[("PEN", 1); 2_001])).await;
        assert_problem(&too_many, 422, "invalid_request");
        assert_names(&too_many, "items");
        assert_nothing_changed(shop).await;
        assert_eq!(lines(&shop.order("ann", &[("PEN", 1); 2_000]).await), [("PEN", 2_000)]);
    })
    .await;
}

#[tokio::test]
async fn a_body_has_at_most_one_mebibyte() {
    on_each_store(async |shop| {
        let padded = |bytes: usize| {
            let order = new_order("ann", &[("PEN", 1)]).to_string();
            format!("{order}{}", " ".repeat(bytes - order.len()))
        };
        for path in ["/orders", "/carts/ann/items", "/createOrder"] {
            assert_problem(&post_text(shop, path, padded(2 << 20)).await, 413, "payload_too_large");
        }
        let csv = format!("sku,warehouse_id,on_hand\n{}", "MUG,1,1\n".repeat(1 << 18));
        assert_problem(&shop.client.post_csv("/stocks/import", &csv).await, 413, "payload_too_large");
        assert_problem(&post_text(shop, "/orders", padded((1 << 20) + 1)).await, 413, "payload_too_large");
        assert_nothing_changed(shop).await;
        assert_eq!(post_text(shop, "/orders", padded(1 << 20)).await.status, 201);
    })
    .await;
}

#[tokio::test]
async fn users_and_skus_keep_to_their_alphabets() {
    on_each_store(async |shop| {
        let long = "u".repeat(65);
        for user in ["", " ", "a b", "юзер", "a/b", "a\u{0}", "a\n", &long] {
            let refused = shop.client.post("/orders", &new_order(user, &[("PEN", 1)])).await;
            assert_problem(&refused, 422, "invalid_request");
            assert_names(&refused, "user");
        }
        for sku in ["", " PEN", "PEN ", "P\u{0}EN", "P\nEN", "P\u{7f}EN", "P\u{200b}EN", &long] {
            for (path, body) in [
                ("/orders", new_order("ann", &[(sku, 1)])),
                ("/carts/ann/items", json!({"sku": sku, "count": 1})),
                ("/addToCart", json!({"user": "ann", "sku": sku, "count": 1})),
            ] {
                let refused = shop.client.post(path, &body).await;
                assert_problem(&refused, 422, "invalid_request");
                assert_names(&refused, "sku");
            }
        }
        for path in ["/carts/a%20b", "/carts/a%00b", "/carts/%D1%8E", &format!("/carts/{long}")] {
            assert_problem(&shop.client.get(path).await, 422, "invalid_request");
        }
        for path in ["/stocks/P%00EN", "/stocks/P%0AEN", "/products/%20PEN", &format!("/products/{long}")] {
            assert_problem(&shop.client.get(path).await, 422, "invalid_request");
        }
        assert_nothing_changed(shop).await;
        let user = "guest-1.2_3@shop:4";
        assert_eq!(shop.order(user, &[("PEN", 1)]).await["user"], user);
    })
    .await;
}

#[tokio::test]
async fn a_path_with_a_bad_percent_encoding_is_refused() {
    on_each_store(async |shop| {
        let address = shop.client.get("/livez").await;
        assert_eq!(address.status, 200);
        for path in ["/stocks/%", "/stocks/%2", "/stocks/%zz", "/stocks/%ff", "/carts/%C3%28", "/products/a%2"] {
            let answer = raw(shop, &format!("GET {path} HTTP/1.1")).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
            assert!(answer.contains("application/problem+json") && answer.contains("invalid_request"), "{answer}");
        }
        assert_nothing_changed(shop).await;
    })
    .await;
}

/// What the server answers to a request line that a well-bred client would not send.
async fn raw(shop: &Shop, request_line: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let address = shop.program.url().strip_prefix("http://").expect("an address");
    let mut connection = tokio::net::TcpStream::connect(address).await.expect("connected");
    let request = format!("{request_line}\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_total_that_cannot_be_counted_is_refused() {
    on_each_store(async |shop| {
        for items in [&[("GOLD", 2)][..], &[("GOLD", 1), ("SILVER", 1)]] {
            let refused = shop.client.post("/orders", &new_order("ann", items)).await;
            assert_problem(&refused, 422, "invalid_request");
            assert_names(&refused, "total");
        }
        let refused = shop.client.post("/createOrder", &new_order("ann", &[("GOLD", 2)])).await;
        assert_problem(&refused, 422, "invalid_request");
        assert_nothing_changed(shop).await;
        assert_eq!(shop.available("GOLD").await, 100, "nothing is held for it");
        let largest = shop.order("ann", &[("GOLD", 1)]).await;
        assert_eq!(largest["total_price"], 9_000_000_000_000_000_000_i64);
    })
    .await;
}

#[tokio::test]
async fn what_would_make_a_carts_total_uncountable_is_refused_and_not_in_the_cart() {
    on_each_store(async |shop| {
        let cart = shop.add("ann", "GOLD", 1).await;
        for item in [json!({"sku": "GOLD", "count": 1}), json!({"sku": "SILVER", "count": 1})] {
            let refused = shop.client.post("/carts/ann/items", &item).await;
            assert_problem(&refused, 422, "invalid_request");
            assert_names(&refused, "total");
            let contract = json!({"user": "ann", "sku": item["sku"], "count": 1});
            assert_problem(&shop.client.post("/addToCart", &contract).await, 422, "invalid_request");
        }
        let refused = shop.client.put("/carts/ann/items/GOLD", &json!({"count": 2})).await;
        assert_problem(&refused, 422, "invalid_request");
        assert_eq!(shop.client.get("/carts/ann").await.body, cart);
        assert_eq!(shop.client.post("/carts/ann/purchase", &json!({})).await.status, 201);
        shop.assert_books_are_right();
    })
    .await;
}
