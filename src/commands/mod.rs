//! What each sub-command does.

pub mod product_service;
pub mod replay;
