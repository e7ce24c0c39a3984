//! The driver against a small shop, and against shops that break.

use std::io;

use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer};

use super::*;
use crate::commands::replay::test_world::samples::{self, Invoiced};
use crate::commands::replay::test_world::small_shop::{SmallShop, problem};

async fn replay(server: &MockServer, invoices: &[Invoiced<'_>], unpaid: f64, connections: usize) -> Report {
    let recording = samples::recording(invoices);
    let plan = Plan::of(&recording, 7, unpaid);
    let shop = Shop::at(&server.uri().parse().expect("a URL"), connections, 1).expect("a client");
    drive(recording, plan, shop, connections).await.expect("no worker panics")
}

#[tokio::test]
async fn an_order_goes_from_the_cart_over_the_list_and_the_checkout_to_the_payment() {
    let shop = SmallShop::with_stock(&[("A", 9), ("B", 9)]);
    let (server, _) = shop.open().await;
    let report = replay(&server, &[("u1", "7", &[("A", 2), ("B", 1), ("A", 3)])], 0.0, 1).await;
    assert_eq!(
        shop.state().transcript,
        [
            r#"POST /carts/u1/items {"sku":"A","count":2}"#,
            r#"POST /carts/u1/items {"sku":"B","count":1}"#,
            r#"POST /carts/u1/items {"sku":"A","count":3}"#,
            "GET /carts/u1",
            "POST /carts/u1/purchase",
            "POST /orders/1/pay",
        ]
    );
    let outcome = report.outcome.clone();
    assert_eq!((outcome.orders, outcome.payed, outcome.lines_added), (1, 1, 3));
    assert_eq!((outcome.units_placed, outcome.units_payed), (6, 6));
    assert_eq!((report.refusals(), report.timings.requests(), report.timings.repeated), (0, 6, 0));
}

#[tokio::test]
async fn a_line_out_of_stock_is_left_out_and_an_order_without_a_line_is_not_placed() {
    let shop = SmallShop::with_stock(&[("A", 1), ("B", 9)]);
    let (server, _) = shop.open().await;
    let report = replay(&server, &[("u1", "7", &[("A", 2), ("B", 1)]), ("u2", "8", &[("A", 2)])], 0.0, 1).await;
    let outcome = &report.outcome;
    assert_eq!((outcome.orders, outcome.payed, outcome.not_placed), (2, 1, 1));
    assert_eq!((outcome.lines_added, outcome.lines_out_of_stock, outcome.units_payed), (1, 2, 1));
    assert_eq!(report.refusals(), 0, "lack of stock is no fault");
    assert_eq!(
        shop.state().transcript.last().map(String::as_str),
        Some(r#"POST /carts/u2/items {"sku":"A","count":2}"#)
    );
}

#[tokio::test]
async fn an_order_whose_purchase_is_out_of_stock_failed_and_its_cart_is_emptied() {
    let shop = SmallShop::with_stock(&[("A", 9)]);
    shop.state().refuses_purchases = true;
    let (server, _) = shop.open().await;
    let report = replay(&server, &[("u1", "7", &[("A", 2)])], 0.0, 1).await;
    assert_eq!((report.outcome.failed, report.outcome.payed, report.refusals()), (1, 0, 0));
    assert_eq!(shop.state().transcript.last().map(String::as_str), Some("DELETE /carts/u1"));
    assert!(shop.state().carts.is_empty());
}

#[tokio::test]
async fn an_order_given_back_is_cancelled_at_its_place_and_its_stock_sold_again() {
    let shop = SmallShop::with_stock(&[("A", 5)]);
    let (server, _) = shop.open().await;
    let invoices: &[Invoiced<'_>] = &[
        ("u1", "7", &[("A", 5)]),
        ("u2", "8", &[("A", 5)]),
        ("u1", "C9", &[("A", 5)]),
        ("u2", "10", &[("A", 5)]),
        ("u2", "C11", &[("A", 4)]),
    ];
    let outcome = replay(&server, invoices, 0.0, 1).await.outcome;
    assert_eq!((outcome.cancelled, outcome.not_placed, outcome.payed), (1, 1, 1));
    assert_eq!((outcome.units_placed, outcome.units_cancelled, outcome.units_payed), (10, 5, 5));
    assert_eq!((outcome.awaiting_payment, outcome.returns_not_replayed), (0, 1));
}

#[tokio::test]
async fn a_cancel_of_an_order_that_was_not_placed_is_not_replayed() {
    let shop = SmallShop::with_stock(&[("A", 1)]);
    let (server, _) = shop.open().await;
    let outcome = replay(&server, &[("u1", "7", &[("A", 5)]), ("u1", "C9", &[("A", 5)])], 0.0, 1).await.outcome;
    assert_eq!((outcome.not_placed, outcome.cancelled, outcome.returns_not_replayed), (1, 0, 1));
}

#[tokio::test]
async fn an_order_left_unpaid_awaits_payment() {
    let shop = SmallShop::with_stock(&[("A", 5)]);
    let (server, _) = shop.open().await;
    let outcome = replay(&server, &[("u1", "7", &[("A", 5)])], 1.0, 1).await.outcome;
    assert_eq!((outcome.awaiting_payment, outcome.units_awaiting_payment, outcome.payed), (1, 5, 0));
    assert_eq!(shop.state().orders[0].status, "awaiting_payment");
}

/// 60 invoices of 7 users: the stock does not cover them all.
fn many() -> (Vec<(String, String)>, SmallShop) {
    let names = (0..60).map(|number| (format!("u{}", number % 7), (100 + number).to_string())).collect();
    (names, SmallShop::with_stock(&[("A", 90), ("B", 1_000)]))
}

#[tokio::test]
async fn the_same_seed_gives_the_same_outcome_with_one_connection() {
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let (names, shop) = many();
        let (server, _) = shop.open().await;
        let invoices: Vec<_> =
            names.iter().map(|(user, number)| (user.as_str(), number.as_str(), &[("A", 3), ("B", 1)][..])).collect();
        outcomes.push(replay(&server, &invoices, 0.3, 1).await);
    }
    assert_eq!(outcomes[0].deterministic(), outcomes[1].deterministic());
    let outcome = &outcomes[0].outcome;
    assert_eq!((outcome.orders, outcome.lines_added, outcome.lines_out_of_stock), (60, 90, 30));
    assert!(outcome.awaiting_payment > 0 && outcome.payed > 0, "{outcome}");
}

#[tokio::test]
async fn users_run_side_by_side_and_each_users_orders_one_after_the_other() {
    let (names, shop) = many();
    let (server, _) = shop.open().await;
    let invoices: Vec<_> =
        names.iter().map(|(user, number)| (user.as_str(), number.as_str(), &[("B", 2)][..])).collect();
    let report = replay(&server, &invoices, 0.0, 16).await;
    assert_eq!((report.outcome.payed, report.outcome.units_payed, report.refusals()), (60, 120, 0));
    let keys = shop.state().purchase_keys.clone();
    for user in 0..7 {
        let number =
            |key: &String| key.rsplit('-').next().and_then(|text| text.parse::<u32>().ok()).expect("an invoice");
        let own: Vec<u32> = keys.iter().map(number).filter(|number| (number - 100) % 7 == user).collect();
        assert!(own.is_sorted() && own.len() >= 8, "user {user}: {own:?}");
    }
    assert!(shop.state().carts.is_empty(), "no two orders shared a cart");
}

#[tokio::test]
async fn a_busy_shop_is_asked_again_as_retry_after_says() {
    for status in [429, 503] {
        let shop = SmallShop::with_stock(&[("A", 5)]);
        let (server, _) = shop.open().await;
        let busy = problem(status, "overloaded").insert_header("Retry-After", "0");
        Mock::given(path("/carts/u1/items")).respond_with(busy).up_to_n_times(3).with_priority(1).mount(&server).await;
        let report = replay(&server, &[("u1", "7", &[("A", 5)])], 0.0, 1).await;
        assert_eq!((report.outcome.payed, report.refusals(), report.timings.repeated), (1, 0, 3));
    }
}

#[tokio::test]
async fn a_shop_that_stays_busy_is_counted_after_three_more_tries_and_the_order_given_up() {
    let shop = SmallShop::with_stock(&[("A", 5)]);
    let (server, _) = shop.open().await;
    let busy = problem(503, "overloaded").insert_header("Retry-After", "0");
    Mock::given(path("/carts/u1/purchase")).respond_with(busy).with_priority(1).expect(4).mount(&server).await;
    let report = replay(&server, &[("u1", "7", &[("A", 5)])], 0.0, 1).await;
    assert_eq!((report.outcome.refused, report.outcome.payed, report.refusals()), (1, 0, 1));
    assert!(report.deterministic().contains("purchase 503 overloaded"), "{report}");
    assert!(shop.state().carts.is_empty(), "the user's next order starts clean");
}

#[tokio::test]
async fn a_503_that_names_no_time_and_a_500_are_counted_at_once() {
    for (status, code) in [(503, "unavailable"), (500, "internal")] {
        let shop = SmallShop::with_stock(&[("A", 5)]);
        let (server, _) = shop.open().await;
        let broken = match status {
            500 => problem(status, code).insert_header("Retry-After", "0"),
            _ => problem(status, code),
        };
        Mock::given(path("/orders/1/pay")).respond_with(broken).with_priority(1).expect(1).mount(&server).await;
        let report = replay(&server, &[("u1", "7", &[("A", 5)])], 0.0, 1).await;
        assert_eq!((report.outcome.awaiting_payment, report.outcome.payed, report.refusals()), (1, 0, 1));
        assert!(report.to_string().contains(&format!("pay {status} {code}")), "{report}");
    }
}

#[tokio::test]
async fn an_addition_that_may_have_been_made_is_not_sent_again_whatever_the_answer_says() {
    let shop = SmallShop::with_stock(&[("A", 5)]);
    let (server, _) = shop.open().await;
    let unknown = problem(503, "unavailable").insert_header("Retry-After", "0");
    Mock::given(path("/carts/u1/items")).respond_with(unknown).with_priority(1).expect(1).mount(&server).await;
    let report = replay(&server, &[("u1", "7", &[("A", 5)])], 0.0, 1).await;
    assert_eq!((report.outcome.refused, report.refusals(), report.timings.repeated), (1, 1, 0));
    assert!(report.deterministic().contains("add 503 unavailable"), "{report}");
}

#[tokio::test]
async fn a_sku_that_the_shop_does_not_know_is_a_refusal() {
    let shop = SmallShop::with_stock(&[("B", 5)]);
    let (server, _) = shop.open().await;
    let report = replay(&server, &[("u1", "7", &[("A", 5)]), ("u1", "8", &[("B", 1)])], 0.0, 1).await;
    assert_eq!((report.outcome.refused, report.outcome.payed), (1, 1));
    assert!(report.deterministic().contains("add 404 unknown_sku"), "{report}");
}

#[tokio::test]
async fn an_order_that_holds_something_else_than_its_cart_is_counted() {
    let shop = SmallShop::with_stock(&[("A", 5)]);
    shop.state().adds_a_unit = true;
    let (server, _) = shop.open().await;
    let report = replay(&server, &[("u1", "7", &[("A", 2)])], 0.0, 1).await;
    assert_eq!((report.outcome.payed, report.outcome.units_payed, report.refusals()), (1, 3, 1));
    assert!(report.to_string().contains("other_units: order 1 holds 3 units where 2"), "{report}");
}

#[tokio::test]
async fn a_purchase_whose_connection_broke_is_sent_again_once_with_the_same_key() {
    let shop = SmallShop::with_stock(&[("A", 5)]);
    let (server, _) = shop.open().await;
    breaks(&server, "/carts/u1/purchase", 1).await;
    let report = replay(&server, &[("u1", "7", &[("A", 2)])], 0.0, 1).await;
    assert_eq!((report.outcome.payed, report.refusals(), report.timings.repeated), (1, 0, 1));
    let requests = server.received_requests().await.expect("recorded");
    let keys: Vec<_> = requests.iter().filter_map(|request| request.headers.get("Idempotency-Key")).collect();
    assert_eq!(keys, ["00000000000000000000000000000001-7"; 2]);
}

#[tokio::test]
async fn a_purchase_whose_connection_broke_twice_is_counted() {
    let shop = SmallShop::with_stock(&[("A", 5)]);
    let (server, _) = shop.open().await;
    breaks(&server, "/carts/u1/purchase", 2).await;
    let report = replay(&server, &[("u1", "7", &[("A", 2)])], 0.0, 1).await;
    assert_eq!((report.outcome.refused, report.refusals()), (1, 1));
    assert!(report.deterministic().contains("purchase connection_broken"), "{report}");
}

#[tokio::test]
async fn an_addition_whose_connection_broke_is_not_sent_again_because_it_would_add_twice() {
    let shop = SmallShop::with_stock(&[("A", 5)]);
    let (server, _) = shop.open().await;
    breaks(&server, "/carts/u1/items", 1).await;
    let report = replay(&server, &[("u1", "7", &[("A", 2)])], 0.0, 1).await;
    assert_eq!((report.outcome.refused, report.timings.repeated), (1, 0));
    assert_eq!(shop.state().transcript, ["DELETE /carts/u1"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed_but_counted() {
    let server = MockServer::start().await;
    let elsewhere = problem(307, "moved").insert_header("Location", "/elsewhere");
    Mock::given(method("POST")).and(path_regex("^/carts")).respond_with(elsewhere).mount(&server).await;
    let report = replay(&server, &[("u1", "7", &[("A", 2)])], 0.0, 1).await;
    assert!(report.deterministic().contains("add 307 moved"), "{report}");
}

/// The first `times` requests for `place` get no answer: their connection is cut.
async fn breaks(server: &MockServer, place: &str, times: u64) {
    let cut = |_: &wiremock::Request| io::Error::from(io::ErrorKind::ConnectionReset);
    Mock::given(path(place)).respond_with_err(cut).up_to_n_times(times).with_priority(1).mount(server).await;
}
