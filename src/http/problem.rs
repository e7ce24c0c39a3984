//! What a client is told when something is refused: RFC 9457 problem details, with a stable `code`.
//! Never an internal text.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::actors::Failure;
use crate::actors::cart::EditError;
use crate::actors::order::{MoveError, PlaceError};
use crate::domain::cart;
use crate::domain::money::TotalTooLarge;
use crate::domain::order::Rejection;
use crate::domain::stock::Shortage;
use crate::domain::{OrderId, Sku};
use crate::products::ProductError;

use super::admission::NotAdmitted;

/// Seconds after which it makes sense to ask again, where nothing was done.
const RETRY_AFTER_S: u32 = 1;

#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    /// Further members, as the code's description says.
    members: Map<String, Value>,
    /// It was done, or nobody knows: whoever asks again without an idempotency key may do it twice.
    may_be_done: bool,
}

/// The shape of every refusal.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Always `about:blank`: `code` tells the problem.
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// The stable word for what went wrong.
    code: &'a str,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), members: Map::new(), may_be_done: false }
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        self.members.insert(member.to_owned(), value);
        self
    }

    /// A body, path or query that cannot be read at all.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", "The request cannot be read", detail)
    }

    /// With the field or header that is to be changed.
    pub fn naming(self, field: &str) -> Self {
        self.with("field", json!(field))
    }

    /// A value out of its range; names the field.
    pub fn invalid(field: &str, why: impl std::fmt::Display) -> Self {
        let detail = format!("{field} {why}");
        let title = "A value is out of range";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", title, detail).naming(field)
    }

    /// Lines of an import that cannot be taken.
    pub fn bad_lines(errors: impl IntoIterator<Item = (u64, String)>) -> Self {
        let errors: Vec<Value> =
            errors.into_iter().map(|(line, message)| json!({ "line": line, "message": message })).collect();
        let detail =
            format!("nothing was imported; `errors` has the first {} of the lines that cannot be taken", errors.len());
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", "The file has bad lines", detail)
            .with("errors", json!(errors))
    }

    pub fn payload_too_large(bytes_max: usize) -> Self {
        let detail = format!("a body has at most {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is too large", detail)
    }

    pub fn unsupported_media_type(expected: &str, condition: &str) -> Self {
        let detail = format!("send the body as {expected}{condition}");
        let title = "The body is of another type";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", title, detail)
    }

    /// From a page that another website has served.
    pub fn of_another_site() -> Self {
        let detail = "a page of another website may not change anything";
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here", "no such address; see /docs")
    }

    pub fn method_not_allowed() -> Self {
        let detail = "this address takes other methods; see /docs";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not this method", detail)
    }

    pub fn unknown_sku(sku: &Sku) -> Self {
        let detail = format!("there is no product {sku}");
        Self::new(StatusCode::NOT_FOUND, "unknown_sku", "No such product", detail).with("sku", json!(sku))
    }

    pub fn order_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "order_not_found", "No such order", "there is no order with this id")
    }

    pub fn empty_cart() -> Self {
        Self::new(StatusCode::CONFLICT, "empty_cart", "The cart is empty", "there is nothing to purchase")
    }

    /// An add that the stock does not cover.
    pub fn out_of_stock(sku: &Sku, available: i64) -> Self {
        let detail = format!("only {available} of {sku} can be bought");
        Self::out_of_stock_titled(detail).with("sku", json!(sku)).with("available", json!(available))
    }

    /// An order that the stock does not cover; it is kept as `failed`.
    pub fn order_out_of_stock(order: OrderId, shortages: &[Shortage]) -> Self {
        Self::out_of_stock_titled("the stock does not cover the order".to_owned())
            .with("order_id", json!(order))
            .with("shortages", json!(shortages))
    }

    fn out_of_stock_titled(detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, "out_of_stock", "Not enough in stock", detail)
    }

    pub fn below_reserved() -> Self {
        let detail = "fewer units would be on hand than are reserved";
        Self::new(StatusCode::CONFLICT, "below_reserved", "The units are reserved", detail)
    }

    pub fn key_reused() -> Self {
        let detail = "this Idempotency-Key came with another request before";
        let title = "The key is not new";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", title, detail)
    }

    pub fn overloaded() -> Self {
        Self::too_much("too many requests are under way; nothing was changed")
    }

    fn too_much(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too much at once", detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "A part of the system is away", detail)
    }

    /// The answer to a change that was made and cannot be shown.
    pub fn after_a_change(mut self) -> Self {
        self.detail = format!("the cart was changed, but cannot be shown: {}", self.detail);
        self.may_be_done = true;
        self
    }

    fn in_doubt() -> Self {
        let detail = "no answer in time: look whether it was done, or ask again with the same Idempotency-Key";
        Self { may_be_done: true, ..Self::unavailable(detail) }
    }

    pub fn is_unavailable(&self) -> bool {
        self.code == "unavailable"
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            members: &self.members,
        };
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE && !self.may_be_done {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_S));
        }
        // Texts and numbers: writing them as JSON cannot fail.
        response.body(serde_json::to_vec(&body).unwrap_or_default())
    }
}

