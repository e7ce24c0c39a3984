//! LOMS: an order backend for shops.
pub mod commands;
pub mod demo;
pub mod domain;
pub mod http;
pub mod products;
