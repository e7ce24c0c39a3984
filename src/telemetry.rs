//! Logs to standard error, metrics in the text format of Prometheus.

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Changes per batch.
const BATCH_CHANGES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 1.0, 5.0];

const UPKEEP_PAUSE_MS: u64 = 5_000;

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("LOMS_LOG: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("metrics cannot be kept: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Starts to log what the filter lets through. A second call changes nothing.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn log(filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let colours = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // In tests several applications share a process, and the first one's log.
    let _ = subscriber.try_init();
    Ok(())
}

/// Keeps metrics from now on. In tests several applications share a process, and its metrics.
///
/// # Errors
/// [`TelemetryError::Metrics`].
pub fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("loms_batch_changes".to_owned()), &BATCH_CHANGES)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .build_recorder();
    let handle = recorder.handle();
    let _ = metrics::set_global_recorder(recorder);
    describe();
    // Told from the start, so that the first one is seen as growth.
    metrics::counter!("loms_requests_refused").absolute(0);
    Ok(handle)
}

fn describe() {
    metrics::describe_histogram!("loms_batch_seconds", "From handing a batch to the database to its commit.");
    metrics::describe_histogram!("loms_batch_changes", "Changes per batch.");
    metrics::describe_gauge!("loms_requests_admissible", "How many more requests would be admitted.");
    metrics::describe_counter!("loms_requests_refused", "Requests that were refused for too many in progress.");
    metrics::describe_gauge!("loms_events_waiting", "Events that are committed here and not handed on yet.");
    metrics::describe_gauge!("loms_carts_live", "Carts in memory.");
    metrics::describe_gauge!("loms_orders_live", "Orders that await payment here.");
}

/// Works off what was measured, until the process ends: else it lies in memory until somebody asks for the metrics.
pub async fn keep_up(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_millis(UPKEEP_PAUSE_MS)).await;
        metrics.run_upkeep();
    }
}
