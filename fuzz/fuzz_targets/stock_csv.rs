//! A stock import. What is taken is the same when it is written and read again, and a bad line is one of the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::stock_file::parse;
use loms::store::ShelfEdit;

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Ok(rows) => {
            let mut text = String::from("sku,warehouse_id,on_hand\n");
            for (_, ShelfEdit { sku, warehouse, units }) in &rows {
                let sku = sku.as_str().replace('"', "\"\"");
                text.push_str(&format!("\"{sku}\",{warehouse},{units}\n"));
            }
            let again = parse(text.as_bytes()).expect("what was taken once");
            let edit = |(_, edit): &(u64, ShelfEdit)| (edit.sku.clone(), edit.warehouse, edit.units);
            assert!(rows.iter().map(edit).eq(again.iter().map(edit)), "{rows:?} became {again:?}");
        }
        Err(errors) => {
            // A line end may also be a carriage return alone.
            let lines = 1 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
            assert!(errors.iter().all(|error| (1..=lines).contains(&error.line)), "{errors:?}");
        }
    }
});
