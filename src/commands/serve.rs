//! `loms serve`: the whole system, until it is told to stop.

use std::io::Write;
use std::pin::pin;

use tokio::signal::unix::{SignalKind, signal};

use crate::application::Application;
use crate::config::Settings;

/// Serves until SIGTERM or SIGINT, which end it while it starts, too.
///
/// # Errors
/// Where it cannot start, or a part that everything stands on has ended.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop = pin!(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let application = tokio::select! {
        application = Application::build(settings) => application?,
        // To wait for a database may take long, and to bring it to the present schema an hour.
        () = &mut stop => {
            tracing::info!("stopping before it serves");
            return Ok(());
        }
    };
    // A reader that has gone away is no reason to stop serving.
    let _ = writeln!(std::io::stdout(), "listening on http://{}", application.address());
    application.run_until(stop).await
}
