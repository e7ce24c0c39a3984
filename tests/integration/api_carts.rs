//! Carts, as their users see them.

use serde_json::{Value, json};

use crate::support::shop::{Shop, assert_problem, lines, on_each_store};

#[tokio::test]
async fn an_unknown_user_has_an_empty_cart() {
    on_each_store(async |shop| {
        let cart = shop.client.get("/carts/nobody").await;
        assert_eq!(cart.status, 200);
        let empty = json!({"user": "nobody", "version": 0, "items": [], "total_price": 0, "currency": "RUB"});
        assert_eq!(cart.body, empty);
        assert_eq!(shop.client.delete("/carts/nobody").await.status, 204);
    })
    .await;
}

#[tokio::test]
async fn counts_of_one_sku_add_up_and_the_cart_lists_names_and_prices() {
    on_each_store(async |shop| {
        shop.add("ann", "PEN", 2).await;
        shop.add("ann", "MUG", 1).await;
        let cart = shop.add("ann", "PEN", 3).await;
        let expected = json!({
            "user": "ann", "version": 3, "total_price": 52500, "currency": "RUB",
            "items": [
                {"sku": "MUG", "name": "Mug", "price": 45000, "count": 1},
                {"sku": "PEN", "name": "Pen", "price": 1500, "count": 5},
            ],
        });
        assert_eq!(cart, expected);
        assert_eq!(shop.client.get("/carts/ann").await.body, expected);
        shop.restart();
        assert_eq!(shop.client.get("/carts/ann").await.body, expected, "it is as durable as it was answered");
        assert_eq!(lines(&shop.client.get("/carts/bob").await.body), [], "carts are of one user each");
    })
    .await;
}

#[tokio::test]
async fn a_line_is_set_lowered_and_removed() {
    on_each_store(async |shop| {
        let set = shop.client.put("/carts/ann/items/PEN", &json!({"count": 7})).await;
        assert_eq!((set.status, lines(&set.body)), (200, vec![("PEN", 7)]));
        let set = shop.client.put("/carts/ann/items/PEN", &json!({"count": 4})).await;
        assert_eq!(lines(&set.body), [("PEN", 4)]);
        shop.add("ann", "MUG", 2).await;

        let lowered = shop.client.delete("/carts/ann/items/PEN?count=3").await;
        assert_eq!((lowered.status, lines(&lowered.body)), (200, vec![("MUG", 2), ("PEN", 1)]));
        let gone = shop.client.delete("/carts/ann/items/PEN?count=9").await;
        assert_eq!((gone.status, lines(&gone.body)), (200, vec![("MUG", 2)]), "no line has less than one unit");
        let gone = shop.client.delete("/carts/ann/items/MUG").await;
        assert_eq!((gone.status, lines(&gone.body)), (200, vec![]));
        let again = shop.client.delete("/carts/ann/items/MUG").await;
        assert_eq!((again.status, &again.body["version"]), (200, &gone.body["version"]), "nothing changed");
    })
    .await;
}

#[tokio::test]
async fn an_emptied_cart_is_empty() {
    on_each_store(async |shop| {
        shop.add("ann", "PEN", 2).await;
        shop.add("ann", "MUG", 2).await;
        let emptied = shop.client.delete("/carts/ann").await;
        assert_eq!((emptied.status, emptied.body), (204, Value::Null));
        assert_eq!(lines(&shop.client.get("/carts/ann").await.body), []);
        shop.restart();
        assert_eq!(lines(&shop.client.get("/carts/ann").await.body), []);
    })
    .await;
}

