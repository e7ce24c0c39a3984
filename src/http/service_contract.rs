//! The service contract of the specification: the same commands under the names of the services
//! that this system replaces. SKUs and users may be numbers there, and come back as numbers where
//! they are whole numbers.

use actix_web::{HttpResponse, post};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use crate::actors::order::Command;
use crate::domain::cart::Line;
use crate::domain::order::Status;
use crate::domain::{Count, OrderId, Sku, UserId};
use crate::products::Product;

use super::problem::Problem;
use super::refusals::{BadBody, BadValue, NothingToBuy, OrderNotFound, OutOfStock, UnknownSku, Unserved, WrongStatus};
use super::request::{self, JsonBody};
use super::{Shared, answer, carts, json_object, orders, shown_cart, stocks};

/// A SKU or a user: a text, or a whole number.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "a string or a whole number is expected")]
enum Name {
    Number(i64),
    Text(String),
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with user, sku and count")]
#[schema(as = ContractCartItem)]
pub struct CartItem {
    user: Name,
    sku: Name,
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000)]
    count: Number,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with user")]
#[schema(as = ContractUser)]
pub struct OfUser {
    user: Name,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with user and items")]
#[schema(as = ContractNewOrder)]
pub struct NewOrder {
    user: Name,
    #[schema(min_items = 1, max_items = 2_000)]
    #[serde(deserialize_with = "json_object::list")]
    items: Vec<NewItem>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with sku and count")]
#[schema(as = ContractNewItem)]
struct NewItem {
    sku: Name,
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000)]
    count: Number,
}

