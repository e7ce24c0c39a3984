//! For those who run the program.

use std::sync::atomic::Ordering;

use actix_web::{HttpResponse, get};
use serde::Serialize;

use crate::products::State;

use super::answer::json;
use super::{Shared, Watched};

#[derive(Serialize, utoipa::ToSchema)]
struct Readiness {
    /// `ready`, `degraded` (carts cannot be priced, or events wait to be told), `unavailable`
    /// (nothing can be changed) or `stopping` (nothing more is begun).
    status: &'static str,
    /// `up`; or `down`: it is away, or takes no changes.
    database: &'static str,
    /// `up` or `down`; `built_in` where no ProductService is configured.
    product_service: &'static str,
    /// `up` or `down`; `built_in` where no RabbitMQ is configured.
    broker: &'static str,
    /// Events that are committed and were not handed on yet.
    events_waiting: i64,
}

/// The process runs.
#[utoipa::path(tag = "Operations", responses((status = 200)))]
#[get("/livez")]
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// The process can do its work, and which part of it cannot.
#[utoipa::path(tag = "Operations", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
#[get("/readyz")]
pub async fn readyz(api: Shared) -> HttpResponse {
    let Watched { health, backlog, has_broker, .. } = &api.watched;
    let database = health.available.load(Ordering::Relaxed) && !health.failing.load(Ordering::Relaxed);
    let broker = match (backlog.failing.load(Ordering::Relaxed), has_broker) {
        (true, _) => "down",
        (false, true) => "up",
        (false, false) => "built_in",
    };
    let product_service = match api.products.state() {
        State::BuiltIn => "built_in",
        State::Asking => "up",
        State::LeftAlone => "down",
    };
    let status = match (database, product_service, broker) {
        _ if api.gate.is_closed() => "stopping",
        (false, ..) => "unavailable",
        (true, "down", _) | (true, _, "down") => "degraded",
        (true, ..) => "ready",
    };
    let database = if database { "up" } else { "down" };
    let events_waiting = backlog.events.load(Ordering::Relaxed);
    let readiness = Readiness { status, database, product_service, broker, events_waiting };
    if ["unavailable", "stopping"].contains(&status) {
        json(HttpResponse::ServiceUnavailable(), &readiness)
    } else {
        json(HttpResponse::Ok(), &readiness)
    }
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(tag = "Operations", responses((status = 200, body = String, content_type = "text/plain")))]
#[get("/metrics")]
pub async fn metrics_text(api: Shared) -> HttpResponse {
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    metrics::gauge!("loms_carts_live").set(count(api.core.directory.carts.count()));
    metrics::gauge!("loms_orders_live").set(count(api.core.directory.orders.count()));
    metrics::gauge!("loms_requests_admissible").set(count(api.gate.admissible()));
    let waiting = api.watched.backlog.events.load(Ordering::Relaxed);
    metrics::gauge!("loms_events_waiting").set(count(usize::try_from(waiting).unwrap_or(0)));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(api.watched.metrics.render())
}
