//! Random commands through the HTTP API beside a plain model of the shop: every answer is the one
//! that the model expects, and in the end the books are right.
//!
//! A failure prints the commands, shrunk as far as it still fails, and the seed: with that in
//! `LOMS_TEST_SEED` the same commands come again. `LOMS_MODEL_STEPS` says how many commands each store is
//! given; a million take hours.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use proptest::prelude::{Strategy, prop_oneof};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::support::postgres::block_on;
use crate::support::shop::{Shop, lines, new_order};

/// How many commands each store is given, unless somebody asks for more.
const STEPS: usize = 240;
/// The most commands in one case, between the opening of a shop and its last look at the books.
const CASE_STEPS_MAX: usize = 80;
/// In long runs cases are longer, so that opening shops does not take most of the time.
const LONG_CASE_STEPS_MAX: usize = 4_000;
const USERS: [&str; 3] = ["ann", "bob", "eve"];
/// With what one unit costs, and what lies in warehouses 1 to 3.
const GOODS: [(&str, i64, [i64; 3]); 3] =
    [("MUG", 45_000, [5, 8, 0]), ("SPLIT", 100, [2, 3, 4]), ("EMPTY", 7, [0, 0, 0])];

#[derive(Debug, Clone)]
enum Command {
    Add {
        user: usize,
        goods: usize,
        count: i64,
    },
    Set {
        user: usize,
        goods: usize,
        count: i64,
    },
    Remove {
        user: usize,
        goods: usize,
        count: i64,
    },
    Empty {
        user: usize,
    },
    Purchase {
        user: usize,
    },
    Order {
        user: usize,
        items: Vec<(usize, i64)>,
    },
    /// Of the orders so far, the one at this place from the end, counted around.
    Pay {
        order: usize,
    },
    Cancel {
        order: usize,
    },
    Count {
        goods: usize,
        warehouse: usize,
        on_hand: i64,
    },
    Adjust {
        goods: usize,
        warehouse: usize,
        delta: i64,
    },
}

fn command() -> impl Strategy<Value = Command> {
    let (user, goods, warehouse) = (|| 0..USERS.len(), || 0..GOODS.len(), || 0..3_usize);
    prop_oneof![
        4 => (user(), goods(), 1..6_i64).prop_map(|(user, goods, count)| Command::Add { user, goods, count }),
        2 => (user(), goods(), 1..12_i64).prop_map(|(user, goods, count)| Command::Set { user, goods, count }),
        2 => (user(), goods(), 1..6_i64).prop_map(|(user, goods, count)| Command::Remove { user, goods, count }),
        1 => user().prop_map(|user| Command::Empty { user }),
        3 => user().prop_map(|user| Command::Purchase { user }),
        3 => (user(), proptest::collection::vec((goods(), 1..6_i64), 1..4))
            .prop_map(|(user, items)| Command::Order { user, items }),
        3 => (0..50_usize).prop_map(|order| Command::Pay { order }),
        3 => (0..50_usize).prop_map(|order| Command::Cancel { order }),
        1 => (goods(), warehouse(), 0..15_i64)
            .prop_map(|(goods, warehouse, on_hand)| Command::Count { goods, warehouse, on_hand }),
        2 => (goods(), warehouse(), -5..10_i64)
            .prop_filter("an adjustment changes something", |(_, _, delta)| *delta != 0)
            .prop_map(|(goods, warehouse, delta)| Command::Adjust { goods, warehouse, delta }),
    ]
}

/// What the shop must look like.
#[derive(Default)]
struct Model {
    carts: [BTreeMap<usize, i64>; USERS.len()],
    orders: Vec<Order>,
    /// By goods and warehouse: on hand and reserved.
    shelves: BTreeMap<(usize, usize), (i64, i64)>,
}

