//! A network that swallows, cuts, trickles or delays what goes to the database, to the broker or to the ProductService
//! and back: every call ends within its stated limit, and once all is well again everything goes on by itself.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Answer, Client, answered, eventually};
use crate::support::distant_shop::DistantShop;
use crate::support::fragile_shop::{Ground, Shop as FragileShop, order_of, path_of};
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::program::Settings;
use crate::support::rounds::Rounds;
use crate::support::shop::{Shop, new_order};
use crate::support::tcp_proxy::{Action, TcpProxy};
use crate::support::witness;

const BUYERS: usize = 3;
/// Rounds of four kinds of trouble.
const ROUNDS_FULL: usize = 25;
/// Five seconds for what a call reads first, and five for what it changes.
const DATABASE_ANSWER_MAX: Duration = Duration::from_millis(10_500);
/// Orders do not wait for the broker.
const ORDER_MAX: Duration = Duration::from_secs(1);
/// A question to the ProductService has two seconds, many at once have ten.
const PRODUCTS_ANSWER_MAX: Duration = Duration::from_millis(10_500);
const PATIENCE: Duration = Duration::from_secs(30);
/// How long calls are made in it.
const TROUBLE: Duration = Duration::from_secs(4);
const DELAY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
enum Trouble {
    BlackHole,
    Reset,
    Trickle,
    Delay,
}

impl Trouble {
    const ALL: [Self; 4] = [Self::BlackHole, Self::Reset, Self::Trickle, Self::Delay];

    fn begin(self, network: &TcpProxy) {
        let action = match self {
            Self::BlackHole => Action::Stall,
            Self::Reset => Action::Cut,
            Self::Trickle => Action::Trickle,
            Self::Delay => Action::Delay(DELAY),
        };
        network.set_hook(move |_| action);
    }
}

