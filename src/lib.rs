//! LOMS: an order backend for shops.
pub mod domain;
