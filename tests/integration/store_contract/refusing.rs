//! Batches: all the good changes are written, and each bad one is refused alone, for its reason.

use std::sync::Arc;

use loms::domain::cart::Cart;
use loms::domain::{OrderId, UserId};
use loms::store::{Change, Movement, Refused, Verdict};

use super::{
    Ground, adjustment, at, cancelled, counts, keyed, moved, on_each_store, payed, payment_refused, placed,
    placed_with_key, reserved, set_in, shelf_edit, user,
};

const REFUSED: fn(Refused) -> Verdict = Verdict::Refused;

/// Order numbers of a batch's orders: none is used twice in a test.
fn good_orders(first: i64, count: i64) -> Vec<Change> {
    (first..first + count).map(|id| placed(&reserved(id, "good", &[("C", &[(1, 1)])]))).collect()
}

/// The bad change at each place among good ones: it alone is refused, and leaves nothing.
async fn check_alone(ground: &Ground, writer: &mut dyn loms::store::Writer, bad: impl Fn() -> Change, why: Refused) {
    for (number, place) in [0, 1, 3].into_iter().enumerate() {
        let first = 100 + 10 * i64::try_from(number).expect("small");
        let mut batch = good_orders(first, 3);
        batch.insert(place, bad());
        let verdicts = writer.write(&batch, at(first)).await.expect("written");
        let expected: Vec<_> =
            (0..4).map(|at| if at == place { REFUSED(why.clone()) } else { Verdict::Written }).collect();
        assert_eq!(verdicts, expected);
        for id in first..first + 3 {
            assert!(ground.order(id).await.is_some(), "a good one is missing");
        }
    }
    let alone = writer.write(&[bad()], at(200)).await.expect("written");
    assert_eq!(alone, [REFUSED(why)]);
    assert_eq!(ground.shelves("C").await, [(1, 10, 9)]);
    ground.assert_books_are_right().await;
}

#[tokio::test]
async fn many_changes_are_one_batch() {
    on_each_store(async |ground| {
        let (identity, mut writer) = ground.stocked().await;
        let first = reserved(1, "ann", &[("A", &[(1, 2)])]);
        let second = reserved(2, "ann", &[("A", &[(1, 3), (2, 5)]), ("B", &[(1, 1)])]);
        writer.write(&[placed(&first), placed(&second)], at(1)).await.expect("written");
        assert_eq!(ground.shelves("A").await, [(1, 10, 5), (2, 5, 5)]);

        let names: Vec<String> = (0..300).map(|number| format!("user{number}")).collect();
        let mut batch: Vec<Change> = names.iter().map(|name| set_in(&mut Cart::default(), name, "A", 7)).collect();
        batch.push(moved(&payed(&first), Movement::WriteOff));
        batch.push(moved(&cancelled(&second), Movement::Release));
        batch.extend((10..15).map(|id| placed(&reserved(id, "bob", &[("A", &[(1, 1)]), ("B", &[(1, 2)])]))));
        let verdicts = writer.write(&batch, at(2)).await.expect("written");
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Written), "{verdicts:?}");
        assert_eq!(verdicts.len(), batch.len());

        assert_eq!(ground.shelves("A").await, [(1, 8, 5), (2, 5, 0)]);
        assert_eq!(ground.shelves("B").await, [(1, 10, 10)]);
        assert_eq!(ground.cart("user299").await.lines()[0].count.units(), 7);
        let last = ground.store.history(OrderId(14)).await.expect("read");
        assert_eq!(last[1].event_id, format!("{}-{}", identity.writer_id, 4 + 2 + 10), "one number per event");
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn an_edit_of_a_cart_that_has_changed_is_stale() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let mut cart = Cart::default();
        for units in [1, 2] {
            writer.write(&[set_in(&mut cart, "ann", "A", units)], at(1)).await.expect("written");
        }
        check_alone(ground, &mut *writer, || set_in(&mut Cart::new(1, vec![]), "ann", "B", 5), Refused::Stale).await;
        assert_eq!(ground.cart("ann").await, cart);
    })
    .await;
}

