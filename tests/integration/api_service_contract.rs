//! The commands under the names of the specification, as the services that are replaced call them.

use serde_json::json;

use crate::support::shop::{assert_problem, lines, on_each_store};

#[tokio::test]
async fn a_cart_is_filled_listed_and_bought() {
    on_each_store(async |shop| {
        let post = async |path: &str, body| shop.client.post(path, &body).await;
        let added = post("/addToCart", json!({"user": 42, "sku": 1_076_963, "count": 3})).await;
        assert_eq!((added.status, added.body), (200, json!({})));
        post("/addToCart", json!({"user": "42", "sku": "2958025", "count": 1})).await;
        post("/addToCart", json!({"user": 42, "sku": "BANK CHARGES", "count": 2})).await;
        let removed = post("/deleteFromCart", json!({"user": 42, "sku": 1_076_963, "count": 1})).await;
        assert_eq!((removed.status, removed.body), (200, json!({})));

        let listed = post("/listCart", json!({"user": 42})).await;
        let items = json!([
            {"sku": 1_076_963, "count": 2, "name": "Book", "price": 2202},
            {"sku": 2_958_025, "count": 1, "name": "Other book", "price": 1019},
            {"sku": "BANK CHARGES", "count": 2, "name": "Bank charges", "price": 1},
        ]);
        assert_eq!((listed.status, listed.body), (200, json!({"items": items, "totalPrice": 5425})));
        let cart = shop.client.get("/carts/42").await.body;
        assert_eq!(lines(&cart), [("1076963", 2), ("2958025", 1), ("BANK CHARGES", 2)], "it is the same cart");

        let bought = post("/purchase", json!({"user": 42})).await;
        assert_eq!(bought.status, 200, "{}", bought.body);
        let id = bought.body["orderID"].as_i64().expect("a number");
        assert_eq!(bought.body, json!({"orderID": id}));
        let order = post("/listOrder", json!({"orderID": id})).await;
        let items = json!([{"sku": 1_076_963, "count": 2}, {"sku": 2_958_025, "count": 1}, {"sku": "BANK CHARGES", "count": 2}]);
        assert_eq!(order.body, json!({"status": "awaiting payment", "user": 42, "items": items}));
        assert_problem(&post("/purchase", json!({"user": 42})).await, 409, "empty_cart");
        assert_eq!(post("/listCart", json!({"user": 42})).await.body, json!({"items": [], "totalPrice": 0}));
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn an_order_is_created_payed_and_cancelled() {
    on_each_store(async |shop| {
        let post = async |path: &str, body| shop.client.post(path, &body).await;
        let create = json!({"user": "ann", "items": [{"sku": 1_076_963, "count": 2}, {"sku": "1076963", "count": 3}]});
        let mut ids = Vec::new();
        for _ in 0..2 {
            let created = post("/createOrder", create.clone()).await;
            assert_eq!(created.status, 200, "{}", created.body);
            ids.push(created.body["orderID"].as_i64().expect("a number"));
        }
        let status = async |id: i64| post("/listOrder", json!({"orderID": id})).await.body["status"].clone();
        let listed = post("/listOrder", json!({"orderID": ids[0]})).await.body;
        let items = json!([{"sku": 1_076_963, "count": 5}]);
        assert_eq!(listed, json!({"status": "awaiting payment", "user": "ann", "items": items}));

        let payed = post("/orderPayed", json!({"orderID": ids[0]})).await;
        assert_eq!((payed.status, payed.body, status(ids[0]).await), (200, json!({}), json!("payed")));
        let cancelled = post("/cancelOrder", json!({"orderID": ids[1]})).await;
        assert_eq!((cancelled.status, cancelled.body, status(ids[1]).await), (200, json!({}), json!("cancelled")));
        assert_eq!(post("/orderPayed", json!({"orderID": ids[0]})).await.status, 200, "again");
        assert_eq!(post("/cancelOrder", json!({"orderID": ids[1]})).await.status, 200, "again");
        assert_problem(&post("/cancelOrder", json!({"orderID": ids[0]})).await, 409, "wrong_status");
        assert_problem(&post("/orderPayed", json!({"orderID": ids[1]})).await, 409, "wrong_status");
        let stocks = post("/stocks", json!({"sku": 1_076_963})).await;
        assert_eq!((stocks.status, stocks.body), (200, json!({"stocks": [{"warehouseID": 1, "count": 95}]})));
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn an_order_that_fails_has_an_id_and_its_status_tells() {
    on_each_store(async |shop| {
        let post = async |path: &str, body| shop.client.post(path, &body).await;
        let create = json!({"user": 7, "items": [{"sku": "MUG", "count": 14}]});
        let created = post("/createOrder", create).await;
        assert_eq!(created.status, 200, "{}", created.body);
        let id = created.body["orderID"].as_i64().expect("a number");
        let listed = post("/listOrder", json!({"orderID": id})).await.body;
        assert_eq!(listed, json!({"status": "failed", "user": 7, "items": [{"sku": "MUG", "count": 14}]}));
        assert_problem(&post("/orderPayed", json!({"orderID": id})).await, 409, "wrong_status");

        shop.add("7", "MUG", 13).await;
        shop.order("8", &[("MUG", 1)]).await;
        let refused = post("/purchase", json!({"user": 7})).await;
        assert_problem(&refused, 409, "out_of_stock");
        assert_eq!(lines(&shop.client.get("/carts/7").await.body), [("MUG", 13)]);
    })
    .await;
}

#[tokio::test]
async fn names_that_only_look_like_numbers_stay_texts() {
    on_each_store(async |shop| {
        for user in ["007", "+7", "1.0", "99999999999999999999"] {
            let create = json!({"user": user, "items": [{"sku": "PEN", "count": 1}]});
            let created = shop.client.post("/createOrder", &create).await;
            if user.contains('+') {
                assert_problem(&created, 422, "invalid_request");
                continue;
            }
            let listed = shop.client.post("/listOrder", &json!({"orderID": created.body["orderID"]})).await;
            let listed_user = listed.body["user"].clone();
            let text = listed_user.as_str().map_or_else(|| listed_user.to_string(), str::to_owned);
            assert_eq!(text, user, "a name comes back as it was given");
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_contract_refuses_is_a_problem() {
    on_each_store(async |shop| {
        let post = async |path: &str, body| shop.client.post(path, &body).await;
        let unknown = json!({"user": 1, "sku": 99, "count": 1});
        assert_problem(&post("/addToCart", unknown).await, 404, "unknown_sku");
        let too_many = post("/addToCart", json!({"user": 1, "sku": "MUG", "count": 14})).await;
        assert_problem(&too_many, 409, "out_of_stock");
        assert_eq!(too_many.body["available"], 13);
        assert_problem(&post("/stocks", json!({"sku": 99})).await, 404, "unknown_sku");
        for path in ["/listOrder", "/orderPayed", "/cancelOrder"] {
            assert_problem(&post(path, json!({"orderID": 99})).await, 404, "order_not_found");
            assert_problem(&post(path, json!({"orderID": "one"})).await, 400, "invalid_request");
            let unknown = post(path, json!({"orderID": 99, "orderId": 99})).await;
            assert_problem(&unknown, 400, "invalid_request");
            assert!(unknown.body["detail"].as_str().is_some_and(|detail| detail.contains("orderId")));
        }
        for count in [json!(0), json!(-1), json!(1_000_001), json!(1.5), json!(1e30)] {
            for path in ["/addToCart", "/deleteFromCart"] {
                let refused = post(path, json!({"user": 1, "sku": "PEN", "count": count})).await;
                assert_problem(&refused, 422, "invalid_request");
            }
            let create = json!({"user": 1, "items": [{"sku": "PEN", "count": count}]});
            assert_problem(&post("/createOrder", create).await, 422, "invalid_request");
        }
        assert_problem(&post("/createOrder", json!({"user": 1, "items": []})).await, 422, "invalid_request");
        assert_eq!(post("/listCart", json!({"user": 1})).await.body, json!({"items": [], "totalPrice": 0}));
    })
    .await;
}
