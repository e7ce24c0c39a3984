//! What is for sale: ProductService's list, with what can be bought of each.

use actix_web::{HttpResponse, get, web};
use serde::{Deserialize, Serialize};

use crate::domain::Sku;
use crate::domain::stock::Shelf;
use crate::products::{Listed, Product};

use super::answer::json;
use super::problem::Problem;
use super::refusals::{BadValue, UnknownSku, Unserved};
use super::request::given;
use super::{Shared, request, schema, stocks};

/// How many products a page has, unless asked otherwise, and at the most.
const PAGE_PRODUCTS: (u32, u32) = (50, 500);

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Page {
    /// 1 to 500; 50 where it is missing.
    #[param(schema_with = schema::limit_or_empty)]
    limit: Option<String>,
    /// The `next` of the page before.
    #[param(schema_with = schema::sku_or_empty)]
    after: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Products<'a> {
    products: Vec<ProductBody<'a>>,
    /// Where the next page starts; null on the last. Behind a full page of an external service there may be an empty one.
    next: Option<&'a str>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Product)]
struct ProductBody<'a> {
    sku: &'a str,
    name: &'a str,
    /// Minor units of the currency.
    price: i64,
    /// How many units can be bought.
    available: i64,
}

/// Products, in SKU order.
#[utoipa::path(tag = "Checkout", params(Page), responses((status = 200, body = Products), Unserved, BadValue))]
#[get("/products")]
pub async fn list_products(api: Shared, page: web::Query<Page>) -> Result<HttpResponse, Problem> {
    let limit = request::limit(given(page.limit.as_ref()), PAGE_PRODUCTS)? as usize;
    let sku = |text| Sku::parse(text).map_err(|error| Problem::invalid("after", error));
    let after = given(page.after.as_ref()).map(sku).transpose()?;
    let unavailable = |_| Problem::products_unavailable();
    let Listed { mut skus, more } = api.products.list(after.as_ref(), limit).await.map_err(unavailable)?;
    let found = api.products.get_first(skus.clone()).await.map_err(unavailable)?;
    let more = more || found.len() < skus.len();
    skus.truncate(found.len());
    let shelves = stocks::shelves(&api, skus.clone()).await?;
    // One without a product was taken out of the list meanwhile.
    let found = skus.iter().zip(&found).filter_map(|(sku, product)| Some((sku, product.as_ref()?)));
    let products = found.map(|(sku, product)| body_of(sku, product, &shelves)).collect();
    let next = skus.last().filter(|_| more).map(Sku::as_str);
    Ok(json(HttpResponse::Ok(), &Products { products, next }))
}

/// One product.
#[utoipa::path(tag = "Checkout", params(("sku" = inline(Sku), Path)), responses((status = 200, body = ProductBody), Unserved, BadValue, UnknownSku))]
#[get("/products/{sku}")]
pub async fn show_product(api: Shared, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let sku = request::sku(&path)?;
    let product = api.products.get(&sku).await.map_err(|error| Problem::of_product(&error, &sku))?;
    let shelves = stocks::shelves(&api, vec![sku.clone()]).await?;
    Ok(json(HttpResponse::Ok(), &body_of(&sku, &product, &shelves)))
}

fn body_of<'a>(sku: &'a Sku, product: &'a Product, shelves: &[(Sku, Shelf)]) -> ProductBody<'a> {
    let of_sku = shelves.iter().filter(|(other, _)| other == sku);
    let available = of_sku.map(|(_, shelf)| shelf.available()).sum();
    ProductBody { sku: sku.as_str(), name: &product.name, price: product.price.0, available }
}