impl From<NotAdmitted> for Problem {
    fn from(why: NotAdmitted) -> Self {
        match why {
            NotAdmitted::TooMany => Self::overloaded(),
            NotAdmitted::Stopping => Self::unavailable("the server is stopping; nothing was changed"),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable => Self::unavailable("the database is away; nothing was changed"),
            Failure::Overloaded => Self::overloaded(),
            Failure::InDoubt => Self::in_doubt(),
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self::new(StatusCode::CONFLICT, "wrong_status", "Not in this status", rejection.to_string())
    }
}

impl From<MoveError> for Problem {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::NotFound => Self::order_not_found(),
            MoveError::Rejected(rejection) => rejection.into(),
            MoveError::Failed(failure) => failure.into(),
        }
    }
}

impl From<PlaceError> for Problem {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Failed(failure) => failure.into(),
            PlaceError::KeyTaken => Self::key_reused(),
            PlaceError::CartChanged => Self::too_much("the cart was changed each time; nothing was bought"),
        }
    }
}

impl From<cart::Rejection> for Problem {
    fn from(rejection: cart::Rejection) -> Self {
        let field = match rejection {
            cart::Rejection::TooManyLines => "items",
            cart::Rejection::CountTooLarge => "count",
        };
        Self::invalid(field, format_args!("is too large: {rejection}"))
    }
}

impl From<TotalTooLarge> for Problem {
    fn from(error: TotalTooLarge) -> Self {
        Self::invalid("items", format_args!("are too many: {error}"))
    }
}

impl Problem {
    pub fn of_edit(error: EditError, sku: &Sku) -> Self {
        match error {
            EditError::Rejected(rejection) => rejection.into(),
            EditError::OutOfStock { available } => Self::out_of_stock(sku, available),
            EditError::KeyTaken => Self::key_reused(),
            EditError::Failed(failure) => failure.into(),
        }
    }

    /// The product of this SKU could not be had.
    pub fn of_product(error: &ProductError, sku: &Sku) -> Self {
        match error {
            ProductError::Unknown => Self::unknown_sku(sku),
            ProductError::Unavailable => Self::products_unavailable(),
        }
    }

    pub fn products_unavailable() -> Self {
        Self::unavailable("the product service is away, and no price is recent enough")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever obeys `Retry-After` sends the same request again, also one that adds to a cart and has no key.
    #[test]
    fn only_where_nothing_was_done_it_is_told_when_to_ask_again() {
        let is_told = |problem: Problem| problem.error_response().headers().contains_key(RETRY_AFTER);
        for problem in [Failure::Unavailable.into(), Failure::Overloaded.into(), Problem::products_unavailable()] {
            assert!(is_told(problem.clone()), "{problem}");
        }
        for problem in [Failure::InDoubt.into(), Problem::products_unavailable().after_a_change(), Problem::not_found()]
        {
            assert!(!is_told(problem.clone()), "{problem}");
        }
    }
}
