//! Checkout: a user's cart and its purchase.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, delete, get, post, put, web};
use serde::Deserialize;
use serde_json::Number;

use crate::actors::cart::{Cart, EditError, Execute, Purchase};
use crate::actors::order::{PlaceError, Placed};
use crate::actors::{self, ATTEMPTS_MAX, Failure};
use crate::domain::cart::{self, Command};
use crate::domain::ids::{Invalid, plain_number};
use crate::domain::{Count, Sku, UserId};
use crate::store::{Keyed, Outcome, PriceTags};

use super::idempotency::{KeyHeader, key_of, once};
use super::orders::{draft, placed_response, replay_order};
use super::problem::Problem;
use super::refusals::{
    AnotherSite, BadBody, BadValue, BadValueOrKey, LongBody, NothingToBuy, OutOfStock, UnknownSku, Unserved,
};
use super::request::{self, AnyBody, JsonBody};
use super::shown_cart::{
    CartBody, Priced, cart_response, changed_cart_response, products_of, tagged_cart_response, total,
};
use super::{Api, Shared};

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with sku and count")]
pub struct NewItem {
    #[schema(value_type = Sku, inline)]
    pub sku: String,
    /// 1 to 1,000,000.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000)]
    pub count: Number,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with count")]
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

/// What a cart holds after an addition.
pub struct Added {
    cart: Arc<cart::Cart>,
    /// What it was to hold.
    expected: Priced,
    /// What is kept of names and prices under the request's key.
    tags: Option<Arc<PriceTags>>,
}

/// Adds to a cart.
///
/// Counts of the same SKU add up. The stock must cover what the cart then holds of it.
#[utoipa::path(tag = "Checkout", request_body = NewItem, params(("user" = inline(UserId), Path), KeyHeader),
    responses((status = 200, body = CartBody), Unserved, BadBody, BadValueOrKey, UnknownSku, OutOfStock))]
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
        let Added { cart, expected, tags } = add(&api, &user, sku, count, key).await?;
        changed_cart_response(&api, &user, &cart, Some(expected), tags).await
    };
    let replay = async |outcome| match outcome {
        Outcome::Cart { version, lines, tags } => {
            tagged_cart_response(&api, &user, &Outcome::cart(version, lines), tags).await
        }
        _ => Err(Problem::key_reused()),
    };
    once(&api, keyed, act, replay).await
}

/// Sets the count of a SKU in a cart.
#[utoipa::path(tag = "Checkout", request_body = NewCount, params(("user" = inline(UserId), Path), ("sku" = inline(Sku), Path)),
    responses((status = 200, body = CartBody), Unserved, BadBody, BadValue, UnknownSku, OutOfStock))]
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
    let expected = require_countable_total(&api, &user, command.clone()).await?;
    let cart = edit(&api, &user, command, None).await.map_err(|error| Problem::of_edit(error, &sku))?;
    changed_cart_response(&api, &user, &cart, Some(expected), None).await
}

/// Removes units of a SKU from a cart, or the whole line.
#[utoipa::path(tag = "Checkout", params(("user" = inline(UserId), Path), ("sku" = inline(Sku), Path), Removal),
    responses((status = 200, body = CartBody), Unserved, AnotherSite, BadValue))]
#[delete("/carts/{user}/items/{sku}")]
pub async fn remove_item(
    api: Shared,
    path: web::Path<(String, String)>,
    removal: web::Query<Removal>,
) -> Result<HttpResponse, Problem> {
    let user = request::user(&path.0)?;
    let sku = request::sku(&path.1)?;
    let units = |text: &str| plain_number(text).and_then(|units| Count::new(units).ok());
    let count = removal.count.as_deref().map(|text| units(text).ok_or(Problem::invalid("count", Invalid::Count)));
    let count = count.transpose()?;
    let expected = match require_countable_total(&api, &user, Command::Remove { sku: sku.clone(), count }).await {
        Ok(expected) => Some(expected),
        Err(problem) if problem.is_unavailable() => return Err(problem),
        // A total that prices have made uncountable is in nobody's way who takes something out.
        Err(_) => None,
    };
    let cart = remove(&api, &user, sku, count).await?;
    changed_cart_response(&api, &user, &cart, expected, None).await
}

/// What a cart holds.
///
/// Names and prices are live; what is no longer for sale has none. An unknown user has an empty cart.
#[utoipa::path(tag = "Checkout", params(("user" = inline(UserId), Path)), responses((status = 200, body = CartBody), Unserved, BadValue))]
#[get("/carts/{user}")]
pub async fn show_cart(api: Shared, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let user = request::user(&path)?;
    let cart = held(&api, &user).await?;
    cart_response(&api, &user, &cart).await
}

/// Empties a cart.
#[utoipa::path(tag = "Checkout", params(("user" = inline(UserId), Path)), responses((status = 204), Unserved, AnotherSite, BadValue))]
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
#[utoipa::path(tag = "Checkout", params(("user" = inline(UserId), Path), KeyHeader),
    responses((status = 201, body = super::orders::OrderBody, headers(("Location" = String, description = "The order's address."))),
        Unserved, LongBody, BadValueOrKey, UnknownSku, NothingToBuy))]
#[post("/carts/{user}/purchase")]
pub async fn purchase_whole_cart(
    api: Shared,
    request: HttpRequest,
    path: web::Path<String>,
    body: AnyBody,
) -> Result<HttpResponse, Problem> {
    let user = request::user(&path)?;
    let keyed = key_of(&request, &body.0)?;
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
pub async fn add(api: &Api, user: &UserId, sku: Sku, count: Count, key: Option<Keyed>) -> Result<Added, Problem> {
    let command = Command::Add { sku: sku.clone(), count };
    require_product(api, &sku).await?;
    let expected = require_countable_total(api, user, command.clone()).await?;
    let tags = key.as_ref().map(|_| Arc::new(expected.tags(api)));
    let key = key.map(|keyed| Keyed { tags: tags.clone(), ..keyed });
    let cart = edit(api, user, command, key).await.map_err(|error| Problem::of_edit(error, &sku))?;
    Ok(Added { cart, expected, tags })
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

/// # Errors
/// 404 where nothing is sold under this SKU, 503 where ProductService is away.
pub async fn require_product(api: &Api, sku: &Sku) -> Result<(), Problem> {
    api.products.get(sku).await.map(drop).map_err(|error| Problem::of_product(&error, sku))
}

/// Refuses what would make a cart that cannot be shown, before it is written: its prices must be there, and add up.
/// Gives that cart with its products.
async fn require_countable_total(api: &Api, user: &UserId, command: Command) -> Result<Priced, Problem> {
    let held = held(api, user).await?;
    let mut cart = Arc::unwrap_or_clone(held);
    if let Some(edit) = cart.decide(command)? {
        cart.apply(edit);
    }
    let products = products_of(api, &cart).await?;
    total(&cart, &products)?;
    Ok(Priced { cart, products })
}

async fn edit(api: &Api, user: &UserId, command: Command, key: Option<Keyed>) -> Result<Arc<cart::Cart>, EditError> {
    let start = || Cart::new(user.clone(), Arc::clone(&api.core));
    let edited = api.core.directory.carts.send(user, Execute { command, key }, start).await;
    edited.unwrap_or(Err(Failure::InDoubt.into()))
}
