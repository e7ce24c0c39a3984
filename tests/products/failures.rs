//! Answers that are late, wrong, too long, or none at all.

use loms::products::State;
use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn a_refusal_that_may_pass_is_tried_again() {
    for status in [420, 429, 500, 502, 503] {
        let service = MockServer::start().await;
        let first = Mock::given(path("/get_product")).respond_with(ResponseTemplate::new(status));
        first.up_to_n_times(2).with_priority(1).mount(&service).await;
        let _then = answering(&service, found(890)).await;
        assert_eq!(client(&service, lenient()).get(&sku("MUG-01")).await, Ok(mug(890)), "after {status}");
        assert_eq!(calls(&service).await, 3);
    }
}

#[tokio::test]
async fn tries_are_few() {
    let service = MockServer::start().await;
    let _ill = answering(&service, ResponseTemplate::new(500)).await;
    assert_eq!(client(&service, lenient()).get(&sku("MUG-01")).await, Err(ProductError::Unavailable));
    assert_eq!(calls(&service).await, 3);
}

#[tokio::test]
async fn a_refusal_that_will_not_pass_is_not_tried_again() {
    for status in [400, 401, 403, 405] {
        let service = MockServer::start().await;
        let _refused = answering(&service, ResponseTemplate::new(status)).await;
        assert_eq!(client(&service, lenient()).get(&sku("MUG-01")).await, Err(ProductError::Unavailable));
        assert_eq!(calls(&service).await, 1, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = MockServer::start().await;
    let _trap = answering(&elsewhere, found(1)).await;
    for status in [301, 302, 307, 308] {
        let service = MockServer::start().await;
        let target = format!("{}/get_product", elsewhere.uri());
        let _redirect =
            answering(&service, ResponseTemplate::new(status).insert_header("location", target.as_str())).await;
        assert_eq!(client(&service, lenient()).get(&sku("MUG-01")).await, Err(ProductError::Unavailable));
    }
    assert_eq!(calls(&elsewhere).await, 0, "the token stayed at home");
}

#[tokio::test]
async fn answers_that_make_no_sense_are_no_prices() {
    let long_name = "x".repeat(1_001);
    let huge = "x".repeat(70_000);
    for body in [
        json!({ "name": "Mug", "price": -1 }),
        json!({ "name": "Mug", "price": 8.9 }),
        json!({ "name": "Mug", "price": "890" }),
        json!({ "name": "Mug", "price": 1e30 }),
        json!({ "name": "Mug" }),
        json!({ "price": 890 }),
        json!({ "name": null, "price": 890 }),
        json!({ "name": "Mu\u{0}g", "price": 890 }),
        json!({ "name": long_name, "price": 890 }),
        json!({ "name": "Mug", "price": 890, "more": huge }),
        json!([]),
        json!("890"),
    ] {
        let service = MockServer::start().await;
        let shown: String = body.to_string().chars().take(80).collect();
        let _answer = answering(&service, ResponseTemplate::new(200).set_body_json(body)).await;
        let answer = client(&service, lenient()).get(&sku("MUG-01")).await;
        assert_eq!(answer, Err(ProductError::Unavailable), "{shown}");
        assert_eq!(calls(&service).await, 1, "{shown}: asking again would not help");
    }
}

#[tokio::test]
async fn a_free_product_without_a_name_is_a_product() {
    let service = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({ "name": "", "price": 0, "weight": 12 }));
    let _answer = answering(&service, answer).await;
    let free = Product { name: "".into(), price: Money(0) };
    assert_eq!(client(&service, lenient()).get(&sku("MUG-01")).await, Ok(free));
}

#[tokio::test]
async fn a_service_that_answers_too_late_is_tried_again_and_then_given_up() {
    let service = MockServer::start().await;
    let _slow = answering(&service, found(890).set_delay(PATIENCE)).await;
    let limits = Limits { call_max: Duration::from_millis(300), ..lenient() };
    let start = Instant::now();
    assert_eq!(client(&service, limits).get(&sku("MUG-01")).await, Err(ProductError::Unavailable));
    assert!(start.elapsed() < PATIENCE / 2);
    assert_eq!(calls(&service).await, 3);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let (address, _service) = raw_service(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"name\": \"M").await;
    let limits = Limits { question_max: Duration::from_millis(300), ..lenient() };
    let client = Client::new(&address, "".into(), Handle::current(), limits).expect("a client");
    let answer = tokio::time::timeout(PATIENCE, client.get(&sku("MUG-01"))).await;
    assert_eq!(answer.expect("no hang"), Err(ProductError::Unavailable));
}

#[tokio::test]
async fn a_service_that_is_not_there_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let client = Client::new(&address, "".into(), Handle::current(), lenient()).expect("a client");
    assert_eq!(client.get(&sku("MUG-01")).await, Err(ProductError::Unavailable));
    assert_eq!(client.list(None, 10).await, Err(ProductError::Unavailable));
}

