//! `loms serve`: the whole system, until it is told to stop.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};

use crate::application::Application;
use crate::config::Settings;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Where it cannot start, or a part that everything stands on has ended.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let application = Application::build(settings).await?;
    // A reader that has gone away is no reason to stop serving.
    let _ = writeln!(std::io::stdout(), "listening on http://{}", application.address());
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    application.run_until(stop).await
}
