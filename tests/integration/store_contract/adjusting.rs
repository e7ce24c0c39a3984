//! Adjustments of shelves: goods in, and goods lost.

use loms::domain::stock::ON_HAND_MAX;
use loms::store::{Change, Refused, StockEdit, Verdict, Writer};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{adjustment, at, on_each_store, on_postgres, placed, plain, reserved, shelf_edit};

async fn adjust(writer: &mut dyn Writer, row: (&str, i32, i64)) -> Verdict {
    let edit = Change::StockEdited { edit: adjustment(row), key: None };
    writer.write(&[edit], at(1)).await.expect("written").remove(0)
}

#[tokio::test]
async fn a_shelf_does_not_come_to_hold_more_than_a_warehouse_does() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let rows = [
            (("A", 1, ON_HAND_MAX - 10), true),
            (("A", 1, 1), false),
            (("A", 1, ON_HAND_MAX), false),
            (("A", 1, -1), true),
            (("A", 1, 1), true),
            (("NEW", 1, ON_HAND_MAX), true),
            (("NEW", 1, ON_HAND_MAX), false),
        ];
        for (row, is_taken) in rows {
            match adjust(&mut *writer, row).await {
                Verdict::StockWritten(_) => assert!(is_taken, "{row:?} is taken"),
                verdict => assert_eq!((verdict, is_taken), (Verdict::Refused(Refused::AboveMax), false), "{row:?}"),
            }
        }
        assert_eq!(
            (ground.shelves("A").await[0], ground.shelves("NEW").await[0].1),
            ((1, ON_HAND_MAX, 0), ON_HAND_MAX)
        );
        let next = reserved(1, "ann", &[("A", &[(1, 1)])]);
        assert_eq!(writer.write(&[placed(&next)], at(2)).await.expect("written"), [Verdict::Written]);
        ground.assert_books_are_right().await;
    })
    .await;
}

/// Two servers that start on an empty database both bring the first stock.
#[tokio::test]
async fn who_begins_shelves_leaves_those_that_are_there_as_they_are() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let ((warehouse, on_hand, _), order) = (ground.shelves("A").await[0], reserved(1, "ann", &[("A", &[(1, 1)])]));
        writer.write(&[placed(&order)], at(2)).await.expect("written");
        let rows = [("NEW", 1, 3), ("A", 1, on_hand + 99), ("A", 77, 5)].map(shelf_edit).to_vec();
        let begins = Change::StockEdited { edit: StockEdit::Begin(rows), key: None };
        for _ in 0..2 {
            let verdict = writer.write(std::slice::from_ref(&begins), at(3)).await.expect("written").remove(0);
            assert!(matches!(verdict, Verdict::StockWritten(_)), "{verdict:?}");
            let of_a = ground.shelves("A").await;
            assert_eq!((of_a[0], of_a.last()), ((warehouse, on_hand, 1), Some(&(77, 5, 0))));
            assert_eq!(ground.shelves("NEW").await, [(1, 3, 0)]);
        }
        ground.assert_books_are_right().await;
    })
    .await;
}

/// Whoever finds no shelf, and then cannot add it, adds to that of the other one.
#[tokio::test]
async fn two_who_bring_the_first_goods_of_a_sku_at_once_both_do() {
    on_postgres(&async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let mut other = PgConnection::connect(&ground.url).await.expect("a connection");
        for statement in ["begin", "insert into stocks (sku, warehouse_id, on_hand) values ('NEW', 1, 5)"] {
            other.execute(statement).await.expect("done");
        }
        let adjusting = tokio::spawn(async move { adjust(&mut *writer, ("NEW", 1, 3)).await });
        ground.wait_for_a_lock().await;
        other.execute("commit").await.expect("done");
        let verdict = adjusting.await.expect("no panic");
        let Verdict::StockWritten(shelves) = &verdict else { panic!("{verdict:?}") };
        assert_eq!(plain(shelves), [(1, 8, 0)]);
    })
    .await;
}
