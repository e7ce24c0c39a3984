//! HTTP: translates requests into commands, and what became of them into answers. No rules of its
//! own. `routes` shows every address on one screen.

mod admission;
mod answer;
mod carts;
mod chunked;
mod edge;
mod idempotency;
pub mod input;
mod json_object;
mod notifications;
mod operations;
mod orders;
mod problem;
pub mod product_service;
mod products;
mod refusals;
mod request;
mod routes;
mod schema;
mod service_contract;
mod shown_cart;
mod stocks;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use iso_currency::Currency;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::actors::Core;
use crate::actors::journal::Health;
use crate::actors::outbox_relay::Backlog;
use crate::products::Products;

pub use admission::Gate;
pub use routes::openapi;

/// How long open connections may take to end once all commands are answered.
const SHUTDOWN_S_MAX: u64 = 2;
/// Connections that wait to be accepted.
const CONNECTIONS_QUEUED_MAX: u32 = 1_024;

/// What handlers work with.
pub struct Api {
    pub core: Arc<Core>,
    pub products: Products,
    pub currency: Currency,
    /// How long an order awaits its payment.
    pub payment_timeout: chrono::TimeDelta,
    pub watched: Watched,
    pub gate: Arc<Gate>,
    under_way: idempotency::UnderWay,
}

/// What operators look at.
pub struct Watched {
    pub health: Arc<Health>,
    pub backlog: Arc<Backlog>,
    /// Whether events go to RabbitMQ; else they are told of in this process.
    pub has_broker: bool,
    pub metrics: PrometheusHandle,
}

impl Api {
    #[must_use]
    pub fn new(
        core: Arc<Core>,
        products: Products,
        currency: Currency,
        payment_timeout: chrono::TimeDelta,
        watched: Watched,
    ) -> Self {
        let under_way = idempotency::UnderWay::default();
        Self { core, products, currency, payment_timeout, watched, gate: Arc::default(), under_way }
    }
}

/// Serves on the listener until its handle is told to stop.
///
/// # Errors
/// Where the listener cannot be used.
pub fn serve(api: web::Data<Api>, listener: TcpListener, workers: usize) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        let query = web::QueryConfig::default().error_handler(|error, _| edge::bad_query(&error).into());
        let app = App::new().app_data(api.clone()).app_data(query);
        routes::documented(app.wrap(from_fn(edge::admit)))
    });
    let server =
        server.workers(workers).disable_signals().shutdown_timeout(SHUTDOWN_S_MAX).backlog(CONNECTIONS_QUEUED_MAX);
    Ok(server.listen(listener)?.run())
}

/// What every handler is given.
type Shared = web::Data<Api>;
