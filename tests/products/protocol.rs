//! What goes over the wire, and the product-service of our own at the other end of it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use loms::http::product_service;
use loms::products::{Catalogue, Listed};
use wiremock::matchers::body_json;

use super::*;

#[tokio::test]
async fn token_and_sku_are_sent_as_the_service_wants_them() {
    let service = MockServer::start().await;
    for text in ["1076963", "BANK CHARGES", "ящик №4"] {
        let question = json!({ "token": "secret-token", "sku": text });
        Mock::given(path("/get_product")).and(body_json(question)).respond_with(found(890)).mount(&service).await;
        assert_eq!(client(&service, lenient()).get(&sku(text)).await, Ok(mug(890)), "{text}");
    }
}

#[tokio::test]
async fn a_page_of_numbers_and_strings_is_read_and_never_longer_than_asked_for() {
    let service = MockServer::start().await;
    let question = json!({ "token": "secret-token", "startAfterSku": "A", "count": 3 });
    let page = json!({ "skus": ["B", 1076963, null, "D", "E"] });
    let answer = ResponseTemplate::new(200).set_body_json(page);
    Mock::given(path("/list_skus")).and(body_json(question)).respond_with(answer).mount(&service).await;
    let skus = client(&service, lenient()).list(Some(&sku("A")), 3).await;
    assert_eq!(skus, Ok(Listed { skus: vec![sku("B"), sku("1076963")], more: true }));
}

#[tokio::test]
async fn a_page_without_any_sku_is_the_end_but_one_without_any_valid_sku_is_none() {
    for (skus, expected) in [(json!([]), Ok(Listed::default())), (json!([null, " A"]), Err(ProductError::Unavailable))]
    {
        let service = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_json(json!({ "skus": skus }));
        Mock::given(path("/list_skus")).respond_with(answer).mount(&service).await;
        assert_eq!(client(&service, lenient()).list(None, 10).await, expected);
    }
}

#[tokio::test]
async fn the_own_service_is_understood_by_the_client() {
    let address = own_service(Some("secret-token")).await;
    let catalogue = Catalogue::demo();
    let own = Client::new(&format!("http://{address}/"), "secret-token".into(), Handle::current(), lenient());
    let products = Products::Remote(own.expect("a client"));

    let first = products.list(None, 30).await.expect("a page");
    let second = products.list(first.skus.last(), 1_000_000).await.expect("a page");
    assert!(first.more && !second.more);
    let listed: Vec<Sku> = first.skus.into_iter().chain(second.skus).collect();
    assert_eq!(listed, catalogue.list(None, usize::MAX));
    assert_eq!(products.get_each(&listed).await, Products::BuiltIn(catalogue.into()).get_each(&listed).await);
    assert_eq!(products.get(&sku("NONE")).await, Err(ProductError::Unknown));
    let found = products.get_each([&sku("NONE"), &listed[0]]).await.expect("both are known or not");
    assert!(found[0].is_none() && found[1].is_some());

    let stranger = Client::new(&format!("http://{address}"), "wrong".into(), Handle::current(), lenient());
    assert_eq!(stranger.expect("a client").get(&listed[0]).await, Err(ProductError::Unavailable));
}

#[tokio::test]
async fn the_own_service_refuses_what_is_wrong_with_a_fitting_status() {
    let address = own_service(Some("secret-token")).await;
    let long = format!("{{\"token\": \"{}\"}}", "x".repeat(70_000));
    for (path, body, status) in [
        ("get_product", r#"{"token": "secret-token", "sku": "MUG-01"}"#, 200),
        ("get_product", r#"{"token": "wrong", "sku": "MUG-01"}"#, 401),
        ("get_product", r#"{"sku": "MUG-01"}"#, 401),
        ("get_product", r#"{"token": "secret-token", "sku": "NONE"}"#, 404),
        ("get_product", r#"{"token": "secret-token", "sku": 7}"#, 404),
        ("get_product", r#"{"token": "secret-token"}"#, 400),
        ("get_product", "{", 400),
        ("get_product", &long, 413),
        ("list_skus", r#"{"token": "secret-token", "startAfterSku": 0, "count": 1000}"#, 200),
        ("list_skus", r#"{"token": "secret-token", "count": 1}"#, 200),
        ("list_skus", r#"{"token": "secret-token", "startAfterSku": null, "count": 0}"#, 400),
        ("list_skus", r#"{"token": "secret-token", "count": 1001}"#, 400),
        ("list_skus", r#"{"token": "secret-token", "count": -1}"#, 400),
        ("list_skus", r#"{"token": "secret-token", "startAfterSku": [], "count": 1}"#, 400),
        ("list_skus", r#"{"token": "wrong", "count": 1}"#, 401),
        ("elsewhere", "{}", 404),
    ] {
        let request = reqwest::Client::new().post(format!("http://{address}/{path}")).body(body.to_owned());
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{path} {}", body.chars().take(80).collect::<String>());
    }
    let other_method = reqwest::get(format!("http://{address}/get_product")).await.expect("an answer");
    assert_eq!(other_method.status().as_u16(), 405);
}

#[tokio::test]
async fn the_own_service_without_a_token_takes_any() {
    let address = own_service(None).await;
    let client = Client::new(&format!("http://{address}"), "any".into(), Handle::current(), lenient());
    assert!(client.expect("a client").get(&sku("MUG-01")).await.is_ok());
}

/// Serves the demo catalogue until the test ends.
async fn own_service(token: Option<&str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let catalogue = Arc::new(Catalogue::demo());
    let server = product_service::serve(catalogue, token.map(Into::into), listener, 1).expect("a server");
    tokio::spawn(server);
    address
}
