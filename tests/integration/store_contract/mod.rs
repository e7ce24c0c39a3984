//! What every store must do, run on each: the same changes, and the same things read back. The store
//! of the simulation is one of them: what holds there must be what holds in the databases.

mod adjusting;
mod books;
mod collisions;
mod heirs;
mod leases;
mod migrating;
mod outbox;
mod reading;
mod refusing;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use loms::domain::cart::{Cart, Edit, Line};
use loms::domain::order::{Item, Order};
use loms::domain::stock::{Allocation, Shelf, Shortage};
use loms::domain::{Count, Money, OrderId, Sku, Time, UserId, WarehouseId};
use loms::store::{self, Change, Key, Keyed, Movement, ShelfEdit, StockEdit, Store, Verdict, Writer, WriterIdentity};
use sqlx::PgPool;

use crate::memory::{self, Call, MemoryStore, Network, Passage, Tables};
use crate::support::client::eventually;
use crate::support::postgres::Database;

const PATIENCE: Duration = Duration::from_secs(5);

/// A store that was just migrated, and the address of its database.
pub struct Ground {
    pub store: Arc<dyn Store>,
    pub url: String,
}

/// A network on which nothing fails and nothing takes any time.
struct Direct;

#[async_trait::async_trait]
impl Network for Direct {
    fn passage(&self, _: Call) -> Passage {
        Passage::default()
    }

    async fn standing(&self) {}

    fn committed(&self, _: &Tables, _: &[Change], _: &[Verdict], _: Time) {}
}

/// Runs the test on each database and on the store in memory.
async fn on_each_store(test: impl AsyncFn(&Ground)) {
    on_each_database(&test).await;
    in_memory(&test).await;
}

/// Runs the test on SQLite, and on PostgreSQL where there is one.
async fn on_each_database(test: impl AsyncFn(&Ground)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    eprintln!("on SQLite:");
    run(format!("sqlite://{}", folder.path().join("loms.db").display()), &test).await;
    on_postgres(&test).await;
}

async fn on_postgres(test: &impl AsyncFn(&Ground)) {
    if let Some(database) = Database::create() {
        eprintln!("on PostgreSQL:");
        run(database.url(), test).await;
    }
}

async fn in_memory(test: &impl AsyncFn(&Ground)) {
    eprintln!("in memory:");
    let store = Arc::new(MemoryStore::new(Arc::new(memory::Database::default()), Arc::new(Direct)));
    test(&Ground { store, url: "memory:".to_owned() }).await;
}

async fn run(url: String, test: &impl AsyncFn(&Ground)) {
    let store = store::open(&url).await.expect("opened");
    store.migrate().await.expect("migrated");
    let ground = Ground { store, url };
    test(&ground).await;
    ground.store.close().await;
}

impl Ground {
    async fn writer(&self) -> (WriterIdentity, Box<dyn Writer>) {
        self.store.open_writer(17, at(0)).await.expect("a writer")
    }

    /// A writer that has put 10 units each of A, B and C into warehouse 1, and 5 of A into 2.
    async fn stocked(&self) -> (WriterIdentity, Box<dyn Writer>) {
        let (identity, mut writer) = self.writer().await;
        let rows = [("A", 1, 10), ("A", 2, 5), ("B", 1, 10), ("C", 1, 10)].map(shelf_edit);
        let counted = writer.write(&[counts(&rows)], at(0)).await.expect("written");
        assert!(matches!(counted[..], [Verdict::StockWritten(_)]), "{counted:?}");
        (identity, writer)
    }

    async fn order(&self, id: i64) -> Option<Order> {
        self.store.order(OrderId(id)).await.expect("read")
    }

    async fn cart(&self, name: &str) -> Cart {
        self.store.cart(&user(name)).await.expect("read")
    }

    /// Warehouse, on hand and reserved of each shelf of a SKU.
    async fn shelves(&self, name: &str) -> Vec<(i32, i64, i64)> {
        plain(&self.store.shelves(&[sku(name)]).await.expect("read"))
    }

    /// Until somebody on this PostgreSQL waits for what another one has locked.
    async fn wait_for_a_lock(&self) {
        let watcher = PgPool::connect(&self.url).await.expect("a connection");
        let waiting = "select exists (select from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock')";
        let waits = || async { sqlx::query_scalar(waiting).fetch_one(&watcher).await.expect("told") };
        assert!(eventually(PATIENCE, waits).await, "nobody waits for a lock");
        watcher.close().await;
    }

