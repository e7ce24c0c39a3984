//! The whole system in this process, for as long as a replay takes.

use std::time::Duration;

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;

use super::recording::Recording;
use super::{Arguments, Report, play, read};
use crate::application::Application;
use crate::config::Settings;
use crate::notifications::channels;
use crate::products::Catalogue;
use crate::store;

/// Orders left unpaid stay unpaid: the outcome must not depend on how long the replay takes.
const PAYMENT_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Replays against the URL of the arguments, or against a system of its own; prints the report
/// and gives whether no order was refused for another reason than stock.
///
/// # Errors
/// Where a file or the database cannot be used, or the database is not empty.
pub async fn run_and_report(arguments: &Arguments, settings: Settings) -> anyhow::Result<bool> {
    let recording = read(arguments).await?;
    let report = match &arguments.url {
        Some(url) => play(arguments, recording, url).await?,
        None => play_in_process(arguments, recording, settings).await?,
    };
    print!("{report}");
    Ok(report.refusals() == 0)
}

async fn play_in_process(arguments: &Arguments, recording: Recording, settings: Settings) -> anyhow::Result<Report> {
    // The system reads it again: here, so that one that it cannot sell from is told before there is a database.
    Catalogue::from_path(&arguments.catalog).context("--catalog")?;
    let store = store::open(settings.database_url.expose_secret()).await.context("DATABASE_URL")?;
    store.migrate().await?;
    if !store.is_empty().await? {
        bail!("the database is not empty: name another with --database-url, such as sqlite://replay.db");
    }
    store.close().await;
    let settings = Settings {
        // What was recorded is told to nobody: in the settings may stand a shop's own broker and webhook, where these events
        // would come under the ids of others.
        amqp_url: None,
        channels: channels::Settings::default(),
        listen: ([127, 0, 0, 1], 0).into(),
        catalog: Some(arguments.catalog.clone()),
        stock: None,
        product_service_url: None,
        payment_timeout: PAYMENT_TIMEOUT,
        ..settings
    };
    let application = Application::build(&settings).await?;
    let url = format!("http://{}", application.address()).parse()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = actix_rt::spawn(application.run_until(async {
        // Either way the replay is over.
        let _ = stopped.await;
    }));
    let report = play(arguments, recording, &url).await;
    drop(stop);
    serving.await??;
    report
}
