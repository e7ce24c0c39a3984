//! An order event on the wire: CloudEvents 1.0 in JSON, structured mode.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>. The version of
//! what is in `data` stands in `dataschema`; a reader that does not know it must not guess.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::domain::event::PAYMENT_REFUSED;
use crate::domain::order::{Item, Status};
use crate::domain::{Count, EventId, EventKind, Money, OrderEvent, OrderId, Sku, Time, UserId};

pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// The version of `data`.
pub const SCHEMA: &str = "urn:loms:order-event:1";
/// Where events come from.
pub const SOURCE: &str = "/loms";
/// No event is larger, not even one of 2,000 lines with the longest SKUs and names. RabbitMQ takes 16 MiB.
pub const BYTES_MAX: usize = 15 * 1024 * 1024;
/// The seconds since 1970 of the times that are taken: from then to the year 9999, as mail and HTTP write them.
const TIMES: RangeInclusive<i64> = 0..=253_402_300_799;
const SPEC_VERSION: &str = "1.0";
/// So much is repeated of what was foreign in a message.
const REASON_CHARS_MAX: usize = 200;
/// An event's type goes on with its name.
pub const TYPE_PREFIX: &str = "loms.order.";

/// Why a message is not an event that this version understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is not an event in JSON: {0}")]
    Unreadable(String),
    #[error("it is of the version {0}, of which this program knows nothing")]
    UnknownVersion(String),
    #[error("its {0} is not valid")]
    Invalid(&'static str),
    #[error("its prices are in {0}, not in the currency that is set here")]
    OtherCurrency(String),
}

#[derive(Serialize, Deserialize, utoipa::ToSchema)]
struct Envelope {
    /// `1.0`.
    specversion: String,
    /// `<writer>-<seq>`, unique in an installation: the same event may arrive more than once.
    id: String,
    source: String,
    /// `loms.order.` and the status, or `loms.order.payment_refused`.
    r#type: String,
    /// The order's id.
    subject: String,
    #[schema(value_type = String, format = DateTime)]
    time: Time,
    datacontenttype: String,
    /// The version of `data`; do not guess at one that you do not know.
    dataschema: String,
    #[schema(inline)]
    data: Body,
}

#[derive(Serialize, Deserialize, utoipa::ToSchema)]
struct Body {
    order_id: i64,
    user: String,
    /// `new`, `awaiting_payment`, `failed`, `payed` or `cancelled`.
    #[schema(value_type = String)]
    status: Status,
    /// The status before; null for a new order, and where the status stayed as it was.
    #[schema(value_type = Option<String>)]
    previous_status: Option<Status>,
    /// Why it failed or was cancelled.
    reason: Option<String>,
    #[schema(inline)]
    items: Vec<Line>,
    /// Minor units.
    total_price: i64,
    /// ISO 4217.
    currency: String,
    /// How many statuses the order has had: rises with each change of its status.
    version: i32,
}

#[derive(Serialize, Deserialize, utoipa::ToSchema)]
struct Line {
    sku: String,
    name: String,
    /// Minor units, for one unit.
    price: i64,
    count: i64,
}

/// The event's type, also the last part of its routing key.
#[must_use]
pub fn type_of(event: &OrderEvent) -> String {
    format!("{TYPE_PREFIX}{}", event.name())
}

/// What an event looks like, as JSON Schema.
#[must_use]
pub fn schema() -> serde_json::Value {
    // A description of plain data: writing it as JSON cannot fail.
    serde_json::to_value(<Envelope as utoipa::PartialSchema>::schema()).unwrap_or_default()
}

