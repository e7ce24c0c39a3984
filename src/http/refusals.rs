//! What an address may answer instead of what was asked for, as the OpenAPI document tells it.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type};

/// Each is named by the addresses that may give it.
macro_rules! refusals {
    ($($name:ident { $($status:literal: $description:literal),+ })+) => {$(
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status.to_owned(), refusal($status, $description))),+].into()
            }
        }
    )+};
}

refusals! {
    Unserved {
        "400": "`invalid_request`: the request cannot be read",
        "503": "`overloaded` or `unavailable`"
    }
    AnotherSite { "403": "`forbidden`: a browser says that another website's page asks" }
    LongBody {
        "403": "`forbidden`: a browser says that another website's page asks",
        "413": "`payload_too_large`: more than 1 MiB"
    }
    BadBody {
        "403": "`forbidden`: a browser says that another website's page asks",
        "413": "`payload_too_large`: more than 1 MiB",
        "415": "`unsupported_media_type`"
    }
    BadValue { "422": "`invalid_request` naming the field" }
    BadValueOrKey { "422": "`invalid_request` naming the field, or `idempotency_key_reused`" }
    UnknownSku { "404": "`unknown_sku`" }
    OrderNotFound { "404": "`order_not_found`" }
    OutOfStock { "409": "`out_of_stock`" }
    NothingToBuy { "409": "`empty_cart` or `out_of_stock`" }
    WrongStatus { "409": "`wrong_status`" }
    BelowReserved { "409": "`below_reserved`" }
}

fn refusal(status: &str, description: &str) -> RefOr<Response> {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content("application/problem+json", problem);
    if status != "503" {
        return response.build().into();
    }
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let meaning = "Seconds until it makes sense to ask again. Missing where it may have been done: only with the same \
                   `Idempotency-Key` it is not done twice.";
    let retry_after = HeaderBuilder::new().schema(Some(seconds)).description(Some(meaning));
    response.header("Retry-After", retry_after.build()).build().into()
}
