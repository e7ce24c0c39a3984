//! For those who run the program.

use std::sync::atomic::Ordering;

use actix_web::{HttpResponse, get};
use serde::Serialize;

use crate::products::State;

use super::Shared;
use super::answer::json;

#[derive(Serialize, utoipa::ToSchema)]
struct Readiness {
    /// `ready`, `degraded` (carts cannot be priced) or `unavailable` (nothing can be changed).
    status: &'static str,
    /// `up` or `down`.
    database: &'static str,
    /// `up` or `down`; `built_in` where no ProductService is configured.
    product_service: &'static str,
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
    let database = api.available.load(Ordering::Relaxed);
    let product_service = match api.products.state() {
        State::BuiltIn => "built_in",
        State::Asking => "up",
        State::LeftAlone => "down",
    };
    let status = match (database, product_service) {
        (false, _) => "unavailable",
        (true, "down") => "degraded",
        (true, _) => "ready",
    };
    let database = if database { "up" } else { "down" };
    let readiness = Readiness { status, database, product_service };
    if status == "unavailable" {
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
    metrics::gauge!("loms_requests_admissible").set(count(api.admission.available_permits()));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(api.metrics.render())
}
