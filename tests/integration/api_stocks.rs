//! Stocks and products: what lies where, how it is counted, adjusted and imported.

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::shop::{Shop, assert_problem, on_each_store};

#[tokio::test]
async fn a_stock_count_sets_what_is_on_hand() {
    on_each_store(async |shop| {
        let counted = shop.client.put("/stocks/MUG/2", &json!({"on_hand": 20})).await;
        assert_eq!((counted.status, &counted.body["available"]), (200, &json!(25)));
        assert_eq!(counted.body, shop.client.get("/stocks/MUG").await.body, "the answer is the whole stock");
        let new_place = shop.client.put("/stocks/UNSTOCKED/9", &json!({"on_hand": 3})).await;
        let shelf = json!({"warehouse_id": 9, "count": 3, "on_hand": 3, "reserved": 0});
        assert_eq!(new_place.body, json!({"sku": "UNSTOCKED", "available": 3, "stocks": [shelf]}));
        shop.order("ann", &[("UNSTOCKED", 3), ("MUG", 20)]).await;
        assert_eq!(shop.available("MUG").await, 5);
        assert_eq!(shop.client.put("/stocks/MUG/1", &json!({"on_hand": 0})).await.status, 200);
        assert_eq!(shop.available("MUG").await, 0);
        shop.restart();
        assert_eq!((shop.available("MUG").await, shop.available("UNSTOCKED").await), (0, 0));
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn an_adjustment_adds_and_takes_away() {
    on_each_store(async |shop| {
        let goods_in = json!({"delta": 10, "reason": "delivery 17"});
        let adjusted = shop.client.post("/stocks/MUG/1/adjustments", &goods_in).await;
        assert_eq!((adjusted.status, &adjusted.body["available"]), (200, &json!(23)));
        let lost = json!({"delta": -15, "reason": "broken"});
        let adjusted = shop.client.post("/stocks/MUG/1/adjustments", &lost).await;
        assert_eq!((adjusted.status, &adjusted.body["available"]), (200, &json!(8)));
        assert_eq!(adjusted.body, shop.client.get("/stocks/MUG").await.body);
        let too_many = json!({"delta": -1, "reason": "broken"});
        assert_problem(&shop.client.post("/stocks/MUG/1/adjustments", &too_many).await, 409, "below_reserved");
        assert_eq!(shop.available("MUG").await, 8);
        for body in [json!({"delta": 0, "reason": "none"}), json!({"delta": 1, "reason": ""})] {
            assert_problem(&shop.client.post("/stocks/MUG/1/adjustments", &body).await, 422, "invalid_request");
        }
        let too_many = json!({"delta": 1_000_000_000_000_i64, "reason": "delivery 18"});
        shop.client.post("/stocks/PEN/1/adjustments", &json!({"delta": 1, "reason": "delivery 18"})).await;
        let refused = shop.client.post("/stocks/PEN/1/adjustments", &too_many).await;
        assert_problem(&refused, 422, "invalid_request");
        assert_eq!(refused.body["detail"], "delta would leave more than 1000000000000 units on hand");
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn reserved_units_can_be_neither_counted_nor_adjusted_away() {
    on_each_store(async |shop| {
        let order = shop.order("ann", &[("MUG", 5)]).await;
        let before = shop.client.get("/stocks/MUG").await.body;
        assert_problem(&shop.client.put("/stocks/MUG/1", &json!({"on_hand": 4})).await, 409, "below_reserved");
        let lost = json!({"delta": -1, "reason": "broken"});
        assert_problem(&shop.client.post("/stocks/MUG/1/adjustments", &lost).await, 409, "below_reserved");
        let import = "sku,warehouse_id,on_hand\nPEN,1,7\nMUG,1,4\n";
        let refused = shop.client.post_csv("/stocks/import", import).await;
        assert_problem(&refused, 422, "invalid_request");
        assert_eq!(refused.body["errors"][0]["line"], 3);
        assert_eq!(shop.client.get("/stocks/MUG").await.body, before);
        assert_eq!(shop.available("PEN").await, 1_000_000, "all rows or none");

        assert_eq!(shop.client.put("/stocks/MUG/1", &json!({"on_hand": 5})).await.status, 200);
        shop.client.post(&format!("/orders/{}/pay", order["order_id"]), &json!({})).await;
        assert_eq!(shop.available("MUG").await, 8);
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn an_import_takes_all_rows() {
    on_each_store(async |shop| {
        let rows = "sku,warehouse_id,on_hand\r\nMUG,1,100\r\n\"BANK CHARGES\",4,6\r\nUNSTOCKED,2,9\r\n";
        let imported = shop.client.post_csv("/stocks/import", rows).await;
        assert_eq!((imported.status, imported.body), (200, json!({"rows": 3})));
        assert_eq!(shop.available("MUG").await, 108, "other shelves stay");
        assert_eq!((shop.available("BANK%20CHARGES").await, shop.available("UNSTOCKED").await), (56, 9));
        shop.order("ann", &[("UNSTOCKED", 9), ("MUG", 108)]).await;
        let nothing = shop.client.post_csv("/stocks/import", "sku,warehouse_id,on_hand\n").await;
        assert_eq!((nothing.status, nothing.body), (200, json!({"rows": 0})));
        shop.assert_books_are_right();
    })
    .await;
}

#[tokio::test]
async fn an_import_with_a_bad_line_names_it_and_takes_nothing() {
    on_each_store(async |shop| {
        let mut rows = String::from("sku,warehouse_id,on_hand\n");
        for line in 2..=1_000 {
            let on_hand = if line == 700 { "many" } else { "5" };
            rows.push_str(&format!("S{line},1,{on_hand}\n"));
        }
        let refused = shop.client.post_csv("/stocks/import", &rows).await;
        assert_problem(&refused, 422, "invalid_request");
        let errors = refused.body["errors"].as_array().expect("errors");
        assert_eq!((errors.len(), &errors[0]["line"]), (1, &json!(700)));
        assert!(errors[0]["message"].as_str().is_some_and(|message| message.contains("on_hand")), "{}", refused.body);
        for sku in ["S2", "S699", "S1000"] {
            assert_problem(&shop.client.get(&format!("/stocks/{sku}")).await, 404, "unknown_sku");
        }

        let several = "sku,warehouse_id,on_hand\nMUG,1,-1\nMUG,0,1\nMUG,1\nMUG,1,2\nMUG,1,3\n,1,1\nMUG,1,1.5\n";
        let refused = shop.client.post_csv("/stocks/import", several).await;
        assert_problem(&refused, 422, "invalid_request");
        let lines: Vec<_> =
            refused.body["errors"].as_array().expect("errors").iter().map(|error| &error["line"]).collect();
        assert_eq!(lines, [2, 3, 4, 6, 7, 8]);
        let refused = shop.client.post_csv("/stocks/import", "sku;warehouse_id;on_hand\nMUG;1;1\n").await;
        assert_eq!(refused.body["errors"][0]["line"], 1);
        assert_eq!(shop.available("MUG").await, 13);
    })
    .await;
}

#[tokio::test]
async fn a_warehouse_whose_rows_are_gone_stands_in_nobodys_way() {
    let Some(shop) = Shop::on_postgres() else { return };
    let mut connection = PgConnection::connect(shop.database_url()).await.expect("connected");
    connection.execute("delete from stocks where sku = 'MUG' and warehouse_id = 1").await.expect("deleted");
    let order = shop.order("ann", &[("MUG", 4)]).await;
    assert_eq!(order["items"][0]["allocations"], json!([{"warehouse_id": 2, "count": 4}]));
    shop.assert_books_are_right();
}

#[tokio::test]
async fn stock_of_an_unknown_sku_is_not_found() {
    on_each_store(async |shop| {
        assert_problem(&shop.client.get("/stocks/NO%20SUCH").await, 404, "unknown_sku");
        assert_eq!(shop.client.get("/stocks/EMPTY").await.body["available"], 0, "nothing left is another thing");
        let unstocked = shop.client.get("/stocks/UNSTOCKED").await;
        assert_eq!(
            unstocked.body,
            json!({"sku": "UNSTOCKED", "available": 0, "stocks": []}),
            "and so is never stocked"
        );
        assert_eq!(shop.client.post("/stocks", &json!({"sku": "UNSTOCKED"})).await.body, json!({"stocks": []}));
        for path in [
            "/stocks/MUG/0",
            "/stocks/MUG/-1",
            "/stocks/MUG/x",
            "/stocks/MUG/2147483648",
            "/stocks/MUG/+1",
            "/stocks/MUG/01",
        ] {
            assert_problem(&shop.client.put(path, &json!({"on_hand": 1})).await, 422, "invalid_request");
        }
        for on_hand in [json!(-1), json!(1.5), json!(1e30), json!(1_000_000_000_001_i64)] {
            let refused = shop.client.put("/stocks/MUG/1", &json!({"on_hand": on_hand})).await;
            assert_problem(&refused, 422, "invalid_request");
        }
        assert_eq!(shop.available("MUG").await, 13);
    })
    .await;
}

#[tokio::test]
async fn products_are_listed_in_sku_order_with_what_can_be_bought() {
    on_each_store(async |shop| {
        shop.order("ann", &[("MUG", 3)]).await;
        let skus = |body: &Value| -> Vec<String> {
            let products = body["products"].as_array().expect("products");
            products.iter().map(|product| product["sku"].as_str().expect("a SKU").to_owned()).collect()
        };
        let all = shop.client.get("/products").await.body;
        let mut sorted = skus(&all);
        sorted.sort();
        assert_eq!((skus(&all), all["next"].is_null(), sorted.len()), (sorted.clone(), true, 14));
        let mug = json!({"sku": "MUG", "name": "Mug", "price": 45000, "available": 10});
        assert!(all["products"].as_array().expect("products").contains(&mug), "{all}");
        assert_eq!(shop.client.get("/products/MUG").await.body, mug);
        assert_eq!(shop.client.get("/products/UNSTOCKED").await.body["available"], 0);
        assert_problem(&shop.client.get("/products/NO%20SUCH").await, 404, "unknown_sku");

        let mut pages = Vec::new();
        let mut after = String::new();
        loop {
            let query = [("limit", "4"), ("after", &after)];
            let query = if after.is_empty() { &query[..1] } else { &query[..] };
            let page = shop.client.request(reqwest::Method::GET, "/products", None);
            let path = page.build().expect("a request").url().clone();
            let url = reqwest::Url::parse_with_params(path.as_str(), query).expect("a URL");
            let page = shop.client.get(&format!("/products?{}", url.query().expect("a query"))).await.body;
            pages.extend(skus(&page));
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(pages, sorted);
        assert_eq!(shop.client.get("/products?limit=&after=").await.body, all, "an empty value stands for none");
        assert_problem(&shop.client.get("/products?limit=0").await, 422, "invalid_request");
        assert_problem(&shop.client.get("/products?page=2").await, 400, "invalid_request");
    })
    .await;
}
