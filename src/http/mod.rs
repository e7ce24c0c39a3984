//! What the program serves over HTTP.

pub mod product_service;