#[tokio::test]
async fn a_service_that_keeps_failing_is_left_alone() {
    let service = MockServer::start().await;
    let client = client(&service, Limits { breaker_calls: 4, breaker_open: PATIENCE, ..always_asking() });
    let well = answering(&service, found(890)).await;
    assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)));
    drop(well);
    let _ill = answering(&service, ResponseTemplate::new(503)).await;
    until_left_alone(&client).await;

    let before = calls(&service).await;
    for _ in 0..10 {
        assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)), "from memory");
        assert_eq!(client.get(&sku("MUG-02")).await, Err(ProductError::Unavailable));
    }
    assert_eq!(calls(&service).await, before);
}

#[tokio::test]
async fn a_service_that_was_left_alone_is_asked_again_later() {
    let service = MockServer::start().await;
    let breaker_open = Duration::from_millis(100);
    let client = client(&service, Limits { breaker_calls: 4, breaker_open, ..always_asking() });
    let ill = answering(&service, ResponseTemplate::new(503)).await;
    until_left_alone(&client).await;
    drop(ill);
    let _well = answering(&service, found(890)).await;
    until(&client, Ok(mug(890))).await;
    assert_eq!(client.state(), State::Asking);
}

async fn until_left_alone(client: &Client) {
    let start = Instant::now();
    while client.state() != State::LeftAlone {
        let _ = client.get(&sku("MUG-01")).await;
        assert!(start.elapsed() < PATIENCE, "the breaker never opened");
    }
}

#[tokio::test]
async fn one_product_that_makes_no_sense_does_not_stop_the_others() {
    let service = MockServer::start().await;
    let client = client(&service, Limits { breaker_calls: 2, breaker_open: PATIENCE, ..always_asking() });
    let bad = answering(&service, found(-1)).await;
    for _ in 0..10 {
        assert_eq!(client.get(&sku("MUG-01")).await, Err(ProductError::Unavailable));
    }
    drop(bad);
    let _good = answering(&service, found(890)).await;
    assert_eq!(client.get(&sku("MUG-02")).await, Ok(mug(890)));
}

#[tokio::test]
async fn a_question_that_the_service_does_not_take_does_not_stop_the_others() {
    for status in [400, 405, 409, 422] {
        let service = MockServer::start().await;
        let client = client(&service, Limits { breaker_calls: 2, breaker_open: PATIENCE, ..always_asking() });
        let refused = answering(&service, ResponseTemplate::new(status)).await;
        for number in 0..10 {
            let answer = client.get(&sku(&format!("ODD-{number}"))).await;
            assert_eq!(answer, Err(ProductError::Unavailable));
        }
        drop(refused);
        let _good = answering(&service, found(890)).await;
        assert_eq!(client.get(&sku("MUG-02")).await, Ok(mug(890)), "after {status}");
    }
}

#[tokio::test]
async fn a_service_that_refuses_whoever_asks_is_left_alone() {
    for status in [401, 403, 408, 420, 429, 500] {
        let service = MockServer::start().await;
        let client = client(&service, Limits { breaker_calls: 2, breaker_open: PATIENCE, ..always_asking() });
        let _refused = answering(&service, ResponseTemplate::new(status)).await;
        until_left_alone(&client).await;
    }
}

/// Answers every connection so and then says nothing more; ends with the returned task.
async fn raw_service(answer: &'static [u8]) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            stream.writable().await.expect("writable");
            stream.try_write(answer).expect("written");
            open.push(stream);
        }
    });
    (address, task)
}
