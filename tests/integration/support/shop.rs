//! A small shop served by the real program, with a catalogue and stock made for the tests; the same
//! test runs against it on SQLite and on PostgreSQL.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::postgres::{Database, block_on};
use super::program::{Program, Settings};

/// Prices are in kopecks; GOLD costs so much that two of it cannot be counted.
const CATALOGUE: &str = "sku,name,price_minor_units\n\
    MUG,Mug,45000\nPEN,Pen,1500\nSPLIT,Split over warehouses,100\nEMPTY,Sold out,7\nUNSTOCKED,Never stocked,8\n\
    BANK CHARGES,Bank charges,1\n85123A,Holder in white,255\n85123a,Holder in black,300\nA/B?c#%,Odd one,12\n\
    ящик №4,Box,9900\n1076963,Book,2202\n2958025,Other book,1019\n\
    GOLD,Gold,9000000000000000000\nSILVER,Silver,5000000000000000000\n";

/// MUG lies in two warehouses; no warehouse but the third covers 4 of SPLIT.
const STOCK: &str = "sku,warehouse_id,on_hand\n\
    MUG,1,5\nMUG,2,8\nPEN,1,1000000\nSPLIT,1,2\nSPLIT,2,3\nSPLIT,3,4\nEMPTY,1,0\nBANK CHARGES,1,50\n85123A,1,10\n\
    85123a,1,20\nA/B?c#%,1,30\nящик №4,7,40\n1076963,1,100\n2958025,1,100\nGOLD,1,100\nSILVER,1,100\n";

/// Dropped in this order: the program, then its files, then its database.
pub struct Shop {
    pub program: Program,
    pub client: Client,
    settings: Settings,
    database_url: String,
    files: TempDir,
    _database: Option<Database>,
}

/// Runs the test on SQLite, and on PostgreSQL where there is one; each time in a fresh shop.
pub async fn on_each_store(test: impl AsyncFn(&mut Shop)) {
    eprintln!("on SQLite:");
    test(&mut Shop::open(None)).await;
    if let Some(database) = Database::create() {
        eprintln!("on PostgreSQL:");
        test(&mut Shop::open(Some(database))).await;
    }
}

impl Shop {
    pub fn on_sqlite() -> Self {
        Self::open(None)
    }

    /// On SQLite, with events going to this broker.
    pub fn with_broker(url: &str) -> Self {
        Self::with_settings(&[("AMQP_URL", url)])
    }

    /// On SQLite, with a webhook on this machine.
    pub fn with_webhook(url: &str, secret: &str) -> Self {
        Self::with_settings(&[
            ("LOMS_WEBHOOK_URL", url),
            ("LOMS_WEBHOOK_SECRETS", secret),
            ("LOMS_WEBHOOK_PRIVATE_ADDRESSES", "true"),
        ])
    }

    /// On SQLite, with these variables in its environment.
    pub fn with_settings(variables: &[(&str, &str)]) -> Self {
        let set = |settings: Settings, (name, value): &(&str, &str)| settings.variable(name, value);
        Self::open_with(None, |settings| variables.iter().fold(settings, set))
    }

    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    fn open(database: Option<Database>) -> Self {
        Self::open_with(database, |settings| settings)
    }

