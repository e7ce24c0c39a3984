//! The tests at the system's boundaries: one crate, so that their support is built and linked once.
//!
//! Each module beside this file is about one boundary; `support` is what they stand on.
#![expect(clippy::expect_used, reason = "a test fails by panicking, its support too")]

mod api_bad_input;
mod api_bodies;
mod api_carts;
mod api_edge;
mod api_idempotency;
mod api_model;
mod api_orders;
mod api_service_contract;
mod api_stocks;
mod broker_faults;
mod brokers;
mod commands;
mod compose;
mod consumer_kills;
mod crowd_faults;
mod database_away;
mod deadline_faults;
mod deadlines;
mod disk_faults;
mod handler_panic_faults;
mod kills;
mod late_commits;
mod long_lists;
mod lost_commits;
mod mail;
#[path = "../simulation/memory/mod.rs"]
#[expect(dead_code, reason = "what fails on the way to it is the simulation's business")]
mod memory;
mod messages;
mod named_kills;
mod notifications;
mod outages;
mod overload_faults;
mod panic_faults;
mod poison;
mod races;
mod readme;
mod recorded_orders;
mod repeated_key_faults;
mod replayed_events;
mod sleeping_machine;
mod slow_client_faults;
mod slow_network_faults;
mod start_up_errors;
mod stops;
mod store_contract;
mod support;
mod takeovers;
mod topology;
mod two_notifiers;
mod waiting_order_faults;
