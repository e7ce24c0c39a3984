//! Orders: their life from creation to payment or cancel, and how they are found again.

use serde_json::{Value, json};

use crate::support::shop::{assert_problem, lines, new_order, on_each_store};

#[tokio::test]
async fn an_order_reserves_its_stock_and_keeps_names_and_prices() {
    on_each_store(async |shop| {
        let created = shop.client.post("/orders", &new_order("ann", &[("PEN", 3), ("MUG", 5)])).await;
        assert_eq!(created.status, 201, "{}", created.body);
        let order = created.body;
        assert_eq!(created.headers["location"], format!("/orders/{}", order["order_id"]));
        let items = json!([
            {"sku": "MUG", "name": "Mug", "price": 45000, "count": 5, "allocations": [{"warehouse_id": 1, "count": 5}]},
            {"sku": "PEN", "name": "Pen", "price": 1500, "count": 3, "allocations": [{"warehouse_id": 1, "count": 3}]},
        ]);
        assert_eq!(order["items"], items);
        let plain = json!({"user": "ann", "status": "awaiting_payment", "total_price": 229_500, "currency": "RUB",
            "version": 2, "reason": null});
        for (member, value) in plain.as_object().expect("an object") {
            assert_eq!(&order[member], value, "{member}");
        }
        let time = |member: &str| order[member].as_str().expect("a time").parse::<chrono::DateTime<chrono::Utc>>();
        let timeout = time("expires_at").expect("RFC 3339") - time("created_at").expect("RFC 3339");
        assert_eq!(timeout, chrono::TimeDelta::minutes(10), "the default");

        let stock = shop.client.get("/stocks/MUG").await.body;
        let warehouses = json!([
            {"warehouse_id": 1, "count": 0, "on_hand": 5, "reserved": 5},
            {"warehouse_id": 2, "count": 8, "on_hand": 8, "reserved": 0},
        ]);
        assert_eq!(stock, json!({"sku": "MUG", "available": 8, "stocks": warehouses}));
        shop.restart();
        assert_eq!(shop.client.get(&format!("/orders/{}", order["order_id"])).await.body, order);
        assert_eq!(shop.client.get("/stocks/MUG").await.body, stock);
    })
    .await;
}

#[tokio::test]
async fn lines_of_one_sku_are_merged() {
    on_each_store(async |shop| {
        let order = shop.order("ann", &[("PEN", 1), ("85123a", 2), ("PEN", 4), ("85123A", 3)]).await;
        assert_eq!(lines(&order), [("85123A", 3), ("85123a", 2), ("PEN", 5)]);
        assert_eq!(order["total_price"], 3 * 255 + 2 * 300 + 5 * 1500);
    })
    .await;
}

