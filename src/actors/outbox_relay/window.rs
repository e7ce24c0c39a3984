//! A window of committed events, on its way to the outlet.

use std::sync::Arc;

use crate::domain::{EventId, Offer, OrderEvent, Time};
use crate::notifications::{Outlet, OutletError};
use crate::store::{Store, StoreError, in_time};

/// What an attempt to hand events over has come to.
pub(super) struct Relayed {
    pub outlet: Box<dyn Outlet>,
    pub result: Result<Taken, RelayError>,
}

pub(super) enum Taken {
    /// This writer's events up to that one.
    Own(EventId),
    /// A window of what each dead writer left; or there is nothing to be had of them now.
    Adopted { some: bool },
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error(transparent)]
    Outlet(#[from] OutletError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the event after {0} was committed, but is not there")]
    Missing(EventId),
    #[error("the event {0} waits for what another writer has to tell of the same order")]
    Held(EventId),
}

/// What is kept in memory.
pub(super) async fn hand_over_fresh(
    store: Arc<dyn Store>,
    mut outlet: Box<dyn Outlet>,
    after: EventId,
    events: Vec<OrderEvent>,
) -> Relayed {
    let taken = deliver(&*store, &mut *outlet, &events, Offer::First).await;
    Relayed { outlet, result: own(taken, after) }
}

/// One window of this writer's events, as the database has them.
pub(super) async fn hand_over(
    store: Arc<dyn Store>,
    mut outlet: Box<dyn Outlet>,
    after: EventId,
    window_events: u32,
) -> Relayed {
    let taken = hand_over_window(&*store, &mut *outlet, after, window_events).await;
    Relayed { outlet, result: own(taken, after) }
}

fn own(taken: Result<Option<EventId>, RelayError>, after: EventId) -> Result<Taken, RelayError> {
    taken?.map(Taken::Own).ok_or(RelayError::Missing(after))
}

async fn hand_over_window(
    store: &dyn Store,
    outlet: &mut dyn Outlet,
    after: EventId,
    window_events: u32,
) -> Result<Option<EventId>, RelayError> {
    let events = in_time(store.events_after(after, window_events)).await?;
    deliver(store, outlet, &events, Offer::Again).await
}

/// What happens to an order is told in its order, whoever has written it: an event is held until those
/// of other writers before it are published, and holds those behind it. Gives the last that was taken.
async fn deliver(
    store: &dyn Store,
    outlet: &mut dyn Outlet,
    events: &[OrderEvent],
    offer: Offer,
) -> Result<Option<EventId>, RelayError> {
    let Some(first) = events.first() else { return Ok(None) };
    let ready = &events[..in_time(store.ready(events)).await?];
    let Some(last) = ready.last() else { return Err(RelayError::Held(first.id)) };
    outlet.deliver(ready, offer).await?;
    Ok(Some(last.id))
}

/// One window of what each dead writer left. Before the next it is looked again who is dead, for a process that took the
/// place of one tells the rest itself.
pub(super) async fn hand_over_abandoned(
    store: Arc<dyn Store>,
    mut outlet: Box<dyn Outlet>,
    now: Time,
    own: i32,
    window_events: u32,
) -> Relayed {
    let result = adopt(&*store, &mut *outlet, now, own, window_events).await.map(|some| Taken::Adopted { some });
    Relayed { outlet, result }
}

async fn adopt(
    store: &dyn Store,
    outlet: &mut dyn Outlet,
    now: Time,
    own: i32,
    window_events: u32,
) -> Result<bool, RelayError> {
    let mut some = false;
    for cursor in in_time(store.abandoned(now, own)).await? {
        match hand_over_window(store, outlet, cursor, window_events).await {
            Ok(Some(last)) => {
                in_time(store.mark_published(last)).await?;
                tracing::info!(writer.id = last.writer, event.seq = last.seq, "handed on what a dead writer left");
                some = true;
            }
            // Another one may free it.
            Ok(None) | Err(RelayError::Held(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(some)
}
