//! What becomes of status changes outside: messages to RabbitMQ, and notifications to users.
//!
//! Knows no HTTP API, no actors and no SQL.

pub mod channels;
pub mod message;
