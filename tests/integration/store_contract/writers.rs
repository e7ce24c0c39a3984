//! Writers: who may write, what a new epoch does to the old one, and which numbers are given.

use loms::domain::Time;
use loms::store::{NOBODY, OtherWriter, Verdict, WRITER_DEAD_AFTER_MS, WriteError};

use super::{at, on_each_store, placed, reserved, set_in};

#[tokio::test]
async fn a_reopened_writer_goes_on_and_its_predecessor_is_refused() {
    on_each_store(async |ground| {
        let (identity, mut old) = ground.stocked().await;
        let order = reserved(1, "ann", &[("A", &[(1, 1)])]);
        old.write(&[placed(&order)], at(1)).await.expect("written");
        assert_eq!(old.last_batch(), 2);

        let new = ground.store.reopen_writer(identity, at(2)).await.expect("asked");
        let mut new = new.expect("the row is still its own");
        assert_eq!(new.last_batch(), 2, "it knows what was committed");
        let late = reserved(2, "ann", &[("A", &[(1, 1)])]);
        let refused = old.write(&[placed(&late)], at(3)).await;
        assert!(matches!(refused, Err(WriteError::Replaced)), "{refused:?}");
        drop(old);
        assert_eq!(ground.order(2).await, None);

        let verdicts = new.write(&[placed(&late)], at(4)).await.expect("written");
        assert_eq!((verdicts, new.last_batch()), (vec![Verdict::Written], 3));
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn living_writers_are_two_and_both_write() {
    on_each_store(async |ground| {
        let (one, mut first) = ground.stocked().await;
        let (other, mut second) = ground.store.open_writer(18, at(1)).await.expect("a writer");
        assert_ne!(one.writer_id, other.writer_id);
        for id in 1..=3 {
            let writer = if id == 2 { &mut second } else { &mut first };
            let order = reserved(id, "ann", &[("B", &[(1, 1)])]);
            assert_eq!(writer.write(&[placed(&order)], at(id)).await.expect("written"), [Verdict::Written]);
        }
        assert_eq!(ground.shelves("B").await, [(1, 10, 3)]);
        let event = async |id| ground.store.history(loms::domain::OrderId(id)).await.expect("read")[1].event_id.clone();
        assert_eq!(event(1).await, format!("{}-2", one.writer_id));
        assert_eq!(event(2).await, format!("{}-2", other.writer_id));
        assert_eq!(event(3).await, format!("{}-4", one.writer_id), "each numbers its own, densely");
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn a_dead_writer_is_taken_over_with_its_numbers() {
    on_each_store(async |ground| {
        let (dead, mut old) = ground.stocked().await;
        let order = reserved(1, "ann", &[("A", &[(1, 1)])]);
        old.write(&[placed(&order)], at(1)).await.expect("written");
        let later: Time = at(2 + WRITER_DEAD_AFTER_MS);
        let (heir, mut new) = ground.store.open_writer(18, later).await.expect("a writer");
        assert_eq!((heir.writer_id, heir.owner, new.last_batch()), (dead.writer_id, 18, 2));

        let order = reserved(2, "ann", &[("A", &[(1, 1)])]);
        let refused = old.write(&[placed(&order)], later).await;
        assert!(matches!(refused, Err(WriteError::Replaced)), "{refused:?}");
        drop(old);
        let reopened = ground.store.reopen_writer(dead, later).await.expect("asked");
        assert!(reopened.is_none(), "the row is another's now");
        assert_eq!(new.write(&[placed(&order)], later).await.expect("written"), [Verdict::Written]);
        let history = ground.store.history(order.id).await.expect("read");
        assert_eq!(history[0].event_id, format!("{}-3", heir.writer_id), "the numbers go on where they were");
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_shows_itself_is_not_taken_over() {
    on_each_store(async |ground| {
        let (living, mut writer) = ground.stocked().await;
        writer.write(&[], at(WRITER_DEAD_AFTER_MS)).await.expect("shown");
        let (other, _) = ground.store.open_writer(18, at(2 + WRITER_DEAD_AFTER_MS)).await.expect("a writer");
        assert_ne!(living.writer_id, other.writer_id);
        writer.write(&[], at(3 + WRITER_DEAD_AFTER_MS)).await.expect("it still writes");
    })
    .await;
}

#[tokio::test]
async fn the_number_of_the_last_batch_survives() {
    on_each_store(async |ground| {
        let (identity, mut writer) = ground.writer().await;
        let mut cart = loms::domain::cart::Cart::default();
        for units in 1..=5 {
            writer.write(&[set_in(&mut cart, "ann", "A", units)], at(units)).await.expect("written");
        }
        assert_eq!(writer.last_batch(), 5);
        drop(writer);
        let reopened = ground.store.reopen_writer(identity, at(6)).await.expect("asked").expect("its own");
        assert_eq!(reopened.last_batch(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_place_that_is_given_back_is_free_at_once() {
    on_each_store(async |ground| {
        let (gone, mut writer) = ground.stocked().await;
        writer.write(&[placed(&reserved(1, "ann", &[("A", &[(1, 1)])]))], at(1)).await.expect("written");
        assert_eq!(ground.store.abandoned(at(2), gone.writer_id + 1).await.expect("read"), []);
        writer.close().await;
        assert_eq!(ground.store.other_writers(NOBODY).await.expect("read"), []);
        let left = ground.store.abandoned(at(2), gone.writer_id + 1).await.expect("read");
        assert_eq!(left.len(), 1, "its events are left to others");
        assert!(ground.store.reopen_writer(gone, at(2)).await.expect("asked").is_none(), "it is nobody's");

        let (heir, mut new) = ground.store.open_writer(18, at(2)).await.expect("a writer");
        assert_eq!((heir.writer_id, new.last_batch(), new.found_others()), (gone.writer_id, 2, false));
        let order = reserved(2, "ann", &[("A", &[(1, 1)])]);
        assert_eq!(new.write(&[placed(&order)], at(3)).await.expect("written"), [Verdict::Written]);
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn writers_see_each_other() {
    on_each_store(async |ground| {
        let (one, first) = ground.stocked().await;
        assert!(!first.found_others(), "nobody was there");
        let (other, mut second) = ground.store.open_writer(18, at(1)).await.expect("a writer");
        assert!(second.found_others());
        let seen_by = async |owner| ground.store.other_writers(owner).await.expect("read");
        assert_eq!(seen_by(18).await, [OtherWriter { writer_id: one.writer_id, epoch: 1, seen_at: at(0) }]);
        assert_eq!(seen_by(17).await, [OtherWriter { writer_id: other.writer_id, epoch: 1, seen_at: at(1) }]);
        second.write(&[], at(2)).await.expect("shown");
        assert_eq!(seen_by(17).await[0].seen_at, at(2));

        // What is taken over from the dead was somebody's until now.
        let later = at(3 + WRITER_DEAD_AFTER_MS);
        second.close().await;
        let (heir, third) = ground.store.open_writer(19, later).await.expect("a writer");
        assert_eq!((heir.writer_id, third.found_others()), (one.writer_id, true));
        assert_eq!(seen_by(19).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_writer_is_dismissed_as_it_was_seen_or_not_at_all() {
    on_each_store(async |ground| {
        let (_, mut first) = ground.stocked().await;
        let (other, _second) = ground.store.open_writer(18, at(1)).await.expect("a writer");
        let seen = ground.store.other_writers(other.owner).await.expect("read").pop().expect("the first");
        first.write(&[], at(2)).await.expect("shown");
        ground.store.dismiss_writer(&seen).await.expect("asked");
        first.write(&[], at(3)).await.expect("it has shown that it lives");

        let seen = ground.store.other_writers(other.owner).await.expect("read").pop().expect("the first");
        ground.store.dismiss_writer(&seen).await.expect("asked");
        assert_eq!(ground.store.other_writers(other.owner).await.expect("read"), []);
        let order = reserved(1, "ann", &[("A", &[(1, 1)])]);
        let refused = first.write(&[placed(&order)], at(4)).await;
        assert!(matches!(refused, Err(WriteError::Replaced)), "{refused:?}");
        assert_eq!(ground.order(1).await, None);
    })
    .await;
}

#[tokio::test]
async fn an_order_id_is_given_once() {
    on_each_store(async |ground| {
        let mut last = 0;
        for count in [1, 100, 3] {
            let ids = ground.store.take_order_ids(count).await.expect("taken");
            assert!(ids.start > last && ids.end - ids.start == count, "{ids:?} after {last}");
            last = ids.end - 1;
        }
        let takers: Vec<_> = (0..10)
            .map(|_| {
                let store = std::sync::Arc::clone(&ground.store);
                tokio::spawn(async move { store.take_order_ids(10).await.expect("taken") })
            })
            .collect();
        let mut ids = Vec::new();
        for taker in takers {
            ids.extend(taker.await.expect("taken"));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), ids[0]), (100, last + 1));
    })
    .await;
}
