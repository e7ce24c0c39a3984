//! How many allocations an order costs, from its request to its answer and on to its notification.
//!
//! The count is nearly the same on a busy machine and on an idle one, and so tells of a slower path where a
//! time could not. What it is for and how it is moved: `load/RESULTS.md`, "The guard".

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use iso_currency::Currency;
use loms::application::Application;
use loms::config::Settings;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ORDERS: u32 = 1_000;
/// In that time each thread has met its caches, and each table its first pages.
const ORDERS_BEFORE: u32 = 1_000;
/// Measured: 127.7 to 128.7 alone, 132.3 to 135.3 beside six busy programs. Users are told by the tenth of a second, and so
/// in more parts where orders come slower.
const ALLOCATIONS_PER_ORDER: f64 = 131.5;
/// More than what runs differ by: five allocations.
const TOLERANCE: f64 = 0.04;
const ORDER: &str =
    r#"{"user":"ann","items":[{"sku":"MUG-01","count":1},{"sku":"BAG-TOTE","count":1},{"sku":"APRON-01","count":1}]}"#;

fn settings(folder: &std::path::Path) -> Settings {
    Settings {
        database_url: format!("sqlite://{}/loms.db", folder.display()).into(),
        amqp_url: None,
        channels: Default::default(),
        product_service_url: None,
        product_service_token: String::new().into(),
        product_service_calls_per_second: 10,
        listen: "127.0.0.1:0".parse().expect("an address"),
        catalog: None,
        stock: Some(folder.join("stock.csv")),
        payment_timeout: Duration::from_secs(3_600),
        currency: Currency::RUB,
        log: "off".to_owned(),
    }
}

/// A client that allocates nothing.
struct Buyer {
    connection: TcpStream,
    request: String,
    answer: [u8; 4096],
}

impl Buyer {
    fn new(address: SocketAddr) -> Self {
        let connection = TcpStream::connect(address).expect("connected");
        connection.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        connection.set_nodelay(true).expect("set");
        let head = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        let request = format!("{head}Content-Length: {}\r\n\r\n{ORDER}", ORDER.len());
        Self { connection, request, answer: [0; 4096] }
    }

    fn order(&mut self) {
        self.connection.write_all(self.request.as_bytes()).expect("sent");
        let mut length = 0;
        // The body ends with the object; no text in it has a brace before a line's end.
        while !self.answer[..length].ends_with(b"\"reason\":null}") {
            let read = self.connection.read(&mut self.answer[length..]).expect("an answer");
            assert!(read > 0, "torn off after {}", String::from_utf8_lossy(&self.answer[..length]));
            length += read;
        }
        assert!(self.answer.starts_with(b"HTTP/1.1 201 "), "{}", String::from_utf8_lossy(&self.answer[..length]));
    }

    fn buy(&mut self, orders: u32) {
        (0..orders).for_each(|_| self.order());
    }
}

/// Users are told some moments after the answer, on a busy machine later. Clocks and timers go on.
#[expect(clippy::disallowed_methods, reason = "no actor lives on this thread")]
fn wait_until_quiet() {
    const QUIET: (Duration, usize) = (Duration::from_millis(500), 250);
    let allocations_meanwhile = || {
        let region = Region::new(ALLOCATOR);
        std::thread::sleep(QUIET.0);
        region.change().allocations
    };
    while allocations_meanwhile() > QUIET.1 {}
}

#[test]
fn an_order_costs_so_many_allocations() {
    let folder = tempfile::tempdir().expect("a folder");
    let stock = "sku,warehouse_id,on_hand\nMUG-01,1,1000000\nBAG-TOTE,1,1000000\nAPRON-01,1,1000000\n";
    std::fs::write(folder.path().join("stock.csv"), stock).expect("written");
    let settings = settings(folder.path());
    let (announce, address) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        actix_rt::System::new().block_on(async {
            let application = Application::build(&settings).await.expect("built");
            announce.send(application.address()).expect("awaited");
            application.run_until(async { drop(stopped.await) }).await.expect("served");
        });
    });
    let mut buyer = Buyer::new(address.recv_timeout(Duration::from_secs(30)).expect("it serves"));
    buyer.buy(ORDERS_BEFORE);
    wait_until_quiet();
    let region = Region::new(ALLOCATOR);
    buyer.buy(ORDERS);
    wait_until_quiet();
    let spent = region.change();
    drop(buyer);
    stop.send(()).expect("told");
    serving.join().expect("stopped in good order");
    let allocations = f64::from(u32::try_from(spent.allocations).expect("few")) / f64::from(ORDERS);
    eprintln!("{allocations:.1} allocations per order");
    let share = allocations / ALLOCATIONS_PER_ORDER;
    assert!(share < 1.0 + TOLERANCE, "{allocations:.1} instead of {ALLOCATIONS_PER_ORDER}: the path became longer");
    assert!(share > 1.0 - TOLERANCE, "{allocations:.1} instead of {ALLOCATIONS_PER_ORDER}: a gain; write it down here");
}