#[tokio::test]
async fn a_cart_takes_no_more_than_the_stock_covers() {
    on_each_store(async |shop| {
        let cart = shop.add("ann", "MUG", 10).await;
        let more = shop.client.post("/carts/ann/items", &json!({"sku": "MUG", "count": 4})).await;
        assert_problem(&more, 409, "out_of_stock");
        assert_eq!(more.body["available"], 13, "what the stock has, not what would still fit");
        let set = shop.client.put("/carts/ann/items/MUG", &json!({"count": 14})).await;
        assert_problem(&set, 409, "out_of_stock");
        assert_eq!(set.body["available"], 13);
        for (sku, available) in [("EMPTY", 0), ("UNSTOCKED", 0)] {
            let none = shop.client.post("/carts/ann/items", &json!({"sku": sku, "count": 1})).await;
            assert_problem(&none, 409, "out_of_stock");
            assert_eq!(none.body["available"], available);
        }
        assert_eq!(shop.client.get("/carts/ann").await.body, cart, "the cart stays as it was");
        assert_eq!(lines(&shop.add("ann", "MUG", 3).await), [("MUG", 13)], "a cart reserves nothing");
        let cart = shop.add("bob", "MUG", 13).await;
        assert_eq!(lines(&cart), [("MUG", 13)]);

        let fewer = shop.client.put("/stocks/MUG/1", &json!({"on_hand": 0})).await;
        let left = fewer.body["available"].as_i64().expect("a number");
        let same = shop.client.put("/carts/bob/items/MUG", &json!({"count": 13})).await;
        assert_problem(&same, 409, "out_of_stock");
        assert_eq!(same.body["available"], left);
        assert_eq!(shop.client.get("/carts/bob").await.body, cart);
    })
    .await;
}

