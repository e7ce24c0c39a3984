//! A ProductService that sells from a catalogue: the stand-in for the shop's own one, for
//! development and tests. The same protocol, so that nobody can tell the difference.
//!
//! Answers at once and has no rate limit. Holds no prices of its own and changes nothing.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Payload};
use actix_web::{App, HttpResponse, HttpServer, ResponseError};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::time::timeout;

use crate::products::protocol::{FoundProduct, GET_PRODUCT, GetProduct, LIST_SKUS, ListSkus, SkuForm, SkuPage};
use crate::products::{Catalogue, PAGE_SKUS_MAX};

const REQUEST_BYTES_MAX: usize = 64 * 1024;
const REQUEST_BODY_MS_MAX: u64 = 5_000;

/// Serves until SIGINT or SIGTERM, or until its handle is told to stop. Without a `token`, every
/// token is right.
///
/// # Errors
/// Where the listener cannot be used.
pub fn serve(
    catalogue: Arc<Catalogue>,
    token: Option<SecretString>,
    listener: TcpListener,
    workers: usize,
) -> io::Result<Server> {
    let shop = Data::new(Shop { catalogue, token });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shop.clone())
            .service(web::resource(format!("/{GET_PRODUCT}")).route(web::post().to(get_product)))
            .service(web::resource(format!("/{LIST_SKUS}")).route(web::post().to(list_skus)))
    });
    Ok(server.workers(workers).listen(listener)?.run())
}

struct Shop {
    catalogue: Arc<Catalogue>,
    token: Option<SecretString>,
}

/// Why a request got no answer. The messages are for whoever writes a client.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the request cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body broke off")]
    Body,
    #[error("the body is longer than {REQUEST_BYTES_MAX} bytes")]
    BodyLength,
    #[error("the body did not come in time")]
    BodyTime,
    #[error("the count must be from 1 to {PAGE_SKUS_MAX}")]
    Count,
    #[error("startAfterSku is no SKU")]
    Start,
    #[error("the token is wrong")]
    Token,
    #[error("there is no such SKU")]
    Sku,
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Json(_) | Self::Body | Self::Count | Self::Start => StatusCode::BAD_REQUEST,
            Self::BodyLength => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTime => StatusCode::REQUEST_TIMEOUT,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Sku => StatusCode::NOT_FOUND,
        }
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status_code()).json(json!({ "message": self.to_string() }))
    }
}

impl Shop {
    fn admit(&self, token: &str) -> Result<(), Refusal> {
        match &self.token {
            Some(right) if !bool::from(right.expose_secret().as_bytes().ct_eq(token.as_bytes())) => Err(Refusal::Token),
            _ => Ok(()),
        }
    }
}

async fn get_product(shop: Data<Shop>, payload: Payload) -> Result<Json<FoundProduct>, Refusal> {
    let request: GetProduct = read(payload).await?;
    shop.admit(&request.token)?;
    // What can be no SKU is none that is sold.
    let product = request.sku.parse().and_then(|sku| shop.catalogue.get(&sku).cloned()).ok_or(Refusal::Sku)?;
    Ok(Json(FoundProduct { name: product.name.to_string(), price: product.price.0 }))
}

async fn list_skus(shop: Data<Shop>, payload: Payload) -> Result<Json<SkuPage>, Refusal> {
    let request: ListSkus = read(payload).await?;
    shop.admit(&request.token)?;
    let count = usize::try_from(request.count).ok().filter(|count| (1..=PAGE_SKUS_MAX).contains(count));
    let count = count.ok_or(Refusal::Count)?;
    let after = match request.start_after_sku.filter(|form| !form.is_beginning()) {
        None => None,
        Some(form) => Some(form.parse().ok_or(Refusal::Start)?),
    };
    let skus = shop.catalogue.list(after.as_ref(), count).iter().map(SkuForm::shortest).collect();
    Ok(Json(SkuPage { skus }))
}

/// The content type is not looked at: the services that this stands in for do not either.
async fn read<R: DeserializeOwned>(payload: Payload) -> Result<R, Refusal> {
    let time_limit = Duration::from_millis(REQUEST_BODY_MS_MAX);
    let body = timeout(time_limit, payload.to_bytes_limited(REQUEST_BYTES_MAX)).await;
    let body = body.map_err(|_| Refusal::BodyTime)?.map_err(|_| Refusal::BodyLength)?.map_err(|_| Refusal::Body)?;
    Ok(serde_json::from_slice(&body)?)
}
