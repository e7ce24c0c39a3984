//! What is asked once, what is asked again, and how long a price is served without the service.

use std::sync::Arc;

use super::*;

#[tokio::test]
async fn a_fresh_product_is_not_asked_for_again() {
    let service = MockServer::start().await;
    let _answer = answering(&service, found(890)).await;
    let client = client(&service, Limits { price_fresh_max: PATIENCE, price_age_max: PATIENCE, ..lenient() });
    for _ in 0..3 {
        assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)));
    }
    assert_eq!(calls(&service).await, 1);
}

#[tokio::test]
async fn fifty_who_ask_at_once_make_one_call() {
    let service = MockServer::start().await;
    let _answer = answering(&service, found(890).set_delay(Duration::from_millis(100))).await;
    let client = client(&service, lenient());
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get(&sku("MUG-01")).await })
        })
        .collect();
    for answer in asking {
        assert_eq!(answer.await.expect("no panic"), Ok(mug(890)));
    }
    assert_eq!(calls(&service).await, 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_hold_up_the_others() {
    let service = MockServer::start().await;
    let _answer = answering(&service, found(890).set_delay(Duration::from_millis(200))).await;
    let client = client(&service, lenient());
    let first = tokio::time::timeout(Duration::from_millis(50), client.get(&sku("MUG-01"))).await;
    assert!(first.is_err(), "the first caller leaves before the answer");
    assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)));
    assert_eq!(calls(&service).await, 1, "the question that was on its way was his");
}

#[test]
fn the_runtime_of_the_first_caller_may_end() {
    let io = tokio::runtime::Runtime::new().expect("a runtime");
    let service = io.block_on(MockServer::start());
    let _answer = io.block_on(answering(&service, found(890)));
    let _entered = io.enter();
    let client = client(&service, always_asking());
    for _ in 0..2 {
        let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        assert_eq!(worker.block_on(client.get(&sku("MUG-01"))), Ok(mug(890)));
    }
    assert_eq!(io.block_on(calls(&service)), 2);
}

#[tokio::test]
async fn without_its_runtime_there_is_an_error_and_no_hang() {
    let service = MockServer::start().await;
    let io = tokio::runtime::Runtime::new().expect("a runtime");
    let client = Client::new(&service.uri(), "".into(), io.handle().clone(), lenient()).expect("a client");
    io.shutdown_background();
    for _ in 0..2 {
        let answer = tokio::time::timeout(PATIENCE, client.get(&sku("MUG-01"))).await;
        assert_eq!(answer.expect("no hang"), Err(ProductError::Unavailable));
    }
}

#[tokio::test]
async fn a_product_past_its_freshness_is_asked_for_again() {
    let service = MockServer::start().await;
    let client = client(&service, always_asking());
    let cheap = answering(&service, found(890)).await;
    assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)));
    drop(cheap);
    let _dear = answering(&service, found(990)).await;
    assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(990)));
}

#[tokio::test]
async fn while_the_service_fails_a_remembered_price_is_served_until_it_is_too_old() {
    let service = MockServer::start().await;
    let price_age_max = Duration::from_millis(1_000);
    let client = client(&service, Limits { price_age_max, ..always_asking() });
    let well = answering(&service, found(890)).await;
    let before = Instant::now();
    assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)));
    let after = Instant::now();
    drop(well);
    let _ill = answering(&service, ResponseTemplate::new(500)).await;

    loop {
        let asked = Instant::now();
        match client.get(&sku("MUG-01")).await {
            Ok(product) => {
                assert_eq!(product, mug(890));
                assert!(asked.duration_since(after) <= price_age_max, "an older price was served");
            }
            Err(error) => {
                assert_eq!(error, ProductError::Unavailable);
                assert!(before.elapsed() > price_age_max, "refused although a price was young enough");
                break;
            }
        }
    }
    let both = Products::Remote(client).get_each([&sku("MUG-01"), &sku("MUG-01")]).await;
    assert_eq!(both, Err(ProductError::Unavailable), "a purchase follows the same rule");
}

#[tokio::test]
async fn a_slow_service_is_waited_for_shortly_where_a_price_is_remembered() {
    let service = MockServer::start().await;
    let refresh_wait_max = Duration::from_millis(50);
    let client = client(&service, Limits { refresh_wait_max, ..always_asking() });
    let quick = answering(&service, found(890)).await;
    assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)));
    drop(quick);
    let _slow = answering(&service, found(990).set_delay(Duration::from_millis(400))).await;
    let start = Instant::now();
    assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)));
    assert!(start.elapsed() < Duration::from_millis(400), "did not wait for the answer");
    until(&client, Ok(mug(990))).await;
}

#[tokio::test]
async fn an_unknown_sku_is_not_asked_for_again_at_once() {
    let service = MockServer::start().await;
    let _unknown = answering(&service, ResponseTemplate::new(404)).await;
    let client = client(&service, Limits { unknown_age_max: PATIENCE, ..always_asking() });
    for _ in 0..3 {
        assert_eq!(client.get(&sku("MUG-01")).await, Err(ProductError::Unknown));
    }
    assert_eq!(calls(&service).await, 1);
}

