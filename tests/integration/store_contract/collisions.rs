//! Transactions of other processes that want the same rows in another order: one of the two is refused, and tries again.

use loms::domain::cart::Cart;
use loms::store::{Change, Refused, Verdict};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Ground, at, counts, on_postgres, placed, reserved, set_in, shelf_edit};

/// Writes while another transaction has shelf B, and wants shelf A as soon as the writer waits for B.
async fn write_into_a_deadlock(ground: &Ground, changes: Vec<Change>) -> Vec<Verdict> {
    let (_, mut writer) = ground.stocked().await;
    let mut other = PgConnection::connect(&ground.url).await.expect("a connection");
    // Of two who wait for one another, the one that notices is refused: the writer.
    for statement in ["begin", "set local deadlock_timeout = '1min'", "update stocks set on_hand = 20 where sku = 'B'"]
    {
        other.execute(statement).await.expect("done");
    }
    let writing = tokio::spawn(async move { writer.write(&changes, at(1)).await });
    ground.wait_for_a_lock().await;
    for statement in ["update stocks set on_hand = 20 where sku = 'A'", "commit"] {
        other.execute(statement).await.expect("done");
    }
    writing.await.expect("no panic").expect("written")
}

#[tokio::test]
async fn a_batch_that_is_taken_apart_survives_a_deadlock() {
    on_postgres(&async |ground| {
        let stale = set_in(&mut Cart::new(5, vec![]), "ann", "A", 1);
        let order = reserved(1, "bob", &[("A", &[(1, 1)]), ("B", &[(1, 1)])]);
        let verdicts = write_into_a_deadlock(ground, vec![stale, placed(&order)]).await;
        assert_eq!(verdicts, [Verdict::Refused(Refused::Stale), Verdict::Written]);
        assert_eq!((ground.shelves("A").await[0], ground.shelves("B").await[0]), ((1, 20, 1), (1, 20, 1)));
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn a_stock_count_survives_a_deadlock() {
    on_postgres(&async |ground| {
        let verdicts = write_into_a_deadlock(ground, vec![counts(&[("A", 1, 7), ("B", 1, 8)].map(shelf_edit))]).await;
        assert!(matches!(verdicts[..], [Verdict::StockWritten(_)]), "{verdicts:?}");
        assert_eq!((ground.shelves("A").await[0].1, ground.shelves("B").await[0].1), (7, 8));
    })
    .await;
}
