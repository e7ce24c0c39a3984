//! A panic in a handler, at each of its polls and at every address: its client gets no answer, all
//! others do, and the same request asked again is done once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::client::{Answer, Client, eventually, try_answered};
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, path_of, skus};
use crate::support::in_process::InProcess;
use crate::support::poll_trap::PollTrap;
use crate::support::program::Settings;

const SKUS: usize = 8;
const ON_HAND: i64 = 10_000;
/// No handler is polled more often than this.
const POLLS_MAX: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5);
const COMMANDS_UNDER_WAY_MAX: &str = "loms_requests_admissible 2048";

/// A request to some address. `{n}` stands for a number, another one for each panic.
struct Case {
    method: Method,
    path: &'static str,
    body: &'static str,
    keyed: bool,
}

const fn case(method: Method, path: &'static str, body: &'static str) -> Case {
    Case { method, path, body, keyed: false }
}

const fn keyed(path: &'static str, body: &'static str) -> Case {
    Case { method: Method::POST, path, body, keyed: true }
}

/// Orders 1 to 8 are to be payed, 11 to 18 to be cancelled; under the contract's names 21 and 31 and on.
const CASES: [Case; 33] = [
    keyed("/orders", r#"{"user":"orders-{n}","items":[{"sku":"S1","count":1}]}"#),
    keyed("/carts/items-{n}/items", r#"{"sku":"S0","count":2}"#),
    keyed("/carts/purchase-{n}/purchase", ""),
    keyed("/stocks/S2/1/adjustments", r#"{"delta":1,"reason":"found number {n}"}"#),
    case(Method::POST, "/orders/{n}/pay", ""),
    case(Method::POST, "/orders/1{n}/cancel", ""),
    case(Method::PUT, "/carts/set-{n}/items/S0", r#"{"count":3}"#),
    case(Method::DELETE, "/carts/purchase-{n}/items/S0", ""),
    case(Method::DELETE, "/carts/purchase-{n}", ""),
    case(Method::PUT, "/stocks/S3/1", r#"{"on_hand":77}"#),
    case(Method::POST, "/stocks/import", "S4,1,88\n"),
    case(Method::PUT, "/users/set-{n}/contact", r#"{"email":"ann@example.org","locale":"en"}"#),
    case(Method::GET, "/orders", ""),
    case(Method::GET, "/orders/{n}", ""),
    case(Method::GET, "/orders/{n}/events", ""),
    case(Method::GET, "/carts/set-{n}", ""),
    case(Method::GET, "/stocks/S0", ""),
    case(Method::GET, "/products", ""),
    case(Method::GET, "/products/S0", ""),
    case(Method::GET, "/notifications", ""),
    case(Method::POST, "/addToCart", r#"{"user":"contract-{n}","sku":"S0","count":1}"#),
    case(Method::POST, "/deleteFromCart", r#"{"user":"contract-{n}","sku":"S0","count":1}"#),
    case(Method::POST, "/listCart", r#"{"user":"set-{n}"}"#),
    case(Method::POST, "/purchase", r#"{"user":"bought-{n}"}"#),
    case(Method::POST, "/createOrder", r#"{"user":"contract-{n}","items":[{"sku":"S0","count":1}]}"#),
    case(Method::POST, "/listOrder", r#"{"orderID":{n}}"#),
    case(Method::POST, "/orderPayed", r#"{"orderID":2{n}}"#),
    case(Method::POST, "/cancelOrder", r#"{"orderID":3{n}}"#),
    case(Method::POST, "/stocks", r#"{"sku":"S0"}"#),
    case(Method::GET, "/livez", ""),
    case(Method::GET, "/readyz", ""),
    case(Method::GET, "/metrics", ""),
    case(Method::GET, "/nothing/here", ""),
];

impl Case {
    fn path(&self, number: usize) -> String {
        self.path.replace("{n}", &number.to_string())
    }

    /// `None` where no answer comes.
    async fn ask(&self, client: &Client, number: usize) -> Option<Answer> {
        let path = self.path(number);
        let key = self.keyed.then(|| format!("{path} {number}"));
        let request = client.request(self.method.clone(), &path, key.as_deref());
        let body = self.body.replace("{n}", &number.to_string());
        let media = if self.path == "/stocks/import" { "text/csv" } else { "application/json" };
        let body = if media == "text/csv" { format!("sku,warehouse_id,on_hand\n{body}") } else { body };
        try_answered(request.header("Content-Type", media).body(body).timeout(PATIENCE)).await.ok()
    }

    /// A panic at each poll in turn until there are no more polls; gives how many there were.
    async fn panic_at_each_poll(&self, client: &Client, trap: &PollTrap) -> usize {
        for poll in 1..=POLLS_MAX {
            trap.plant(&self.path(poll), poll);
            let torn = self.ask(client, poll).await;
            if trap.remove() {
                assert!(torn.is_some(), "{} {} has no answer", self.method, self.path);
                return poll - 1;
            }
            assert!(torn.is_none(), "{} {} panics and answers {torn:?}", self.method, self.path);
            let again = self.ask(client, poll).await.expect("an answer");
            // What is to be changed once, and was, and what is not there.
            let usual = again.status < 300 || [404, 409].contains(&again.status);
            assert!(usual, "{} {} after a panic at poll {poll}: {again:?}", self.method, self.path);
        }
        panic!("{} {} is polled more than {POLLS_MAX} times", self.method, self.path)
    }
}

/// Carts and orders that the requests find.
async fn prepare(client: &Client) {
    for number in 1..=39 {
        let order = client.post("/orders", &order_of("ann", "S5", 1)).await;
        assert_eq!((order.status, path_of(&order.body)), (201, format!("/orders/{number}")));
    }
    for number in 1..=POLLS_MAX {
        for user in ["purchase", "bought"] {
            let put = client.put(&format!("/carts/{user}-{number}/items/S0"), &json!({"count": 1})).await;
            assert_eq!(put.status, 200, "{put:?}");
        }
    }
}

/// Buys beside all this, at addresses of its own, and must not notice.
async fn buy_unharmed(client: Client, stop: Arc<AtomicBool>) -> i64 {
    let mut bought = 0;
    while !stop.load(Ordering::Relaxed) {
        let set = client.put("/carts/bob/items/S6", &json!({"count": 1})).await;
        assert_eq!(set.status, 200, "{set:?}");
        let order = client.post("/carts/bob/purchase", &json!({})).await;
        assert_eq!(order.status, 201, "{order:?}");
        bought += 1;
    }
    bought
}

async fn assert_done_once(client: &Client, polls: &dyn Fn(&str) -> usize) {
    let orders_of = async |user: String| {
        let listed = client.get(&format!("/orders?user={user}")).await.body;
        listed["orders"].as_array().map_or(0, Vec::len)
    };
    // The last one was answered, without a panic.
    for number in 1..=polls("/orders") + 1 {
        assert_eq!(orders_of(format!("orders-{number}")).await, 1, "orders-{number}");
    }
    for number in 1..=polls("/carts/purchase-{n}/purchase") + 1 {
        assert_eq!(orders_of(format!("purchase-{number}")).await, 1, "purchase-{number}");
    }
    for number in 1..=polls("/carts/items-{n}/items") + 1 {
        let cart = client.get(&format!("/carts/items-{number}")).await.body;
        assert_eq!((&cart["version"], &cart["items"][0]["count"]), (&json!(1), &json!(2)), "{cart}");
    }
    for number in 1..=polls("/carts/set-{n}/items/S0") + 1 {
        assert_eq!(client.get(&format!("/carts/set-{number}")).await.body["version"], 1);
    }
    for (first, end, path) in [(0, "payed", "/orders/{n}/pay"), (10, "cancelled", "/orders/1{n}/cancel")] {
        for number in 1..=polls(path) + 1 {
            assert_eq!(client.get(&format!("/orders/{}", first + number)).await.body["status"], end);
        }
    }
    let adjusted = i64::try_from(polls("/stocks/S2/1/adjustments")).expect("few") + 1;
    assert_eq!(available(client, "S2").await, ON_HAND + adjusted, "adjusted more than once");
    assert_eq!((available(client, "S3").await, available(client, "S4").await), (77, 88));
}

async fn a_panic_in_a_handler_takes_its_own_request_only(ground: Ground) {
    let trap = PollTrap::install();
    let mut shop = Shop::open(ground, &skus(SKUS, ON_HAND), Settings::new());
    assert!(shop.program.terminate().success());
    let program = InProcess::start(&shop, Duration::from_secs(600));
    let client = Client::new(program.url());
    prepare(&client).await;

    let stop = Arc::new(AtomicBool::new(false));
    let unharmed = tokio::spawn(buy_unharmed(Client::new(program.url()), Arc::clone(&stop)));
    let mut polls = Vec::new();
    for case in &CASES {
        polls.push((case.path, case.panic_at_each_poll(&client, &trap).await));
    }
    stop.store(true, Ordering::Relaxed);
    let bought = unharmed.await.expect("others hear nothing of it");
    let panics: usize = polls.iter().map(|(_, polls)| polls).sum();
    eprintln!("{panics} panics at {} addresses; {bought} orders beside them", CASES.len());
    assert!(panics >= 2 * CASES.len(), "too few: {polls:?}");

    let polls = |path: &str| polls.iter().find(|(one, _)| *one == path).expect("an address").1;
    assert_done_once(&client, &polls).await;
    assert_eq!(available(&client, "S6").await, ON_HAND - bought);
    let none_held = || async {
        let metrics = client.get("/metrics").await.body;
        metrics.as_str().is_some_and(|text| text.lines().any(|line| line == COMMANDS_UNDER_WAY_MAX))
    };
    assert!(eventually(PATIENCE, none_held).await, "a panic holds its place among those that are under way");
    program.stop();
    shop.verify();
}

on_each_store!(a_panic_in_a_handler_takes_its_own_request_only);