#[tokio::test]
async fn a_cart_takes_only_what_is_for_sale() {
    on_each_store(async |shop| {
        let unknown = shop.client.post("/carts/ann/items", &json!({"sku": "NO SUCH", "count": 1})).await;
        assert_problem(&unknown, 404, "unknown_sku");
        let unknown = shop.client.put("/carts/ann/items/NO%20SUCH", &json!({"count": 1})).await;
        assert_problem(&unknown, 404, "unknown_sku");
        assert_eq!(shop.client.get("/carts/ann").await.body["version"], 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_longer_sold_stands_in_nobodys_way_and_is_not_bought() {
    on_each_store(async |shop| {
        for sku in ["MUG", "PEN", "85123A"] {
            shop.add("ann", sku, 2).await;
        }
        shop.restart_selling(&["PEN,Pen,1500", "85123A,Holder,255"]);
        let cart = shop.client.get("/carts/ann").await;
        let expected = json!({
            "user": "ann", "version": 3, "total_price": 3510, "currency": "RUB", "no_longer_sold": ["MUG"],
            "items": [
                {"sku": "85123A", "name": "Holder", "price": 255, "count": 2},
                {"sku": "PEN", "name": "Pen", "price": 1500, "count": 2},
            ],
        });
        assert_eq!((cart.status, cart.body), (200, expected));
        let listed = shop.client.post("/listCart", &json!({"user": "ann"})).await;
        assert_eq!((listed.status, &listed.body["totalPrice"]), (200, &json!(3510)));
        assert_eq!(lines(&listed.body)[..], [("85123A", 2), ("PEN", 2)]);

        let lowered = shop.client.delete("/carts/ann/items/PEN?count=1").await;
        assert_eq!((lowered.status, lines(&lowered.body)), (200, vec![("85123A", 2), ("PEN", 1)]));
        let set = shop.client.put("/carts/ann/items/PEN", &json!({"count": 5})).await;
        assert_eq!((set.status, lines(&set.body)), (200, vec![("85123A", 2), ("PEN", 5)]));
        assert_eq!(lines(&shop.add("ann", "PEN", 1).await), [("85123A", 2), ("PEN", 6)]);
        for refused in [
            shop.client.post("/carts/ann/purchase", &json!({})).await,
            shop.client.post("/purchase", &json!({"user": "ann"})).await,
            shop.client.put("/carts/ann/items/MUG", &json!({"count": 1})).await,
            shop.client.post("/carts/ann/items", &json!({"sku": "MUG", "count": 1})).await,
        ] {
            assert_problem(&refused, 404, "unknown_sku");
            assert_eq!(refused.body["sku"], "MUG");
        }
        let fewer = shop.client.delete("/carts/ann/items/MUG?count=1").await;
        assert_eq!((fewer.status, &fewer.body["no_longer_sold"]), (200, &json!(["MUG"])));
        let without = shop.client.delete("/carts/ann/items/MUG").await;
        assert_eq!((without.status, without.body.get("no_longer_sold")), (200, None));
        assert_eq!(shop.client.post("/carts/ann/purchase", &json!({})).await.status, 201);
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn odd_skus_go_through_bodies_and_paths() {
    let odd = [
        ("BANK CHARGES", "BANK%20CHARGES"),
        ("85123a", "85123a"),
        ("85123A", "85123A"),
        ("A/B?c#%", "A%2FB%3Fc%23%25"),
        ("ящик №4", "%D1%8F%D1%89%D0%B8%D0%BA%20%E2%84%964"),
    ];
    on_each_store(async |shop: &mut Shop| {
        for (at, (sku, encoded)) in (1..).zip(odd) {
            assert!(lines(&shop.add("ann", sku, 1).await).contains(&(sku, 1)));
            let set = shop.client.put(&format!("/carts/ann/items/{encoded}"), &json!({"count": at})).await;
            assert!(lines(&set.body).contains(&(sku, at)), "{}", set.body);
            let stock = shop.client.get(&format!("/stocks/{encoded}")).await;
            assert_eq!((stock.status, &stock.body["sku"]), (200, &json!(sku)));
            let product = shop.client.get(&format!("/products/{encoded}")).await;
            assert_eq!((product.status, &product.body["sku"]), (200, &json!(sku)));
        }
        let purchase = shop.client.post("/carts/ann/purchase", &json!({})).await;
        assert_eq!(purchase.status, 201, "{}", purchase.body);
        let sorted = [("85123A", 3), ("85123a", 2), ("A/B?c#%", 4), ("BANK CHARGES", 1), ("ящик №4", 5)];
        assert_eq!(lines(&purchase.body), sorted, "in the order of their bytes, on every store");
        assert_eq!((shop.available("85123A").await, shop.available("85123a").await), (7, 18), "case is kept");
        assert_eq!(shop.client.delete("/carts/ann/items/A%2FB%3Fc%23%25").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn the_purchase_of_a_cart_is_an_order_and_an_empty_cart() {
    on_each_store(async |shop| {
        shop.add("ann", "MUG", 2).await;
        shop.add("ann", "PEN", 10).await;
        let purchase = shop.client.post("/carts/ann/purchase", &json!({})).await;
        assert_eq!(purchase.status, 201, "{}", purchase.body);
        let order = &purchase.body;
        assert_eq!(purchase.headers["location"], format!("/orders/{}", order["order_id"]));
        assert_eq!((&order["status"], &order["user"]), (&json!("awaiting_payment"), &json!("ann")));
        assert_eq!((lines(order), &order["total_price"]), (vec![("MUG", 2), ("PEN", 10)], &json!(105_000)));
        assert_eq!(shop.client.get(&format!("/orders/{}", order["order_id"])).await.body, *order);
        assert_eq!(lines(&shop.client.get("/carts/ann").await.body), []);
        let again = shop.client.post("/carts/ann/purchase", &json!({})).await;
        assert_problem(&again, 409, "empty_cart");
        assert_eq!(shop.available("MUG").await, 11);
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn a_purchase_that_the_stock_does_not_cover_is_a_failed_order_and_the_cart_stays() {
    on_each_store(async |shop| {
        let cart = shop.add("ann", "MUG", 13).await;
        shop.order("bob", &[("MUG", 1)]).await;
        let purchase = shop.client.post("/carts/ann/purchase", &json!({})).await;
        assert_problem(&purchase, 409, "out_of_stock");
        assert_eq!(purchase.body["shortages"], json!([{"sku": "MUG", "requested": 13, "available": 12}]));
        assert_eq!(shop.client.get("/carts/ann").await.body, cart);

        let failed = shop.client.get(&format!("/orders/{}", purchase.body["order_id"])).await.body;
        assert_eq!((&failed["status"], lines(&failed)), (&json!("failed"), vec![("MUG", 13)]));
        assert_eq!(failed["items"][0]["allocations"], json!([]));
        let reason = failed["reason"].as_str().expect("a reason");
        assert!(reason.contains("MUG") && reason.contains("13") && reason.contains("12"), "{reason}");
        assert_eq!(shop.history(&failed).await, ["new", "failed"]);
        assert_eq!(shop.available("MUG").await, 12, "a failed order holds nothing");
        shop.assert_books_are_right();
    })
    .await;
}
