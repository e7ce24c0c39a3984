//! LOMS: orders.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, ResponseError, get, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::actors::Failure;
use crate::actors::order::{Command, Order, Place, Placed};
use crate::domain::ids::plain_number;
use crate::domain::order::{self, Item, Status};
use crate::domain::{Count, LINES_MAX, OrderId, Sku, UserId};
use crate::products::Product;
use crate::store::{Keyed, OrderFilter, Outcome};

use super::answer::{json, rfc3339};
use super::carts::NewItem;
use super::idempotency::{KeyHeader, key_of, once};
use super::problem::Problem;
use super::refusals::{
    BadBody, BadValue, BadValueOrKey, LongBody, OrderNotFound, OutOfStock, UnknownSku, Unserved, WrongStatus,
};
use super::request::{self, AnyBody, JsonBody, given};
use super::{Api, Shared, json_object, schema};

/// How many orders a page has, unless asked otherwise, and at the most.
const PAGE_ORDERS: (u32, u32) = (50, 500);

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with user and items")]
pub struct NewOrder {
    #[schema(value_type = UserId, inline)]
    user: String,
    /// 1 to 2,000 lines; lines of one SKU are merged.
    #[schema(min_items = 1, max_items = 2_000)]
    #[serde(deserialize_with = "json_object::list")]
    items: Vec<NewItem>,
}

/// An order, with names and prices as sold.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Order)]
pub struct OrderBody<'a> {
    order_id: i64,
    user: &'a str,
    #[schema(value_type = Status, inline)]
    status: &'static str,
    items: Vec<OrderItemBody<'a>>,
    /// Minor units of the currency.
    total_price: i64,
    /// ISO 4217.
    currency: &'a str,
    #[serde(serialize_with = "rfc3339")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "rfc3339")]
    updated_at: DateTime<Utc>,
    /// Unpaid at this moment, the order is cancelled.
    #[serde(serialize_with = "rfc3339")]
    expires_at: DateTime<Utc>,
    /// How many statuses it has had.
    version: i32,
    /// Why it failed or was cancelled.
    reason: Option<&'a str>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = OrderItem)]
struct OrderItemBody<'a> {
    sku: &'a str,
    name: &'a str,
    /// Minor units of the currency, for one unit.
    price: i64,
    count: i64,
    allocations: Vec<AllocationBody>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Allocation)]
struct AllocationBody {
    warehouse_id: i32,
    count: i64,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Page {
    #[param(schema_with = schema::user_or_empty)]
    user: Option<String>,
    #[param(schema_with = schema::status_or_empty)]
    status: Option<String>,
    /// 1 to 500; 50 where it is missing.
    #[param(schema_with = schema::limit_or_empty)]
    limit: Option<String>,
    /// The `next` of the page before.
    #[param(schema_with = schema::number_or_empty)]
    after: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Orders<'a> {
    orders: Vec<OrderBody<'a>>,
    /// Where the next page starts; null on the last.
    next: Option<i64>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct History {
    events: Vec<HistoryEntryBody>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = HistoryEntry)]
struct HistoryEntryBody {
    id: String,
    #[schema(value_type = Status, inline)]
    status: &'static str,
    #[serde(serialize_with = "rfc3339")]
    time: DateTime<Utc>,
    reason: Option<String>,
}

/// Creates an order and reserves its stock.
///
/// All lines are reserved, or none: then the order is kept as `failed`.
#[utoipa::path(tag = "LOMS", request_body = NewOrder, params(KeyHeader),
    responses((status = 201, body = OrderBody, headers(("Location" = String, description = "The order's address."))),
        Unserved, BadBody, BadValueOrKey, UnknownSku, OutOfStock))]
#[post("/orders")]
pub async fn create_order(
    api: Shared,
    request: HttpRequest,
    body: JsonBody<NewOrder>,
) -> Result<HttpResponse, Problem> {
    let (user, lines) = body.value.read()?;
    let keyed = key_of(&request, &body.bytes)?;
    let act = async |key| Ok(placed_response(&api, &place(&api, &user, lines, key).await?));
    once(&api, keyed, act, async |outcome| replay_order(&api, outcome).await).await
}

/// One order.
#[utoipa::path(tag = "LOMS", params(("id" = inline(OrderId), Path)), responses((status = 200, body = OrderBody), Unserved, OrderNotFound))]
#[get("/orders/{id}")]
pub async fn show_order(api: Shared, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let order = stored(&api, request::order_id(&path)?).await?;
    Ok(json(HttpResponse::Ok(), &body_of(&api, &order)))
}