#[must_use]
pub fn write(event: &OrderEvent, currency: &str) -> Vec<u8> {
    let line = |item: &Item| Line {
        sku: item.sku.as_str().to_owned(),
        name: item.name.to_string(),
        price: item.price.0,
        count: item.count.units(),
    };
    let envelope = Envelope {
        specversion: SPEC_VERSION.to_owned(),
        id: event.id.to_string(),
        source: SOURCE.to_owned(),
        r#type: type_of(event),
        subject: event.order.to_string(),
        time: event.at,
        datacontenttype: "application/json".to_owned(),
        dataschema: SCHEMA.to_owned(),
        data: Body {
            order_id: event.order.0,
            user: event.user.as_str().to_owned(),
            status: event.status,
            previous_status: event.previous_status(),
            reason: event.reason.clone(),
            items: event.items.iter().map(line).collect(),
            total_price: event.total.0,
            currency: currency.to_owned(),
            version: event.version,
        },
    };
    // Plain data with string keys: writing it as JSON cannot fail.
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// An event of a shop with this currency (ISO 4217).
///
/// # Errors
/// [`MessageError`] says what is wrong; such a message will never be read.
pub fn read(bytes: &[u8], currency: &str) -> Result<OrderEvent, MessageError> {
    if bytes.len() > BYTES_MAX {
        return Err(MessageError::TooLarge);
    }
    let unreadable = |error: serde_json::Error| MessageError::Unreadable(shortened(&error.to_string()));
    let json: serde_json::Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    let version = json.get("dataschema").and_then(serde_json::Value::as_str).unwrap_or("none");
    if version != SCHEMA {
        return Err(MessageError::UnknownVersion(shortened(version)));
    }
    let envelope: Envelope = serde_json::from_value(json).map_err(unreadable)?;
    let body = envelope.data;
    if body.currency != currency {
        return Err(MessageError::OtherCurrency(shortened(&body.currency)));
    }
    let item = |line: Line| {
        Some(Item {
            sku: Sku::parse(&line.sku).ok()?,
            name: line.name.into(),
            price: Money(line.price),
            count: Count::new(line.count).ok()?,
            allocations: Vec::new(),
        })
    };
    let is_refused_payment = envelope.r#type.strip_prefix(TYPE_PREFIX) == Some(PAYMENT_REFUSED);
    Ok(OrderEvent {
        kind: if is_refused_payment { EventKind::PaymentRefused } else { EventKind::StatusChanged },
        id: EventId::parse(&envelope.id).ok_or(MessageError::Invalid("id"))?,
        order: OrderId(body.order_id),
        user: UserId::parse(&body.user).map_err(|_| MessageError::Invalid("user"))?,
        status: body.status,
        reason: body.reason,
        at: Some(envelope.time).filter(|at| TIMES.contains(&at.timestamp())).ok_or(MessageError::Invalid("time"))?,
        version: body.version,
        items: body.items.into_iter().map(item).collect::<Option<_>>().ok_or(MessageError::Invalid("items"))?,
        total: Money(body.total_price),
    })
}

/// A reason stands in a header of the message, and all of them have to fit into one frame.
fn shortened(foreign: &str) -> String {
    foreign.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn event() -> OrderEvent {
        OrderEvent {
            id: EventId { writer: 3, seq: 42 },
            order: OrderId(17),
            user: UserId::parse("ann").expect("a valid user"),
            kind: EventKind::StatusChanged,
            status: Status::Cancelled,
            reason: Some("payment_timeout".to_owned()),
            at: Time::from_timestamp_micros(1_764_000_000_123_456).expect("in range"),
            version: 3,
            items: Arc::new([Item {
                sku: Sku::parse("BANK CHARGES").expect("a valid SKU"),
                name: "Lamp \"№1\"".into(),
                price: Money(89_000),
                count: Count::new(2).expect("a valid count"),
                allocations: Vec::new(),
            }]),
            total: Money(178_000),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = write(&event(), "RUB");
        assert_eq!(read(&bytes, "RUB"), Ok(event()));
        let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(json["id"], "3-42");
        assert_eq!(json["type"], "loms.order.cancelled");
        assert_eq!(json["data"]["previous_status"], "awaiting_payment");
    }

    #[test]
    fn the_largest_event_is_read() {
        let item = |number: usize| {
            let sku = format!("{number:06}{}", "𝔸".repeat(58));
            let name = "𝔸".repeat(1_000);
            Item { sku: Sku::parse(&sku).expect("a SKU"), name: name.into(), ..event().items[0].clone() }
        };
        let largest = OrderEvent { items: (0..2_000).map(item).collect(), ..event() };
        let bytes = write(&largest, "RUB");
        assert!(bytes.len() > 8 * 1024 * 1024, "{} bytes", bytes.len());
        assert_eq!(read(&bytes, "RUB"), Ok(largest));
    }

    #[test]
    fn a_refused_payment_is_no_change_of_status() {
        let refused = OrderEvent { kind: EventKind::PaymentRefused, reason: None, ..event() };
        let bytes = write(&refused, "RUB");
        let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(json["type"], "loms.order.payment_refused");
        assert_eq!((&json["data"]["status"], &json["data"]["previous_status"]), (&"cancelled".into(), &json!(null)));
        assert_eq!(read(&bytes, "RUB"), Ok(refused));
    }

    #[test]
    fn what_is_not_an_event_is_named() {
        assert!(matches!(read(b"poison", "RUB"), Err(MessageError::Unreadable(_))));
        assert_eq!(read(b"{}", "RUB"), Err(MessageError::UnknownVersion("none".to_owned())));
        assert_eq!(read(&vec![b' '; BYTES_MAX + 1], "RUB"), Err(MessageError::TooLarge));
        let other = String::from_utf8(write(&event(), "RUB")).expect("UTF-8").replace("order-event:1", "order-event:2");
        assert_eq!(
            read(other.as_bytes(), "RUB"),
            Err(MessageError::UnknownVersion("urn:loms:order-event:2".to_owned()))
        );
        let bad = String::from_utf8(write(&event(), "RUB")).expect("UTF-8").replace("3-42", "42");
        assert_eq!(read(bad.as_bytes(), "RUB"), Err(MessageError::Invalid("id")));
        let yen = write(&event(), "JPY");
        assert_eq!(read(&yen, "RUB"), Err(MessageError::OtherCurrency("JPY".to_owned())));
        for seconds in [-1, 253_402_300_800] {
            let at = Time::from_timestamp(seconds, 0).expect("in range");
            assert_eq!(read(&write(&OrderEvent { at, ..event() }, "RUB"), "RUB"), Err(MessageError::Invalid("time")));
        }
    }
}
