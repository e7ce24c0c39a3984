//! Clients that are slow on purpose: thousands of connections that trickle heads and bodies, or stop
//! in the middle. Each is closed in time, and honest clients are served as if there were none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::fragile_shop::{Ground, Shop, order_of, path_of, skus};
use crate::support::program::{Settings, resident_bytes};
use crate::support::raw_connection::{RawConnection, address_of, post};
use crate::support::rounds::Rounds;

/// Most of them trickle bodies, and more do than requests may be under way.
const CONNECTIONS: usize = 4_000;
const CONNECTIONS_FULL: usize = 10_000;
const TRICKLE: Duration = Duration::from_millis(500);
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(5);
const MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Of the honest ones: so many times what it is without slow clients, and a little.
const P99_MAX: (u32, Duration) = (10, Duration::from_millis(250));
const HONEST: usize = 4;

/// What a slow client does.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Body,
    ChunkedBody,
    /// At an address that takes no body.
    UselessBody,
    UselessChunkedBody,
    Head,
    /// After a whole request.
    SecondHead,
    /// Begins to speak and says nothing more.
    Silent,
}

/// Each as often as it stands here.
const MANNERS: [Manner; 10] = [
    Manner::Body,
    Manner::ChunkedBody,
    Manner::Body,
    Manner::Head,
    Manner::Body,
    Manner::ChunkedBody,
    Manner::UselessBody,
    Manner::UselessChunkedBody,
    Manner::SecondHead,
    Manner::Silent,
];

impl Manner {
    /// What is sent at once, and what follows byte by byte for ever.
    fn words(self) -> (Vec<u8>, &'static [u8]) {
        let chunked = |path: &str| {
            let head = format!("POST {path} HTTP/1.1\r\nHost: loms\r\nTransfer-Encoding: chunked\r\n\r\n");
            format!("{head}1\r\n{{\r\n").into_bytes()
        };
        let head = |path: &str, length: &str| format!("POST {path} HTTP/1.1\r\nHost: loms\r\n{length}\r\n\r\n{{");
        match self {
            Self::Body => (head("/orders", "Content-Length: 1000").into_bytes(), b" "),
            Self::ChunkedBody => (chunked("/orders"), b"1\r\n \r\n"),
            Self::UselessChunkedBody => (chunked("/orders/1/pay"), b"1\r\n \r\n"),
            Self::UselessBody => (head("/orders/1/pay", "Content-Length: 1000").into_bytes(), b" "),
            Self::Head => (b"GET /livez HTTP/1.1\r\nHost: loms\r\nX-Slow: ".to_vec(), b"x"),
            Self::SecondHead => {
                (b"GET /livez HTTP/1.1\r\nHost: loms\r\n\r\nGET /livez HTTP/1.1\r\nX-Slow: ".to_vec(), b"x")
            }
            Self::Silent => (b"G".to_vec(), b""),
        }
    }
}

/// Gives how long it took until the server closed the connection.
async fn dawdle(address: SocketAddr, manner: Manner) -> (Manner, Duration) {
    let mut connection = RawConnection::open(address).await.expect("connected");
    let began = Instant::now();
    let (words, trickle) = manner.words();
    if connection.send(&words).await.is_ok() {
        while began.elapsed() < CLOSED_WITHIN + SLACK {
            if tokio::time::timeout(TRICKLE, connection.until_closed()).await.is_ok() {
                break;
            }
            if connection.send(trickle).await.is_err() {
                break;
            }
        }
    }
    (manner, began.elapsed())
}

/// Orders, pays, and looks at its orders, one after the other until the time is over; gives what each
/// request took.
async fn buy(client: Client, name: String, time: Duration) -> Vec<Duration> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let asked = Instant::now();
        let order = client.post("/orders", &order_of(&name, "S0", 1)).await;
        took.push(asked.elapsed());
        assert_eq!(order.status, 201, "an honest client is refused: {order:?}");
        let asked = Instant::now();
        let payed = client.post(&format!("{}/pay", path_of(&order.body)), &serde_json::Value::Null).await;
        took.push(asked.elapsed());
        assert_eq!(payed.status, 200, "an honest client is refused: {payed:?}");
    }
    took
}