struct Order {
    id: i64,
    status: &'static str,
    /// Goods, warehouse and units.
    taken: Vec<(usize, usize, i64)>,
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        for (goods, (_, _, stock)) in GOODS.iter().enumerate() {
            for (warehouse, on_hand) in stock.iter().enumerate() {
                model.shelves.insert((goods, warehouse), (*on_hand, 0));
            }
        }
        model
    }

    fn free(&self, goods: usize, warehouse: usize) -> i64 {
        let (on_hand, reserved) = self.shelves[&(goods, warehouse)];
        on_hand - reserved
    }

    fn available(&self, goods: usize) -> i64 {
        (0..3).map(|warehouse| self.free(goods, warehouse)).sum()
    }

    /// Where the units come from; `None` where something is short.
    fn reserve(&mut self, items: &BTreeMap<usize, i64>) -> Option<Vec<(usize, usize, i64)>> {
        if items.iter().any(|(goods, count)| *count > self.available(*goods)) {
            return None;
        }
        let mut taken = Vec::new();
        for (goods, count) in items {
            let whole = (0..3).find(|warehouse| self.free(*goods, *warehouse) >= *count);
            let mut left = *count;
            for warehouse in whole.map_or(0..3, |warehouse| warehouse..warehouse + 1) {
                let units = left.min(self.free(*goods, warehouse));
                if units > 0 {
                    taken.push((*goods, warehouse, units));
                    left -= units;
                }
            }
        }
        for (goods, warehouse, units) in &taken {
            self.shelf(*goods, *warehouse).1 += units;
        }
        Some(taken)
    }

    fn shelf(&mut self, goods: usize, warehouse: usize) -> &mut (i64, i64) {
        self.shelves.entry((goods, warehouse)).or_default()
    }

    /// Sets what is on hand; whether that is possible.
    fn count(&mut self, goods: usize, warehouse: usize, on_hand: i64) -> bool {
        let shelf = self.shelf(goods, warehouse);
        let possible = on_hand >= shelf.1;
        if possible {
            shelf.0 = on_hand;
        }
        possible
    }

    /// The status that the answer must have; `from` leads to `to`, and `to` stays.
    fn move_order(&mut self, at: usize, to: &'static str) -> u16 {
        let order = &mut self.orders[at];
        if order.status == to {
            return 200;
        }
        if order.status != "awaiting_payment" {
            return 409;
        }
        order.status = to;
        for (goods, warehouse, units) in order.taken.clone() {
            let shelf = self.shelf(goods, warehouse);
            shelf.1 -= units;
            shelf.0 -= if to == "payed" { units } else { 0 };
        }
        200
    }

    /// Checks the answer to a new order of these items, and remembers it.
    fn place(&mut self, items: &BTreeMap<usize, i64>, status: u16, body: &Value) -> bool {
        let taken = self.reserve(items);
        let placed = taken.is_some();
        assert_eq!(status, if placed { 201 } else { 409 }, "{body}");
        let taken = taken.unwrap_or_default();
        if placed {
            let total: i64 = items.iter().map(|(goods, count)| GOODS[*goods].1 * count).sum();
            assert_eq!(body["total_price"], total);
            assert_eq!(allocations(body), taken);
        }
        let id = body["order_id"].as_i64().expect("an order id");
        self.orders.push(Order { id, status: if placed { "awaiting_payment" } else { "failed" }, taken });
        placed
    }
}

fn allocations(order: &Value) -> Vec<(usize, usize, i64)> {
    let goods = |item: &Value| GOODS.iter().position(|(sku, _, _)| item["sku"] == *sku).expect("known goods");
    let mut found = Vec::new();
    for item in order["items"].as_array().expect("items") {
        for allocation in item["allocations"].as_array().expect("allocations") {
            let warehouse = allocation["warehouse_id"].as_u64().and_then(|id| usize::try_from(id).ok()).expect("an id");
            found.push((goods(item), warehouse - 1, allocation["count"].as_i64().expect("a count")));
        }
    }
    found.sort_unstable();
    found
}