#[tokio::test]
async fn an_unknown_sku_is_asked_for_again_later() {
    let service = MockServer::start().await;
    let client = client(&service, Limits { unknown_age_max: Duration::from_millis(100), ..always_asking() });
    let unknown = answering(&service, ResponseTemplate::new(404)).await;
    assert_eq!(client.get(&sku("MUG-01")).await, Err(ProductError::Unknown));
    drop(unknown);
    let _new = answering(&service, found(890)).await;
    until(&client, Ok(mug(890))).await;
}

#[tokio::test]
async fn a_product_that_is_sold_no_more_is_not_served_from_memory() {
    let service = MockServer::start().await;
    let client = client(&service, Limits { unknown_age_max: Duration::from_millis(100), ..always_asking() });
    let sold = answering(&service, found(890)).await;
    assert_eq!(client.get(&sku("MUG-01")).await, Ok(mug(890)));
    drop(sold);
    let gone = answering(&service, ResponseTemplate::new(404)).await;
    assert_eq!(client.get(&sku("MUG-01")).await, Err(ProductError::Unknown));
    drop(gone);
    let _ill = answering(&service, ResponseTemplate::new(500)).await;
    until(&client, Err(ProductError::Unavailable)).await;
}

#[tokio::test]
async fn while_the_rate_limit_is_used_up_remembered_prices_are_served_and_others_wait() {
    let service = MockServer::start().await;
    let _answer = answering(&service, found(890)).await;
    let client = client(&service, Limits { calls_per_second_max: 2, ..always_asking() });
    let start = Instant::now();
    assert!(client.get(&sku("A")).await.is_ok() && client.get(&sku("B")).await.is_ok());
    assert!(client.get(&sku("A")).await.is_ok(), "remembered");
    let quickly = start.elapsed();
    if quickly < Duration::from_secs(1) {
        assert_eq!(calls(&service).await, 2, "no third call in the same second");
    }
    assert!(client.get(&sku("C")).await.is_ok());
    assert!(start.elapsed() >= Duration::from_secs(1), "what is not remembered waits for its turn");
}

#[tokio::test]
async fn who_would_have_to_wait_too_long_for_his_turn_is_refused_at_once() {
    let service = MockServer::start().await;
    let _answer = answering(&service, found(890)).await;
    let question_max = Duration::from_millis(500);
    let client = client(&service, Limits { calls_per_second_max: 1, question_max, ..always_asking() });
    let start = Instant::now();
    assert!(client.get(&sku("A")).await.is_ok());
    let answer = client.get(&sku("B")).await;
    // A machine so slow that the next second has begun proves nothing.
    if start.elapsed() < Duration::from_millis(500) {
        assert_eq!(answer, Err(ProductError::Unavailable));
        assert_eq!(calls(&service).await, 1);
    }
}

#[tokio::test]
async fn of_a_long_page_as_many_are_told_as_could_be_learnt_in_time() {
    let service = MockServer::start().await;
    let _answer = answering(&service, found(890).set_delay(Duration::from_millis(300))).await;
    let limits = Limits { questions_max: Duration::from_secs(1), price_fresh_max: PATIENCE, ..lenient() };
    let products = Products::Remote(client(&service, limits));
    let skus: Vec<Sku> = (0..200).map(|number| sku(&number.to_string())).collect();
    let first = products.get_first(skus.clone()).await.expect("some are known");
    assert!((1..200).contains(&first.len()), "{}", first.len());
    assert!(first.iter().all(|product| *product == Some(mug(890))));
    let more = products.get_first(skus.clone()).await.expect("what was learnt is remembered");
    assert!(more.len() > first.len(), "{} after {}", more.len(), first.len());
    assert_eq!(products.get_each(&skus).await, Err(ProductError::Unavailable), "a cart has all its prices, or none");
    assert_eq!(products.get_first(Vec::new()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_page_of_which_nothing_can_be_learnt_is_none() {
    let service = MockServer::start().await;
    let _answer = answering(&service, ResponseTemplate::new(500)).await;
    let products = Products::Remote(client(&service, lenient()));
    assert_eq!(products.get_first(vec![sku("A"), sku("B")]).await, Err(ProductError::Unavailable));
}

#[tokio::test]
async fn a_long_cart_is_priced_in_order_with_five_calls_in_flight() {
    let service = MockServer::start().await;
    let in_flight = Arc::new(std::sync::Mutex::new(Vec::new()));
    let moments = Arc::clone(&in_flight);
    let answer = move |request: &wiremock::Request| {
        moments.lock().expect("no panic").push(Instant::now());
        let question: serde_json::Value = request.body_json().expect("JSON");
        let price: i64 = question["sku"].as_str().expect("a string").parse().expect("a number");
        found(price).set_delay(Duration::from_millis(100))
    };
    Mock::given(path("/get_product")).respond_with(answer).mount(&service).await;
    let products = Products::Remote(client(&service, lenient()));
    let skus: Vec<Sku> = (0..20).map(|number| sku(&number.to_string())).collect();
    let found = products.get_each(&skus).await.expect("all are known");
    let prices = found.iter().flatten().map(|product| product.price.0);
    assert_eq!(prices.collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());

    let moments = in_flight.lock().expect("no panic");
    assert_eq!(moments.len(), 20);
    for window in moments.windows(6) {
        let apart = window[5].duration_since(window[0]);
        assert!(apart >= Duration::from_millis(80), "a sixth call came {apart:?} after the first");
    }
}
