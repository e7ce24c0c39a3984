//! Checkout: a user's cart and its purchase.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, delete, get, post, put, web};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::actors::cart::{Cart, EditError, Execute, Purchase};
use crate::actors::order::{PlaceError, Placed};
use crate::actors::{self, ATTEMPTS_MAX, Failure};
use crate::domain::cart::{self, Command};
use crate::domain::ids::Invalid;
use crate::domain::{Count, Money, Sku, UserId};
use crate::products::{Product, ProductError};
use crate::store::{Keyed, Outcome};

use super::answer::json;
use super::idempotency::{key_of, once};
use super::orders::{draft, placed_response, replay_order};
use super::problem::Problem;
use super::request::{self, JsonBody};
use super::routes::Problems;
use super::{Api, Shared};

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewItem {
    #[schema(value_type = Sku, inline)]
    pub sku: String,
    /// 1 to 1,000,000.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000)]
    pub count: Number,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCount {
    /// 1 to 1,000,000.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000)]
    count: Number,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Removal {
    /// How many units to remove; the whole line where it is missing.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1_000_000)]
    count: Option<String>,
}

/// A cart, with names and prices as they are now.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Cart)]
struct CartBody<'a> {
    user: &'a str,
    /// How many edits the cart has seen.
    version: i64,
    items: Vec<CartItemBody<'a>>,
    /// Minor units of the currency.
    total_price: i64,
    /// ISO 4217.
    currency: &'a str,
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

/// Adds to a cart.
///
/// Counts of the same SKU add up. The stock must cover what the cart then holds of it.
#[utoipa::path(tag = "Checkout", request_body = NewItem, params(("user" = inline(UserId), Path)),
    responses((status = 200, body = CartBody), Problems))]
#[post("/carts/{user}/items")]
pub async fn add_item(
    api: Shared,
    request: HttpRequest,
    path: web::Path<String>,
    body: JsonBody<NewItem>,
) -> Result<HttpResponse, Problem> {
    let user = request::user(&path)?;
    let (sku, count) = body.value.read()?;
    let keyed = key_of(&request, &body.bytes)?;
    let act = async |key| {
        let cart = add(&api, &user, sku, count, key).await?;
        changed_cart_response(&api, &user, &cart).await
    };
    let replay = async |outcome| match outcome {
        Outcome::Cart { version, lines, .. } => cart_response(&api, &user, &Outcome::cart(version, lines)).await,
        _ => Err(Problem::key_reused()),
    };
    once(&api, keyed, act, replay).await
}

/// Sets the count of a SKU in a cart.
#[utoipa::path(tag = "Checkout", request_body = NewCount, params(("user" = inline(UserId), Path), ("sku" = inline(Sku), Path)),
    responses((status = 200, body = CartBody), Problems))]
#[put("/carts/{user}/items/{sku}")]
pub async fn set_item(
    api: Shared,
    path: web::Path<(String, String)>,
    body: JsonBody<NewCount>,
) -> Result<HttpResponse, Problem> {
    let user = request::user(&path.0)?;
    let sku = request::sku(&path.1)?;
    let count = body.value.read()?;
    let command = Command::Set { sku: sku.clone(), count };
    require_product(&api, &sku).await?;
    require_countable_total(&api, &user, command.clone()).await?;
    let cart = edit(&api, &user, command, None).await.map_err(|error| Problem::of_edit(error, &sku))?;
    changed_cart_response(&api, &user, &cart).await
}

/// Removes units of a SKU from a cart, or the whole line.
#[utoipa::path(tag = "Checkout", params(("user" = inline(UserId), Path), ("sku" = inline(Sku), Path), Removal),
    responses((status = 200, body = CartBody), Problems))]
