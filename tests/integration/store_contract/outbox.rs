//! The outbox: what others have not heard of yet, and how far they have.

use loms::domain::{EventId, OrderEvent};
use loms::store::{Movement, WRITER_DEAD_AFTER_MS};

use super::{at, failed, moved, on_each_store, payed, placed, reserved};

#[tokio::test]
async fn events_are_read_as_the_changes_that_wrote_them_tell() {
    on_each_store(async |ground| {
        let (identity, mut writer) = ground.stocked().await;
        let first = reserved(1, "ann", &[("A", &[(1, 1)])]);
        let (second, third) = (failed(2), payed(&first));
        writer.write(&[placed(&first), placed(&second)], at(1)).await.expect("written");
        writer.write(&[moved(&third, Movement::WriteOff)], at(2)).await.expect("written");

        let start = ground.store.published(identity.writer_id).await.expect("read");
        let read = ground.store.events_after(start, 10).await.expect("read");
        let mut told = Vec::new();
        for order in [&first, &second, &third] {
            let next = EventId { seq: start.seq + 1 + i64::try_from(told.len()).expect("a few"), ..start };
            told.extend(OrderEvent::of_change(order, next));
        }
        assert_eq!(read, told);
        assert_eq!(ground.store.events_after(told[1].id, 2).await.expect("read"), told[2..4]);
        let ids: Vec<_> = told.iter().map(|event| event.id).collect();
        assert_eq!(ground.store.last_events().await.expect("read"), [ids[4]]);
        assert_eq!(ground.store.events(&ids[1..3]).await.expect("read"), told[1..3]);

        writer.keep_published(ids[2].seq);
        assert_eq!(ground.store.abandoned(at(3)).await.expect("read"), []);
        writer.write(&[], at(4)).await.expect("written");
        assert_eq!(ground.store.published(identity.writer_id).await.expect("read"), ids[2]);
        let dead = at(5 + WRITER_DEAD_AFTER_MS);
        assert_eq!(ground.store.abandoned(dead).await.expect("read"), [ids[2]]);
        ground.store.mark_published(ids[4]).await.expect("marked");
        ground.store.mark_published(ids[3]).await.expect("marked");
        assert_eq!(ground.store.published(identity.writer_id).await.expect("read"), ids[4], "it never goes back");
        assert_eq!(ground.store.abandoned(dead).await.expect("read"), []);
    })
    .await;
}
