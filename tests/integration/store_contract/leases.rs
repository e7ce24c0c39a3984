//! Of several notifiers, one has an event in hand.

use std::time::Duration;

use loms::domain::EventId;

use super::on_each_store;
use crate::support::client::eventually;

const HOUR: Duration = Duration::from_secs(3_600);

const fn event(seq: i64) -> EventId {
    EventId { writer: 1, seq }
}

#[tokio::test]
async fn an_event_is_in_one_hand_until_that_lets_go() {
    on_each_store(async |ground| {
        let lease = async |events: &[EventId], holder: i64, time_to_live: Duration| {
            let mut leased = ground.store.lease(events, holder, time_to_live).await.expect("answered");
            leased.sort_unstable();
            leased
        };
        let (ann, bob, of_other_writer) = (-1, i64::MAX, EventId { writer: 2, seq: 1 });
        assert_eq!(lease(&[], ann, HOUR).await, []);
        assert_eq!(lease(&[event(2), event(1)], ann, HOUR).await, [event(1), event(2)]);
        assert_eq!(lease(&[event(2), event(3), of_other_writer], bob, HOUR).await, [event(3), of_other_writer]);

        // What others have is not let go, and is not had for asking twice.
        ground.store.release(&[event(1), event(2)], bob).await.expect("released");
        assert_eq!(lease(&[event(1), event(2)], bob, HOUR).await, []);
        ground.store.release(&[event(1)], ann).await.expect("released");
        assert_eq!(lease(&[event(1), event(2)], bob, HOUR).await, [event(1)]);

        // Prolonged, it ends as it was said last; and only who has all of it prolongs it.
        let prolong = async |events: &[EventId], holder: i64, time_to_live: Duration| {
            ground.store.prolong(events, holder, time_to_live).await.expect("answered")
        };
        assert!(!prolong(&[event(1), event(2)], ann, HOUR).await);
        assert!(prolong(&[event(2)], ann, Duration::from_millis(500)).await);
        assert_eq!(lease(&[event(2)], bob, HOUR).await, []);
        let is_over = async || lease(&[event(2)], bob, HOUR).await == [event(2)];
        assert!(eventually(Duration::from_secs(10), is_over).await, "it is in hand for ever");
        assert!(!prolong(&[event(2)], ann, HOUR).await);
        ground.store.release(&[event(2)], bob).await.expect("released");
        assert!(!prolong(&[event(2)], ann, HOUR).await, "what was let go comes back");
        assert_eq!(lease(&[event(2)], bob, HOUR).await, [event(2)]);
    })
    .await;
}
