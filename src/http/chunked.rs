//! Bodies that come in chunks and are not read to their end. The server would read on for as long as
//! the client goes on to send, without any limit, where nobody holds the rest any more; while somebody
//! does, it closes the connection after the answer. So the rest is held for a moment.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::web::Bytes;
use futures_util::Stream;

/// The answer is on its way by then.
const HELD_MS: u64 = 2_000;

/// A body that its handler reads, while its rest is held.
#[derive(Clone)]
pub struct Chunked(Rc<RefCell<Option<Payload>>>);

impl Chunked {
    /// Of a request whose body comes in chunks.
    pub fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.headers().contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let chunked = Self(Rc::new(RefCell::new(Some(request.take_payload()))));
        request.set_payload(Payload::Stream { payload: Box::pin(chunked.clone()) });
        Some(chunked)
    }
}

impl Stream for Chunked {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut payload = self.0.borrow_mut();
        let Some(body) = payload.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_next(context);
        if let Poll::Ready(None) = polled {
            *payload = None;
        }
        polled
    }
}

/// Held by the edge until the request is answered, or dropped without an answer.
pub struct Rest(pub Option<Chunked>);

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take().and_then(|chunked| chunked.0.take()) {
            actix_web::rt::spawn(async move {
                tokio::time::sleep(Duration::from_millis(HELD_MS)).await;
                drop(rest);
            });
        }
    }
}
