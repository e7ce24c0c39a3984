//! Catalogue and events of a replay, plain or compressed; the first zero byte parts them. Every number of
//! what is taken leads somewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::commands::replay::recording::Recording;

fuzz_target!(|bytes: &[u8]| {
    let parted = bytes.iter().position(|byte| *byte == 0);
    let (catalogue, events) = parted.map_or((bytes, &[][..]), |at| (&bytes[..at], &bytes[at + 1..]));
    let Ok(recording) = Recording::from_bytes(catalogue.to_vec(), events.to_vec()) else { return };
    for invoice in &recording.invoices {
        let _ = recording.user(invoice.user);
        for line in &invoice.lines {
            let _ = recording.sku(line.sku);
        }
        assert!(!invoice.lines.is_empty());
    }
});
