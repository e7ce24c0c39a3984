//! LOMS: what lies in the warehouses.

use actix_web::{HttpRequest, HttpResponse, get, post, put, web};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::actors::{Failure, NotWritten, Written};
use crate::domain::stock::{ON_HAND_MAX, Shelf, available};
use crate::domain::{Sku, WarehouseId};
use crate::stock_file;
use crate::store::{Change, Keyed, Outcome, Refused, ShelfEdit, StockEdit};

use super::answer::json;
use super::carts::require_product;
use super::idempotency::{KeyHeader, key_of, once};
use super::problem::Problem;
use super::refusals::{BadBody, BadValue, BadValueOrKey, BelowReserved, UnknownSku, Unserved};
use super::request::{self, CsvBody, JsonBody};
use super::{Api, Shared};

/// The longest reason of an adjustment.
const REASON_CHARS_MAX: usize = 500;

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with on_hand")]
pub struct StockCount {
    /// How many units lie there: 0 to 1,000,000,000,000.
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000i64)]
    on_hand: Number,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with delta and reason")]
pub struct Adjustment {
    /// How many units more, or (negative) less; not 0.
    #[schema(value_type = i64, minimum = -1_000_000_000_000i64, maximum = 1_000_000_000_000i64)]
    delta: Number,
    /// Why: 1 to 500 characters, not all of them spaces.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Stock<'a> {
    sku: &'a str,
    /// How many units can be bought.
    available: i64,
    stocks: Vec<WarehouseStock>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct WarehouseStock {
    warehouse_id: i32,
    /// How many units can be bought of those here: `on_hand - reserved`.
    count: i64,
    on_hand: i64,
    reserved: i64,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Imported {
    rows: usize,
}

/// What can be bought of a SKU, by warehouse.
#[utoipa::path(tag = "LOMS", params(("sku" = inline(Sku), Path)), responses((status = 200, body = Stock), Unserved, BadValue, UnknownSku))]
#[get("/stocks/{sku}")]
pub async fn show_stock(api: Shared, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let sku = request::sku(&path)?;
    let shelves = shelves_of(&api, &sku).await?;
    Ok(stock_response(&sku, &shelves))
}

/// A stock count: so many units lie in a warehouse.
#[utoipa::path(tag = "LOMS", request_body = StockCount, params(("sku" = inline(Sku), Path), ("warehouse_id" = inline(WarehouseId), Path)),
    responses((status = 200, body = Stock), Unserved, BadBody, BadValue, BelowReserved))]
#[put("/stocks/{sku}/{warehouse_id}")]
pub async fn count_stock(
    api: Shared,
    path: web::Path<(String, String)>,
    body: JsonBody<StockCount>,
) -> Result<HttpResponse, Problem> {
    let (sku, warehouse) = place_of(&path)?;
    let units = body.value.read()?;
    let edit = StockEdit::Count(vec![ShelfEdit { sku: sku.clone(), warehouse, units }]);
    let written = write(&api, edit, None).await.map_err(|error| problem(&error))?;
    Ok(stock_response(&sku, &written.shelves))
}

/// Goods in, or goods lost.
#[utoipa::path(tag = "LOMS", request_body = Adjustment, params(("sku" = inline(Sku), Path), ("warehouse_id" = inline(WarehouseId), Path), KeyHeader),
    responses((status = 200, body = Stock), Unserved, BadBody, BadValueOrKey, BelowReserved))]
#[post("/stocks/{sku}/{warehouse_id}/adjustments")]
pub async fn adjust_stock(
    api: Shared,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    body: JsonBody<Adjustment>,
) -> Result<HttpResponse, Problem> {
    let (sku, warehouse) = place_of(&path)?;
    let units = body.value.read()?;
    let keyed = key_of(&request, &body.bytes)?;
    let row = ShelfEdit { sku: sku.clone(), warehouse, units };
    let edit = StockEdit::Adjust { row, reason: body.value.reason, at: api.core.clock.now() };
    let act = async |key| {
        let written = write(&api, edit, key).await.map_err(|error| problem(&error))?;
        Ok(stock_response(&sku, &written.shelves))
    };
    let replay = async |outcome| match outcome {
        Outcome::Stock { shelves } => Ok(stock_response(&sku, &shelves)),
        _ => Err(Problem::key_reused()),
    };
    once(&api, keyed, act, replay).await
}

/// Stock counts of many shelves: all rows, or none.
///
/// CSV with the header `sku,warehouse_id,on_hand`.
#[utoipa::path(tag = "LOMS", request_body(content = String, content_type = "text/csv"),
    responses((status = 200, body = Imported), Unserved, BadBody, BadValue))]