/// What comes of an endless row of calls, one after another, until the time is over: the longest of them.
async fn call_on(
    client: &Client,
    method: Method,
    path: &str,
    body: &Value,
    is_expected: impl Fn(&Answer) -> bool,
) -> Duration {
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < TROUBLE {
        let asked = Instant::now();
        let request = client.request(method.clone(), path, None);
        let answer = answered(if body.is_null() { request } else { request.json(body) }).await;
        assert!(is_expected(&answer), "{method} {path}: {answer:?}");
        longest = longest.max(asked.elapsed());
        // A refusal may come at once.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    longest
}

fn is_done_or_unavailable(answer: &Answer) -> bool {
    let is_told = answer.status == 503 && answer.says_when_to_ask_again() != answer.leaves_in_doubt();
    // Of a cart that is bought again and again.
    let is_empty = answer.is_refusal(409, "empty_cart");
    matches!(answer.status, 200 | 201) || is_told || is_empty
}

/// Every kind of call at once, and then trouble among them; gives the longest time that any of them took.
async fn every_call_amid(trouble: Trouble, network: &TcpProxy, client: &Client, order: &Value, sku: &str) -> Duration {
    let (one, payment) = (json!({"sku": sku, "count": 1}), format!("{}/pay", path_of(order)));
    let (ordered, path, stock) = (order_of("dora", sku, 1), path_of(order), format!("/stocks/{sku}"));
    let on = |method, path, body| call_on(client, method, path, body, is_done_or_unavailable);
    let calls = futures_util::future::join_all([
        on(Method::POST, "/orders", &ordered),
        on(Method::POST, &payment, &Value::Null),
        on(Method::GET, &path, &Value::Null),
        on(Method::POST, "/carts/dora/items", &one),
        on(Method::GET, "/carts/dora", &Value::Null),
        on(Method::GET, "/carts/somebody-else", &Value::Null),
        on(Method::POST, "/carts/dora/purchase", &Value::Null),
        on(Method::GET, "/orders?user=dora", &Value::Null),
        on(Method::GET, &stock, &Value::Null),
        on(Method::GET, "/products?limit=5", &Value::Null),
        on(Method::GET, "/notifications?user=dora", &Value::Null),
    ]);
    let begin = async {
        tokio::time::sleep(TROUBLE / 10).await;
        trouble.begin(network);
    };
    tokio::join!(calls, begin).0.into_iter().max().unwrap_or_default()
}

async fn is_ready(client: &Client) -> bool {
    let ready = client.get("/readyz").await;
    ready.status == 200 && ready.body["status"] == "ready"
}

async fn goes_on(client: &Client, sku: &str, trouble: Trouble) {
    let order = order_of("eve", sku, 1);
    let serves = || async { client.post("/orders", &order).await.status == 201 && is_ready(client).await };
    assert!(eventually(PATIENCE, serves).await, "{trouble:?}: {:?}", client.get("/readyz").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_while_the_way_to_the_database_is_bad() {
    let mut rounds = Rounds::of("D2 black hole, reset, trickle, delay towards PostgreSQL", 1, ROUNDS_FULL);
    let Some(mut scene) = DistantShop::open(BUYERS).await else { return };
    let (client, mut longest) = (scene.shop.client(), Duration::ZERO);
    while rounds.next_round().is_some() {
        for trouble in Trouble::ALL {
            let order = client.post("/orders", &order_of("dora", "S0", 1)).await.body;
            scene.crowd.start(&client).await;
            let called = every_call_amid(trouble, &scene.proxy, &client, &order, "S0").await;
            if matches!(trouble, Trouble::BlackHole) {
                // Whoever waits for a commit that is under way is not to wait for its end.
                tokio::time::sleep(DATABASE_ANSWER_MAX - TROUBLE).await;
            }
            scene.proxy.pass();
            goes_on(&client, "S0", trouble).await;
            scene.crowd.stop().await;
            let crowd = &mut scene.crowd;
            let waited = [crowd.done_after_max(), crowd.refused_after_max(), crowd.doubted_after_max()];
            longest = waited.into_iter().fold(longest.max(called), Duration::max);
            assert!(longest < DATABASE_ANSWER_MAX, "{trouble:?}: answered only after {longest:?}");
            crowd.check(&client).await;
        }
        scene.shop.verify();
    }
    rounds.held(format_args!("{} acknowledged requests; the longest call took {longest:?}", scene.crowd.told()));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_wait_for_nothing_while_the_way_to_the_broker_is_bad() {
    let mut rounds = Rounds::of("D2 black hole, reset, trickle, delay towards RabbitMQ", 1, ROUNDS_FULL);
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let network = TcpProxy::start(broker.address()).await;
    let shop = Shop::with_broker(&format!("amqp://guest:guest@{}/%2f", network.address()));
    let (mut longest, placed) = (Duration::ZERO, |answer: &Answer| answer.status == 201);
    while rounds.next_round().is_some() {
        for trouble in Trouble::ALL {
            trouble.begin(&network);
            let order = new_order("dora", &[("PEN", 1)]);
            let took = call_on(&shop.client, Method::POST, "/orders", &order, placed).await;
            assert!(took < ORDER_MAX, "{trouble:?}: an order took {took:?}");
            longest = longest.max(took);
            network.pass();
            let told = || async {
                let ready = shop.client.get("/readyz").await.body;
                ready["status"] == "ready" && ready["events_waiting"] == 0
            };
            assert!(eventually(PATIENCE, told).await, "{trouble:?}: {:?}", shop.client.get("/readyz").await);
        }
    }
    let heard = witness::hear(&broker).await.orders_in_order();
    assert!(!heard.is_empty() && heard.values().all(|version| *version == 2), "{heard:?}");
    shop.assert_books_are_right();
    rounds.held(format_args!("{} orders, each told of; the longest took {longest:?}", heard.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_while_the_way_to_the_product_service_is_bad() {
    let mut rounds = Rounds::of("D2 black hole, reset, trickle, delay towards the ProductService", 1, ROUNDS_FULL);
    // Of the demo catalogue.
    let sku = "APRON-01";
    let service = Settings::new().argument("product-service").argument("--listen").argument("127.0.0.1:0").start();
    let address = service.url().trim_start_matches("http://").parse().expect("an address");
    let network = TcpProxy::start(address).await;
    let settings = Settings::new().variable("PRODUCT_SERVICE_URL", &format!("http://{}", network.address()));
    let shop = FragileShop::open(Ground::Sqlite, &[(sku.to_owned(), 1_000_000)], settings);
    let (client, mut longest) = (shop.client(), Duration::ZERO);
    while rounds.next_round().is_some() {
        for trouble in Trouble::ALL {
            goes_on(&client, sku, trouble).await;
            let order = client.post("/orders", &order_of("dora", sku, 1)).await.body;
            let took = every_call_amid(trouble, &network, &client, &order, sku).await;
            assert!(took < PRODUCTS_ANSWER_MAX, "{trouble:?}: answered only after {took:?}");
            longest = longest.max(took);
            network.pass();
        }
        goes_on(&client, sku, Trouble::Delay).await;
        shop.verify();
    }
    rounds.held(format_args!("the longest call took {longest:?}"));
}
