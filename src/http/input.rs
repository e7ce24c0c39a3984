//! What clients send, read as the handlers read it and then dropped: for those who try the parsers
//! with bytes of their own, as `fuzz/` does.

use actix_web::http::header::HeaderValue;

use super::carts::{NewCount, NewItem};
use super::json_object::parse;
use super::notifications::NewContact;
use super::orders::NewOrder;
use super::problem::Problem;
use super::service_contract as contract;
use super::stocks::{Adjustment, StockCount, place_of};
use super::{edge, idempotency, request};

/// Whose body it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Order,
    CartItem,
    CartCount,
    StockCount,
    Adjustment,
    Contact,
    ContractCartItem,
    ContractUser,
    ContractOrder,
    ContractOrderId,
    ContractSku,
}

impl Body {
    /// Those of the service contract, under the names of the specification.
    pub const OF_THE_CONTRACT: [Self; 5] =
        [Self::ContractCartItem, Self::ContractUser, Self::ContractOrder, Self::ContractOrderId, Self::ContractSku];
    /// All others.
    pub const OF_LOMS: [Self; 6] =
        [Self::Order, Self::CartItem, Self::CartCount, Self::StockCount, Self::Adjustment, Self::Contact];
}

/// # Errors
/// What the handler answers.
pub fn body(of: Body, bytes: &[u8]) -> Result<(), Problem> {
    match of {
        Body::Order => parse::<NewOrder>(bytes)?.read().map(drop),
        Body::CartItem => parse::<NewItem>(bytes)?.read().map(drop),
        Body::CartCount => parse::<NewCount>(bytes)?.read().map(drop),
        Body::StockCount => parse::<StockCount>(bytes)?.read().map(drop),
        Body::Adjustment => parse::<Adjustment>(bytes)?.read().map(drop),
        Body::Contact => parse::<NewContact>(bytes)?.read().map(drop),
        Body::ContractCartItem => parse::<contract::CartItem>(bytes)?.read().map(drop),
        Body::ContractUser => parse::<contract::OfUser>(bytes)?.read().map(drop),
        Body::ContractOrder => parse::<contract::NewOrder>(bytes)?.read().map(drop),
        Body::ContractOrderId => parse::<contract::OfOrder>(bytes).map(drop),
        Body::ContractSku => parse::<contract::OfSku>(bytes)?.read().map(drop),
    }
}

/// A path of one or two names, each read as everything that may stand there.
///
/// # Errors
/// What a handler answers that takes none of it.
pub fn path(text: &str) -> Result<(), Problem> {
    let decoded = edge::decoded(text).ok_or_else(|| Problem::unreadable("the path has a bad percent-encoding"))?;
    let (first, second) = decoded.split_once('/').unwrap_or((&decoded, ""));
    let names = (first.to_owned(), second.to_owned());
    let user = request::user(first).map(drop);
    let place = place_of(&names).map(drop);
    let order = request::order_id(first).map(drop);
    let limit = request::limit(Some(second), (1, 500)).map(drop);
    user.or(place).or(order).or(limit)
}

/// The value of an `Idempotency-Key`. What is no header's value at all is no key either.
///
/// # Errors
/// What a handler answers.
pub fn key(bytes: &[u8]) -> Result<(), Problem> {
    match HeaderValue::from_bytes(bytes) {
        Ok(value) => idempotency::parse(&value).map(drop),
        Err(_) => Err(Problem::unreadable("it is no header's value")),
    }
}
