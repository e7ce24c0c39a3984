//! Bodies of the service contract, in which a name may be a number.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::http::input::{Body, body};

fuzz_target!(|bytes: &[u8]| {
    for of in Body::OF_THE_CONTRACT {
        let _ = body(of, bytes);
    }
});
