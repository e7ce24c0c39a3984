//! Bodies in JSON, but for those of the service contract: every handler's parser reads the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::http::input::{Body, body};

fuzz_target!(|bytes: &[u8]| {
    for of in Body::OF_LOMS {
        let _ = body(of, bytes);
    }
});
