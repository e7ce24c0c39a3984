//! LOMS: an order backend for shops.
pub mod domain;
pub mod store;