#[delete("/carts/{user}/items/{sku}")]
pub async fn remove_item(
    api: Shared,
    path: web::Path<(String, String)>,
    removal: web::Query<Removal>,
) -> Result<HttpResponse, Problem> {
    let user = request::user(&path.0)?;
    let sku = request::sku(&path.1)?;
    let units = |text: &str| text.parse().ok().and_then(|units| Count::new(units).ok());
    let count = removal.count.as_deref().map(|text| units(text).ok_or(Problem::invalid("count", Invalid::Count)));
    let count = count.transpose()?;
    let shown = require_countable_total(&api, &user, Command::Remove { sku: sku.clone(), count }).await;
    // What is no longer sold is in nobody's way who takes it out, or something else.
    if let Err(problem) = shown
        && problem.is_unavailable()
    {
        return Err(problem);
    }
    let cart = remove(&api, &user, sku, count).await?;
    changed_cart_response(&api, &user, &cart).await
}

/// What a cart holds.
///
/// Names and prices are live. An unknown user has an empty cart.
#[utoipa::path(tag = "Checkout", params(("user" = inline(UserId), Path)), responses((status = 200, body = CartBody), Problems))]
#[get("/carts/{user}")]
pub async fn show_cart(api: Shared, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let user = request::user(&path)?;
    let cart = held(&api, &user).await?;
    cart_response(&api, &user, &cart).await
}

/// Empties a cart.
#[utoipa::path(tag = "Checkout", params(("user" = inline(UserId), Path)), responses((status = 204), Problems))]
#[delete("/carts/{user}")]
pub async fn empty_cart(api: Shared, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let user = request::user(&path)?;
    match edit(&api, &user, Command::Empty, None).await {
        Ok(_) => Ok(HttpResponse::NoContent().finish()),
        Err(EditError::Failed(failure)) => Err(failure.into()),
        // Emptying takes no stock, no limit and no key.
        Err(_) => Err(Problem::overloaded()),
    }
}

/// Makes an order of the whole cart.
///
/// On success the cart is empty. Where the stock does not cover it, the order is kept as `failed`
/// and the cart stays.
#[utoipa::path(tag = "Checkout", params(("user" = inline(UserId), Path)),
    responses((status = 201, body = super::orders::OrderBody), Problems))]
#[post("/carts/{user}/purchase")]
pub async fn purchase_whole_cart(
    api: Shared,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let user = request::user(&path)?;
    let keyed = key_of(&request, b"")?;
    let act = async |key| Ok(placed_response(&api, &purchase_cart(&api, &user, key).await?));
    once(&api, keyed, act, async |outcome| replay_order(&api, outcome).await).await
}

impl NewItem {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<(Sku, Count), Problem> {
        Ok((request::sku(&self.sku)?, request::count(&self.count)?))
    }
}

impl NewCount {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<Count, Problem> {
        request::count(&self.count)
    }
}

/// # Errors
/// What [`add_item`] refuses.
pub async fn add(
    api: &Api,
    user: &UserId,
    sku: Sku,
    count: Count,
    key: Option<Keyed>,
) -> Result<Arc<cart::Cart>, Problem> {
    let command = Command::Add { sku: sku.clone(), count };
    require_product(api, &sku).await?;
    require_countable_total(api, user, command.clone()).await?;
    edit(api, user, command, key).await.map_err(|error| Problem::of_edit(error, &sku))
}

/// # Errors
/// What [`remove_item`] refuses.
pub async fn remove(api: &Api, user: &UserId, sku: Sku, count: Option<Count>) -> Result<Arc<cart::Cart>, Problem> {
    let command = Command::Remove { sku: sku.clone(), count };
    edit(api, user, command, None).await.map_err(|error| Problem::of_edit(error, &sku))
}

/// # Errors
/// 503 where the cart is not in memory and the database is away.
pub async fn held(api: &Api, user: &UserId) -> Result<Arc<cart::Cart>, Problem> {
    Ok(actors::cart::held(&api.core, user).await?)
}

