//! A catalogue. What is taken can be found, and is listed in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::products::Catalogue;

fuzz_target!(|bytes: &[u8]| {
    let Ok(catalogue) = Catalogue::from_reader("fuzz", bytes) else { return };
    let skus = catalogue.list(None, usize::MAX);
    assert!(skus.len() == catalogue.len() && skus.is_sorted());
    assert!(skus.iter().all(|sku| catalogue.get(sku).is_some()));
});
