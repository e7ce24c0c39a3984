//! A rush of lists that take long does not stand in the way of orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::client::{Client, eventually};
use crate::support::fragile_shop::{Ground, Shop, order_of, path_of, skus};
use crate::support::postgres::Database;
use crate::support::program::Settings;

/// Many times as many as there are connections to the database.
const READERS: usize = 64;
/// Several blocks of order ids, each of which is asked of the database.
const ORDERS: usize = 60;
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for a list again and again.
async fn read_lists(client: Client, end: Arc<AtomicBool>) {
    while !end.load(Ordering::Relaxed) {
        let listed = client.get("/notifications").await;
        let is_refusal = listed.is_refusal(503, "overloaded") || listed.is_refusal(503, "unavailable");
        assert!(listed.status == 200 || (is_refusal && listed.says_when_to_ask_again()), "{listed:?}");
    }
}

/// Until as many statements wait for the lists' table as lists are read at once.
async fn wait_for_lists(connection: &mut PgConnection) {
    let waiting = "select count(*) >= 4 from pg_locks where relation = 'notifications'::regclass and not granted";
    let waited = async {
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut *connection).await.expect("counted") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("lists wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_placed_while_lists_take_long() {
    let Some(database) = Database::create() else { return };
    let mut connection = PgConnection::connect(&database.url()).await.expect("connected");
    let shop = Shop::open(Ground::Postgres(database), &skus(1, 1_000), Settings::new());
    let (client, end) = (shop.client(), Arc::new(AtomicBool::new(false)));

    let mut hold = connection.begin().await.expect("begun");
    hold.execute("lock table notifications in access exclusive mode").await.expect("locked");
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(read_lists(client.clone(), Arc::clone(&end)))).collect();
    wait_for_lists(&mut hold).await;
    for number in 0..ORDERS {
        let placed = client.post("/orders", &order_of(&format!("buyer-{number}"), "S0", 1)).await;
        assert_eq!(placed.status, 201, "{placed:?}");
        assert_eq!(client.get(&path_of(&placed.body)).await.status, 200, "nobody reads an order meanwhile");
    }
    wait_for_lists(&mut hold).await;
    hold.rollback().await.expect("rolled back");
    end.store(true, Ordering::Relaxed);
    for reader in join_all(readers).await {
        reader.expect("every answer was one that may be");
    }
    let listed = || async { client.get("/notifications").await.status == 200 };
    assert!(eventually(PATIENCE, listed).await, "no list comes any more");
    shop.verify();
}
