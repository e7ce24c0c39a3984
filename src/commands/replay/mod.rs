//! `loms replay`: plays a shop's recorded orders through the HTTP API, as its users would.
//!
//! Per order: add every line to the cart, list it, purchase, then pay, cancel later or leave
//! unpaid. [`recording`] reads what happened, [`plan`] decides what each user will do, [`schedule`]
//! hands it out, [`driver`] does it against the [`shop`], and [`report`] says what came of it.
//!
//! Knows the system under test by its HTTP API alone, whether it runs elsewhere or in this process.

pub mod driver;
pub mod plan;
pub mod progress;
pub mod recording;
pub mod report;
pub mod schedule;
pub mod shop;
pub mod stock;
pub mod system;
pub mod timings;

#[cfg(test)]
#[path = "tests/mod.rs"]
mod test_world;

use std::path::PathBuf;

use anyhow::Context as _;
use reqwest::Url;

use plan::Plan;
use recording::Recording;
pub use report::{Outcome, Report};
use shop::Shop;
pub use stock::{stock_csv, stock_rows};

/// More than this many connections measure the driver's machine and not the shop.
const CONNECTIONS_MAX: i64 = 1_024;

const FACTOR_MAX: f64 = 1_000_000.0;

#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What is for sale: CSV with the column `sku`, may be compressed with gzip
    #[arg(long, value_name = "FILE")]
    pub catalog: PathBuf,

    /// What happened: CSV with the columns `user_id`, `invoice`, `kind` (`order_line` or
    /// `cancel_line`), `sku` and `count`, may be compressed with gzip
    #[arg(long, value_name = "FILE")]
    pub events: PathBuf,

    /// A running LOMS; without it, the whole system runs in this process on the configured
    /// database, which must be empty
    #[arg(long, value_parser = http_url)]
    pub url: Option<Url>,

    /// Decides which orders are left unpaid
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Stock to start with: per SKU the units that the file orders, times F, over three warehouses;
    /// with --url it takes the place of what is on hand there
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = factor)]
    pub stock_factor: f64,

    /// The share of orders, 0 to 1, that nobody pays
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, value_parser = share)]
    pub unpaid: f64,

    /// How many users shop at the same time; with one, the same seed gives the same outcome
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=CONNECTIONS_MAX))]
    pub connections: u16,
}

/// The recording in the files that the arguments name.
///
/// # Errors
/// Where a file cannot be read: the error names it.
pub async fn read(arguments: &Arguments) -> anyhow::Result<Recording> {
    let (catalogue, events) = (arguments.catalog.clone(), arguments.events.clone());
    let reading = tokio::task::spawn_blocking(move || Recording::read(&catalogue, &events));
    Ok(reading.await.context("reading the files ended early")??)
}

/// Imports the stock and plays everything against the LOMS at `target`. Prints nothing but its progress, to stderr.
///
/// The report's [`Report::refusals`] tell whether the command is to fail.
///
/// # Errors
/// Where the stock cannot be imported, as where nobody is there.
pub async fn play(arguments: &Arguments, recording: Recording, target: &Url) -> anyhow::Result<Report> {
    let connections = usize::from(arguments.connections);
    let shop = Shop::at(target, connections, rand::random())?;
    let rows = stock_rows(&recording, arguments.stock_factor);
    shop.import_stock(stock_csv(&rows, stock::IMPORT_BYTES_MAX)).await?;
    let plan = Plan::of(&recording, arguments.seed, arguments.unpaid);
    let mut report = driver::drive(recording, plan, shop, connections).await?;
    report.outcome.stock_units_imported = rows.iter().map(|(_, _, on_hand)| on_hand).sum();
    Ok(report)
}

fn http_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    let plain = url.query().is_none() && url.fragment().is_none();
    if ["http", "https"].contains(&url.scheme()) && plain {
        Ok(url)
    } else {
        Err("must begin with http:// or https:// and have neither a query nor a fragment".to_owned())
    }
}

fn factor(text: &str) -> Result<f64, String> {
    number_within(text, FACTOR_MAX)
}

fn share(text: &str) -> Result<f64, String> {
    number_within(text, 1.0)
}

fn number_within(text: &str, max: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=max).contains(&number) => Ok(number),
        _ => Err(format!("must be a number from 0 to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(more: &str) -> Result<Arguments, clap::Error> {
        let line = format!("replay --catalog c.csv --events e.csv {more}");
        Command::try_parse_from(line.split_whitespace()).map(|command| command.arguments)
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for more in [
            "--unpaid 1.1",
            "--unpaid -0.1",
            "--unpaid NaN",
            "--stock-factor inf",
            "--stock-factor x",
            "--connections 0",
            "--connections 1025",
            "--seed -1",
            "--url ftp://shop",
            "--url http://shop/?a=1",
            "--url shop",
        ] {
            assert!(parse(more).is_err(), "{more} was taken");
        }
    }

    #[tokio::test]
    async fn the_files_are_read_their_stock_is_imported_and_their_orders_are_played() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (catalog, events) = (folder.path().join("c.csv"), folder.path().join("e.csv"));
        std::fs::write(&catalog, "sku,name,price_minor_units\nA,Mug,100\n").expect("written");
        std::fs::write(&events, "user_id,invoice,kind,sku,count\n1,7,order_line,A,6\n2,8,order_line,A,4\n")
            .expect("written");
        let mut arguments = parse("--stock-factor 0.6 --unpaid 0").expect("good arguments");
        (arguments.catalog, arguments.events) = (catalog, events);
        let shop = test_world::small_shop::SmallShop::default();
        let (_server, url) = shop.open().await;
        let play_all = async || {
            let recording = read(&arguments).await.expect("good files");
            play(&arguments, recording, &url).await.expect("played")
        };
        let report = play_all().await;
        assert_eq!((report.outcome.stock_units_imported, report.outcome.units_payed), (6, 6));
        assert_eq!((report.outcome.payed, report.outcome.not_placed, report.refusals()), (1, 1, 0));

        play_all().await;
        let keys = shop.state().purchase_keys.clone();
        assert_ne!(keys[0], keys[1], "another run makes its own orders");
    }

    #[tokio::test]
    async fn a_stock_that_the_shop_refuses_ends_the_replay_and_says_why() {
        let server = wiremock::MockServer::start().await;
        let refused = test_world::small_shop::problem(422, "invalid_request");
        wiremock::Mock::given(wiremock::matchers::any()).respond_with(refused).mount(&server).await;
        let shop = Shop::at(&server.uri().parse().expect("a URL"), 1, 1).expect("a client");
        let error = shop.import_stock(vec!["sku,warehouse_id,on_hand\n".to_owned()]).await.expect_err("refused");
        assert!(error.to_string().contains("part 1 of 1") && error.to_string().contains("invalid_request"), "{error}");
    }
}
