//! How names and numbers look in the OpenAPI document, as far as JSON Schema can say it.

use utoipa::PartialSchema;
use utoipa::openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type};

use crate::domain::order::Status;
use crate::domain::{OrderId, Sku, UserId, WarehouseId};

/// Printable characters, with spaces inside only: no control character, no other white space, nothing
/// invisible. See [`Sku::parse`].
const SKU_PATTERN: &str = concat!(
    r"^[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200F\u2028-\u202F\u205F-\u206F\u3000\uFEFF\uFFF0-\uFFFB]",
    r"([^\u0000-\u001F\u007F-\u00A0\u1680\u2000-\u200F\u2028-\u202F\u205F-\u206F\u3000\uFEFF\uFFF0-\uFFFB]*",
    r"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200F\u2028-\u202F\u205F-\u206F\u3000\uFEFF\uFFF0-\uFFFB])?$"
);

fn text(pattern: &str, chars_max: usize) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    text.min_length(Some(1)).max_length(Some(chars_max)).into()
}

fn number(format: KnownFormat) -> RefOr<Schema> {
    let format = Some(SchemaFormat::KnownFormat(format));
    ObjectBuilder::new().schema_type(Type::Integer).format(format).minimum(Some(1)).into()
}

/// Of a list's parameter, where an empty value stands for none.
fn or_empty(schema: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    let empty = ObjectBuilder::new().schema_type(Type::String).max_length(Some(0));
    OneOfBuilder::new().item(schema).item(empty).into()
}

pub fn user_or_empty() -> RefOr<Schema> {
    or_empty(UserId::schema())
}

pub fn sku_or_empty() -> RefOr<Schema> {
    or_empty(Sku::schema())
}

pub fn status_or_empty() -> RefOr<Schema> {
    or_empty(Status::schema())
}

/// The length of a page: no list has longer ones.
pub fn limit_or_empty() -> RefOr<Schema> {
    or_empty(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(500)))
}

/// Where a page of orders or notifications starts.
pub fn number_or_empty() -> RefOr<Schema> {
    let format = Some(SchemaFormat::KnownFormat(KnownFormat::Int64));
    or_empty(ObjectBuilder::new().schema_type(Type::Integer).format(format).minimum(Some(0)))
}

impl PartialSchema for UserId {
    fn schema() -> RefOr<Schema> {
        text("^[A-Za-z0-9._@:-]+$", Self::CHARS_MAX)
    }
}

impl PartialSchema for Sku {
    fn schema() -> RefOr<Schema> {
        text(SKU_PATTERN, Self::CHARS_MAX)
    }
}

impl PartialSchema for OrderId {
    fn schema() -> RefOr<Schema> {
        number(KnownFormat::Int64)
    }
}

impl PartialSchema for WarehouseId {
    fn schema() -> RefOr<Schema> {
        number(KnownFormat::Int32)
    }
}

impl PartialSchema for Status {
    fn schema() -> RefOr<Schema> {
        let words = Self::ALL.map(Self::as_str);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
    }
}

impl utoipa::ToSchema for UserId {}
impl utoipa::ToSchema for Sku {}
impl utoipa::ToSchema for OrderId {}
impl utoipa::ToSchema for WarehouseId {}
impl utoipa::ToSchema for Status {}
