//! The outlet without a broker: the same notifier, in this process.
//!
//! What has to be tried again stands in the database with its time, so it survives a stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::domain::{Offer, OrderEvent, Time};
use crate::store::{Store, StoreError, in_time};

use super::notifier::{Notifier, Source, Verdict};
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
/// At a stop, what is being sent ends within this time.
const END_MS_MAX: u64 = 5_000;

pub struct InProcess(pub Arc<Notifier>);

#[async_trait]
impl Outlet for InProcess {
    async fn deliver(&mut self, events: &[OrderEvent], offer: Offer) -> Result<(), OutletError> {
        let began = Instant::now();
        let verdicts = self.0.notify(events, Source::Relay(offer)).await.map_err(OutletError::Store)?;
        if verdicts.contains(&Verdict::InHand) {
            return Err(OutletError::InHand);
        }
        if events.len() <= FEW_EVENTS_MAX {
            tokio::time::sleep(Duration::from_millis(DELIVERY_PAUSE_MS).saturating_sub(began.elapsed())).await;
        }
        Ok(())
    }

    async fn close(&mut self) {}
}

/// The task that tries again.
pub struct Retries {
    pub notifier: Arc<Notifier>,
    pub task: JoinHandle<()>,
}

impl Retries {
    /// What is being sent comes to its end, and no more.
    pub fn stop(&self) {
        self.notifier.stop();
    }

    /// Returns when it has stopped, or after some time.
    pub async fn ended(self) {
        if tokio::time::timeout(Duration::from_millis(END_MS_MAX), self.task).await.is_err() {
            tracing::warn!("what is being sent does not end; it may be sent again");
        }
    }
}

/// Tries again what is due, until the notifier stops. Of several processes, the one with the lowest writer does.
pub async fn retry(notifier: Arc<Notifier>, store: Arc<dyn Store>, clock: Arc<dyn Clock>, writer: i32) {
    while !notifier.is_stopping() {
        if let Err(error) = retry_once(&notifier, &*store, clock.now(), writer).await {
            tracing::warn!(%error, "what is to be notified again could not be read");
        }
        tokio::time::sleep(Duration::from_millis(RETRY_PAUSE_MS)).await;
    }
}

async fn retry_once(notifier: &Notifier, store: &dyn Store, now: Time, writer: i32) -> Result<(), StoreError> {
    let due = in_time(store.due(now, writer, &notifier.channels(), RETRY_EVENTS_MAX)).await?;
    if !due.is_empty() {
        notifier.notify(&in_time(store.events(&due)).await?, Source::Retry).await?;
    }
    Ok(())
}
