//! Idempotency keys: a request happens once and is answered alike ever after.

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::shop::{Shop, assert_problem, lines, new_order, on_each_store};

const AT_ONCE: usize = 50;

fn same(one: &Answer, other: &Answer) {
    assert_eq!((one.status, &one.body), (other.status, &other.body));
    for header in ["location", "content-type"] {
        assert_eq!(one.headers.get(header), other.headers.get(header), "{header}");
    }
}

/// Sends the request fifty times at once; all answers are equal, and this is one of them.
async fn fifty_equal_answers(shop: &Shop, path: &str, key: &str, body: &Value) -> Answer {
    let requests: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (client, path, key, body) = (shop.client.clone(), path.to_owned(), key.to_owned(), body.clone());
            tokio::spawn(async move { client.post_with_key(&path, &key, &body).await })
        })
        .collect();
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.expect("an answer"));
    }
    answers.iter().for_each(|answer| same(answer, &answers[0]));
    answers.swap_remove(0)
}

async fn orders(shop: &Shop) -> usize {
    shop.client.get("/orders?limit=500").await.body["orders"].as_array().expect("orders").len()
}

#[tokio::test]
async fn an_order_with_a_key_is_placed_once_and_answered_alike_whatever_became_of_it() {
    on_each_store(async |shop| {
        let body = new_order("ann", &[("MUG", 2), ("PEN", 1)]);
        let first = shop.client.post_with_key("/orders", "key 1", &body).await;
        assert_eq!(first.status, 201);
        same(&shop.client.post_with_key("/orders", "key 1", &body).await, &first);
        shop.client.post(&format!("/orders/{}/pay", first.body["order_id"]), &json!({})).await;
        same(&shop.client.post_with_key("/orders", "key 1", &body).await, &first);
        shop.restart();
        same(&shop.client.post_with_key("/orders", "key 1", &body).await, &first);

        let other = new_order("ann", &[("MUG", 3)]);
        let reused = shop.client.post_with_key("/orders", "key 1", &other).await;
        assert_problem(&reused, 422, "idempotency_key_reused");
        assert_eq!((orders(shop).await, shop.available("MUG").await), (1, 11));
        let another = shop.client.post_with_key("/orders", "key 2", &body).await;
        assert_ne!(another.body["order_id"], first.body["order_id"], "another key is another order");
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn a_failed_order_is_answered_alike_when_there_is_stock_again() {
    on_each_store(async |shop| {
        let body = new_order("ann", &[("MUG", 14)]);
        let first = shop.client.post_with_key("/orders", "k", &body).await;
        assert_problem(&first, 409, "out_of_stock");
        shop.client.put("/stocks/MUG/1", &json!({"on_hand": 100})).await;
        same(&shop.client.post_with_key("/orders", "k", &body).await, &first);
        assert_eq!((orders(shop).await, shop.available("MUG").await), (1, 108));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_that_changed_nothing_leaves_the_key_free() {
    on_each_store(async |shop| {
        let refused = shop.client.post_with_key("/orders", "k", &new_order("ann", &[("NO SUCH", 1)])).await;
        assert_problem(&refused, 404, "unknown_sku");
        let refused = shop.client.post_with_key("/orders", "k", &json!({"user": "ann", "items": []})).await;
        assert_problem(&refused, 422, "invalid_request");
        let placed = shop.client.post_with_key("/orders", "k", &new_order("ann", &[("PEN", 1)])).await;
        assert_eq!(placed.status, 201);
    })
    .await;
}

#[tokio::test]
async fn fifty_equal_orders_at_once_are_one_order_and_fifty_equal_answers() {
    on_each_store(async |shop| {
        let body = new_order("ann", &[("MUG", 1)]);
        let placed = fifty_equal_answers(shop, "/orders", "at once", &body).await;
        assert_eq!((placed.status, orders(shop).await, shop.available("MUG").await), (201, 1, 12));
        let failed = fifty_equal_answers(shop, "/orders", "too many", &new_order("ann", &[("MUG", 99)])).await;
        assert_eq!((failed.status, orders(shop).await), (409, 2));
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn fifty_purchases_at_once_are_one_order() {
    on_each_store(async |shop| {
        shop.add("ann", "MUG", 3).await;
        let bought = fifty_equal_answers(shop, "/carts/ann/purchase", "buy", &json!({})).await;
        assert_eq!((bought.status, orders(shop).await, shop.available("MUG").await), (201, 1, 10));
        shop.add("ann", "MUG", 1).await;
        let again = shop.client.post_with_key("/carts/ann/purchase", "buy", &json!({})).await;
        same(&again, &bought);
        assert_eq!(lines(&shop.client.get("/carts/ann").await.body), [("MUG", 1)], "a new cart is not bought");
        shop.restart();
        same(&shop.client.post_with_key("/carts/ann/purchase", "buy", &json!({})).await, &bought);
        let with_another_body = shop.client.post_with_key("/carts/ann/purchase", "buy", &json!({"gift": true})).await;
        assert_problem(&with_another_body, 422, "idempotency_key_reused");
        let of_bob = shop.client.post_with_key("/carts/bob/purchase", "buy", &json!({})).await;
        assert_problem(&of_bob, 422, "idempotency_key_reused");
        assert_eq!(shop.available("MUG").await, 10);
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn fifty_additions_at_once_add_once() {
    on_each_store(async |shop| {
        let body = json!({"sku": "MUG", "count": 2});
        let added = fifty_equal_answers(shop, "/carts/ann/items", "add", &body).await;
        assert_eq!((added.status, lines(&added.body)), (200, vec![("MUG", 2)]));
        shop.add("ann", "PEN", 1).await;
        let again = shop.client.post_with_key("/carts/ann/items", "add", &body).await;
        same(&again, &added);
        shop.restart();
        same(&shop.client.post_with_key("/carts/ann/items", "add", &body).await, &added);
        let other = json!({"sku": "MUG", "count": 3});
        let reused = shop.client.post_with_key("/carts/ann/items", "add", &other).await;
        assert_problem(&reused, 422, "idempotency_key_reused");
        let reused = shop.client.post_with_key("/orders", "add", &new_order("ann", &[("PEN", 1)])).await;
        assert_problem(&reused, 422, "idempotency_key_reused");
        assert_eq!(lines(&shop.client.get("/carts/ann").await.body), [("MUG", 2), ("PEN", 1)]);
    })
    .await;
}

#[tokio::test]
async fn an_addition_is_answered_alike_whatever_became_of_names_and_prices() {
    on_each_store(async |shop| {
        let body = json!({"sku": "MUG", "count": 2});
        shop.add("ann", "PEN", 1).await;
        let added = shop.client.post_with_key("/carts/ann/items", "add", &body).await;
        assert_eq!((added.status, &added.body["total_price"]), (200, &json!(91_500)));
        shop.restart_selling(&["MUG,Cup,50000"]);
        same(&shop.client.post_with_key("/carts/ann/items", "add", &body).await, &added);
        let now = shop.client.get("/carts/ann").await.body;
        assert_eq!((&now["total_price"], &now["no_longer_sold"]), (&json!(100_000), &json!(["PEN"])));
        let more = shop.client.post_with_key("/carts/ann/items", "more", &body).await;
        assert_eq!((&more.body["total_price"], &more.body["no_longer_sold"]), (&json!(200_000), &json!(["PEN"])));
        shop.restart_selling(&["PEN,Pen,1500"]);
        same(&shop.client.post_with_key("/carts/ann/items", "more", &body).await, &more);
        same(&shop.client.post_with_key("/carts/ann/items", "add", &body).await, &added);
    })
    .await;
}

#[tokio::test]
async fn fifty_adjustments_at_once_adjust_once() {
    on_each_store(async |shop| {
        let body = json!({"delta": 7, "reason": "delivery"});
        let adjusted = fifty_equal_answers(shop, "/stocks/MUG/1/adjustments", "in", &body).await;
        assert_eq!((adjusted.status, &adjusted.body["available"]), (200, &json!(20)));
        shop.order("ann", &[("MUG", 20)]).await;
        same(&shop.client.post_with_key("/stocks/MUG/1/adjustments", "in", &body).await, &adjusted);
        shop.restart();
        same(&shop.client.post_with_key("/stocks/MUG/1/adjustments", "in", &body).await, &adjusted);
        let reused = shop.client.post_with_key("/stocks/MUG/2/adjustments", "in", &body).await;
        assert_problem(&reused, 422, "idempotency_key_reused");
        assert_eq!(shop.available("MUG").await, 0);
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn a_key_is_known_to_every_process_on_the_database() {
    let Some(shop) = Shop::on_postgres() else { return };
    let second = shop.second_process();
    let clients = [shop.client.clone(), Client::new(second.url())];
    for round in 0..10 {
        let (key, body) = (format!("round {round}"), new_order("ann", &[("PEN", 1)]));
        let requests: Vec<_> = (0..AT_ONCE / 2)
            .map(|number| {
                let (client, key, body) = (clients[number % 2].clone(), key.clone(), body.clone());
                tokio::spawn(async move { client.post_with_key("/orders", &key, &body).await })
            })
            .collect();
        let mut answers = Vec::new();
        for request in requests {
            answers.push(request.await.expect("an answer"));
        }
        assert_eq!(answers[0].status, 201, "{}", answers[0].body);
        answers.iter().for_each(|answer| same(answer, &answers[0]));
        let reused = clients[round % 2].post_with_key("/orders", &key, &new_order("ann", &[("PEN", 2)])).await;
        assert_problem(&reused, 422, "idempotency_key_reused");
    }
    assert_eq!((orders(&shop).await, shop.available("PEN").await), (10, 999_990));
    shop.assert_books_are_right();
}

#[tokio::test]
async fn a_key_is_1_to_255_printable_ascii_characters() {
    on_each_store(async |shop| {
        let body = new_order("ann", &[("PEN", 1)]);
        for key in ["", "ключ", "tab\there", &"k".repeat(256)] {
            let refused = shop.client.post_with_key("/orders", key, &body).await;
            assert_problem(&refused, 422, "invalid_request");
            assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("Idempotency-Key")));
        }
        assert_eq!(orders(shop).await, 0);
        assert_eq!(shop.client.post_with_key("/orders", &"k".repeat(255), &body).await.status, 201);
    })
    .await;
}