/// Sorted as the API lists them.
fn plain(cart: &BTreeMap<usize, i64>) -> Vec<(&'static str, i64)> {
    let mut lines: Vec<_> = cart.iter().map(|(goods, count)| (GOODS[*goods].0, *count)).collect();
    lines.sort_unstable();
    lines
}

async fn step(shop: &Shop, model: &mut Model, command: &Command) {
    match command {
        Command::Add { user, goods, count } => {
            let sum = model.carts[*user].get(goods).unwrap_or(&0) + count;
            let body = json!({"sku": GOODS[*goods].0, "count": count});
            let answer = shop.client.post(&format!("/carts/{}/items", USERS[*user]), &body).await;
            expect_set(model, *user, *goods, sum, (answer.status, &answer.body));
        }
        Command::Set { user, goods, count } => {
            let path = format!("/carts/{}/items/{}", USERS[*user], GOODS[*goods].0);
            let answer = shop.client.put(&path, &json!({"count": count})).await;
            expect_set(model, *user, *goods, *count, (answer.status, &answer.body));
        }
        Command::Remove { user, goods, count } => {
            let path = format!("/carts/{}/items/{}?count={count}", USERS[*user], GOODS[*goods].0);
            let cart = &mut model.carts[*user];
            let left = cart.get(goods).unwrap_or(&0) - count;
            if left > 0 {
                cart.insert(*goods, left)
            } else {
                cart.remove(goods)
            };
            let answer = shop.client.delete(&path).await;
            assert_eq!((answer.status, lines(&answer.body)), (200, plain(cart)));
        }
        Command::Empty { user } => {
            model.carts[*user].clear();
            assert_eq!(shop.client.delete(&format!("/carts/{}", USERS[*user])).await.status, 204);
        }
        Command::Purchase { user } => {
            let answer = shop.client.post(&format!("/carts/{}/purchase", USERS[*user]), &json!({})).await;
            let cart = model.carts[*user].clone();
            if cart.is_empty() {
                assert_eq!((answer.status, answer.body["code"].as_str()), (409, Some("empty_cart")));
            } else if model.place(&cart, answer.status, &answer.body) {
                model.carts[*user].clear();
            }
        }
        Command::Order { user, items } => {
            let named: Vec<_> = items.iter().map(|(goods, count)| (GOODS[*goods].0, *count)).collect();
            let answer = shop.client.post("/orders", &new_order(USERS[*user], &named)).await;
            let mut merged = BTreeMap::new();
            items.iter().for_each(|(goods, count)| *merged.entry(*goods).or_insert(0) += count);
            model.place(&merged, answer.status, &answer.body);
        }
        Command::Pay { order } => move_order(shop, model, *order, "pay", "payed").await,
        Command::Cancel { order } => move_order(shop, model, *order, "cancel", "cancelled").await,
        Command::Count { goods, warehouse, on_hand } => {
            let path = format!("/stocks/{}/{}", GOODS[*goods].0, warehouse + 1);
            let answer = shop.client.put(&path, &json!({"on_hand": on_hand})).await;
            let possible = model.count(*goods, *warehouse, *on_hand);
            assert_eq!(answer.status, if possible { 200 } else { 409 }, "{}", answer.body);
        }
        Command::Adjust { goods, warehouse, delta } => {
            let path = format!("/stocks/{}/{}/adjustments", GOODS[*goods].0, warehouse + 1);
            let answer = shop.client.post(&path, &json!({"delta": delta, "reason": "a test"})).await;
            let on_hand = model.shelf(*goods, *warehouse).0 + delta;
            let possible = model.count(*goods, *warehouse, on_hand);
            assert_eq!(answer.status, if possible { 200 } else { 409 }, "{}", answer.body);
        }
    }
}

