//! Buyers under load who write down what they were told, and check afterwards that it was true.
//!
//! Each has a cart and orders of its own and does one thing at a time, so that at most one thing
//! is open when the line breaks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Answer, Client, try_answered};
use super::fragile_shop::{order_of, path_of};

/// SKUs of the shop that the buyers choose from.
pub const SKUS: usize = 8;
/// Who was refused comes again, but not at once.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// One buyer and what it knows.
pub struct Buyer {
    name: String,
    step: usize,
    key: usize,
    /// The cart as last told; `Null` before the first time.
    cart: Value,
    /// Orders as last told, by path.
    orders: HashMap<String, Value>,
    /// What was asked and not answered, or answered with doubt: it may or may not have been done.
    open: Vec<Open>,
    /// Keys of orders of which it was said that nothing was changed.
    refused: Vec<(String, Value)>,
    pub told: usize,
    /// The longest wait for an answer that it is done.
    pub done_after_max: Duration,
    /// The longest wait for an answer that nothing was changed.
    pub refused_after_max: Duration,
    /// The longest wait for an answer that it is not known.
    pub doubted_after_max: Duration,
}

enum Open {
    /// The cart's change or purchase: its version may be one higher.
    Cart,
    /// A payment or a cancel of this order.
    Moved(String),
    /// An order that was sent with this key.
    Placed,
}

/// What became of a request.
enum Told {
    Done(Answer),
    /// Nothing was changed.
    Refused,
    /// Perhaps.
    Unknown,
}

