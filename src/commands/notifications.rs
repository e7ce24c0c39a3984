//! `loms notifications`: consumes events and tells users, until it is told to stop; and puts parked
//! messages back.

use std::io::{Write as _, stdout};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::notifications::notifier::Notifier;
use crate::notifications::{consumer, parking};
use crate::store::{self, Store};

/// Consumes until SIGTERM or SIGINT.
///
/// # Errors
/// Where there is no broker in the settings, or a channel cannot be used.
pub async fn run(settings: &Settings, store: Arc<dyn Store>) -> anyhow::Result<()> {
    let url = settings.amqp_url.as_ref().context("AMQP_URL is missing: without it `loms serve` notifies by itself")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let notifier = Notifier::new(settings.channels.open(settings.currency, &clock)?, store.clone(), clock.clone());
    let resources = consumer::Resources { notifier, store, clock, currency: settings.currency.code().to_owned() };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    consumer::run(url, &resources, stop).await;
    store::close(&*resources.store).await;
    Ok(())
}

/// Puts parked messages back, and prints each that was looked at.
///
/// # Errors
/// Where the broker is away, or one of the ids was not found.
pub async fn redrive(settings: &Settings, ids: &[String], dry_run: bool) -> anyhow::Result<()> {
    let url = settings.amqp_url.as_ref().context("AMQP_URL is missing")?;
    let seen = parking::redrive(url, ids, dry_run).await.context("AMQP_URL")?;
    for parked in &seen {
        let id = parked.id.as_deref().unwrap_or("no event");
        let fate = if parked.put_back { "put back" } else { "left" };
        writeln!(stdout(), "{id}\t{fate}\t{}", parked.reason)?;
    }
    let missing = ids.iter().find(|id| !seen.iter().any(|parked| parked.id.as_ref() == Some(*id)));
    if let Some(missing) = missing {
        bail!("no parked message has the id {missing}");
    }
    let put_back = seen.iter().filter(|parked| parked.put_back).count();
    writeln!(stdout(), "{} parked, {put_back} put back", seen.len())?;
    Ok(())
}