#[tokio::test]
async fn a_line_comes_from_one_warehouse_where_one_covers_it_else_from_several_in_their_order() {
    on_each_store(async |shop| {
        let allocations = |order: &Value| order["items"][0]["allocations"].clone();
        let whole = shop.order("ann", &[("SPLIT", 4)]).await;
        assert_eq!(allocations(&whole), json!([{"warehouse_id": 3, "count": 4}]));
        let split = shop.order("ann", &[("SPLIT", 4)]).await;
        let two = json!([{"warehouse_id": 1, "count": 2}, {"warehouse_id": 2, "count": 2}]);
        assert_eq!((allocations(&split), lines(&split)), (two.clone(), vec![("SPLIT", 4)]));
        let shown = shop.client.get(&format!("/orders/{}", split["order_id"])).await.body;
        assert_eq!((allocations(&shown), lines(&shown)), (two, vec![("SPLIT", 4)]));
        assert_eq!(shop.available("SPLIT").await, 1);

        for order in [&whole, &split] {
            let cancelled = shop.client.post(&format!("/orders/{}/cancel", order["order_id"]), &json!({})).await;
            assert_eq!(cancelled.status, 200);
        }
        assert_eq!(shop.available("SPLIT").await, 9, "every warehouse has its units back");
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn an_order_that_the_stock_does_not_cover_is_failed_and_holds_nothing() {
    on_each_store(async |shop| {
        let items = [("MUG", 14), ("PEN", 5), ("EMPTY", 2), ("UNSTOCKED", 1)];
        let refused = shop.client.post("/orders", &new_order("ann", &items)).await;
        assert_problem(&refused, 409, "out_of_stock");
        let shortages = json!([
            {"sku": "EMPTY", "requested": 2, "available": 0},
            {"sku": "MUG", "requested": 14, "available": 13},
            {"sku": "UNSTOCKED", "requested": 1, "available": 0},
        ]);
        assert_eq!(refused.body["shortages"], shortages);

        let path = format!("/orders/{}", refused.body["order_id"]);
        let failed = shop.client.get(&path).await.body;
        assert_eq!((&failed["status"], &failed["version"]), (&json!("failed"), &json!(2)));
        assert_eq!(lines(&failed), [("EMPTY", 2), ("MUG", 14), ("PEN", 5), ("UNSTOCKED", 1)]);
        assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("MUG")), "{failed}");
        assert_eq!(shop.history(&failed).await, ["new", "failed"]);
        for command in ["pay", "cancel"] {
            let refused = shop.client.post(&format!("{path}/{command}"), &json!({})).await;
            assert_problem(&refused, 409, "wrong_status");
        }
        assert_eq!(shop.available("PEN").await, 1_000_000, "all lines or none");
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn an_order_of_something_unknown_is_no_order() {
    on_each_store(async |shop| {
        let refused = shop.client.post("/orders", &new_order("ann", &[("PEN", 1), ("NO SUCH", 1)])).await;
        assert_problem(&refused, 404, "unknown_sku");
        assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("NO SUCH")), "{}", refused.body);
        assert_eq!(shop.client.get("/orders").await.body, json!({"orders": [], "next": null}));
        assert_eq!(shop.available("PEN").await, 1_000_000);
    })
    .await;
}

#[tokio::test]
async fn a_payment_writes_the_stock_off_once() {
    on_each_store(async |shop| {
        let order = shop.order("ann", &[("MUG", 6)]).await;
        let path = format!("/orders/{}", order["order_id"]);
        assert_eq!(shop.history(&order).await, ["new", "awaiting_payment"]);
        let payed = shop.client.post(&format!("{path}/pay"), &json!({})).await;
        assert_eq!((payed.status, &payed.body["status"], &payed.body["version"]), (200, &json!("payed"), &json!(3)));
        let again = shop.client.post(&format!("{path}/pay"), &json!({})).await;
        assert_eq!((again.status, &again.body), (200, &payed.body), "again: nothing more happens");
        assert_eq!(shop.client.get(&path).await.body, payed.body);
        assert_eq!(shop.history(&order).await, ["new", "awaiting_payment", "payed"]);
        let stock = shop.client.get("/stocks/MUG").await.body;
        let second = json!({"warehouse_id": 2, "count": 2, "on_hand": 2, "reserved": 0});
        assert_eq!((&stock["available"], &stock["stocks"][1]), (&json!(7), &second));

        let cancelled = shop.client.post(&format!("{path}/cancel"), &json!({})).await;
        assert_problem(&cancelled, 409, "wrong_status");
        shop.restart();
        let again = shop.client.post(&format!("{path}/pay"), &json!({})).await;
        assert_eq!((again.status, again.body), (200, payed.body), "also for one who did not see it happen");
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn a_cancel_frees_the_stock_once() {
    on_each_store(async |shop| {
        let order = shop.order("ann", &[("MUG", 6)]).await;
        let path = format!("/orders/{}", order["order_id"]);
        let cancelled = shop.client.post(&format!("{path}/cancel"), &json!({})).await;
        assert_eq!((cancelled.status, &cancelled.body["status"]), (200, &json!("cancelled")));
        assert!(cancelled.body["reason"].is_string(), "{}", cancelled.body);
        let again = shop.client.post(&format!("{path}/cancel"), &json!({})).await;
        assert_eq!((again.status, &again.body), (200, &cancelled.body));
        assert_eq!(shop.available("MUG").await, 13);
        assert_problem(&shop.client.post(&format!("{path}/pay"), &json!({})).await, 409, "wrong_status");
        assert_eq!(shop.history(&order).await, ["new", "awaiting_payment", "cancelled"]);
        shop.restart();
        assert_eq!(shop.client.get(&path).await.body, cancelled.body);
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn an_order_that_is_not_there_is_not_found() {
    on_each_store(async |shop| {
        for id in ["1", "0", "-1", "99999999999999999999999", "one", "1.5"] {
            assert_problem(&shop.client.get(&format!("/orders/{id}")).await, 404, "order_not_found");
            assert_problem(&shop.client.get(&format!("/orders/{id}/events")).await, 404, "order_not_found");
            for command in ["pay", "cancel"] {
                let refused = shop.client.post(&format!("/orders/{id}/{command}"), &json!({})).await;
                assert_problem(&refused, 404, "order_not_found");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_history_tells_every_status_with_its_time_and_reason() {
    on_each_store(async |shop| {
        let order = shop.order("ann", &[("PEN", 1)]).await;
        let path = format!("/orders/{}", order["order_id"]);
        for spelling in ["+", "0"] {
            let other = format!("/orders/{spelling}{}", order["order_id"]);
            assert_problem(&shop.client.get(&other).await, 404, "order_not_found");
        }
        let cancelled = shop.client.post(&format!("{path}/cancel"), &json!({})).await.body;
        let history = shop.client.get(&format!("{path}/events")).await.body;
        let events = history["events"].as_array().expect("events");
        let mut ids: Vec<_> = events.iter().map(|event| event["id"].as_str().expect("an id")).collect();
        ids.dedup();
        assert_eq!(ids.len(), 3, "{history}");
        assert_eq!(events[0]["time"], order["created_at"]);
        assert_eq!((&events[2]["time"], &events[2]["reason"]), (&cancelled["updated_at"], &cancelled["reason"]));
    })
    .await;
}

#[tokio::test]
async fn orders_are_listed_newest_first_in_pages_and_by_user_and_status() {
    on_each_store(async |shop| {
        let mut ids = Vec::new();
        for number in 0..7 {
            let user = if number % 2 == 0 { "ann" } else { "bob" };
            ids.push(shop.order(user, &[("PEN", number + 1)]).await["order_id"].as_i64().expect("an id"));
        }
        shop.client.post(&format!("/orders/{}/pay", ids[2]), &json!({})).await;
        let newest_first: Vec<_> = ids.iter().rev().copied().collect();
        let found = |body: &Value| -> Vec<i64> {
            body["orders"]
                .as_array()
                .expect("orders")
                .iter()
                .map(|order| order["order_id"].as_i64().expect("an id"))
                .collect()
        };
        let all = shop.client.get("/orders").await.body;
        assert_eq!((found(&all), &all["next"]), (newest_first.clone(), &Value::Null));
        assert_eq!(lines(&all["orders"][0]), [("PEN", 7)], "orders are listed whole");

        let mut pages = Vec::new();
        let mut path = "/orders?limit=3".to_owned();
        loop {
            let page = shop.client.get(&path).await.body;
            assert!(found(&page).len() <= 3);
            pages.extend(found(&page));
            if page["next"].is_null() {
                break;
            }
            path = format!("/orders?limit=3&after={}", page["next"]);
        }
        assert_eq!(pages, newest_first);

        let of_bob = shop.client.get("/orders?user=bob&limit=2").await.body;
        assert_eq!(found(&of_bob), [ids[5], ids[3]]);
        let rest = shop.client.get(&format!("/orders?user=bob&limit=2&after={}", of_bob["next"])).await.body;
        assert_eq!(found(&rest), [ids[1]]);
        assert_eq!(found(&shop.client.get("/orders?status=payed").await.body), [ids[2]]);
        assert_eq!(found(&shop.client.get("/orders?status=payed&user=bob").await.body), [0_i64; 0]);
        let awaiting = shop.client.get("/orders?status=awaiting_payment&user=ann").await.body;
        assert_eq!(found(&awaiting), [ids[6], ids[4], ids[0]]);
        assert_eq!(found(&shop.client.get("/orders?status=new").await.body), [0_i64; 0]);
        assert_eq!(found(&shop.client.get("/orders?user=nobody").await.body), [0_i64; 0]);
        let newest = shop.client.get("/orders?user=&status=&limit=&after=").await.body;
        assert_eq!(found(&newest), newest_first, "an empty value stands for none");
        let signed = format!("after=%2B{}", ids[3]);
        for query in [
            &signed,
            "after=-1",
            "limit=%2B1",
            "limit=01",
            "limit=0",
            "limit=501",
            "limit=many",
            "status=paid",
            "after=x",
            "user=a%20b",
        ] {
            let refused = shop.client.get(&format!("/orders?{query}")).await;
            assert_problem(&refused, 422, "invalid_request");
        }
        let unknown = shop.client.get("/orders?offset=3").await;
        assert_problem(&unknown, 400, "invalid_request");
        assert!(unknown.body["detail"].as_str().is_some_and(|detail| detail.contains("offset")), "{}", unknown.body);
    })
    .await;
}