/// Buys what the cart holds at the prices of this moment.
///
/// # Errors
/// What [`purchase_whole_cart`] refuses, save a failed order.
pub async fn purchase_cart(api: &Api, user: &UserId, key: Option<Keyed>) -> Result<Placed, Problem> {
    for _ in 0..ATTEMPTS_MAX {
        let cart = held(api, user).await?;
        if cart.lines().is_empty() {
            return Err(Problem::empty_cart());
        }
        let lines = cart.lines().iter().map(|line| (line.sku.clone(), line.count)).collect();
        let draft = draft(api, user, lines).await?;
        let purchase = Purchase { version: cart.version, draft, key: key.clone() };
        let start = || Cart::new(user.clone(), Arc::clone(&api.core));
        match api.core.directory.carts.send(user, purchase, start).await {
            Ok(Ok(placed)) => return Ok(placed),
            // Somebody edited it meanwhile: again, with what it holds now.
            Ok(Err(PlaceError::CartChanged)) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Failure::InDoubt.into()),
        }
    }
    Err(PlaceError::CartChanged.into())
}

/// The cart's products, in the order of its lines.
///
/// # Errors
/// 404 for a product that is no longer there, 503 where ProductService is away.
pub async fn products_of(api: &Api, cart: &cart::Cart) -> Result<Vec<Product>, Problem> {
    let skus = || cart.lines().iter().map(|line| &line.sku);
    products(api, skus).await
}

/// # Errors
/// 404 naming the product that is not there, 503 where ProductService is away.
pub async fn products<'a, I>(api: &Api, skus: impl Fn() -> I) -> Result<Vec<Product>, Problem>
where
    I: Iterator<Item = &'a Sku>,
{
    let error = match api.products.get_all(skus()).await {
        Ok(products) => return Ok(products),
        Err(error) => error,
    };
    if error == ProductError::Unknown
        && let Ok(found) = api.products.get_each(skus().cloned().collect()).await
        && let Some((sku, _)) = skus().zip(&found).find(|(_, product)| product.is_none())
    {
        return Err(Problem::unknown_sku(sku));
    }
    Err(Problem::products_unavailable())
}

async fn require_product(api: &Api, sku: &Sku) -> Result<(), Problem> {
    api.products.get(sku).await.map(drop).map_err(|error| Problem::of_product(&error, sku))
}

/// Refuses what would make a cart that cannot be shown, before it is written: its prices must be there, and add up.
async fn require_countable_total(api: &Api, user: &UserId, command: Command) -> Result<(), Problem> {
    let held = held(api, user).await?;
    let mut cart = Arc::unwrap_or_clone(held);
    if let Some(edit) = cart.decide(command)? {
        cart.apply(edit);
    }
    let products = products_of(api, &cart).await?;
    Money::total(cart.lines().iter().zip(&products).map(|(line, product)| (product.price, line.count)))?;
    Ok(())
}

async fn edit(api: &Api, user: &UserId, command: Command, key: Option<Keyed>) -> Result<Arc<cart::Cart>, EditError> {
    let start = || Cart::new(user.clone(), Arc::clone(&api.core));
    let edited = api.core.directory.carts.send(user, Execute { command, key }, start).await;
    edited.unwrap_or(Err(Failure::InDoubt.into()))
}

/// What the cart holds after a change. Its prices were there before, and mostly still are.
async fn changed_cart_response(api: &Api, user: &UserId, cart: &cart::Cart) -> Result<HttpResponse, Problem> {
    cart_response(api, user, cart).await.map_err(Problem::after_a_change)
}

async fn cart_response(api: &Api, user: &UserId, cart: &cart::Cart) -> Result<HttpResponse, Problem> {
    let products = products_of(api, cart).await?;
    let lines = || cart.lines().iter().zip(&products);
    let item = |(line, product): (_, _)| {
        let (line, product): (&cart::Line, &Product) = (line, product);
        let (sku, name, price) = (line.sku.as_str(), &*product.name, product.price.0);
        CartItemBody { sku, name, price, count: line.count.units() }
    };
    let body = CartBody {
        user: user.as_str(),
        version: cart.version,
        items: lines().map(item).collect(),
        total_price: Money::total(lines().map(|(line, product)| (product.price, line.count)))?.0,
        currency: api.currency.code(),
    };
    Ok(json(HttpResponse::Ok(), &body))
}