    async fn assert_books_are_right(&self) {
        assert_eq!(self.store.differences(10).await.expect("checked"), Vec::<String>::new());
    }
}

fn plain(shelves: &[(Sku, Shelf)]) -> Vec<(i32, i64, i64)> {
    shelves.iter().map(|(_, shelf)| (shelf.warehouse.0, shelf.on_hand, shelf.reserved)).collect()
}

/// A moment, in milliseconds after the beginning of the test's time.
fn at(milliseconds: i64) -> Time {
    Time::from_timestamp_millis(1_700_000_000_000 + milliseconds).expect("in range")
}

fn sku(text: &str) -> Sku {
    Sku::parse(text).expect("a valid SKU")
}

fn user(text: &str) -> UserId {
    UserId::parse(text).expect("a valid user")
}

fn count(units: i64) -> Count {
    Count::new(units).expect("a valid count")
}

fn shelf_edit((name, warehouse, units): (&str, i32, i64)) -> ShelfEdit {
    ShelfEdit { sku: sku(name), warehouse: WarehouseId(warehouse), units }
}

fn counts(rows: &[ShelfEdit]) -> Change {
    Change::StockEdited { edit: StockEdit::Count(rows.to_vec()), key: None }
}

fn adjustment(row: (&str, i32, i64)) -> StockEdit {
    StockEdit::Adjust { row: shelf_edit(row), reason: "delivery".to_owned(), at: at(1) }
}

fn keyed(key: &str) -> Keyed {
    Keyed { key: Key::parse(key).expect("a valid key"), fingerprint: [7; 32], tags: None }
}

/// A new order that lasts ten seconds. A SKU and where its units come from, for each item.
fn draft(id: i64, name: &str, items: &[(&str, &[(i32, i64)])]) -> Order {
    let item = |(name, places): &(&str, &[(i32, i64)])| Item {
        sku: sku(name),
        name: format!("{name}, as sold").into(),
        price: Money(100),
        count: count(places.iter().map(|(_, units)| units).sum()),
        allocations: places
            .iter()
            .map(|(warehouse, units)| Allocation { warehouse: WarehouseId(*warehouse), count: count(*units) })
            .collect(),
    };
    let items = items.iter().map(item).collect();
    Order::draft(OrderId(id), user(name), items, at(id), at(id + 10_000)).expect("a small total")
}

fn reserved(id: i64, name: &str, items: &[(&str, &[(i32, i64)])]) -> Arc<Order> {
    let mut order = draft(id, name, items);
    order.reserve();
    Arc::new(order)
}

fn shortage() -> Shortage {
    Shortage { sku: sku("A"), requested: 99, available: 15 }
}

fn failed(id: i64) -> Arc<Order> {
    let mut order = draft(id, "ann", &[("A", &[(1, 99)]), ("B", &[(1, 1)])]);
    Arc::make_mut(&mut order.items).iter_mut().for_each(|item| item.allocations.clear());
    order.fail(&[shortage()]);
    Arc::new(order)
}

fn placed(order: &Arc<Order>) -> Change {
    Change::OrderPlaced { order: Arc::clone(order), shortages: vec![], emptied_cart_version: None, key: None }
}

fn placed_with_key(order: &Arc<Order>, key: &str) -> Change {
    let key = Some(keyed(key));
    Change::OrderPlaced { order: Arc::clone(order), shortages: vec![], emptied_cart_version: None, key }
}

fn payed(order: &Order) -> Arc<Order> {
    let mut order = order.clone();
    let transition = order.pay(order.created_at).expect("it awaits payment").expect("it is not payed");
    order.apply(&transition);
    Arc::new(order)
}

fn cancelled(order: &Order) -> Arc<Order> {
    let mut order = order.clone();
    let transition = order.cancel(order.created_at).expect("it awaits payment").expect("it is not cancelled");
    order.apply(&transition);
    Arc::new(order)
}

fn payment_refused(order: &Order) -> Arc<Order> {
    let mut refused = order.clone();
    refused.refuse_payment(at(50));
    Arc::new(refused)
}

fn moved(order: &Arc<Order>, movement: Movement) -> Change {
    Change::OrderMoved { order: Arc::clone(order), movement }
}

/// So many units of a SKU in the cart, whose other lines stay.
fn set_in(cart: &mut Cart, name: &str, sku_name: &str, units: i64) -> Change {
    let edit = Edit::LineSet(Line { sku: sku(sku_name), count: count(units) });
    cart.apply(edit.clone());
    Change::CartEdited { user: user(name), cart: cart.clone(), edit, key: None }
}
