//! What nobody else does any more, one living process does: the one whose writer has the lowest number.

use loms::domain::{EventId, Offer};
use loms::store::WRITER_DEAD_AFTER_MS;
use loms::store::notification_log::{Attempt, Told};

use super::{at, failed, on_each_store, placed};

#[tokio::test]
async fn what_a_dead_writer_left_is_told_by_one_of_the_living() {
    on_each_store(async |ground| {
        let (first, _writer) = ground.stocked().await;
        let (second, mut other) = ground.store.open_writer(18, at(1)).await.expect("a writer");
        let (gone, mut last) = ground.store.open_writer(19, at(1)).await.expect("a writer");
        last.write(&[placed(&failed(1))], at(1)).await.expect("written");
        last.close().await;
        let left = EventId { writer: gone.writer_id, seq: 0 };

        let abandoned = async |now, heir| ground.store.abandoned(now, heir).await.expect("read");
        assert_eq!(abandoned(at(2), first.writer_id).await, [left]);
        assert_eq!(abandoned(at(2), second.writer_id).await, []);
        let first_is_dead = at(2 + WRITER_DEAD_AFTER_MS);
        other.write(&[], first_is_dead).await.expect("written");
        assert_eq!(abandoned(first_is_dead, second.writer_id).await, [left]);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_due_is_given_to_one_of_the_living_once() {
    on_each_store(async |ground| {
        let (first, mut writer) = ground.stocked().await;
        let (second, mut other) = ground.store.open_writer(18, at(1)).await.expect("a writer");
        let start = ground.store.published(first.writer_id).await.expect("read");
        writer.write(&[placed(&failed(1)), placed(&failed(2))], at(1)).await.expect("written");
        let events = ground.store.events_after(start, 10).await.expect("read");
        let attempt = |at_event: usize, channel, told, due: Option<i64>| Attempt {
            event: &events[at_event],
            channel,
            told,
            attempts: 1,
            reason: None,
            at: at(2),
            next_attempt_at: due.map(at),
        };
        let attempts = [
            attempt(1, "mail", Told::Waiting, Some(5)),
            attempt(1, "webhook", Told::Waiting, Some(6)),
            attempt(3, "mail", Told::Sent, None),
            attempt(3, "webhook", Told::Waiting, Some(50)),
        ];
        ground.store.record(&attempts, Offer::First).await.expect("recorded");

        let both = ["mail", "webhook"];
        let due = async |now, heir, limit| ground.store.due(now, heir, &both, limit).await.expect("read");
        assert_eq!(due(at(4), first.writer_id, 10).await, []);
        assert_eq!(due(at(9), first.writer_id, 10).await, [events[1].id]);
        assert_eq!(due(at(60), first.writer_id, 1).await, [events[1].id]);
        let by_mail = ground.store.due(at(60), first.writer_id, &["mail"], 10).await.expect("read");
        assert_eq!(by_mail, [events[1].id], "what waits for another channel is not in the way");
        assert_eq!(ground.store.due(at(60), first.writer_id, &["log"], 10).await.expect("read"), []);
        assert_eq!(due(at(9), second.writer_id, 10).await, []);
        let first_is_dead = at(2 + WRITER_DEAD_AFTER_MS);
        other.write(&[], first_is_dead).await.expect("written");
        let mut both = due(first_is_dead, second.writer_id, 10).await;
        both.sort_unstable();
        assert_eq!(both, [events[1].id, events[3].id]);
    })
    .await;
}
