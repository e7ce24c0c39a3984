//! The outbox: what others have not heard of yet, and how far they have.

use loms::domain::order::Status;
use loms::domain::{EventId, EventKind, Offer, OrderEvent, Step};
use loms::store::notification_log::{Attempt, Told};
use loms::store::{Change, Movement, Refused, Verdict, WRITER_DEAD_AFTER_MS};

use super::{at, cancelled, failed, moved, on_each_store, payed, payment_refused, placed, reserved};

#[tokio::test]
async fn events_are_read_as_the_changes_that_wrote_them_tell() {
    on_each_store(async |ground| {
        let (identity, mut writer) = ground.stocked().await;
        let first = reserved(1, "ann", &[("A", &[(1, 1)])]);
        let (second, third) = (failed(2), payed(&first));
        writer.write(&[placed(&first), placed(&second)], at(1)).await.expect("written");
        writer.write(&[moved(&third, Movement::WriteOff)], at(2)).await.expect("written");
        let refused = payment_refused(&second);
        writer.write(&[Change::PaymentRefused { order: refused.clone() }], at(2)).await.expect("written");

        let start = ground.store.published(identity.writer_id).await.expect("read");
        let read = ground.store.events_after(start, 10).await.expect("read");
        let mut told = Vec::new();
        let steps =
            [(&first, Step::Placed), (&second, Step::Placed), (&third, Step::Moved), (&refused, Step::PaymentRefused)];
        for (order, step) in steps {
            let next = EventId { seq: start.seq + 1 + i64::try_from(told.len()).expect("a few"), ..start };
            told.extend(OrderEvent::of_step(order, step, next));
        }
        assert_eq!(read, told);
        assert_eq!(ground.store.events_after(told[1].id, 2).await.expect("read"), told[2..4]);
        let ids: Vec<_> = told.iter().map(|event| event.id).collect();
        assert_eq!(ground.store.last_events().await.expect("read"), [ids[5]]);
        assert_eq!(ground.store.events(&ids[1..3]).await.expect("read"), told[1..3]);

        writer.keep_published(ids[2].seq);
        let (own, heir) = (identity.writer_id, identity.writer_id + 1);
        assert_eq!(ground.store.abandoned(at(3), heir).await.expect("read"), []);
        writer.write(&[], at(4)).await.expect("written");
        assert_eq!(ground.store.published(identity.writer_id).await.expect("read"), ids[2]);
        let dead = at(5 + WRITER_DEAD_AFTER_MS);
        assert_eq!(ground.store.abandoned(dead, heir).await.expect("read"), [ids[2]]);
        assert_eq!(ground.store.abandoned(dead, own).await.expect("read"), [], "nobody is the heir of itself");
        ground.store.mark_published(ids[5]).await.expect("marked");
        ground.store.mark_published(ids[4]).await.expect("marked");
        assert_eq!(ground.store.published(identity.writer_id).await.expect("read"), ids[5], "it never goes back");
        assert_eq!(ground.store.abandoned(dead, heir).await.expect("read"), []);
    })
    .await;
}

