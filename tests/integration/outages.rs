//! PostgreSQL or the ProductService is away: it is said so, in time and truly, and when it is back
//! everything goes on by itself.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::buyers::SKUS;
use crate::support::client::{Answer, Client, answered, eventually};
use crate::support::crowd::Crowd;
use crate::support::fragile_shop::{Ground, Shop, available, order_of, path_of, skus};
use crate::support::postgres::Database;
use crate::support::private_server::{PrivateServer, Stop, signal_process};
use crate::support::program::Settings;
use crate::support::rounds::Rounds;

/// For those in flight when the database goes; all others are answered at once.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(6);
const ANSWER_MAX: Duration = Duration::from_millis(3_500);
/// After the database is back. A fifth of a second is the longest pause between two attempts.
const SERVING_AGAIN_MAX: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(15);
const BUYERS: usize = 4;
/// Of each kind.
const OUTAGES_FULL: usize = 200;

async fn timed<T>(answer: impl Future<Output = T>) -> (T, Duration) {
    let asked = Instant::now();
    (answer.await, asked.elapsed())
}

fn assert_unavailable(answer: &Answer) {
    assert!(answer.is_refusal(503, "unavailable"), "{answer:?}");
    assert!(answer.says_when_to_ask_again(), "{answer:?}");
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
    assert!(took < SERVING_AGAIN_MAX, "it served again only after {took:?}");
    assert_eq!(readiness(client).await, (200, json!("ready")));
    took
}

/// A server of its own, and a shop on it whose buyers are told the truth whatever becomes of it.
struct Scene {
    server: PrivateServer,
    shop: Shop,
    crowd: Crowd,
    database: Database,
}

impl Scene {
    fn set() -> Option<Self> {
        let server = PrivateServer::start()?;
        let database = Database::create_on(&server.url());
        let ground = Ground::Behind { address: database.url(), database: database.url() };
        let shop = Shop::open(ground, &skus(SKUS, 1_000_000_000), Settings::new());
        Some(Self { server, shop, crowd: Crowd::of(BUYERS, "buyer"), database })
    }

    /// Stops the server under load and starts it again. Gives how long after that the shop served.
    async fn stop_and_start(&mut self, client: &Client, how: Stop) -> Duration {
        let order = place(client).await.body;
        self.crowd.start(client).await;
        self.server.stop(how);
        is_told_that_the_database_is_away(client, &order).await;
        self.server.restart();
        let took = serves_again(client).await;
        self.everything_is_true(client).await;
        assert_eq!(client.post(&format!("{}/pay", path_of(&order)), &Value::Null).await.status, 200);
        took
    }

    async fn everything_is_true(&mut self, client: &Client) {
        self.crowd.stop().await;
        self.crowd.check(client).await;
        self.shop.verify();
    }
}

async fn the_database_goes_and_comes_back(how: Stop, bar: &str, short: usize) {
    let mut rounds = Rounds::of(bar, short, OUTAGES_FULL);
    let Some(mut scene) = Scene::set() else { return };
    let (client, mut longest) = (scene.shop.client(), Duration::ZERO);
    while rounds.next_round().is_some() {
        longest = longest.max(scene.stop_and_start(&client, how).await);
    }
    rounds.held(format_args!("{} acknowledged requests; served again after {longest:?} at most", scene.crowd.told()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_stopped_in_good_order() {
    the_database_goes_and_comes_back(Stop::Fast, "B4 PostgreSQL stopped in good order", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_stopped_immediately() {
    the_database_goes_and_comes_back(Stop::Immediate, "B4 PostgreSQL stopped immediately", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_killed() {
    the_database_goes_and_comes_back(Stop::Kill, "B4 PostgreSQL killed", 1).await;
}

/// Which of PostgreSQL's processes is hit.
#[derive(Debug, Clone, Copy)]
enum Backend {
    /// The writer's is told to end: its connection alone is lost.
    Terminated,
    /// Any of the shop's is killed (SIGKILL): PostgreSQL ends all others too and recovers from its log.
    Killed,
}

impl Backend {
    async fn hit(self, database: &Database) {
        let statement = match self {
            Self::Terminated => {
                "select pid from pg_stat_activity
                 where application_name = 'loms' and query like 'with writer as (update%' and pg_terminate_backend(pid)"
            }
            Self::Killed => {
                "select pid from pg_stat_activity where application_name = 'loms' order by random() limit 1"
            }
        };
        let mut connection = PgConnection::connect(&database.url()).await.expect("connected");
        let victim: i32 = sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect("there is one");
        if matches!(self, Self::Killed) {
            signal_process(victim.unsigned_abs(), "KILL");
            let ended = tokio::time::timeout(PATIENCE, sqlx::query("select pg_sleep(60)").execute(&mut connection));
            assert!(ended.await.expect("PostgreSQL notices").is_err(), "the others were not ended");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_database_is_killed() {
    let mut rounds = Rounds::of("B4 PostgreSQL's backend killed", 2, OUTAGES_FULL);
    let Some(mut scene) = Scene::set() else { return };
    let (client, mut longest) = (scene.shop.client(), Duration::ZERO);
    while let Some(round) = rounds.next_round() {
        scene.crowd.start(&client).await;
        let backend = if round % 2 == 0 { Backend::Killed } else { Backend::Terminated };
        backend.hit(&scene.database).await;
        let is_back = || async { PgConnection::connect(&scene.database.url()).await.is_ok() };
        assert!(eventually(PATIENCE, is_back).await, "PostgreSQL does not recover");
        longest = longest.max(serves_again(&client).await);
        scene.everything_is_true(&client).await;
    }
    rounds.held(format_args!("{} acknowledged requests; served again after {longest:?} at most", scene.crowd.told()));
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
