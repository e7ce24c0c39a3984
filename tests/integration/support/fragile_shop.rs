//! A shop to break: the real program on a database, with a catalogue and stock of the test's own.

use std::fmt::Write as _;
use std::process::Command;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::postgres::Database;
use super::program::{Program, Settings, without_settings};

/// Where a shop keeps its books.
pub enum Ground {
    /// A file in the program's folder.
    Sqlite,
    Postgres(Database),
    /// A database that is reached by another address (behind a proxy), and checked by its own.
    Behind {
        address: String,
        database: String,
    },
}

/// A running shop.
pub struct Shop {
    pub program: Program,
    ground: Ground,
    settings: Settings,
    /// Holds the catalogue and the stock.
    _files: TempDir,
}

impl Ground {
    /// `None`, and that is printed, where the tests run without a server.
    pub fn postgres() -> Option<Self> {
        Database::create().map(Self::Postgres)
    }

    /// As a report names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) | Self::Behind { .. } => "PostgreSQL",
        }
    }

    fn settings(&self, settings: Settings) -> Settings {
        match self {
            Self::Sqlite => settings,
            Self::Postgres(database) => settings.variable("DATABASE_URL", &database.url()),
            Self::Behind { address, .. } => settings.variable("DATABASE_URL", address),
        }
    }
}

/// Longer than any test: what a buyer was told stays so.
const PAYMENT_TIMEOUT: &str = "1d";

impl Shop {
    /// Sells these SKUs, with so many units of each in warehouse 1, at 1.00 apiece.
    pub fn open(ground: Ground, stock: &[(String, i64)], settings: Settings) -> Self {
        let files = tempfile::Builder::new().prefix("loms-shop.").tempdir().expect("a temporary folder");
        let mut catalogue = "sku,name,price_minor_units\n".to_owned();
        let mut shelves = "sku,warehouse_id,on_hand\n".to_owned();
        for (sku, on_hand) in stock {
            writeln!(catalogue, "{sku},Product {sku},100").expect("a string takes everything");
            writeln!(shelves, "{sku},1,{on_hand}").expect("a string takes everything");
        }
        let [catalogue_path, shelves_path] = ["catalog.csv", "stock.csv"].map(|name| files.path().join(name));
        std::fs::write(&catalogue_path, catalogue).expect("written");
        std::fs::write(&shelves_path, shelves).expect("written");
        let settings = ground
            .settings(settings)
            .by_default("LOMS_PAYMENT_TIMEOUT", PAYMENT_TIMEOUT)
            .variable("LOMS_CATALOG", &catalogue_path.display().to_string())
            .variable("LOMS_STOCK", &shelves_path.display().to_string())
            .variable("LOMS_LOG", "warn");
        let program = settings.clone().start();
        Self { program, ground, settings, _files: files }
    }

    pub fn client(&self) -> Client {
        Client::new(self.program.url())
    }

    /// Another process on the same database.
    pub fn second_process(&self) -> Program {
        self.settings.clone().start()
    }

    /// Fails where the books are wrong: see `loms verify`.
    pub fn verify(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
        without_settings(&mut command);
        command.arg("verify").current_dir(self.program.folder());
        match &self.ground {
            Ground::Sqlite => &mut command,
            Ground::Postgres(database) => command.env("DATABASE_URL", database.url()),
            Ground::Behind { database, .. } => command.env("DATABASE_URL", database),
        };
        let verified = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success(), "loms verify: {text}{}", String::from_utf8_lossy(&verified.stderr));
        assert!(text.contains("the books are right"), "{text}");
    }
}

/// So many SKUs, `S0` and on, with so many units each.
pub fn skus(count: usize, on_hand: i64) -> Vec<(String, i64)> {
    (0..count).map(|number| (format!("S{number}"), on_hand)).collect()
}

/// The body of an order of one line.
pub fn order_of(user: &str, sku: &str, count: i64) -> Value {
    json!({"user": user, "items": [{"sku": sku, "count": count}]})
}

pub async fn available(client: &Client, sku: &str) -> i64 {
    let stock = client.get(&format!("/stocks/{sku}")).await;
    stock.body["available"].as_i64().unwrap_or_else(|| panic!("{stock:?}"))
}

/// `/orders/ID`.
pub fn path_of(order: &Value) -> String {
    format!("/orders/{}", order["order_id"].as_i64().unwrap_or_else(|| panic!("no order: {order}")))
}

pub fn time(order: &Value, field: &str) -> DateTime<Utc> {
    order[field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {field}: {order}"))
}

/// Each sentence, an `async fn` of a [`Ground`], as a test on each store.
macro_rules! on_each_store {
    ($($sentence:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $sentence() {
                super::$sentence($crate::support::fragile_shop::Ground::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $sentence() {
                let Some(ground) = $crate::support::fragile_shop::Ground::postgres() else { return };
                super::$sentence(ground).await;
            })+
        }
    };
}
pub(crate) use on_each_store;

impl Answer {
    /// Whether it is a refusal with this status and code.
    pub fn is_refusal(&self, status: u16, code: &str) -> bool {
        self.status == status && self.body["code"] == code
    }
}