#[tokio::test]
async fn a_refused_payment_is_kept_once_and_is_no_change_of_status() {
    on_each_store(async |ground| {
        let (identity, mut writer) = ground.stocked().await;
        let first = reserved(1, "ann", &[("A", &[(1, 1)])]);
        writer.write(&[placed(&first)], at(1)).await.expect("written");
        let refused = Change::PaymentRefused { order: payment_refused(&first) };
        assert_eq!(writer.write(std::slice::from_ref(&refused), at(2)).await.expect("written"), [Verdict::Written]);
        let again = writer.write(std::slice::from_ref(&refused), at(3)).await.expect("written");
        assert_eq!(again, [Verdict::Refused(Refused::Stale)]);

        // Whoever cancels it may not have heard of the payment.
        let last = cancelled(&first);
        writer.write(&[moved(&last, Movement::Release)], at(4)).await.expect("written");
        let stale = writer.write(&[refused], at(5)).await.expect("written");
        assert_eq!(stale, [Verdict::Refused(Refused::Stale)]);

        let order = ground.order(1).await.expect("the order");
        assert_eq!((order.status, order.version), (Status::Cancelled, 3));
        assert_eq!(order.payment_refused_at, payment_refused(&first).payment_refused_at);
        let history = ground.store.history(order.id).await.expect("read");
        let statuses: Vec<Status> = history.iter().map(|entry| entry.status).collect();
        assert_eq!(statuses, [Status::New, Status::AwaitingPayment, Status::Cancelled]);
        let start = EventId { writer: identity.writer_id, seq: 2 };
        let read = ground.store.events_after(start, 1).await.expect("read");
        assert_eq!((read[0].kind, read[0].status), (EventKind::PaymentRefused, Status::AwaitingPayment));
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_is_held_while_another_writer_has_to_tell_of_its_order() {
    on_each_store(async |ground| {
        let (one, mut first) = ground.stocked().await;
        let (other, mut second) = ground.store.open_writer(18, at(1)).await.expect("a writer");
        let orders = [1, 2].map(|id| reserved(id, "ann", &[("A", &[(1, 1)])]));
        first.write(&[placed(&orders[0])], at(1)).await.expect("written");
        second.write(&[placed(&orders[1])], at(2)).await.expect("written");
        second.write(&[moved(&cancelled(&orders[0]), Movement::Release)], at(3)).await.expect("written");
        let told = payment_refused(&cancelled(&orders[0]));
        second.write(&[Change::PaymentRefused { order: told }], at(4)).await.expect("written");

        let events = async |writer: i32| ground.store.events_after(EventId { writer, seq: 0 }, 10).await.expect("read");
        let (early, late) = (events(one.writer_id).await, events(other.writer_id).await);
        let ready = async |events: &[OrderEvent]| ground.store.ready(events).await.expect("read");
        assert_eq!((early.len(), ready(&early).await), (2, 2), "what comes later holds nothing");
        assert_eq!((late.len(), ready(&late).await), (4, 2));
        assert_eq!((ready(&late[2..]).await, ready(&late[3..]).await, ready(&[]).await), (0, 0, 0));
        ground.store.mark_published(early[0].id).await.expect("marked");
        assert_eq!(ready(&late).await, 2);
        ground.store.mark_published(early[1].id).await.expect("marked");
        assert_eq!(ready(&late).await, 4);
    })
    .await;
}

#[tokio::test]
async fn what_users_are_still_to_be_told_of_is_found() {
    on_each_store(async |ground| {
        let (identity, mut writer) = ground.stocked().await;
        let start = ground.store.published(identity.writer_id).await.expect("read");
        let orders = [1, 2, 3, 4].map(failed);
        writer.write(&orders.each_ref().map(placed), at(1)).await.expect("written");
        let mut events = ground.store.events_after(start, 100).await.expect("read");
        events.retain(|event| event.status == Status::Failed);
        let [sent, waiting, given_up, unknown] = &events[..] else { panic!("{events:?}") };
        let attempts = [
            (sent, "log", Told::Sent),
            (sent, "webhook", Told::Skipped),
            (waiting, "log", Told::Sent),
            (waiting, "webhook", Told::Waiting),
            (given_up, "webhook", Told::Failed),
        ];
        let attempts = attempts.map(|(event, channel, told)| Attempt {
            event,
            channel,
            told,
            attempts: 1,
            reason: None,
            at: at(2),
            next_attempt_at: None,
        });
        ground.store.record(&attempts, Offer::First).await.expect("recorded");

        let untold = async |after, until| ground.store.untold(after, until).await.expect("read");
        assert_eq!(untold(start, unknown.id.seq).await, [waiting.id, unknown.id]);
        assert_eq!(untold(start, unknown.id.seq - 1).await, [waiting.id]);
        assert_eq!(untold(waiting.id, i64::MAX).await, [unknown.id]);
        assert_eq!(untold(EventId { writer: start.writer + 1, seq: 0 }, i64::MAX).await, []);
    })
    .await;
}
