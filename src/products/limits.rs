//! Every limit of asking the ProductService, in one place.

use std::time::Duration;

/// A remembered product is served without asking while it is at most this old.
pub const PRICE_FRESH_MS_MAX: u64 = 1_000;
/// No price older than this is ever served, whatever the state of the service.
pub const PRICE_AGE_MS_MAX: u64 = 30_000;
/// "No such SKU" is believed for so long; past it, it is asked for again or is not known.
pub const UNKNOWN_AGE_MS_MAX: u64 = 5_000;
/// Who could be served with a remembered price waits at most this long for a new one.
pub const REFRESH_WAIT_MS_MAX: u64 = 500;
/// One product or one page, with all waiting and all tries.
pub const QUESTION_MS_MAX: u64 = 2_000;
/// Many products at once: at ten calls a second, about a hundred that are not remembered.
pub const QUESTIONS_MS_MAX: u64 = 10_000;
/// Questions that are being asked or wait to be; past it a further one is refused at once.
pub const QUESTIONS_WAITING_MAX: usize = 1_000;
/// One call over HTTP, to the last byte of its answer.
pub const CALL_MS_MAX: u64 = 900;
pub const CALLS_IN_FLIGHT_MAX: usize = 5;
/// Unless an operator sets another number.
pub const CALLS_PER_SECOND: usize = 10;
/// The first try of a call and those after it.
pub const CALL_TRIES_MAX: usize = 3;
/// Before the second try, with jitter on top; twice as long before each further one.
pub const RETRY_DELAY_MS_MIN: u64 = 50;
/// So many calls are looked at together; where half of them failed, the service is left alone.
pub const BREAKER_CALLS: usize = 10;
/// So many calls then try whether it is back.
pub const BREAKER_TRIAL_CALLS: usize = 2;
pub const BREAKER_OPEN_MS: u64 = 2_000;
/// A body with one product.
pub const PRODUCT_BYTES_MAX: usize = 64 * 1024;
/// A body with a page of SKUs.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
pub const PAGE_SKUS_MAX: usize = 1_000;
pub const PRODUCTS_REMEMBERED_MAX: u64 = 100_000;
pub const PAGES_REMEMBERED_MAX: u64 = 100;
pub const NAME_CHARS_MAX: usize = 1_000;

/// The limits that an operator may set or a test must shorten. The others are fixed.
#[derive(Debug, Clone)]
pub struct Limits {
    /// See [`PRICE_FRESH_MS_MAX`].
    pub price_fresh_max: Duration,
    /// See [`PRICE_AGE_MS_MAX`].
    pub price_age_max: Duration,
    /// See [`UNKNOWN_AGE_MS_MAX`].
    pub unknown_age_max: Duration,
    /// See [`REFRESH_WAIT_MS_MAX`].
    pub refresh_wait_max: Duration,
    /// See [`QUESTION_MS_MAX`].
    pub question_max: Duration,
    /// See [`QUESTIONS_MS_MAX`].
    pub questions_max: Duration,
    /// See [`CALL_MS_MAX`].
    pub call_max: Duration,
    /// See [`CALLS_PER_SECOND`]; zero counts as one.
    pub calls_per_second_max: usize,
    /// See [`RETRY_DELAY_MS_MIN`].
    pub retry_delay_min: Duration,
    /// See [`BREAKER_CALLS`]; zero counts as one.
    pub breaker_calls: usize,
    /// See [`BREAKER_OPEN_MS`].
    pub breaker_open: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            price_fresh_max: Duration::from_millis(PRICE_FRESH_MS_MAX),
            price_age_max: Duration::from_millis(PRICE_AGE_MS_MAX),
            unknown_age_max: Duration::from_millis(UNKNOWN_AGE_MS_MAX),
            refresh_wait_max: Duration::from_millis(REFRESH_WAIT_MS_MAX),
            question_max: Duration::from_millis(QUESTION_MS_MAX),
            questions_max: Duration::from_millis(QUESTIONS_MS_MAX),
            call_max: Duration::from_millis(CALL_MS_MAX),
            calls_per_second_max: CALLS_PER_SECOND,
            retry_delay_min: Duration::from_millis(RETRY_DELAY_MS_MIN),
            breaker_calls: BREAKER_CALLS,
            breaker_open: Duration::from_millis(BREAKER_OPEN_MS),
        }
    }
}
