//! LOMS: an order backend for shops, as actors over one durable journal.
//!
//! The path of a purchase:
//!
//! 1. [`http`] reads the request and asks [`products`] for names and prices,
//! 2. the user's [`actors::cart`] makes sure that the cart is the one that was priced,
//! 3. a new [`actors::order`] takes the draft,
//! 4. the [`actors::stock_keeper`] reserves all of it or nothing,
//! 5. the [`actors::journal`] gathers what came meanwhile and has it written,
//! 6. a [`store`] writes order, lines, stock, emptied cart, events and key in one transaction,
//! 7. and only then the answers go back the same way.
//!
//! What may happen at all is decided in [`domain`]; [`application`] puts the parts together.

pub mod actors;
pub mod application;
pub mod clock;
pub mod commands;
pub mod config;
mod csv_line;
pub mod demo;
pub mod domain;
pub mod http;
mod io_runtime;
pub mod notifications;
mod packed_file;
pub mod products;
pub mod stock_file;
pub mod store;
pub mod telemetry;
