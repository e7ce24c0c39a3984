//! The orders of a real shop through `loms replay`, as whoever tries the program would play them: each is placed or
//! short of stock, and nothing else ever happens.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::postgres::Database;
use crate::support::program::without_settings;
use crate::support::recording::{self, Recording};
use crate::support::rounds::Rounds;

const ORDERS: usize = 40;
/// Some orders are short of something, and some are left unpaid.
const SHARES: [&str; 6] = ["--seed", "7", "--stock-factor", "0.9", "--unpaid", "0.05"];
const MANY: &str = "64";

/// A database for one replay.
enum Ground {
    Sqlite(TempDir),
    Postgres(Database),
}

impl Ground {
    fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("loms.db").display()),
            Self::Postgres(database) => database.url(),
        }
    }
}

/// What the program prints; its progress is seen as it comes.
fn printed(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    without_settings(&mut command);
    let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}");
    text
}

/// Plays the recording and checks what came of it; gives the report but for the times.
fn play(recorded: &Recording, orders: usize, ground: &Ground, connections: &str) -> String {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (catalogue, events, url) = (text(&recorded.catalogue), text(&recorded.events), ground.url());
    let files = ["replay", "--catalog", &catalogue, "--events", &events, "--database-url", &url];
    let report = printed(&[&files, &SHARES[..], &["--connections", connections]].concat());
    let figure = |name: &str| -> usize {
        let line = report.lines().map(str::trim).find_map(|line| line.strip_prefix(name));
        let number = line.unwrap_or_else(|| panic!("{name} is not told: {report}")).trim().replace(',', "");
        number.parse().unwrap_or_else(|_| panic!("{name} is no number: {report}"))
    };
    assert_eq!(figure("orders"), orders, "{report}");
    let fates = ["payed", "cancelled", "awaiting payment", "failed", "not placed, no line in stock"].map(figure);
    assert_eq!(fates.iter().sum::<usize>(), orders, "{report}");
    assert!(figure("lines refused, out of stock") > 0, "{report}");
    // No answer but a 5xx is asked for again; nor did a connection break.
    let others = ["refused for another reason", "requests refused otherwise", "requests repeated"].map(figure);
    assert_eq!(others, [0; 3], "{report}");
    assert_eq!(printed(&["verify", "--database-url", &url]), "the books are right\n");
    eprintln!("{report}");
    report.split_once("\nTimes").expect("the times come last").0.to_owned()
}

/// `grounds` are three of the same kind, each of them empty.
fn every_order_is_placed_or_short_of_stock(name: &str, grounds: &[Ground; 3]) {
    let mut rounds = Rounds::of(&format!("recorded orders, {name}"), ORDERS, recording::ORDERS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(recorded) = Recording::first(rounds.total(), folder.path()) else { return };
    let [once, again, many] = grounds;
    let once = play(&recorded, rounds.total(), once, "1");
    assert_eq!(play(&recorded, rounds.total(), again, "1"), once, "with one connection the same seed gives the same");
    play(&recorded, rounds.total(), many, MANY);
    while rounds.next_round().is_some() {}
    rounds.held(format_args!("placed or short of stock, twice one by one and once from {MANY} connections"));
}

#[test]
fn every_order_is_placed_or_short_of_stock_on_sqlite() {
    let grounds = [(); 3].map(|()| Ground::Sqlite(tempfile::tempdir().expect("a temporary folder")));
    every_order_is_placed_or_short_of_stock("SQLite", &grounds);
}

#[test]
fn every_order_is_placed_or_short_of_stock_on_postgres() {
    let databases = [Database::create(), Database::create(), Database::create()];
    let [Some(once), Some(again), Some(many)] = databases else { return };
    every_order_is_placed_or_short_of_stock("PostgreSQL", &[once, again, many].map(Ground::Postgres));
}
