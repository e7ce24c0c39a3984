//! LOMS: an order backend for shops.
pub mod commands;
pub mod domain;
