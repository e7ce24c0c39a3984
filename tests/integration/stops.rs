//! The program is told to stop while it starts, and while somebody is not answered yet.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::support::client::eventually;
use crate::support::fragile_shop::{Ground, Shop, order_of};
use crate::support::private_server::{signal_process, wait_at_most};
use crate::support::program::{Settings, without_settings};
use crate::support::raw_connection::{RawAnswer, RawConnection, address_of, post};

const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Shorter than anybody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);

#[test]
fn a_stop_while_it_starts_ends_it() {
    // The system takes the connection, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let database = format!("postgres://loms@{}/loms", silent.local_addr().expect("its address"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    without_settings(&mut command);
    command.current_dir(folder.path()).env("LOMS_LISTEN", "127.0.0.1:0").env("DATABASE_URL", database);
    let mut program = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    let _asked = silent.accept().expect("it connects");
    signal_process(program.id(), "TERM");
    let ended = wait_at_most(&mut program, STOP_TIME_MAX);
    if ended.is_none() {
        program.kill().expect("killed");
    }
    let output = program.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(ended.is_some_and(|status| status.success()) && !text.contains("panicked"), "{ended:?}: {text}");
}

async fn ask(connection: &mut RawConnection, request: &[u8]) -> (RawAnswer, Value) {
    let answer = connection.ask(request).await.expect("an answer");
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    (answer, body)
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: loms\r\n\r\n").into_bytes()
}

/// A load balancer keeps its connections, and goes on to use them until it is told.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_program_that_stops_is_told_so_and_not_that_too_many_ask() {
    let mut shop = Shop::open(Ground::Sqlite, &[("PEN".to_owned(), 5)], Settings::new());
    let mut kept = RawConnection::open(address_of(shop.program.url())).await.expect("connected");
    let (ready, body) = ask(&mut kept, &get("/readyz")).await;
    assert_eq!((ready.status, &body["status"]), (200, &"ready".into()));

    // While somebody else writes into the database's file, an order waits, and the program for it.
    let file = format!("sqlite://{}", shop.program.folder().join("data/loms.db").display());
    let mut other = SqliteConnection::connect(&file).await.expect("a connection");
    other.execute("begin immediate").await.expect("nobody writes");
    let client = shop.client();
    let waiting = tokio::spawn(async move { client.post("/orders", &order_of("ann", "PEN", 1)).await });
    let kept = tokio::sync::Mutex::new(kept);
    let is_under_way = async || {
        let (metrics, _) = ask(&mut *kept.lock().await, &get("/metrics")).await;
        metrics.body.lines().any(|line| line == "loms_requests_admissible 2047")
    };
    assert!(eventually(PATIENCE, is_under_way).await, "the order does not wait");

    signal_process(shop.program.id(), "TERM");
    let says_so = async || {
        let (readiness, body) = ask(&mut *kept.lock().await, &get("/readyz")).await;
        (readiness.status, &body["status"]) == (503, &"stopping".into())
    };
    assert!(eventually(PATIENCE, says_so).await, "it does not say that it stops");
    let mut kept = kept.into_inner();
    let order = post("/orders", "", &order_of("bob", "PEN", 1).to_string());
    let (refused, body) = ask(&mut kept, &order).await;
    assert_eq!((refused.status, &body["code"]), (503, &"unavailable".into()), "{refused:?}");
    assert_eq!(body["detail"], "the server is stopping; nothing was changed");
    assert!(refused.has("retry-after"), "{refused:?}");
    let (metrics, _) = ask(&mut kept, &get("/metrics")).await;
    assert!(metrics.body.lines().any(|line| line == "loms_requests_refused 0"), "{}", metrics.body);

    other.execute("rollback").await.expect("done");
    let placed = waiting.await.expect("no panic");
    assert_eq!(placed.status, 201, "{placed:?}");
    let ended = shop.program.wait_for_end(STOP_TIME_MAX);
    assert!(ended.success(), "{ended:?}");
    shop.verify();
}