fn expect_set(model: &mut Model, user: usize, goods: usize, count: i64, (status, body): (u16, &Value)) {
    let available = model.available(goods);
    if count > available {
        assert_eq!((status, &body["available"]), (409, &json!(available)), "{body}");
    } else {
        model.carts[user].insert(goods, count);
        assert_eq!((status, lines(body)), (200, plain(&model.carts[user])));
    }
}

async fn move_order(shop: &Shop, model: &mut Model, order: usize, command: &str, to: &'static str) {
    if model.orders.is_empty() {
        return;
    }
    let at = model.orders.len() - 1 - order % model.orders.len();
    let answer = shop.client.post(&format!("/orders/{}/{command}", model.orders[at].id), &json!({})).await;
    assert_eq!(answer.status, model.move_order(at, to), "{}", answer.body);
}

/// Everything that can be seen is as the model has it.
async fn compare(shop: &Shop, model: &Model) {
    for (user, cart) in USERS.iter().zip(&model.carts) {
        assert_eq!(lines(&shop.client.get(&format!("/carts/{user}")).await.body), plain(cart));
    }
    for order in &model.orders {
        let shown = shop.client.get(&format!("/orders/{}", order.id)).await.body;
        assert_eq!((&shown["status"], allocations(&shown)), (&json!(order.status), order.taken.clone()));
    }
    for (goods, (sku, _, _)) in GOODS.iter().enumerate() {
        let stock = shop.client.get(&format!("/stocks/{sku}")).await.body;
        assert_eq!(stock["available"], model.available(goods), "{stock}");
        for shelf in stock["stocks"].as_array().expect("shelves") {
            let warehouse = shelf["warehouse_id"].as_u64().and_then(|id| usize::try_from(id).ok()).expect("an id") - 1;
            let (on_hand, reserved) = model.shelves[&(goods, warehouse)];
            assert_eq!((&shelf["on_hand"], &shelf["reserved"]), (&json!(on_hand), &json!(reserved)), "{stock}");
        }
    }
}

async fn run(mut shop: Shop, commands: Vec<Command>) {
    let mut model = Model::new();
    let (before, after) = commands.split_at(commands.len() / 2);
    for command in before {
        step(&shop, &mut model, command).await;
    }
    shop.restart();
    for command in after {
        step(&shop, &mut model, command).await;
    }
    compare(&shop, &model).await;
    shop.assert_books_are_right();
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a whole number"))
}

/// Runs random commands in shops that `open` gives; nothing where it gives none.
fn check(open: impl Fn() -> Option<Shop>) {
    let seed = variable("LOMS_TEST_SEED").unwrap_or_else(rand::random);
    eprintln!("LOMS_TEST_SEED={seed}");
    let wanted = variable("LOMS_MODEL_STEPS").and_then(|steps| usize::try_from(steps).ok());
    let (steps, most) = wanted.map_or((STEPS, CASE_STEPS_MAX), |steps| (steps, steps.min(LONG_CASE_STEPS_MAX)));
    // A case has three quarters of the most, on average.
    let cases = u32::try_from((4 * steps).div_ceil(3 * most)).expect("a few cases");
    let config = Config { cases, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let commands = proptest::collection::vec(command(), most / 2..=most);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let made = Cell::new(0);
    let outcome = TestRunner::new_with_rng(config, random).run(&commands, |commands| {
        let Some(shop) = open() else { return Ok(()) };
        let count = commands.len();
        let told = std::panic::catch_unwind(AssertUnwindSafe(|| block_on(run(shop, commands))));
        made.set(made.get() + count);
        if wanted.is_some() {
            eprintln!("{} of about {steps} commands", made.get());
        }
        told.map_err(|_| TestCaseError::fail("an answer was not the model's; see above"))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

mod sqlite {
    #[test]
    fn whatever_is_asked_the_answers_are_those_of_the_model() {
        super::check(|| Some(super::Shop::on_sqlite()));
    }
}

mod postgres {
    #[test]
    fn whatever_is_asked_the_answers_are_those_of_the_model() {
        super::check(super::Shop::on_postgres);
    }
}
