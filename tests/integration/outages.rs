//! PostgreSQL or the ProductService is away: it is said so, in time and truly, and when it is back
//! everything goes on by itself.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::buyers::{Buyer, SKUS};
use crate::support::client::{Answer, Client, answered, eventually};
use crate::support::fragile_shop::{Ground, Shop, available, order_of, path_of, skus};
use crate::support::postgres::Database;
use crate::support::private_server::{PrivateServer, Stop};
use crate::support::program::Settings;

/// For those in flight when the database goes; all others are answered at once.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(6);
const ANSWER_MAX: Duration = Duration::from_millis(3_500);
/// After the database is back. Half a second is the longest pause between two attempts.
const SERVING_AGAIN_MAX: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(15);
const BUYERS: usize = 4;

async fn timed<T>(answer: impl Future<Output = T>) -> (T, Duration) {
    let asked = Instant::now();
    (answer.await, asked.elapsed())
}

fn assert_unavailable(answer: &Answer) {
    assert!(answer.is_refusal(503, "unavailable"), "{answer:?}");
    assert!(answer.headers.contains_key("Retry-After"), "{answer:?}");
}

async fn readiness(client: &Client) -> (u16, Value) {
    let answer = client.get("/readyz").await;
    (answer.status, answer.body["status"].clone())
}

async fn place(client: &Client) -> Answer {
    client.post("/orders", &order_of("anybody", "S0", 1)).await
}

/// Everything is refused, in time, and the program says that it is not ready.
async fn is_told_that_the_database_is_away(client: &Client, order: &Value) {
    // After SIGKILL of its main process, PostgreSQL's others work on for a moment.
    let refused = || async {
        let (answer, took) = timed(place(client)).await;
        assert!(took < FIRST_ANSWER_MAX, "the first was answered after {took:?}");
        answer.status != 201
    };
    assert!(eventually(PATIENCE, refused).await, "it serves without a database");
    let unavailable = || async { readiness(client).await == (503, json!("unavailable")) };
    assert!(eventually(PATIENCE, unavailable).await, "/readyz: {:?}", readiness(client).await);
    let (answer, took) = timed(place(client)).await;
    assert_unavailable(&answer);
    assert!(took < Duration::from_millis(250), "refused only after {took:?}");
    let (answer, took) = timed(client.post(&format!("{}/pay", path_of(order)), &Value::Null)).await;
    assert_unavailable(&answer);
    assert!(took < Duration::from_millis(250), "a payment was refused only after {took:?}");
    let (answer, took) = timed(client.get(&path_of(order))).await;
    assert_unavailable(&answer);
    assert!(took < ANSWER_MAX, "a read was refused only after {took:?}");
}

/// Gives how long after the database's return the first order was placed.
async fn serves_again(client: &Client) -> Duration {
    let back = Instant::now();
    let serves = || async { place(client).await.status == 201 };
    assert!(eventually(SERVING_AGAIN_MAX, serves).await, "it does not serve again");
    let took = back.elapsed();
    assert_eq!(readiness(client).await, (200, json!("ready")));
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_goes_and_comes_back() {
    let Some(mut server) = PrivateServer::start() else { return };
    let database = Database::create_on(&server.url());
    let ground = Ground::Behind { address: database.url(), database: database.url() };
    let shop = Shop::open(ground, &skus(SKUS, 1_000_000_000), Settings::new());
    let client = shop.client();
    let mut buyers: Vec<Buyer> = (0..BUYERS).map(|number| Buyer::new(&format!("buyer-{number}"))).collect();
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill, Stop::Immediate, Stop::Kill] {
        let order = place(&client).await.body;
        let stop = std::sync::Arc::default();
        let mut buying = tokio::task::JoinSet::new();
        for mut buyer in std::mem::take(&mut buyers) {
            let (client, stop) = (client.clone(), std::sync::Arc::clone(&stop));
            buying.spawn(async move {
                buyer.buy(&client, &stop).await;
                buyer
            });
        }
        server.stop(how);
        is_told_that_the_database_is_away(&client, &order).await;
        server.restart();
        let took = serves_again(&client).await;
        eprintln!("{how:?}: served again {took:?} after the database was back");

        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        buyers = buying.join_all().await;
        for buyer in &mut buyers {
            buyer.check(&client).await;
        }
        assert_eq!(client.post(&format!("{}/pay", path_of(&order)), &Value::Null).await.status, 200);
        shop.verify();
    }
}

/// The price list of another house, which can be away.
fn product_service(address: &str) -> Settings {
    Settings::new().argument("product-service").argument("--listen").argument(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_service_goes_and_comes_back() {
    let mut service = product_service("127.0.0.1:0").start();
    let url = service.url().to_owned();
    let stock = ["APRON-01", "BAG-TOTE"].map(|sku| (sku.to_owned(), 5));
    let mut shop = Shop::open(Ground::Sqlite, &stock, Settings::new().variable("PRODUCT_SERVICE_URL", &url));
    let client = shop.client();
    let add = json!({"sku": "APRON-01", "count": 1});
    assert_eq!(client.post("/carts/ann/items", &add).await.status, 200);
    let order = client.post("/orders", &order_of("ann", "APRON-01", 1)).await.body;

    // The program starts again, and so remembers no price.
    service.kill();
    shop.program.kill();
    shop.program.restart();
    let client = shop.client();
    let purchase = "/carts/ann/purchase";
    let asked = [
        client.request(Method::GET, "/carts/ann", None),
        client.request(Method::POST, "/carts/ann/items", None).json(&add),
        client.request(Method::POST, purchase, None),
        client.request(Method::POST, "/orders", None).json(&order_of("bob", "BAG-TOTE", 1)),
    ];
    for request in asked {
        let (refused, took) = timed(answered(request)).await;
        assert_unavailable(&refused);
        assert!(took < ANSWER_MAX, "refused only after {took:?}");
    }
    assert_eq!(available(&client, "BAG-TOTE").await, 5, "a refused order took stock");
    // What needs no price goes on.
    assert_eq!(client.post(&format!("{}/pay", path_of(&order)), &Value::Null).await.status, 200);
    assert_eq!(client.get(&path_of(&order)).await.status, 200);

    let _again = product_service(url.trim_start_matches("http://")).start();
    let listed = || async { client.get("/carts/ann").await.status == 200 };
    assert!(eventually(PATIENCE, listed).await, "the cart is not listed again");
    let cart = client.get("/carts/ann").await.body;
    assert_eq!(cart["items"][0]["count"], 1, "a refused add was kept: {cart}");
    assert_eq!(client.post(purchase, &Value::Null).await.status, 201);
    shop.verify();
}
