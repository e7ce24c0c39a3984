//! Values of settings: durations, and the addresses of a webhook and of a mail server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::config::payment_timeout;
use loms::notifications::channels::{email, webhook};

const YEAR_MS: u128 = 365 * 24 * 60 * 60 * 1000;

fuzz_target!(|text: &str| {
    if let Ok(timeout) = payment_timeout(text) {
        assert!((100..=YEAR_MS).contains(&timeout.as_millis()));
    }
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    for allows_private_addresses in [false, true] {
        let _ = webhook::Settings::parse(first, &second.to_owned().into(), allows_private_addresses);
    }
    let _ = email::Settings::parse(&first.to_owned().into(), second);
});