#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with orderID")]
#[schema(as = ContractOrderId)]
pub struct OfOrder {
    #[schema(value_type = OrderId, inline)]
    #[serde(rename = "orderID", deserialize_with = "json_object::whole_number")]
    order_id: i64,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with sku")]
#[schema(as = ContractSku)]
pub struct OfSku {
    sku: Name,
}

/// Adds to a cart, under its older name.
#[utoipa::path(tag = "Service contract", operation_id = "addToCart", request_body = CartItem, responses((status = 200, body = Value), Unserved, BadBody, BadValue, UnknownSku, OutOfStock))]
#[post("/addToCart")]
pub async fn add_to_cart(api: Shared, body: JsonBody<CartItem>) -> Result<HttpResponse, Problem> {
    let (user, sku, count) = body.value.read()?;
    carts::add(&api, &user, sku, count, None).await?;
    Ok(done())
}

/// Removes units from a cart, under its older name.
#[utoipa::path(tag = "Service contract", operation_id = "deleteFromCart", request_body = CartItem, responses((status = 200, body = Value), Unserved, BadBody, BadValue))]
#[post("/deleteFromCart")]
pub async fn delete_from_cart(api: Shared, body: JsonBody<CartItem>) -> Result<HttpResponse, Problem> {
    let (user, sku, count) = body.value.read()?;
    carts::remove(&api, &user, sku, Some(count)).await?;
    Ok(done())
}

/// What a cart holds of what is for sale, under its older name.
#[utoipa::path(tag = "Service contract", operation_id = "listCart", request_body = OfUser, responses((status = 200, body = Value), Unserved, BadBody, BadValue))]
#[post("/listCart")]
pub async fn list_cart(api: Shared, body: JsonBody<OfUser>) -> Result<HttpResponse, Problem> {
    let cart = carts::held(&api, &body.value.read()?).await?;
    let products = shown_cart::products_of(&api, &cart).await?;
    let total = shown_cart::total(&cart, &products)?;
    let item = |(line, product): (&Line, &Option<Product>)| {
        let (sku, count, product) = (Name::of(line.sku.as_str()), line.count.units(), product.as_ref()?);
        Some(json!({ "sku": sku, "count": count, "name": &*product.name, "price": product.price }))
    };
    let items: Vec<Value> = cart.lines().iter().zip(&products).filter_map(item).collect();
    Ok(answer::json(HttpResponse::Ok(), &json!({ "items": items, "totalPrice": total })))
}

/// Makes an order of a cart, under its older name.
#[utoipa::path(tag = "Service contract", operation_id = "purchase", request_body = OfUser, responses((status = 200, body = OfOrder), Unserved, BadBody, BadValue, UnknownSku, NothingToBuy))]
#[post("/purchase")]
pub async fn purchase(api: Shared, body: JsonBody<OfUser>) -> Result<HttpResponse, Problem> {
    let placed = carts::purchase_cart(&api, &body.value.read()?, None).await?;
    if placed.shortages.is_empty() {
        Ok(answer::json(HttpResponse::Ok(), &OfOrder { order_id: placed.order.id.0 }))
    } else {
        Err(Problem::order_out_of_stock(placed.order.id, &placed.shortages))
    }
}

/// Creates an order, under its older name; its status tells whether it failed.
#[utoipa::path(tag = "Service contract", operation_id = "createOrder", request_body = NewOrder, responses((status = 200, body = OfOrder), Unserved, BadBody, BadValue, UnknownSku))]
#[post("/createOrder")]
pub async fn create_order(api: Shared, body: JsonBody<NewOrder>) -> Result<HttpResponse, Problem> {
    let (user, lines) = body.value.read()?;
    let placed = orders::place(&api, &user, lines, None).await?;
    Ok(answer::json(HttpResponse::Ok(), &OfOrder { order_id: placed.order.id.0 }))
}

/// One order, under its older name.
#[utoipa::path(tag = "Service contract", operation_id = "listOrder", request_body = OfOrder, responses((status = 200, body = Value), Unserved, BadBody, OrderNotFound))]
#[post("/listOrder")]
pub async fn list_order(api: Shared, body: JsonBody<OfOrder>) -> Result<HttpResponse, Problem> {
    let order = orders::stored(&api, OrderId(body.value.order_id)).await?;
    let status = match order.status {
        Status::AwaitingPayment => "awaiting payment",
        status => status.as_str(),
    };
    let items: Vec<Value> = order
        .items
        .iter()
        .map(|item| json!({ "sku": Name::of(item.sku.as_str()), "count": item.count.units() }))
        .collect();
    Ok(answer::json(
        HttpResponse::Ok(),
        &json!({ "status": status, "user": Name::of(order.user.as_str()), "items": items }),
    ))
}

/// Pays an order, under its older name.
#[utoipa::path(tag = "Service contract", operation_id = "orderPayed", request_body = OfOrder, responses((status = 200, body = Value), Unserved, BadBody, OrderNotFound, WrongStatus))]
#[post("/orderPayed")]
pub async fn order_payed(api: Shared, body: JsonBody<OfOrder>) -> Result<HttpResponse, Problem> {
    orders::command(&api, OrderId(body.value.order_id), Command::Pay).await?;
    Ok(done())
}

/// Cancels an order, under its older name.
#[utoipa::path(tag = "Service contract", operation_id = "cancelOrder", request_body = OfOrder, responses((status = 200, body = Value), Unserved, BadBody, OrderNotFound, WrongStatus))]
#[post("/cancelOrder")]
pub async fn cancel_order(api: Shared, body: JsonBody<OfOrder>) -> Result<HttpResponse, Problem> {
    orders::command(&api, OrderId(body.value.order_id), Command::Cancel).await?;
    Ok(done())
}

/// What can be bought of a SKU, under its older name.
#[utoipa::path(tag = "Service contract", operation_id = "stocks", request_body = OfSku, responses((status = 200, body = Value), Unserved, BadBody, BadValue, UnknownSku))]
#[post("/stocks")]
pub async fn list_stocks(api: Shared, body: JsonBody<OfSku>) -> Result<HttpResponse, Problem> {
    let shelves = stocks::shelves_of(&api, &body.value.read()?).await?;
    let stocks: Vec<Value> = shelves
        .iter()
        .map(|(_, shelf)| json!({ "warehouseID": shelf.warehouse, "count": shelf.available() }))
        .collect();
    Ok(answer::json(HttpResponse::Ok(), &json!({ "stocks": stocks })))
}

impl CartItem {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<(UserId, Sku, Count), Problem> {
        Ok((self.user.user()?, self.sku.sku()?, request::count(&self.count)?))
    }
}

impl OfUser {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<UserId, Problem> {
        self.user.user()
    }
}

impl NewOrder {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<(UserId, Vec<(Sku, Count)>), Problem> {
        let items = self.items.iter().map(|item| Ok((item.sku.sku()?, request::count(&item.count)?)));
        Ok((self.user.user()?, orders::merge(items.collect::<Result<Vec<_>, Problem>>()?)?))
    }
}

impl OfSku {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<Sku, Problem> {
        self.sku.sku()
    }
}

impl Name {
    /// A number where the text is a whole number in its shortest form.
    fn of(text: &str) -> Self {
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Self::Number(number),
            _ => Self::Text(text.to_owned()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    fn user(&self) -> Result<UserId, Problem> {
        request::user(&self.text())
    }

    fn sku(&self) -> Result<Sku, Problem> {
        request::sku(&self.text())
    }
}

fn done() -> HttpResponse {
    answer::json(HttpResponse::Ok(), &json!({}))
}