    fn open_with(database: Option<Database>, change: impl FnOnce(Settings) -> Settings) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.to_str().expect("in UTF-8").to_owned()
        };
        let sqlite = format!("sqlite://{}", files.path().join("loms.db").display());
        let database_url = database.as_ref().map_or(sqlite, Database::url);
        let settings = Settings::new()
            .variable("DATABASE_URL", &database_url)
            .variable("LOMS_CATALOG", &file("catalog.csv", CATALOGUE))
            .variable("LOMS_STOCK", &file("stock.csv", STOCK));
        let settings = change(settings);
        let program = settings.clone().start();
        let client = Client::new(program.url());
        Self { program, client, settings, database_url, files, _database: database }
    }

    /// On PostgreSQL; `None` where there is none.
    pub fn on_postgres() -> Option<Self> {
        Database::create().map(|database| Self::open(Some(database)))
    }

    /// On PostgreSQL, with events going to this broker; `None` where there is none.
    pub fn on_postgres_with_broker(url: &str) -> Option<Self> {
        let database = Some(Database::create()?);
        Some(Self::open_with(database, |settings| settings.variable("AMQP_URL", url)))
    }

    /// Another process on the same database.
    pub fn second_process(&self) -> Program {
        self.settings.clone().start()
    }

    /// Ends the program in good order and starts it again on the same database.
    pub fn restart(&mut self) {
        assert!(self.program.terminate().success(), "it did not end well:\n{}", self.program.output());
        self.program.restart();
        self.client = Client::new(self.program.url());
    }

    /// Starts the program again with other goods for sale: lines of `sku,name,price`.
    pub fn restart_selling(&mut self, goods: &[&str]) {
        let catalogue = format!("sku,name,price_minor_units\n{}\n", goods.join("\n"));
        std::fs::write(self.files.path().join("catalog.csv"), catalogue).expect("written");
        self.restart();
    }

    /// # Panics
    /// Where the books in the database do not add up.
    pub fn assert_books_are_right(&self) {
        let url = self.database_url.clone();
        let differences = block_on(async move {
            let store = loms::store::open(&url).await.expect("opened");
            let differences = store.differences(10).await.expect("checked");
            store.close().await;
            differences
        });
        assert_eq!(differences, Vec::<String>::new());
    }

    /// # Panics
    /// Where the order is not placed.
    pub async fn order(&self, user: &str, items: &[(&str, i64)]) -> Value {
        let created = self.client.post("/orders", &new_order(user, items)).await;
        assert_eq!(created.status, 201, "{}", created.body);
        created.body
    }

    /// # Panics
    /// Where it is not placed, or not paid.
    pub async fn order_and_pay(&self, user: &str) {
        let order = self.order(user, &[("PEN", 1)]).await;
        let payed = self.client.post(&format!("/orders/{}/pay", order["order_id"]), &Value::Null).await;
        assert_eq!(payed.status, 200, "{}", payed.body);
    }

    /// Puts so much into a cart.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn add(&self, user: &str, sku: &str, count: i64) -> Value {
        let added = self.client.post(&format!("/carts/{user}/items"), &json!({"sku": sku, "count": count})).await;
        assert_eq!(added.status, 200, "{}", added.body);
        added.body
    }

    /// What can be bought of a SKU whose name needs no encoding.
    pub async fn available(&self, sku: &str) -> i64 {
        let stock = self.client.get(&format!("/stocks/{sku}")).await;
        stock.body["available"].as_i64().unwrap_or_else(|| panic!("no stock of {sku}: {}", stock.body))
    }

    /// The statuses in an order's history.
    pub async fn history(&self, order: &Value) -> Vec<String> {
        let history = self.client.get(&format!("/orders/{}/events", order["order_id"])).await;
        let events = history.body["events"].as_array().expect("a history").clone();
        events.iter().map(|event| event["status"].as_str().expect("a status").to_owned()).collect()
    }
}

pub fn new_order(user: &str, items: &[(&str, i64)]) -> Value {
    let items: Vec<_> = items.iter().map(|(sku, count)| json!({"sku": sku, "count": count})).collect();
    json!({"user": user, "items": items})
}

/// SKU and count of each line of a cart or an order.
pub fn lines(body: &Value) -> Vec<(&str, i64)> {
    let items = body["items"].as_array().unwrap_or_else(|| panic!("no items: {body}"));
    items.iter().map(|item| (item["sku"].as_str().expect("a SKU"), item["count"].as_i64().expect("a count"))).collect()
}

/// # Panics
/// Where the answer is not this refusal, in the shape of RFC 9457.
#[track_caller]
pub fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["status"], status);
    for member in ["type", "title", "detail"] {
        let text = answer.body[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "no {member}: {}", answer.body);
    }
}