async fn honest_p99(client: &Client, time: Duration) -> (Duration, usize) {
    let buyers: JoinSet<_> = (0..HONEST).map(|number| buy(client.clone(), format!("honest-{number}"), time)).collect();
    let mut took: Vec<Duration> = buyers.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    (took[took.len() * 99 / 100], took.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_closed_in_time_and_stand_in_nobodys_way() {
    let mut connections = Rounds::of("G4 connections that trickle heads and bodies", CONNECTIONS, CONNECTIONS_FULL);
    let shop = Shop::open(Ground::Sqlite, &skus(1, 1_000_000_000), Settings::new());
    let (client, address) = (shop.client(), address_of(shop.program.url()));
    let (alone, _) = honest_p99(&client, Duration::from_secs(1)).await;
    let memory = resident_bytes(shop.program.id());

    let mut slow = JoinSet::new();
    while let Some(number) = connections.next_round() {
        slow.spawn(dawdle(address, MANNERS[number % MANNERS.len()]));
    }
    let (beside, requests) = honest_p99(&client, Duration::from_secs(6)).await;
    let grown = resident_bytes(shop.program.id()).saturating_sub(memory);
    let mut closed: Vec<(Manner, Duration)> = slow.join_all().await;
    closed.sort_unstable_by_key(|(_, after)| *after);
    let (manner, longest) = closed[closed.len() - 1];
    assert!(longest < CLOSED_WITHIN + SLACK, "{manner:?} was not closed after {longest:?}");
    let limit = alone * P99_MAX.0 + P99_MAX.1;
    assert!(beside < limit, "honest clients wait {beside:?}, and {alone:?} without slow ones");
    assert!(grown < MEMORY_BYTES_MAX, "it holds {grown} bytes more");
    shop.verify();
    let megabytes = grown >> 20;
    connections.held(format_args!(
        "closed after {longest:.1?} at the most; {requests} honest requests, p99 {beside:.1?} and {alone:.1?} alone; {megabytes} MiB"
    ));
}

/// Not slow, but without an end: a client that sends on behind the answer, as fast as it is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_end_is_read_on_for_a_moment_only() {
    /// A second that a connection is given to end, and what a busy machine adds.
    const CLOSED_WITHIN: Duration = Duration::from_secs(5);
    const CHUNK_BYTES: usize = 64 * 1024;
    let shop = Shop::open(Ground::Sqlite, &skus(1, 1_000), Settings::new());
    let address = address_of(shop.program.url());
    let chunk = format!("{CHUNK_BYTES:x}\r\n{}\r\n", " ".repeat(CHUNK_BYTES)).into_bytes();
    for path in ["/orders", "/orders/1/pay", "/livez", "/nothing", "/orders/%"] {
        let mut connection = RawConnection::open(address).await.expect("connected");
        let head = format!("POST {path} HTTP/1.1\r\nHost: loms\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.send(head.as_bytes()).await.expect("sent");
        let began = Instant::now();
        while connection.send(&chunk).await.is_ok() {
            assert!(began.elapsed() < CLOSED_WITHIN, "{path}: the body is read on behind the answer");
        }
    }
}

/// So many bodies that would be held in memory, and never end.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end_are_held_up_to_a_limit() {
    const BODIES: usize = 400;
    const ADMITTED: usize = 256;
    let shop = Shop::open(Ground::Sqlite, &skus(1, 1_000), Settings::new());
    let address = address_of(shop.program.url());
    let whole = post("/orders", "", &"x".repeat(900_000));
    let memory = resident_bytes(shop.program.id());
    let send = |_| {
        let most = whole[..whole.len() - 1].to_vec();
        async move {
            let mut connection = RawConnection::open(address).await.expect("connected");
            // Whoever is refused early may not be read to the end.
            let _ = connection.send(&most).await;
            connection.receive().await.ok()
        }
    };
    let bodies: JoinSet<_> = (0..BODIES).map(send).collect();
    let answers = bodies.join_all().await;
    let grown = resident_bytes(shop.program.id()).saturating_sub(memory);
    let count = |status: u16| answers.iter().flatten().filter(|answer| answer.status == status).count();
    eprintln!("{} were refused, {} came too late; {} MiB", count(503), count(400), grown >> 20);
    assert!((1..=ADMITTED).contains(&count(400)), "{} bodies were held at once", count(400));
    assert!(count(503) > 0, "nobody was refused");
    assert!(grown < MEMORY_BYTES_MAX / 2, "it holds {grown} bytes more");
    assert_eq!(shop.client().post("/orders", &order_of("ann", "S0", 1)).await.status, 201);
}
