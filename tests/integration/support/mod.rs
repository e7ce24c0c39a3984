//! What the integration tests stand on: databases, brokers, the program as a child process, an HTTP
//! client and a network that breaks on request. Each file ends with its own tests, but for the
//! broker's: those are in `brokers`.

pub mod batches;
pub mod buyers;
pub mod client;
pub mod crowd;
pub mod distant_shop;
pub mod fragile_shop;
pub mod in_process;
pub mod notifier;
pub mod poll_trap;
pub mod postgres;
pub mod private_rabbitmq;
pub mod private_server;
pub mod program;
pub mod raw_connection;
pub mod receiver;
pub mod recording;
pub mod rounds;
pub mod shop;
pub mod small_disk;
pub mod tcp_proxy;
pub mod traps;
pub mod witness;
