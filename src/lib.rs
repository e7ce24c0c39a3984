//! LOMS: an order backend for shops.
pub mod demo;
pub mod domain;
pub mod products;