/// Orders, newest first.
#[utoipa::path(tag = "LOMS", params(Page), responses((status = 200, body = Orders), Unserved, BadValue))]
#[get("/orders")]
pub async fn list_orders(api: Shared, page: web::Query<Page>) -> Result<HttpResponse, Problem> {
    let mut filter = filter(&page)?;
    let limit = filter.limit as usize;
    filter.limit += 1;
    let turn = api.gate.turn_to_list().await?;
    let read = api.core.read(move |store| async move { Ok((store.orders(&filter).await?, turn)) });
    let (mut orders, _turn) = read.await?;
    let next = request::last_before_more(&mut orders, limit).map(|order| order.id.0);
    let orders = orders.iter().map(|order| body_of(&api, order)).collect();
    Ok(json(HttpResponse::Ok(), &Orders { orders, next }))
}

/// What happened to an order.
#[utoipa::path(tag = "LOMS", params(("id" = inline(OrderId), Path)), responses((status = 200, body = History), Unserved, OrderNotFound))]
#[get("/orders/{id}/events")]
pub async fn list_order_events(api: Shared, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let id = request::order_id(&path)?;
    let history = api.core.read(move |store| async move { store.history(id).await }).await?;
    if history.is_empty() {
        return Err(Problem::order_not_found());
    }
    let entry = |entry: crate::store::HistoryEntry| HistoryEntryBody {
        id: entry.event_id,
        status: entry.status.as_str(),
        time: entry.at,
        reason: entry.reason,
    };
    let events = history.into_iter().map(entry).collect();
    Ok(json(HttpResponse::Ok(), &History { events }))
}

/// Pays an order: its reserved stock is written off.
#[utoipa::path(tag = "LOMS", params(("id" = inline(OrderId), Path)), responses((status = 200, body = OrderBody), Unserved, LongBody, OrderNotFound, WrongStatus))]
#[post("/orders/{id}/pay")]
pub async fn pay_order(api: Shared, path: web::Path<String>, _: AnyBody) -> Result<HttpResponse, Problem> {
    let order = command(&api, request::order_id(&path)?, Command::Pay).await?;
    Ok(json(HttpResponse::Ok(), &body_of(&api, &order)))
}

/// Cancels an order: its reserved stock is free again.
#[utoipa::path(tag = "LOMS", params(("id" = inline(OrderId), Path)), responses((status = 200, body = OrderBody), Unserved, LongBody, OrderNotFound, WrongStatus))]
#[post("/orders/{id}/cancel")]
pub async fn cancel_order(api: Shared, path: web::Path<String>, _: AnyBody) -> Result<HttpResponse, Problem> {
    let order = command(&api, request::order_id(&path)?, Command::Cancel).await?;
    Ok(json(HttpResponse::Ok(), &body_of(&api, &order)))
}

impl NewOrder {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<(UserId, Vec<(Sku, Count)>), Problem> {
        let user = request::user(&self.user)?;
        let items = self.items.iter().map(NewItem::read).collect::<Result<Vec<_>, Problem>>()?;
        Ok((user, merge(items)?))
    }
}

/// Lines of one SKU become one.
///
/// # Errors
/// 422 for no lines, too many, or a sum that no line may have.
pub fn merge(items: Vec<(Sku, Count)>) -> Result<Vec<(Sku, Count)>, Problem> {
    if items.is_empty() || items.len() > LINES_MAX {
        return Err(Problem::invalid("items", format_args!("must have 1 to {LINES_MAX} lines")));
    }
    let mut merged = BTreeMap::<Sku, Count>::new();
    for (sku, count) in items {
        let sum = match merged.get(&sku) {
            Some(held) => held.checked_add(count).map_err(|error| Problem::invalid("count", error))?,
            None => count,
        };
        merged.insert(sku, sum);
    }
    Ok(merged.into_iter().collect())
}

