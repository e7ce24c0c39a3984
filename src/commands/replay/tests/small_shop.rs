//! A shop for tests behind the real HTTP API's paths: carts, orders and stock in memory, with a
//! transcript of what was asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use reqwest::Url;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

#[derive(Clone, Default)]
pub struct SmallShop(Arc<Mutex<State>>);

#[derive(Default)]
pub struct State {
    pub stock: HashMap<String, i64>,
    pub carts: HashMap<String, BTreeMap<String, i64>>,
    pub orders: Vec<Order>,
    /// `METHOD path`, with what was added where it is an addition.
    pub transcript: Vec<String>,
    pub purchase_keys: Vec<String>,
    /// Stock ends between the cart and the checkout.
    pub refuses_purchases: bool,
    /// Every order holds a unit more than its cart.
    pub adds_a_unit: bool,
}

pub struct Order {
    pub items: BTreeMap<String, i64>,
    pub status: &'static str,
}

impl SmallShop {
    pub fn with_stock(stock: &[(&str, i64)]) -> Self {
        let shop = Self::default();
        shop.state().stock = stock.iter().map(|&(sku, units)| (sku.to_owned(), units)).collect();
        shop
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panicked in here")
    }

    pub async fn open(&self) -> (MockServer, Url) {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(self.clone()).mount(&server).await;
        let url = server.uri().parse().expect("a URL");
        (server, url)
    }
}

impl Respond for SmallShop {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.state();
        let path = request.url.path().trim_start_matches('/').to_owned();
        let body = String::from_utf8_lossy(&request.body);
        let said = if path.ends_with("/items") { format!(" {body}") } else { String::new() };
        state.transcript.push(format!("{} /{path}{said}", request.method));
        let segments: Vec<&str> = path.split('/').collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["stocks", "import"]) => state.import(request),
            ("POST", ["carts", user, "items"]) => {
                let line: Value = serde_json::from_str(&body).expect("JSON");
                state.add(user, line["sku"].as_str().expect("a SKU"), line["count"].as_i64().expect("a count"))
            }
            ("GET", ["carts", _]) => ResponseTemplate::new(200).set_body_json(json!({ "items": [] })),
            ("DELETE", ["carts", user]) => {
                state.carts.remove(*user);
                ResponseTemplate::new(204)
            }
            ("POST", ["carts", user, "purchase"]) => {
                let key = request.headers["Idempotency-Key"].to_str().expect("ASCII").to_owned();
                state.purchase_keys.push(key);
                state.purchase(user)
            }
            ("POST", ["orders", id, "pay"]) => state.settle(id, "payed"),
            ("POST", ["orders", id, "cancel"]) => state.settle(id, "cancelled"),
            _ => problem(404, "not_found"),
        }
    }
}

impl State {
    fn import(&mut self, request: &Request) -> ResponseTemplate {
        assert_eq!(request.headers["Content-Type"], "text/csv");
        let mut rows = csv::Reader::from_reader(request.body.as_slice());
        for row in rows.records().map(|row| row.expect("a row")) {
            *self.stock.entry(row[0].to_owned()).or_default() += row[2].parse::<i64>().expect("units");
        }
        ResponseTemplate::new(200).set_body_json(json!({ "rows": self.stock.len() }))
    }

    fn add(&mut self, user: &str, sku: &str, count: i64) -> ResponseTemplate {
        let Some(&available) = self.stock.get(sku) else { return problem(404, "unknown_sku") };
        let held = self.carts.entry(user.to_owned()).or_default().entry(sku.to_owned()).or_default();
        if *held + count > available {
            return problem(409, "out_of_stock");
        }
        *held += count;
        ResponseTemplate::new(200).set_body_json(json!({ "user": user, "items": [] }))
    }

    fn purchase(&mut self, user: &str) -> ResponseTemplate {
        if self.refuses_purchases {
            return problem(409, "out_of_stock");
        }
        let mut items = self.carts.remove(user).unwrap_or_default();
        items.retain(|_, units| *units > 0);
        if items.is_empty() {
            return problem(409, "empty_cart");
        }
        for (sku, units) in &mut items {
            *self.stock.get_mut(sku).expect("known") -= *units;
            *units += i64::from(self.adds_a_unit);
        }
        let lines: Vec<Value> = items.iter().map(|(sku, count)| json!({ "sku": sku, "count": count })).collect();
        self.orders.push(Order { items, status: "awaiting_payment" });
        let order = json!({ "order_id": self.orders.len(), "status": "awaiting_payment", "items": lines });
        ResponseTemplate::new(201).set_body_json(order)
    }

    fn settle(&mut self, id: &str, status: &'static str) -> ResponseTemplate {
        let order = &mut self.orders[id.parse::<usize>().expect("a number") - 1];
        if order.status != "awaiting_payment" && order.status != status {
            return problem(409, "wrong_status");
        }
        if status == "cancelled" && order.status != status {
            for (sku, units) in &order.items {
                *self.stock.get_mut(sku).expect("known") += units;
            }
        }
        order.status = status;
        ResponseTemplate::new(200).set_body_json(json!({ "order_id": id, "status": status }))
    }
}

pub fn problem(status: u16, code: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "status": status, "code": code, "title": "refused" }))
}
