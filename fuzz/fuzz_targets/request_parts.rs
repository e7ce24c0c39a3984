//! What a request says beside its body: path, query values and `Idempotency-Key`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::http::input::{key, path};

fuzz_target!(|bytes: &[u8]| {
    let printable = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    assert_eq!(key(bytes).is_ok(), printable && (1..=255).contains(&bytes.len()));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = path(text);
    }
});
