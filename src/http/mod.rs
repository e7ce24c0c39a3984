//! HTTP: translates requests into commands, and what became of them into answers. No rules of its
//! own. `routes` shows every address on one screen.

mod admission;
mod answer;
mod carts;
mod chunked;
mod connection;
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

use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use iso_currency::Currency;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpSocket;

use crate::actors::Core;
use crate::actors::journal::Health;
use crate::actors::outbox_relay::Backlog;
use crate::products::Products;

use connection::Connection;

pub use admission::Gate;
pub use routes::openapi;

/// How long open connections may take to end once all commands are answered.
const SHUTDOWN_S_MAX: u64 = 2;
/// How long a client may take to close its side of a connection that is closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted, as far as the system lets so many wait.
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

/// Takes the address: from now on clients connect, and wait until somebody serves.
///
/// # Errors
/// Where the address is in use, or is not one of this machine.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Else the address would be in use for a minute after the server before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(CONNECTIONS_QUEUED_MAX)?.into_std()
}

/// Serves on the listener until its handle is told to stop: as `HttpServer` does, which would take sockets as they are only.
///
/// # Errors
/// Where the listener cannot be used.
pub fn serve(api: web::Data<Api>, listener: TcpListener, workers: usize) -> io::Result<Server> {
    let server = Server::build().workers(workers).disable_signals().shutdown_timeout(SHUTDOWN_S_MAX);
    let stop = server.graceful_shutdown_signal();
    let server = server.listen("http", listener, move || {
        let query = web::QueryConfig::default().error_handler(|error, _| edge::bad_query(&error).into());
        let app = App::new().app_data(api.clone()).app_data(query);
        let app = routes::documented(app.wrap(from_fn(edge::admit)));
        let stop = stop.clone();
        let http = HttpService::build()
            .client_disconnect_timeout(CLOSE_WITHIN)
            .graceful_shutdown_signal(move || {
                let stop = stop.clone();
                async move { stop.notified().await }
            })
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.turn());
            })
            .finish(map_config(app, |()| AppConfig::default()));
        fn_service(|socket| ready(Ok(Connection::accept(socket)))).and_then(http)
    });
    Ok(server?.run())
}

/// What every handler is given.
type Shared = web::Data<Api>;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// More than the 128 that wait where nobody says how many may.
    const BURST: usize = 500;
    /// Where there is no room, the first attempt is passed over, and the next one is made after a second.
    const CONNECT_WITHIN: Duration = Duration::from_millis(700);

    #[tokio::test]
    async fn a_burst_of_connections_waits_to_be_accepted() {
        let listener = listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let connect = |number| match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(connection) => connection,
            Err(error) => panic!("connection {number} does not wait: {error}"),
        };
        let waiting: Vec<TcpStream> = (1..=BURST).map(connect).collect();
        assert_eq!(waiting.len(), BURST);
    }
}