#[tokio::test]
async fn the_purchase_of_a_cart_that_has_changed_is_stale() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let mut cart = Cart::default();
        for units in [1, 2] {
            writer.write(&[set_in(&mut cart, "ann", "A", units)], at(1)).await.expect("written");
        }
        let order = reserved(1, "ann", &[("A", &[(1, 1)])]);
        let purchase = |version| {
            let (order, emptied_cart_version) = (Arc::clone(&order), Some(version));
            Change::OrderPlaced { order, shortages: vec![], emptied_cart_version, key: None }
        };
        check_alone(ground, &mut *writer, || purchase(2), Refused::Stale).await;
        assert_eq!((ground.cart("ann").await, ground.order(1).await), (cart, None));
        assert_eq!(ground.shelves("A").await[0], (1, 10, 0));

        writer.write(&[purchase(3)], at(300)).await.expect("written");
        assert_eq!(ground.cart("ann").await, Cart::new(3, vec![]));
        assert_eq!(ground.order(1).await.as_ref(), Some(&*order));
    })
    .await;
}

#[tokio::test]
async fn a_step_of_an_order_that_has_taken_another_is_stale() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let order = reserved(1, "ann", &[("A", &[(1, 4)])]);
        let (payed, cancelled) = (payed(&order), cancelled(&order));
        writer.write(&[placed(&order)], at(1)).await.expect("written");
        writer.write(&[moved(&payed, Movement::WriteOff)], at(2)).await.expect("written");
        check_alone(ground, &mut *writer, || moved(&cancelled, Movement::Release), Refused::Stale).await;
        assert_eq!(ground.order(1).await.as_ref(), Some(&*payed));
        assert_eq!(ground.shelves("A").await[0], (1, 6, 0));
    })
    .await;
}

#[tokio::test]
async fn an_order_that_takes_more_than_there_is_is_short() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let taken = reserved(1, "ann", &[("A", &[(1, 8)])]);
        writer.write(&[placed(&taken)], at(1)).await.expect("written");
        let too_many = reserved(2, "ann", &[("A", &[(1, 3)]), ("B", &[(1, 1)])]);
        check_alone(ground, &mut *writer, || placed(&too_many), Refused::Short).await;
        let nowhere = reserved(3, "ann", &[("A", &[(9, 1)])]);
        let verdicts = writer.write(&[placed(&nowhere)], at(300)).await.expect("written");
        assert_eq!(verdicts, [REFUSED(Refused::Short)], "there is no such shelf");
        assert_eq!((ground.order(2).await, ground.order(3).await), (None, None));
        assert_eq!(ground.shelves("B").await, [(1, 10, 0)], "nothing of it was taken");
    })
    .await;
}

