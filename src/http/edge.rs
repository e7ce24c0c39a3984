//! The edge: what every request goes through before its handler.

use std::borrow::Cow;
use std::rc::Rc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::QueryPayloadError;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, ResponseError};

use tracing::Instrument;

use super::Shared;
use super::admission::{Admission, NotAdmitted};
use super::chunked::{Chunked, Rest};
use super::connection::Turn;
use super::json_object::of_field;
use super::problem::Problem;
use super::routes::Methods;

/// Addresses that answer under any load.
const ALWAYS_ADMITTED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// In which a browser says whether the page that asks is another website's.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Takes HEAD as GET, of whose answer only the head is sent. Refuses paths that cannot be read, changes that another website asks for, and more requests than
/// may be under way: at once, so that nobody queues for an answer that comes too late. While the program stops, refuses all.
pub async fn admit<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    // First, for whatever is refused here may have a body without an end, too.
    let _rest = Rest(Chunked::of(&mut request));
    let _answering = request.conn_data::<Rc<Turn>>().map(Turn::answer);
    if decoded(request.uri().path()).is_none() {
        return Err(Problem::unreadable("the path has a bad percent-encoding").into());
    }
    if is_a_change_from_another_site(&request) {
        return Err(Problem::of_another_site().into());
    }
    // The span that the request's log lines stand in: few fields, for it is made for every request.
    let span = tracing::info_span!("request", http.method = request.method().as_str(), http.path = request.path());
    if *request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    if ALWAYS_ADMITTED.contains(&request.path()) {
        return next.call(request).instrument(span).await;
    }
    let api = request.app_data::<Shared>();
    let admission = match api.map_or(Err(NotAdmitted::TooMany), |api| Admission::new(&api.gate)) {
        Ok(admission) => admission,
        Err(why) => {
            // The body that came with the request is taken from the connection first: else it would be closed.
            tokio::task::yield_now().await;
            return Err(Problem::from(why).into());
        }
    };
    // Whoever reads the body gives the place back meanwhile.
    request.extensions_mut().insert(admission.request());
    next.call(request).instrument(span).await
}

/// Whoever has any website open in a browser on this machine, or behind a proxy that knows him, must not buy, cancel or
/// count stock by it. What only looks is left alone: a browser shows its answer to nobody else.
fn is_a_change_from_another_site(request: &ServiceRequest) -> bool {
    let is_of_another = |site: &HeaderValue| site != "same-origin" && site != "none";
    !request.method().is_safe() && request.headers().get(SEC_FETCH_SITE).is_some_and(is_of_another)
}

/// What no handler answers: which methods a known address takes, another one, or nothing at all.
pub async fn nothing_here(request: HttpRequest) -> HttpResponse {
    match request.resource_map().match_pattern(request.path()) {
        Some(pattern) => {
            let mut response = if *request.method() == Method::OPTIONS {
                HttpResponse::NoContent().finish()
            } else {
                Problem::method_not_allowed().error_response()
            };
            let methods = request.app_data::<Methods>().map(|methods| methods.at(&pattern));
            if let Some(Ok(methods)) = methods.map(HeaderValue::from_str) {
                response.headers_mut().insert(ALLOW, methods);
            }
            response
        }
        None => Problem::not_found().error_response(),
    }
}

/// A query that cannot be read; its message names the parameter.
pub fn bad_query(error: &QueryPayloadError) -> Problem {
    match error {
        QueryPayloadError::Deserialize(error) => {
            let message = error.to_string();
            of_field(&message, None, format!("the query: {message}"))
        }
        _ => Problem::unreadable("the query cannot be read"),
    }
}

/// What a path stands for, where every percent sign is followed by two hexadecimal digits and all of it
/// is UTF-8.
pub fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(path.into());
    }
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => decoded.extend(u8::try_from(16 * high + low)),
            _ => return None,
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn a_path_is_read_strictly() {
        for path in ["/a", "/BANK%20CHARGES", "/%D1%8F", "/a%2Fb", "/100%25"] {
            assert!(decoded(path).is_some(), "{path} was refused");
        }
        for path in ["/%", "/%2", "/%zz", "/%ff", "/%D1", "/a%2"] {
            assert!(decoded(path).is_none(), "{path} was taken");
        }
    }
}
