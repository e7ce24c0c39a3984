//! The outlet without a broker: the same notifier, in this process.
//!
//! What has to be tried again stands in the database with its time, so it survives a stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::clock::Clock;
use crate::domain::{Offer, OrderEvent, Time};
use crate::store::{Store, StoreError, in_time};

use super::notifier::{Notifier, Source};
use super::{Outlet, OutletError};

/// From one delivery of a few events to the next. The first of some events is told at once; under load
/// many share one commit in this time, for orders wait for the same disk.
const DELIVERY_PAUSE_MS: u64 = 100;
/// So many events share a commit well enough: the next are taken at once.
const FEW_EVENTS_MAX: usize = 1_000;
/// How often it is looked for what is to be tried again.
const RETRY_PAUSE_MS: u64 = 1_000;
/// How many events are tried again at once.
const RETRY_EVENTS_MAX: u32 = 100;

pub struct InProcess(pub Arc<Notifier>);

#[async_trait]
impl Outlet for InProcess {
    async fn deliver(&mut self, events: &[OrderEvent], offer: Offer) -> Result<(), OutletError> {
        let began = Instant::now();
        self.0.notify(events, Source::Outbox(offer)).await.map_err(OutletError::Store)?;
        if events.len() <= FEW_EVENTS_MAX {
            tokio::time::sleep(Duration::from_millis(DELIVERY_PAUSE_MS).saturating_sub(began.elapsed())).await;
        }
        Ok(())
    }

    async fn close(&mut self) {}
}

/// Tries again what is due, until the process ends. Of several processes, the one with the lowest writer does.
pub async fn retry(notifier: Arc<Notifier>, store: Arc<dyn Store>, clock: Arc<dyn Clock>, writer: i32) {
    loop {
        if let Err(error) = retry_once(&notifier, &*store, clock.now(), writer).await {
            tracing::warn!(%error, "what is to be notified again could not be read");
        }
        tokio::time::sleep(Duration::from_millis(RETRY_PAUSE_MS)).await;
    }
}

async fn retry_once(notifier: &Notifier, store: &dyn Store, now: Time, writer: i32) -> Result<(), StoreError> {
    let due = in_time(store.due(now, writer, RETRY_EVENTS_MAX)).await?;
    if !due.is_empty() {
        notifier.notify(&in_time(store.events(&due)).await?, Source::Outbox(Offer::Again)).await?;
    }
    Ok(())
}
