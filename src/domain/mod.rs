//! What a cart, an order and a shelf are, and what may happen to them.
//!
//! Pure: no I/O, no clock, no randomness. Time, ids and prices arrive inside the commands, and
//! nothing here fails but by a typed rejection.

pub mod cart;
pub mod contact;
pub mod event;
pub mod ids;
pub mod money;
pub mod order;
pub mod stock;

pub use event::{EventId, EventKind, Offer, OrderEvent, Step};
pub use ids::{Count, OrderId, Sku, UserId, WarehouseId};
pub use money::Money;

/// A moment, UTC, in whole microseconds: what both databases keep.
pub type Time = chrono::DateTime<chrono::Utc>;

/// The most lines that a cart or an order has.
pub const LINES_MAX: usize = 2_000;
