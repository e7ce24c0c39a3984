//! HTTP: translates requests into commands, and what became of them into answers. No rules of its
//! own. [`routes`] shows every address on one screen.

mod carts;
mod edge;
mod idempotency;
mod operations;
mod orders;
mod problem;
pub mod product_service;
mod products;
mod request;
mod routes;
mod service_contract;
mod stocks;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_web::web;
use iso_currency::Currency;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use crate::actors::{COMMANDS_UNDER_WAY_MAX, Core};
use crate::products::Products;

pub use routes::{openapi, routes};

/// What handlers work with.
pub struct Api {
    pub core: Arc<Core>,
    pub products: Products,
    pub currency: Currency,
    /// How long an order awaits its payment.
    pub payment_timeout: chrono::TimeDelta,
    /// Whether the Journal reaches the database.
    pub available: Arc<AtomicBool>,
    pub metrics: PrometheusHandle,
    /// Commands are admitted as long as there is a permit; past it they are refused at once.
    pub admission: Arc<Semaphore>,
    under_way: idempotency::UnderWay,
}

impl Api {
    #[must_use]
    pub fn new(
        core: Arc<Core>,
        products: Products,
        currency: Currency,
        payment_timeout: chrono::TimeDelta,
        available: Arc<AtomicBool>,
        metrics: PrometheusHandle,
    ) -> Self {
        let admission = Arc::new(Semaphore::new(COMMANDS_UNDER_WAY_MAX));
        let under_way = idempotency::UnderWay::default();
        Self { core, products, currency, payment_timeout, available, metrics, admission, under_way }
    }
}

/// What every handler is given.
type Shared = web::Data<Api>;
