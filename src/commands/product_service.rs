//! `loms product-service`: sells from a catalogue under the protocol of the ProductService.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;

use crate::http::product_service;
use crate::products::{Catalogue, CatalogueError};

/// It answers from memory: two threads are more than one shop asks of it.
const WORKERS: usize = 2;

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the catalogue cannot be used")]
    Catalogue(#[from] CatalogueError),
    /// Whoever reaches the address could read all prices.
    #[error("{0} can be reached from other machines: that needs a token")]
    Open(SocketAddr),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the service broke off")]
    Serve(#[source] io::Error),
}

/// Serves until SIGINT or SIGTERM; prints the address once it can be reached. Without a catalogue,
/// the demo shop's is served; port 0 stands for any free one.
///
/// # Errors
/// [`Error`] where it cannot start, or broke off.
pub async fn run(listen: SocketAddr, catalogue: Option<&Path>, token: Option<SecretString>) -> Result<(), Error> {
    if !listen.ip().is_loopback() && token.is_none() {
        return Err(Error::Open(listen));
    }
    let catalogue = catalogue.map_or_else(|| Ok(Catalogue::demo()), Catalogue::from_path)?;
    let count = catalogue.len();

    let failed = |source| Error::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let server = product_service::serve(Arc::new(catalogue), token, listener, WORKERS).map_err(failed)?;

    // A reader that has gone away is no reason to stop serving.
    let _ = writeln!(io::stdout(), "product service with {count} products on http://{address}");
    server.await.map_err(Error::Serve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_machines_are_not_served_without_a_token() {
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let outcome = run(listen.parse().expect("an address"), None, None).await;
            assert!(matches!(outcome, Err(Error::Open(_))), "{listen}");
        }
    }

    #[tokio::test]
    async fn a_taken_address_and_a_missing_catalogue_are_errors_that_name_them() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address");
        let refused = run(address, None, None).await.expect_err("the port is taken");
        assert_eq!(refused.to_string(), format!("cannot listen on {address}"));

        let missing = run(address, Some(Path::new("none.csv")), None).await;
        assert!(matches!(missing, Err(Error::Catalogue(error)) if error.to_string().contains("none.csv")));
    }
}
