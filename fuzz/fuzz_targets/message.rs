//! The body of a message from the broker. What is taken for an event is the same event when it is written
//! and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::notifications::message::{read, write};

fuzz_target!(|bytes: &[u8]| {
    match read(bytes, "RUB") {
        Ok(event) => assert_eq!(read(&write(&event, "RUB"), "RUB"), Ok(event)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