#[post("/stocks/import")]
pub async fn import_stock(api: Shared, body: CsvBody) -> Result<HttpResponse, Problem> {
    let bad_lines = |errors: Vec<stock_file::LineError>| {
        Problem::bad_lines(errors.into_iter().map(|error| (error.line, error.message)))
    };
    let (lines, rows): (Vec<u64>, Vec<ShelfEdit>) = stock_file::parse(&body.0).map_err(bad_lines)?.into_iter().unzip();
    let imported = Imported { rows: rows.len() };
    if rows.is_empty() {
        return Ok(json(HttpResponse::Ok(), &imported));
    }
    match write(&api, StockEdit::Count(rows), None).await {
        Ok(_) => Ok(json(HttpResponse::Ok(), &imported)),
        Err(NotWritten::Refused { refused: Refused::BelowReserved(positions), .. }) => {
            let line = |at: usize| lines.get(at).copied().unwrap_or(0);
            let message = "fewer units than are reserved";
            Err(Problem::bad_lines(positions.into_iter().map(|at| (line(at), message.to_owned()))))
        }
        Err(error) => Err(problem(&error)),
    }
}

impl StockCount {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<i64, Problem> {
        match self.on_hand.as_i64() {
            Some(units) if (0..=ON_HAND_MAX).contains(&units) => Ok(units),
            _ => Err(Problem::invalid("on_hand", format_args!("must be a whole number from 0 to {ON_HAND_MAX}"))),
        }
    }
}

impl Adjustment {
    /// How many units more or less.
    ///
    /// # Errors
    /// 422 naming the field, which may be the reason.
    pub fn read(&self) -> Result<i64, Problem> {
        let units = match self.delta.as_i64() {
            Some(units) if units != 0 && (-ON_HAND_MAX..=ON_HAND_MAX).contains(&units) => units,
            _ => {
                return Err(Problem::invalid(
                    "delta",
                    format_args!("must be a whole number up to {ON_HAND_MAX}, not 0"),
                ));
            }
        };
        let reason = &self.reason;
        if reason.trim().is_empty() || reason.chars().count() > REASON_CHARS_MAX || reason.contains('\0') {
            return Err(Problem::invalid("reason", format_args!("must have 1 to {REASON_CHARS_MAX} characters")));
        }
        Ok(units)
    }
}

/// None for what is for sale and was never stocked.
///
/// # Errors
/// 404 for a SKU that has neither a shelf nor a product, 503 where the database or ProductService is away.
pub async fn shelves_of(api: &Api, sku: &Sku) -> Result<Vec<(Sku, Shelf)>, Problem> {
    let shelves = shelves(api, vec![sku.clone()]).await?;
    if shelves.is_empty() {
        require_product(api, sku).await?;
    }
    Ok(shelves)
}

/// # Errors
/// 503 where the database is away.
pub async fn shelves(api: &Api, skus: Vec<Sku>) -> Result<Vec<(Sku, Shelf)>, Problem> {
    Ok(api.core.read(move |store| async move { store.shelves(&skus).await }).await?)
}

async fn write(api: &Api, edit: StockEdit, key: Option<Keyed>) -> Result<Written, NotWritten> {
    api.core.write(Change::StockEdited { edit, key }).await
}

fn problem(error: &NotWritten) -> Problem {
    match error {
        NotWritten::Refused { refused: Refused::BelowReserved(_), .. } => Problem::below_reserved(),
        NotWritten::Refused { refused: Refused::AboveMax, .. } => {
            Problem::invalid("delta", format_args!("would leave more than {ON_HAND_MAX} units on hand"))
        }
        NotWritten::Refused { refused: Refused::KeyTaken, .. } => Problem::key_reused(),
        NotWritten::Refused { .. } => Failure::Unavailable.into(),
        NotWritten::Failed(failure) => (*failure).into(),
    }
}

/// # Errors
/// 422 naming what is no SKU or no warehouse.
pub fn place_of(path: &(String, String)) -> Result<(Sku, WarehouseId), Problem> {
    let warehouse = WarehouseId::parse(&path.1).map_err(|error| Problem::invalid("warehouse_id", error))?;
    Ok((request::sku(&path.0)?, warehouse))
}

fn stock_response(sku: &Sku, shelves: &[(Sku, Shelf)]) -> HttpResponse {
    let shelves: Vec<Shelf> = shelves.iter().map(|(_, shelf)| *shelf).collect();
    let stock = |shelf: &Shelf| WarehouseStock {
        warehouse_id: shelf.warehouse.0,
        count: shelf.available(),
        on_hand: shelf.on_hand,
        reserved: shelf.reserved,
    };
    let stocks = shelves.iter().map(stock).collect();
    json(HttpResponse::Ok(), &Stock { sku: sku.as_str(), available: available(&shelves), stocks })
}
