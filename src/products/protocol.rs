//! The messages of the ProductService, as JSON, for both ends.
//!
//! SKUs come as strings or as whole numbers, since there are services of both kinds. A request
//! always carries a string: `"85123A"` has no other form, and a service that reads numbers from
//! JSON must be one that also takes `"1076963"`.

use serde::{Deserialize, Serialize};

use crate::domain::Sku;

pub const GET_PRODUCT: &str = "get_product";
pub const LIST_SKUS: &str = "list_skus";

/// `POST /get_product`, answered by [`FoundProduct`], or by 404 where there is no such SKU.
#[derive(Serialize, Deserialize)]
pub struct GetProduct {
    #[serde(default)]
    pub token: String,
    pub sku: SkuForm,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FoundProduct {
    pub name: String,
    /// In minor units.
    pub price: i64,
}

/// `POST /list_skus`, answered by [`SkuPage`].
#[derive(Serialize, Deserialize)]
pub struct ListSkus {
    #[serde(default)]
    pub token: String,
    /// Absent, null, `""` and the number 0 stand for the beginning.
    #[serde(default, rename = "startAfterSku")]
    pub start_after_sku: Option<SkuForm>,
    pub count: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SkuPage {
    pub skus: Vec<SkuForm>,
}

/// How a SKU is written in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SkuForm {
    Number(u64),
    Text(String),
    /// Anything else: no SKU, but no reason to give up the rest of a page.
    Other(serde_json::Value),
}

impl SkuForm {
    #[must_use]
    pub fn text(sku: &Sku) -> Self {
        Self::Text(sku.as_str().to_owned())
    }

    /// A number where the SKU is a whole number that reads back as the same text, as services
    /// with numeric SKUs answer; otherwise a string.
    #[must_use]
    pub fn shortest(sku: &Sku) -> Self {
        match sku.as_str().parse::<u32>() {
            Ok(number) if number.to_string() == sku.as_str() => Self::Number(number.into()),
            _ => Self::text(sku),
        }
    }

    #[must_use]
    pub fn parse(&self) -> Option<Sku> {
        match self {
            Self::Number(number) => Sku::parse(&number.to_string()).ok(),
            Self::Text(text) => Sku::parse(text).ok(),
            Self::Other(_) => None,
        }
    }

    #[must_use]
    pub fn is_beginning(&self) -> bool {
        match self {
            Self::Number(number) => *number == 0,
            Self::Text(text) => text.is_empty(),
            Self::Other(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_survives_both_of_its_forms() {
        for text in ["85123A", "1076963", "007", "0", "4294967296", "BANK CHARGES", "-1"] {
            let sku = Sku::parse(text).expect("a SKU");
            for form in [SkuForm::text(&sku), SkuForm::shortest(&sku)] {
                let json = serde_json::to_string(&form).expect("JSON");
                let read: SkuForm = serde_json::from_str(&json).expect("a SKU form");
                assert_eq!(read.parse().as_ref(), Some(&sku), "{json}");
            }
        }
        assert_eq!(SkuForm::shortest(&Sku::parse("773297411").expect("a SKU")), SkuForm::Number(773_297_411));
    }

    #[test]
    fn what_is_no_sku_does_not_spoil_its_page() {
        let page: SkuPage = serde_json::from_str(r#"{"skus": ["A", 5, -5, 1.5, null, {}]}"#).expect("a page");
        let skus: Vec<String> = page.skus.iter().filter_map(SkuForm::parse).map(|sku| sku.to_string()).collect();
        assert_eq!(skus, ["A", "5"]);
    }
}
