//! What users are shown of their carts: with names and prices of this moment, or with those of an earlier answer.

use std::sync::Arc;

use actix_web::HttpResponse;
use serde::Serialize;

use crate::domain::cart::{Cart, Line};
use crate::domain::money::TotalTooLarge;
use crate::domain::{Money, UserId};
use crate::products::Product;
use crate::store::{PriceTag, PriceTags};

use super::Api;
use super::answer::json;
use super::problem::Problem;

/// A cart, with names and prices as they are now.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Cart)]
pub struct CartBody<'a> {
    user: &'a str,
    /// How many edits the cart has seen.
    version: i64,
    items: Vec<CartItemBody<'a>>,
    /// Minor units of the currency.
    total_price: i64,
    /// ISO 4217.
    currency: &'a str,
    /// SKUs of lines whose product is no longer for sale. They are in no price, and can be removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    no_longer_sold: Vec<&'a str>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = CartItem)]
struct CartItemBody<'a> {
    sku: &'a str,
    name: &'a str,
    /// Minor units of the currency, for one unit.
    price: i64,
    count: i64,
}

/// A cart, and the products of its lines.
pub struct Priced {
    pub cart: Cart,
    pub products: Vec<Option<Product>>,
}

/// The cart's products, in the order of its lines; `None` for what is no longer sold.
///
/// # Errors
/// 503 where ProductService is away.
pub async fn products_of(api: &Api, cart: &Cart) -> Result<Vec<Option<Product>>, Problem> {
    let found = api.products.get_each(cart.lines().iter().map(|line| &line.sku)).await;
    found.map_err(|_| Problem::products_unavailable())
}

/// What the lines cost that are still sold.
///
/// # Errors
/// Where it cannot be counted.
pub fn total(cart: &Cart, products: &[Option<Product>]) -> Result<Money, TotalTooLarge> {
    let lines = cart.lines().iter().zip(products);
    Money::total(lines.filter_map(|(line, product)| Some((product.as_ref()?.price, line.count))))
}

/// With the names and prices of this moment.
///
/// # Errors
/// 503 where ProductService is away, 422 for a total that cannot be counted.
pub async fn cart_response(api: &Api, user: &UserId, cart: &Cart) -> Result<HttpResponse, Problem> {
    cart_with(user, cart, &products_of(api, cart).await?, api.currency.code())
}

/// With the names and prices that there were before the change; where somebody else has changed the cart, too, as
/// a repetition shows it.
///
/// # Errors
/// As [`cart_response`], telling that the cart was changed.
pub async fn changed_cart_response(
    api: &Api,
    user: &UserId,
    cart: &Cart,
    expected: Option<Priced>,
    tags: Option<Arc<PriceTags>>,
) -> Result<HttpResponse, Problem> {
    let shown = match expected.filter(|expected| expected.cart == *cart) {
        Some(Priced { products, .. }) => cart_with(user, cart, &products, api.currency.code()),
        None => tagged_cart_response(api, user, cart, tags).await,
    };
    shown.map_err(Problem::after_a_change)
}

/// With the names and prices that were kept; with those of this moment where they are not of all lines.
///
/// # Errors
/// As [`cart_response`].
pub async fn tagged_cart_response(
    api: &Api,
    user: &UserId,
    cart: &Cart,
    tags: Option<Arc<PriceTags>>,
) -> Result<HttpResponse, Problem> {
    let Some(tags) = tags.filter(|tags| tags.covers(cart)) else { return cart_response(api, user, cart).await };
    let product = |line: &Line| {
        let PriceTag { name, price } = tags.of.get(&line.sku)?.clone()?;
        Some(Product { name, price })
    };
    cart_with(user, cart, &cart.lines().iter().map(product).collect::<Vec<_>>(), &tags.currency)
}

impl Priced {
    /// What is kept of the names and prices.
    pub fn tags(&self, api: &Api) -> PriceTags {
        let tag = |product: &Product| PriceTag { name: Arc::clone(&product.name), price: product.price };
        let tagged = |(line, product): (&Line, &Option<Product>)| (line.sku.clone(), product.as_ref().map(tag));
        let of = self.cart.lines().iter().zip(&self.products).map(tagged).collect();
        PriceTags { currency: api.currency.code().to_owned(), of }
    }
}

fn cart_with(
    user: &UserId,
    cart: &Cart,
    products: &[Option<Product>],
    currency: &str,
) -> Result<HttpResponse, Problem> {
    let mut items = Vec::with_capacity(cart.lines().len());
    let mut no_longer_sold = Vec::new();
    for (line, product) in cart.lines().iter().zip(products) {
        let (sku, count) = (line.sku.as_str(), line.count.units());
        match product {
            Some(Product { name, price }) => items.push(CartItemBody { sku, name, price: price.0, count }),
            None => no_longer_sold.push(sku),
        }
    }
    let (user, version, total_price) = (user.as_str(), cart.version, total(cart, products)?.0);
    Ok(json(HttpResponse::Ok(), &CartBody { user, version, items, total_price, currency, no_longer_sold }))
}