impl Buyer {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            step: 0,
            key: 0,
            cart: Value::Null,
            orders: HashMap::new(),
            open: Vec::new(),
            refused: Vec::new(),
            told: 0,
            done_after_max: Duration::ZERO,
            refused_after_max: Duration::ZERO,
            doubted_after_max: Duration::ZERO,
        }
    }

    /// Goes on until told to stop, or until something is open.
    pub async fn buy(&mut self, client: &Client, stop: &Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) && self.open.is_empty() {
            self.step(client).await;
        }
    }

    /// One request.
    pub async fn step(&mut self, client: &Client) {
        self.step += 1;
        // As many orders end as are made: those that wait are all looked at after each fault.
        match self.step % 6 {
            1 | 3 => self.edit_cart(client).await,
            2 => self.order(client).await,
            4 => self.move_an_order(client, "pay").await,
            5 => self.purchase(client).await,
            _ => self.move_an_order(client, "cancel").await,
        }
    }

    async fn edit_cart(&mut self, client: &Client) {
        let path = format!("/carts/{}/items/{}", self.name, self.sku());
        let body = json!({"count": 1 + self.step % 9});
        match self.ask(client, Method::PUT, &path, None, &body).await {
            Told::Done(answer) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                self.cart = answer.body;
            }
            Told::Unknown => self.open.push(Open::Cart),
            Told::Refused => {}
        }
    }

    async fn order(&mut self, client: &Client) {
        self.key += 1;
        let (key, order) = (format!("{}-{}", self.name, self.key), order_of(&self.name, &self.sku(), 1));
        match self.ask(client, Method::POST, "/orders", Some(&key), &order).await {
            Told::Done(answer) => {
                assert_eq!(answer.status, 201, "{answer:?}");
                self.orders.insert(path_of(&answer.body), answer.body);
            }
            Told::Unknown => self.open.push(Open::Placed),
            Told::Refused => self.refused.push((key, order)),
        }
    }

    async fn move_an_order(&mut self, client: &Client, verb: &str) {
        let waiting = self.orders.iter().find(|(_, order)| order["status"] == "awaiting_payment");
        let Some(path) = waiting.map(|(path, _)| path.clone()) else { return };
        match self.ask(client, Method::POST, &format!("{path}/{verb}"), None, &Value::Null).await {
            Told::Done(answer) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                self.orders.insert(path, answer.body);
            }
            Told::Unknown => self.open.push(Open::Moved(path)),
            Told::Refused => {}
        }
    }

    async fn purchase(&mut self, client: &Client) {
        let path = format!("/carts/{}/purchase", self.name);
        match self.ask(client, Method::POST, &path, None, &Value::Null).await {
            Told::Done(answer) if answer.status == 201 => {
                assert_eq!(answer.body["items"], with_allocations(&self.cart["items"]), "another cart was bought");
                self.orders.insert(path_of(&answer.body), answer.body);
                let version = self.cart["version"].as_i64().expect("a version");
                self.cart["version"] = json!(version + 1);
                self.cart["items"] = json!([]);
            }
            Told::Done(answer) => assert!(answer.is_refusal(409, "empty_cart"), "{answer:?}"),
            Told::Unknown => self.open.extend([Open::Cart, Open::Placed]),
            Told::Refused => {}
        }
    }

    async fn ask(&mut self, client: &Client, method: Method, path: &str, key: Option<&str>, body: &Value) -> Told {
        let asked = Instant::now();
        let Ok(answer) = try_answered(client.request(method, path, key).json(body)).await else {
            return Told::Unknown;
        };
        if answer.status != 503 {
            self.told += 1;
            self.done_after_max = self.done_after_max.max(asked.elapsed());
            return Told::Done(answer);
        }
        assert_ne!(answer.says_when_to_ask_again(), answer.leaves_in_doubt(), "{answer:?}");
        if answer.leaves_in_doubt() {
            self.doubted_after_max = self.doubted_after_max.max(asked.elapsed());
            return Told::Unknown;
        }
        self.refused_after_max = self.refused_after_max.max(asked.elapsed());
        tokio::time::sleep(REFUSED_PAUSE).await;
        Told::Refused
    }

    /// Everything that was told is there, with the same content; nothing is there of which it was
    /// said that nothing was changed. Then the buyer can go on.
    pub async fn check(&mut self, client: &Client) {
        self.check_cart(client).await;
        let moved = |path: &String| self.open.iter().any(|open| matches!(open, Open::Moved(moved) if moved == path));
        for (path, told) in &mut self.orders {
            let order = client.get(path).await;
            assert_eq!(order.status, 200, "{path} is lost: {order:?}");
            if !moved(path) {
                assert_eq!(order.body, *told, "{path} is not as it was told");
            }
            *told = order.body;
        }
        self.check_refused(client).await;
        self.open.clear();
        // Of orders that have ended, nothing new can be learnt.
        self.orders.retain(|_, order| order["status"] == "awaiting_payment");
    }

    async fn check_cart(&mut self, client: &Client) {
        let cart = client.get(&format!("/carts/{}", self.name)).await;
        assert_eq!(cart.status, 200, "{cart:?}");
        if !self.cart.is_null() {
            let version = |cart: &Value| cart["version"].as_i64().expect("a version");
            let ahead = version(&cart.body) - version(&self.cart);
            let may_be_ahead = self.open.iter().filter(|open| matches!(open, Open::Cart)).count();
            let in_range = (0..=i64::try_from(may_be_ahead).expect("few")).contains(&ahead);
            assert!(in_range, "told of {}, there is {}", self.cart, cart.body);
            if ahead == 0 {
                assert_eq!(cart.body["items"], self.cart["items"], "the cart of {}", self.name);
            }
        } else if !self.open.iter().any(|open| matches!(open, Open::Cart)) {
            assert_eq!(cart.body["version"], 0, "{cart:?}");
        }
        self.cart = cart.body;
    }

    /// The same key again makes the order now: were it there already, its age would tell.
    async fn check_refused(&mut self, client: &Client) {
        let listed = client.get(&format!("/orders?user={}&limit=500", self.name)).await;
        let newest = listed.body["orders"][0]["order_id"].as_i64().unwrap_or(0);
        for (key, order) in std::mem::take(&mut self.refused) {
            let answer = client.post_with_key("/orders", &key, &order).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            let id = answer.body["order_id"].as_i64().expect("an id");
            assert!(id > newest, "{key}: nothing was changed, it was said, but there was order {id}");
            self.orders.insert(path_of(&answer.body), answer.body);
        }
    }

    fn sku(&self) -> String {
        format!("S{}", self.step / 6 % SKUS)
    }
}

/// A cart's items as an order has them.
fn with_allocations(items: &Value) -> Value {
    let mut items = items.clone();
    for item in items.as_array_mut().into_iter().flatten() {
        item["allocations"] = json!([{"warehouse_id": 1, "count": item["count"]}]);
    }
    items
}
