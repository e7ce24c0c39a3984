//! Names and numbers as clients and operators write them. What is taken reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::domain::contact::{Email, Locale};
use loms::domain::{EventId, Sku, UserId, WarehouseId};
use loms::store::Key;

fuzz_target!(|text: &str| {
    if let Ok(sku) = Sku::parse(text) {
        assert_eq!(sku.as_str(), text);
        assert!((1..=Sku::CHARS_MAX).contains(&text.chars().count()));
    }
    if let Ok(user) = UserId::parse(text) {
        assert_eq!(user.as_str(), text);
        assert!((1..=UserId::CHARS_MAX).contains(&text.len()) && text.is_ascii());
    }
    if let Some(id) = EventId::parse(text) {
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
    }
    if let Ok(warehouse) = WarehouseId::parse(text) {
        assert_eq!(WarehouseId::parse(&warehouse.to_string()), Ok(warehouse));
    }
    if let Ok(email) = Email::parse(text) {
        // One address, in one line: no other header can be written with it.
        assert_eq!(Email::parse(email.as_str()), Ok(email.clone()));
        assert!(email.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Some(locale) = Locale::parse(text) {
        assert_eq!(locale.as_str(), text);
    }
    if let Ok(key) = Key::parse(text) {
        assert_eq!(key.as_str(), text);
    }
});
