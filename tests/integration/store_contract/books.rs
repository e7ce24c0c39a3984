//! The check of the books: it finds what somebody else has spoiled, and nothing where all is well.

use loms::store::Movement;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};

use super::{Ground, at, failed, moved, on_each_database, payed, placed, reserved};

/// What is done to the database, what undoes it, and a word of each sentence that tells of it.
const FAULTS: [(&str, &str, &[&str]); 11] = [
    (
        "update stocks set reserved = reserved - 1 where sku = 'B'",
        "update stocks set reserved = reserved + 1 where sku = 'B'",
        &["SKU B in warehouse 1: 1 units are reserved, but orders that await payment hold 2"],
    ),
    (
        "delete from stocks where sku = 'B'",
        "insert into stocks (sku, warehouse_id, on_hand, reserved) values ('B', 1, 10, 2)",
        &["SKU B in warehouse 1: 0 units are reserved"],
    ),
    (
        "update order_lines set warehouse_id = 7 where order_id = 1 and sku = 'B'",
        "update order_lines set warehouse_id = 1 where order_id = 1 and sku = 'B'",
        &["SKU B in warehouse 1", "SKU B in warehouse 7"],
    ),
    (
        "update order_lines set warehouse_id = null where order_id = 1 and sku = 'B'",
        "update order_lines set warehouse_id = 1 where order_id = 1 and sku = 'B'",
        &["SKU B in warehouse none: 0 units are reserved, but orders that await payment hold 2"],
    ),
    (
        "update events set status = 'cancelled' where order_id = 1 and version = 2",
        "update events set status = 'awaiting_payment' where order_id = 1 and version = 2",
        &["order 1: its status 2 is cancelled after new", "order 1 is awaiting_payment at version 2"],
    ),
    (
        "update events set version = 4 where order_id = 2 and version = 3",
        "update events set version = 3 where order_id = 2 and version = 4",
        &["order 2: its status 4 is payed after nothing", "order 2 is payed at version 3"],
    ),
    (
        "update orders set status = 'cancelled' where order_id = 2",
        "update orders set status = 'payed' where order_id = 2",
        &["order 2 is cancelled at version 3"],
    ),
    (
        "update orders set payment_refused_at = created_at where order_id = 2",
        "update orders set payment_refused_at = null where order_id = 2",
        &[
            "order 2 has 0 refused payments among its events, but should have one",
            "order 2 is payed, but a payment of it counts as refused",
        ],
    ),
    (
        "update orders set total_price = total_price + 1 where order_id = 3",
        "update orders set total_price = total_price - 1 where order_id = 3",
        &["order 3 costs"],
    ),
    (
        "update orders set order_id = 1003 where order_id = 3",
        "update orders set order_id = 3 where order_id = 1003",
        &["order 3 has a history, but is missing", "order 1003"],
    ),
    (
        "update events set seq = 77 where seq = 4",
        "update events set seq = 4 where seq = 77",
        &["writer 1 has written 7 events, but 7 are there, the last being 77"],
    ),
];

/// On the database itself, past the store.
pub async fn run(ground: &Ground, statement: &'static str) {
    let statement = AssertSqlSafe(statement);
    let changed = if ground.url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(&ground.url).await.expect("connected");
        connection.execute(statement).await.expect("executed").rows_affected()
    } else {
        let mut connection = PgConnection::connect(&ground.url).await.expect("connected");
        connection.execute(statement).await.expect("executed").rows_affected()
    };
    assert_eq!(changed, 1, "the fault was not planted");
}

#[tokio::test]
async fn every_planted_fault_is_found() {
    on_each_database(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let awaiting = reserved(1, "ann", &[("A", &[(1, 3)]), ("B", &[(1, 2)])]);
        let sold = reserved(2, "bob", &[("A", &[(1, 2), (2, 5)])]);
        writer.write(&[&awaiting, &sold, &failed(3)].map(placed), at(1)).await.expect("written");
        writer.write(&[moved(&payed(&sold), Movement::WriteOff)], at(2)).await.expect("written");
        ground.assert_books_are_right().await;

        for (fault, undone, told) in FAULTS {
            run(ground, fault).await;
            let differences = ground.store.differences(10).await.expect("checked");
            for sentence in told {
                let found = differences.iter().any(|difference| difference.contains(sentence));
                assert!(found, "after `{fault}`, `{sentence}` is missing in {differences:#?}");
            }
            run(ground, undone).await;
            ground.assert_books_are_right().await;
        }
    })
    .await;
}

#[tokio::test]
async fn differences_are_limited_for_each_kind() {
    on_each_database(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let orders: Vec<_> = (1..=5).map(|id| reserved(id, "ann", &[("A", &[(1, 1)])])).collect();
        writer.write(&orders.iter().map(placed).collect::<Vec<_>>(), at(1)).await.expect("written");
        for fault in [
            "update orders set total_price = 1 where order_id = 1",
            "update orders set total_price = 1 where order_id = 2",
        ] {
            run(ground, fault).await;
        }
        assert_eq!(ground.store.differences(10).await.expect("checked").len(), 2);
        assert_eq!(ground.store.differences(1).await.expect("checked").len(), 1);
    })
    .await;
}