#[tokio::test]
async fn of_two_orders_in_one_batch_the_first_gets_the_last_unit() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let orders = [1, 2, 3].map(|id| placed(&reserved(id, "ann", &[("B", &[(1, 5)])])));
        let verdicts = writer.write(&orders, at(1)).await.expect("written");
        assert_eq!(verdicts, [Verdict::Written, Verdict::Written, REFUSED(Refused::Short)]);
        assert_eq!(ground.shelves("B").await, [(1, 10, 10)]);
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_there_already_is_taken() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let first = reserved(1, "ann", &[("A", &[(1, 1)])]);
        writer.write(&[placed_with_key(&first, "k")], at(1)).await.expect("written");
        let second = reserved(2, "ann", &[("A", &[(1, 1)])]);
        check_alone(ground, &mut *writer, || placed_with_key(&second, "k"), Refused::KeyTaken).await;
        assert_eq!((ground.order(2).await, ground.shelves("A").await[0]), (None, (1, 10, 1)));

        let pair = [3, 4].map(|id| placed_with_key(&reserved(id, "ann", &[("A", &[(1, 1)])]), "twice"));
        let verdicts = writer.write(&pair, at(300)).await.expect("written");
        assert_eq!(verdicts, [Verdict::Written, REFUSED(Refused::KeyTaken)], "also within one batch");
        let edit = Change::StockEdited { edit: adjustment(("A", 1, 5)), key: Some(keyed("k")) };
        let verdicts = writer.write(&[edit], at(301)).await.expect("written");
        assert_eq!((verdicts, ground.shelves("A").await[0]), (vec![REFUSED(Refused::KeyTaken)], (1, 10, 2)));
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn a_stock_edit_below_what_is_reserved_is_refused_and_names_its_rows() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let order = reserved(1, "ann", &[("A", &[(1, 5)]), ("B", &[(1, 5)])]);
        writer.write(&[placed(&order)], at(1)).await.expect("written");
        let rows = [("C", 1, 1), ("A", 1, 4), ("A", 2, 0), ("B", 1, 4)].map(shelf_edit);
        let verdicts = writer.write(&[counts(&rows)], at(2)).await.expect("written");
        let [Verdict::Refused(Refused::BelowReserved(positions))] = &verdicts[..] else { panic!("{verdicts:?}") };
        let mut positions = positions.clone();
        positions.sort_unstable();
        assert_eq!(positions, [1, 3]);
        assert_eq!((ground.shelves("C").await[0].1, ground.shelves("A").await[1].1), (10, 5), "all rows or none");
        for (row, refused) in
            [(("A", 1, -6), true), (("NEW", 1, -1), true), (("A", 1, -5), false), (("NEW", 1, 1), false)]
        {
            let edit = Change::StockEdited { edit: adjustment(row), key: None };
            let verdicts = writer.write(&[edit], at(3)).await.expect("written");
            let below = REFUSED(Refused::BelowReserved(vec![0]));
            assert_eq!(verdicts[0] == below, refused, "{row:?}: {verdicts:?}");
        }
        assert_eq!((ground.shelves("A").await[0], ground.shelves("NEW").await), ((1, 5, 5), vec![(1, 1, 0)]));
        let next = reserved(2, "ann", &[("C", &[(1, 1)])]);
        assert_eq!(writer.write(&[placed(&next)], at(4)).await.expect("written"), [Verdict::Written]);
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_of_bad_changes_writes_nothing_and_the_next_one_does() {
    on_each_store(async |ground| {
        let (identity, mut writer) = ground.stocked().await;
        let stale = |name: &str| set_in(&mut Cart::new(5, vec![]), name, "A", 1);
        let short = placed(&reserved(1, "ann", &[("A", &[(1, 11)])]));
        let batch = [stale("ann"), short, stale("bob")];
        let verdicts = writer.write(&batch, at(1)).await.expect("written");
        assert_eq!(verdicts, [Refused::Stale, Refused::Short, Refused::Stale].map(REFUSED));
        let known: UserId = user("ann");
        assert_eq!(ground.store.cart(&known).await.expect("read"), Cart::default());
        writer.write(&[placed(&reserved(2, "ann", &[("A", &[(1, 1)])]))], at(2)).await.expect("written");
        let history = ground.store.history(OrderId(2)).await.expect("read");
        assert_eq!(history[0].event_id, format!("{}-1", identity.writer_id), "a refused event has no number");
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn an_order_whose_payment_was_refused_is_not_payed() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let order = reserved(1, "ann", &[("A", &[(1, 1)])]);
        writer.write(&[placed(&order)], at(1)).await.expect("written");
        let refused = Change::PaymentRefused { order: payment_refused(&order) };
        writer.write(&[refused], at(2)).await.expect("written");
        let verdicts = writer.write(&[moved(&payed(&order), Movement::WriteOff)], at(3)).await.expect("written");
        assert_eq!(verdicts, [Verdict::Refused(Refused::Stale)]);
        let verdicts = writer.write(&[moved(&cancelled(&order), Movement::Release)], at(4)).await.expect("written");
        assert_eq!(verdicts, [Verdict::Written]);
        ground.assert_books_are_right().await;
    })
    .await;
}
