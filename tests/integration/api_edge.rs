//! What every address has in common, and the addresses for operators.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::answered;
use crate::support::shop::{assert_problem, on_each_store};

#[tokio::test]
async fn an_address_that_is_not_there_is_not_found() {
    on_each_store(async |shop| {
        for path in ["/nothing", "/orders/1/refund", "/carts", "/carts/ann/items/PEN/more", "/stocks"] {
            let answer = shop.client.get(path).await;
            // `/stocks` takes POST: there it is the method that is wrong.
            let (status, code) = if path == "/stocks" { (405, "method_not_allowed") } else { (404, "not_found") };
            assert_problem(&answer, status, code);
        }
        assert_problem(&shop.client.post("/nothing", &json!({})).await, 404, "not_found");
    })
    .await;
}

#[tokio::test]
async fn a_method_that_an_address_does_not_take_is_refused() {
    on_each_store(async |shop| {
        let wrong = [
            (Method::PUT, "/orders", "GET, HEAD, POST, OPTIONS"),
            (Method::DELETE, "/orders/1", "GET, HEAD, OPTIONS"),
            (Method::GET, "/orders/1/pay", "POST, OPTIONS"),
            (Method::HEAD, "/orders/1/pay", "POST, OPTIONS"),
            (Method::PATCH, "/carts/ann", "GET, HEAD, DELETE, OPTIONS"),
            (Method::GET, "/carts/ann/items", "POST, OPTIONS"),
            (Method::GET, "/carts/ann/purchase", "POST, OPTIONS"),
            (Method::POST, "/stocks/MUG/1", "PUT, OPTIONS"),
            (Method::GET, "/addToCart", "POST, OPTIONS"),
            (Method::DELETE, "/products", "GET, HEAD, OPTIONS"),
        ];
        for (method, path, allowed) in wrong {
            let answer = answered(shop.client.request(method.clone(), path, None).json(&json!({}))).await;
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.body);
            if method != Method::HEAD {
                assert_problem(&answer, 405, "method_not_allowed");
            }
            assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
            let asked = answered(shop.client.request(Method::OPTIONS, path, None)).await;
            assert_eq!(
                (asked.status, &asked.body, &asked.headers["allow"]),
                (204, &Value::Null, &answer.headers["allow"])
            );
        }
        let nowhere = answered(shop.client.request(Method::OPTIONS, "/nothing", None)).await;
        assert_problem(&nowhere, 404, "not_found");
    })
    .await;
}

#[tokio::test]
async fn head_is_answered_as_get_is_without_the_body() {
    on_each_store(async |shop| {
        shop.order("ann", &[("PEN", 1)]).await;
        for path in
            ["/livez", "/readyz", "/orders", "/carts/ann", "/stocks/MUG", "/products/NO", "/docs/", "/openapi.json"]
        {
            let get = shop.client.get(path).await;
            let head = answered(shop.client.request(Method::HEAD, path, None)).await;
            assert_eq!((head.status, &head.body), (get.status, &Value::Null), "{path}");
            for header in ["content-type", "content-length"] {
                assert_eq!(head.headers.get(header), get.headers.get(header), "{path}");
            }
        }
        assert_eq!(answered(shop.client.request(Method::HEAD, "/metrics", None)).await.status, 200);
        assert_eq!(shop.client.get("/livez").await.body, "ok\n", "the connection is as good as before");
    })
    .await;
}

#[tokio::test]
async fn a_body_of_another_media_type_is_refused() {
    on_each_store(async |shop| {
        let order = r#"{"user":"ann","items":[{"sku":"PEN","count":1}]}"#;
        for media_type in ["text/plain", "application/xml", "application/x-www-form-urlencoded", "text/csv"] {
            let request = shop.client.request(Method::POST, "/orders", None).header("Content-Type", media_type);
            assert_problem(&answered(request.body(order)).await, 415, "unsupported_media_type");
        }
        let import = shop.client.post("/stocks/import", &json!([])).await;
        assert_problem(&import, 415, "unsupported_media_type");
        let utf_8 = shop.client.request(Method::POST, "/orders", None);
        let utf_8 = utf_8.header("Content-Type", "Application/JSON; charset=utf-8").body(order);
        assert_eq!(answered(utf_8).await.status, 201);
    })
    .await;
}

