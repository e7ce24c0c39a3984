//! Requests to and answers of a ProductService. A SKU that is taken survives both of its forms.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loms::products::Product;
use loms::products::protocol::{FoundProduct, GetProduct, ListSkus, SkuForm, SkuPage};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = serde_json::from_slice::<FoundProduct>(bytes) {
        let _ = Product::new(&found.name, found.price);
    }
    let asked = serde_json::from_slice::<GetProduct>(bytes).map(|request| vec![request.sku]);
    let listed = serde_json::from_slice::<SkuPage>(bytes).map(|page| page.skus);
    let after = serde_json::from_slice::<ListSkus>(bytes).map(|request| Vec::from_iter(request.start_after_sku));
    for form in [asked, listed, after].into_iter().flatten().flatten() {
        let Some(sku) = form.parse() else { continue };
        assert_eq!(SkuForm::text(&sku).parse().as_ref(), Some(&sku));
        assert_eq!(SkuForm::shortest(&sku).parse().as_ref(), Some(&sku));
    }
});
