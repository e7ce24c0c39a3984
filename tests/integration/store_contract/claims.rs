//! Of several notifiers, one has an event in hand.

use std::collections::HashSet;
use std::time::Duration;

use loms::domain::EventId;

use super::on_each_shared_store;
use crate::support::client::eventually;

const fn event(seq: i64) -> EventId {
    EventId { writer: 1, seq }
}

#[tokio::test]
async fn an_event_is_in_one_hand_until_that_lets_go() {
    on_each_shared_store(async |ground| {
        let claim = async |events: &[EventId]| ground.store.claim(events).await.expect("claimed");
        let first = claim(&[event(1), event(2), event(1)]).await;
        assert_eq!(first.elsewhere, HashSet::new());
        let second = claim(&[event(2), event(3), EventId { writer: 2, seq: 1 }]).await;
        assert_eq!(second.elsewhere, HashSet::from([event(2)]));
        first.release().await.expect("released");
        let third = claim(&[event(1), event(2), event(3)]).await;
        assert_eq!(third.elsewhere, HashSet::from([event(3)]));

        // Dropped in the middle, as by a program that is told to stop.
        drop((second, third));
        let free = async || claim(&[event(1), event(2), event(3)]).await.elsewhere.is_empty();
        assert!(eventually(Duration::from_secs(10), free).await, "they are in hand for ever");
    })
    .await;
}