#[tokio::test]
async fn the_program_says_that_it_lives_and_is_ready_and_counts_itself() {
    on_each_store(async |shop| {
        assert_eq!(shop.client.get("/livez").await.status, 200);
        let ready = shop.client.get("/readyz").await;
        let expected = json!({
            "status": "ready", "database": "up", "product_service": "built_in", "broker": "built_in", "events_waiting": 0,
        });
        assert_eq!((ready.status, ready.body), (200, expected));
        shop.order("ann", &[("PEN", 1)]).await;
        let metrics = shop.client.get("/metrics").await;
        assert_eq!(metrics.status, 200);
        assert!(metrics.headers["content-type"].to_str().is_ok_and(|media| media.starts_with("text/plain")));
        let text = metrics.body.as_str().expect("text");
        let has = |wanted: &str| text.lines().any(|line| line == wanted);
        assert!(has("loms_orders_live 1") && has("loms_requests_refused 0"), "{text}");
        let named = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for name in named.map(|line| line.split([' ', '{']).next().expect("a name")) {
            let name = ["_sum", "_count", "_bucket"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            for comment in ["HELP", "TYPE"] {
                let start = format!("# {comment} {name} ");
                assert!(text.lines().any(|line| line.starts_with(&start)), "no {comment} of {name}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_program_documents_itself() {
    on_each_store(async |shop| {
        let document = shop.client.get("/openapi.json").await;
        assert_eq!(document.status, 200);
        assert!(document.body["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        let paths = document.body["paths"].as_object().expect("paths");
        let documented = [
            ("/carts/{user}", &["get", "delete"][..]),
            ("/carts/{user}/items", &["post"]),
            ("/carts/{user}/items/{sku}", &["put", "delete"]),
            ("/carts/{user}/purchase", &["post"]),
            ("/products", &["get"]),
            ("/products/{sku}", &["get"]),
            ("/orders", &["get", "post"]),
            ("/orders/{id}", &["get"]),
            ("/orders/{id}/events", &["get"]),
            ("/orders/{id}/pay", &["post"]),
            ("/orders/{id}/cancel", &["post"]),
            ("/stocks/{sku}", &["get"]),
            ("/stocks/{sku}/{warehouse_id}", &["put"]),
            ("/stocks/{sku}/{warehouse_id}/adjustments", &["post"]),
            ("/stocks/import", &["post"]),
            ("/addToCart", &["post"]),
            ("/deleteFromCart", &["post"]),
            ("/listCart", &["post"]),
            ("/purchase", &["post"]),
            ("/createOrder", &["post"]),
            ("/listOrder", &["post"]),
            ("/orderPayed", &["post"]),
            ("/cancelOrder", &["post"]),
            ("/stocks", &["post"]),
        ];
        for (path, methods) in documented {
            for method in methods {
                assert!(paths.get(path).and_then(|path| path.get(method)).is_some(), "{method} {path} is missing");
            }
        }
        let status = document.body.pointer("/components/schemas/Order/properties/status").expect("described");
        assert_eq!(status["enum"], json!(["new", "awaiting_payment", "failed", "payed", "cancelled"]));
        assert_references_lead_somewhere(&document.body, &document.body);
        assert_operations_say_what_they_take_and_answer(paths);
        let page = shop.client.get("/docs").await;
        assert_eq!(page.status, 200);
        assert!(page.body.as_str().is_some_and(|page| page.contains("<html")), "{}", page.body);
    })
    .await;
}

#[tokio::test]
async fn a_page_of_another_website_may_look_and_change_nothing() {
    on_each_store(async |shop| {
        let order = shop.order("ann", &[("PEN", 1)]).await;
        let path = format!("/orders/{}", order["order_id"]);
        let from = async |site: &str, method, path: &str| {
            let request = shop.client.request(method, path, None).header("Sec-Fetch-Site", site);
            answered(request).await
        };
        for site in ["cross-site", "same-site"] {
            assert_problem(&from(site, Method::POST, &format!("{path}/cancel")).await, 403, "forbidden");
        }
        for (method, path) in [
            (Method::POST, &*format!("{path}/pay")),
            (Method::POST, "/stocks/import"),
            (Method::DELETE, "/carts/ann"),
            (Method::PUT, "/carts/ann/items/PEN"),
        ] {
            assert_problem(&from("cross-site", method, path).await, 403, "forbidden");
        }
        assert_eq!(from("cross-site", Method::GET, &path).await.body, order);
        assert_eq!(from("same-origin", Method::POST, &format!("{path}/cancel")).await.status, 200);
    })
    .await;
}

fn assert_operations_say_what_they_take_and_answer(paths: &serde_json::Map<String, Value>) {
    let with_key =
        ["/orders", "/carts/{user}/items", "/carts/{user}/purchase", "/stocks/{sku}/{warehouse_id}/adjustments"];
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().expect("operations") {
            let has = |status: &str| operation["responses"].get(status).is_some();
            let of_key = operation["parameters"].as_array().into_iter().flatten();
            let of_key =
                of_key.filter(|parameter| parameter["name"] == "Idempotency-Key" && parameter["in"] == "header");
            let takes_key = method == "post" && with_key.contains(&path.as_str());
            assert_eq!(of_key.count(), usize::from(takes_key), "{method} {path}");
            let takes_body = operation.get("requestBody").is_some();
            assert_eq!(has("415"), takes_body, "{method} {path}");
            assert!(!has("405") && (!has("413") || method != "get"), "{method} {path}");
            if has("201") {
                assert!(operation.pointer("/responses/201/headers/Location").is_some(), "{method} {path}");
            }
            if has("503") && path != "/readyz" {
                assert!(operation.pointer("/responses/503/headers/Retry-After").is_some(), "{method} {path}");
            }
        }
    }
}

fn assert_references_lead_somewhere(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("within the document");
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            members.values().for_each(|member| assert_references_lead_somewhere(document, member));
        }
        Value::Array(parts) => parts.iter().for_each(|part| assert_references_lead_somewhere(document, part)),
        _ => {}
    }
}
