//! A commit that comes after its client was told that nobody knows.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::support::client::eventually;
use crate::support::fragile_shop::{Ground, Shop};
use crate::support::program::Settings;

const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than anybody waits for an answer, and shorter than the program tries to write.
const WRITERS_WAIT: Duration = Duration::from_millis(6_500);

/// Somebody else writes into the database's file for so long; reading goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_cart_that_was_read_before_a_late_commit_is_not_shown_after_it() {
    let shop = Shop::open(Ground::Sqlite, &[("APRON-01".to_owned(), 5)], Settings::new());
    let client = shop.client();
    let one = json!({"sku": "APRON-01", "count": 1});
    assert_eq!(client.post("/carts/ann/items", &one).await.status, 200);

    let file = format!("sqlite://{}", shop.program.folder().join("data/loms.db").display());
    let mut other = SqliteConnection::connect(&file).await.expect("a connection");
    other.execute("begin immediate").await.expect("nobody writes");
    let adding = tokio::spawn({
        let client = shop.client();
        async move { client.post("/carts/ann/items", &json!({"sku": "APRON-01", "count": 2})).await }
    });
    tokio::time::sleep(WRITERS_WAIT).await;
    let added = adding.await.expect("no panic");
    assert_eq!((added.status, added.body["code"].as_str()), (503, Some("unavailable")), "{:?}", added.body);
    // Whoever does as `Retry-After` says would add twice.
    assert!(added.leaves_in_doubt() && !added.says_when_to_ask_again(), "{added:?}");
    let shown = client.get("/carts/ann").await.body;
    assert_eq!(shown["items"][0]["count"], 1, "it is not written yet: {shown}");

    other.execute("rollback").await.expect("done");
    let shows_both = async || client.get("/carts/ann").await.body["items"][0]["count"] == 3;
    assert!(
        eventually(PATIENCE, shows_both).await,
        "the cart is shown as it was: {}",
        client.get("/carts/ann").await.body
    );
}
