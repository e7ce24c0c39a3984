//! Bodies of answers, as JSON.

use actix_web::HttpResponse;
use actix_web::HttpResponseBuilder;
use actix_web::http::header::ContentType;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// What most bodies have room in: growing a buffer piece by piece costs as much as filling it.
const BODY_BYTES_USUAL: usize = 1_024;

pub fn json(mut response: HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    let mut bytes = Vec::with_capacity(BODY_BYTES_USUAL);
    // Plain data with string keys: writing it as JSON cannot fail.
    let _ = serde_json::to_writer(&mut bytes, body);
    response.insert_header(ContentType::json()).body(bytes)
}

/// RFC 3339 in UTC. The same text as chrono's own, made in one piece.
pub fn rfc3339<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
