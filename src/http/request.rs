//! What handlers are given: bodies within their limits, paths and values that are valid.

use std::cell::RefCell;
use std::pin::pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::StreamExt;
use futures_util::future::{LocalBoxFuture, poll_immediate};
use serde::de::DeserializeOwned;
use serde_json::Number;

use crate::domain::ids::plain_number;
use crate::domain::{Count, OrderId, Sku, UserId};

use super::admission::{Admitted, Coming};
use super::json_object::parse;
use super::problem::Problem;

/// The largest body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// A body that is larger is read on up to here, so that its sender gets to see the answer.
const BODY_BYTES_DRAINED_MAX: usize = 8 * 1024 * 1024;
/// A body is there within this time. With the second that a connection is given to end, its client is
/// gone after ten.
const BODY_MS_MAX: u64 = 8_000;

/// A JSON body, with its bytes as they came.
pub struct JsonBody<T> {
    pub value: T,
    pub bytes: web::Bytes,
}

/// A body of comma-separated values.
pub struct CsvBody(pub web::Bytes);

/// A body that means nothing, of whatever type, and has its limits all the same.
pub struct AnyBody(pub web::Bytes);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = body(request, payload, Some("application/json"));
        Box::pin(async move {
            let bytes = body.await?;
            let value = parse(&bytes)?;
            Ok(Self { value, bytes })
        })
    }
}

impl FromRequest for CsvBody {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = body(request, payload, Some("text/csv"));
        Box::pin(async move { body.await.map(Self) })
    }
}

impl FromRequest for AnyBody {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = body(request, payload, None);
        Box::pin(async move { body.await.map(Self) })
    }
}

/// The bytes, where they are of this type or none is asked for.
fn body(
    request: &HttpRequest,
    payload: &mut Payload,
    media_type: Option<&str>,
) -> impl Future<Output = Result<web::Bytes, Problem>> + use<> {
    let payload = payload.take();
    let checked = media_type.map_or(Ok(()), |media_type| require_type(request.headers(), media_type));
    let announced = announced_bytes(request.headers());
    let admitted = request.extensions().get::<Admitted>().cloned();
    async move {
        checked?;
        read(payload, announced, admitted).await
    }
}

/// A body without a type is taken as what is expected.
fn require_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    let is_packed = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).any(is_packed) {
        return Err(Problem::unsupported_media_type(expected, ", not packed"));
    }
    let Some(media_type) = only_one(headers, &CONTENT_TYPE)? else { return Ok(()) };
    let mut parts = media_type.to_str().unwrap_or_default().split(';').map(str::trim);
    if !parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case(expected)) {
        return Err(Problem::unsupported_media_type(expected, ""));
    }
    if parts.all(is_no_other_charset) { Ok(()) } else { Err(Problem::unsupported_media_type(expected, ", in UTF-8")) }
}

fn is_no_other_charset(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let charset = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset")
        || ["utf-8", "utf8"].iter().any(|utf_8| charset.eq_ignore_ascii_case(utf_8))
}

/// The header's value, where it is there: of two, nobody knows which one is meant.
///
/// # Errors
/// 400 naming the header.
pub fn only_one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Problem> {
    let mut values = headers.get_all(name);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Problem::unreadable(format!("the header {name} may come only once")).naming(name.as_str())),
    }
}

fn announced_bytes(headers: &HeaderMap) -> usize {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

async fn read(payload: Payload, announced: usize, admitted: Option<Admitted>) -> Result<web::Bytes, Problem> {
    let coming = RefCell::new(None);
    let mut reading = pin!(read_all(payload, announced, &coming));
    if let Some(read) = poll_immediate(reading.as_mut()).await {
        return read;
    }
    coming.replace(admitted.as_ref().map(Admitted::wait_for_body));
    let body = match tokio::time::timeout(Duration::from_millis(BODY_MS_MAX), reading).await {
        Ok(read) => read?,
        Err(_) => return Err(Problem::unreadable("the body did not come in time")),
    };
    coming.take().map_or(Ok(()), Coming::has_come)?;
    Ok(body)
}

async fn read_all(
    mut payload: Payload,
    announced: usize,
    coming: &RefCell<Option<Coming<'_>>>,
) -> Result<web::Bytes, Problem> {
    if announced > BODY_BYTES_DRAINED_MAX {
        return Err(Problem::payload_too_large(BODY_BYTES_MAX));
    }
    // The usual body comes in one piece, which is taken as it is.
    let torn = |_| Problem::unreadable("the body broke off");
    let first = payload.next().await.transpose().map_err(torn)?.unwrap_or_default();
    let mut body = web::BytesMut::new();
    let mut read = first.len();
    make_room(coming, read)?;
    while let Some(chunk) = payload.next().await {
        if body.is_empty() {
            body.extend_from_slice(&first);
        }
        let chunk = chunk.map_err(torn)?;
        read += chunk.len();
        make_room(coming, read)?;
        if read <= BODY_BYTES_MAX {
            body.extend_from_slice(&chunk);
        } else if read > BODY_BYTES_DRAINED_MAX {
            break;
        }
    }
    if read > BODY_BYTES_MAX {
        return Err(Problem::payload_too_large(BODY_BYTES_MAX));
    }
    Ok(if body.is_empty() { first } else { body.freeze() })
}

fn make_room(coming: &RefCell<Option<Coming<'_>>>, bytes: usize) -> Result<(), Problem> {
    let has_room = coming.borrow_mut().as_mut().is_none_or(|coming| coming.has_room_for(bytes));
    if has_room { Ok(()) } else { Err(Problem::overloaded()) }
}

/// # Errors
/// 422 naming the field.
pub fn user(text: &str) -> Result<UserId, Problem> {
    UserId::parse(text).map_err(|error| Problem::invalid("user", error))
}

/// # Errors
/// 422 naming the field.
pub fn sku(text: &str) -> Result<Sku, Problem> {
    Sku::parse(text).map_err(|error| Problem::invalid("sku", error))
}

/// # Errors
/// 422 naming the field: also for a number that no integer type holds.
pub fn count(number: &Number) -> Result<Count, Problem> {
    let units = number.as_i64().unwrap_or(0);
    Count::new(units).map_err(|error| Problem::invalid("count", error))
}

/// An id that is no positive whole number is no order's.
///
/// # Errors
/// 404 `order_not_found`.
pub fn order_id(text: &str) -> Result<OrderId, Problem> {
    match plain_number(text) {
        Some(id) if id > 0 => Ok(OrderId(id)),
        _ => Err(Problem::order_not_found()),
    }
}

/// The value of a parameter that is there: an empty one stands for none.
pub fn given(parameter: Option<&String>) -> Option<&str> {
    parameter.map(String::as_str).filter(|text| !text.is_empty())
}

/// A page's length, as asked or by default; the second of `limits` at the most.
///
/// # Errors
/// 422 naming the field.
pub fn limit(text: Option<&str>, limits: (u32, u32)) -> Result<u32, Problem> {
    match text.map(plain_number) {
        None => Ok(limits.0),
        Some(Some(limit)) if (1..=limits.1).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid("limit", format_args!("must be a whole number from 1 to {}", limits.1))),
    }
}

/// Of a list that was read with one entry more than a page has: takes that one off, and gives the last entry of
/// the page, after which the next page starts. `None` on the last page.
pub fn last_before_more<T>(read: &mut Vec<T>, limit: usize) -> Option<&T> {
    let more = read.len() > limit;
    read.truncate(limit);
    read.last().filter(|_| more)
}