/// A new order at the prices of this moment, which nobody has seen yet.
///
/// # Errors
/// 404 for an unknown SKU, 503 where ProductService or the database is away, 422 for a total that
/// cannot be counted.
pub async fn draft(api: &Api, user: &UserId, lines: Vec<(Sku, Count)>) -> Result<Arc<order::Order>, Problem> {
    let products = api.products.get_each(lines.iter().map(|(sku, _)| sku)).await;
    let products = products.map_err(|_| Problem::products_unavailable())?;
    let mut items = Vec::with_capacity(lines.len());
    for ((sku, count), product) in lines.into_iter().zip(products) {
        let Product { name, price } = product.ok_or_else(|| Problem::unknown_sku(&sku))?;
        items.push(Item { sku, name, price, count, allocations: Vec::new() });
    }
    let id = api.core.order_ids.next().await?;
    let created_at = api.core.clock.now();
    let expires_at = created_at + api.payment_timeout;
    Ok(Arc::new(order::Order::draft(id, user.clone(), items, created_at, expires_at)?))
}

/// # Errors
/// What [`create_order`] refuses, save a failed order.
pub async fn place(api: &Api, user: &UserId, lines: Vec<(Sku, Count)>, key: Option<Keyed>) -> Result<Placed, Problem> {
    let draft = draft(api, user, lines).await?;
    let id = draft.id;
    let place = Place { draft, emptied_cart_version: None, key };
    let start = || Order::new(id, Arc::clone(&api.core));
    match api.core.directory.orders.send(&id, place, start).await {
        Ok(placed) => Ok(placed?),
        Err(_) => Err(Failure::InDoubt.into()),
    }
}

/// # Errors
/// 404 `order_not_found`, 503 where the database is away.
pub async fn stored(api: &Api, id: OrderId) -> Result<order::Order, Problem> {
    let order = api.core.read(move |store| async move { store.order(id).await }).await?;
    order.ok_or_else(Problem::order_not_found)
}

/// # Errors
/// What [`pay_order`] and [`cancel_order`] refuse.
pub async fn command(api: &Api, id: OrderId, command: Command) -> Result<Arc<order::Order>, Problem> {
    let start = || Order::new(id, Arc::clone(&api.core));
    match api.core.directory.orders.send(&id, command, start).await {
        Ok(moved) => Ok(moved?),
        Err(_) => Err(Failure::InDoubt.into()),
    }
}

pub fn placed_response(api: &Api, placed: &Placed) -> HttpResponse {
    let order = &placed.order;
    if placed.shortages.is_empty() {
        let mut created = HttpResponse::Created();
        created.insert_header((LOCATION, format!("/orders/{}", order.id)));
        json(created, &body_of(api, order))
    } else {
        Problem::order_out_of_stock(order.id, &placed.shortages).error_response()
    }
}

/// The answer that was given when the order was placed, whatever became of it since.
///
/// # Errors
/// 503 where the database is away.
pub async fn replay_order(api: &Api, outcome: Outcome) -> Result<HttpResponse, Problem> {
    let Outcome::Order { order_id, shortages } = outcome else { return Err(Problem::key_reused()) };
    let order = Arc::new(stored(api, order_id).await?.as_placed());
    Ok(placed_response(api, &Placed { order, shortages }))
}

fn filter(page: &Page) -> Result<OrderFilter, Problem> {
    let user = given(page.user.as_ref()).map(request::user).transpose()?;
    let known = |text| Status::parse(text).ok_or_else(|| Problem::invalid("status", "is not a status"));
    let status = given(page.status.as_ref()).map(known).transpose()?;
    let limit = request::limit(given(page.limit.as_ref()), PAGE_ORDERS)?;
    let id = |text| plain_number(text).map(OrderId).ok_or_else(|| Problem::invalid("after", "is not an order id"));
    let before = given(page.after.as_ref()).map(id).transpose()?;
    Ok(OrderFilter { user, status, before, limit })
}

fn body_of<'a>(api: &'a Api, order: &'a order::Order) -> OrderBody<'a> {
    OrderBody {
        order_id: order.id.0,
        user: order.user.as_str(),
        status: order.status.as_str(),
        items: order.items.iter().map(item_body).collect(),
        total_price: order.total.0,
        currency: api.currency.code(),
        created_at: order.created_at,
        updated_at: order.updated_at,
        expires_at: order.expires_at,
        version: order.version,
        reason: order.reason.as_deref(),
    }
}

fn item_body(item: &Item) -> OrderItemBody<'_> {
    let allocation = |allocation: &crate::domain::stock::Allocation| AllocationBody {
        warehouse_id: allocation.warehouse.0,
        count: allocation.count.units(),
    };
    OrderItemBody {
        sku: item.sku.as_str(),
        name: &item.name,
        price: item.price.0,
        count: item.count.units(),
        allocations: item.allocations.iter().map(allocation).collect(),
    }
}
