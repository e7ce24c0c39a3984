//! Every address, on one screen, and the OpenAPI document that is made from them.

use std::collections::BTreeMap;

use actix_web::web;
use utoipa::OpenApi as _;
use utoipa::openapi::{OpenApi, PathItem};
use utoipa_actix_web::AppExt as _;
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_swagger_ui::SwaggerUi;

use super::problem::ProblemBody;
use super::{carts, edge, notifications, operations, orders, products, service_contract, stocks};

/// They are tried in this order.
pub fn routes(config: &mut ServiceConfig) {
    config
        // What is asked for most: each pattern that is tried before costs time
        .service(orders::create_order)
        .service(carts::show_cart)
        .service(carts::add_item)
        // Checkout
        .service(carts::set_item)
        .service(carts::remove_item)
        .service(carts::empty_cart)
        .service(carts::purchase_whole_cart)
        .service(products::list_products)
        .service(products::show_product)
        // LOMS
        .service(orders::list_orders)
        .service(orders::show_order)
        .service(orders::list_order_events)
        .service(orders::pay_order)
        .service(orders::cancel_order)
        .service(stocks::import_stock)
        .service(stocks::show_stock)
        .service(stocks::count_stock)
        .service(stocks::adjust_stock)
        // The service contract of the specification
        .service(service_contract::add_to_cart)
        .service(service_contract::delete_from_cart)
        .service(service_contract::list_cart)
        .service(service_contract::purchase)
        .service(service_contract::create_order)
        .service(service_contract::list_order)
        .service(service_contract::order_payed)
        .service(service_contract::cancel_order)
        .service(service_contract::list_stocks)
        // Notifications
        .service(notifications::list_notifications)
        .service(notifications::set_contact)
        // Operations
        .service(operations::livez)
        .service(operations::readyz)
        .service(operations::metrics_text);
}

/// The routes and the pages that document them, for an application.
pub fn documented<T>(app: actix_web::App<T>) -> actix_web::App<T>
where
    T: actix_web::dev::ServiceFactory<
            actix_web::dev::ServiceRequest,
            Config = (),
            Error = actix_web::Error,
            InitError = (),
        >,
{
    let (app, document) = app.into_utoipa_app().openapi(Base::openapi()).configure(routes).split_for_parts();
    app.app_data(Methods::of(&document))
        .service(web::redirect("/docs", "/docs/"))
        .service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", document))
        .default_service(web::to(edge::nothing_here))
}

/// The OpenAPI document of the routes.
#[must_use]
pub fn openapi() -> OpenApi {
    actix_web::App::new().into_utoipa_app().openapi(Base::openapi()).configure(routes).split_for_parts().1
}

/// The methods that each address takes, by its pattern.
pub struct Methods(BTreeMap<String, String>);

impl Methods {
    fn of(document: &OpenApi) -> Self {
        let methods = |item: &PathItem| {
            let known = [("GET, HEAD", &item.get), ("PUT", &item.put), ("POST", &item.post), ("DELETE", &item.delete)];
            let taken = known.into_iter().filter(|(_, operation)| operation.is_some()).map(|(method, _)| method);
            taken.chain(["OPTIONS"]).collect::<Vec<_>>().join(", ")
        };
        Self(document.paths.paths.iter().map(|(pattern, item)| (pattern.clone(), methods(item))).collect())
    }

    /// As the header `Allow` names them. What the document does not name are the pages that show it.
    pub fn at(&self, pattern: &str) -> &str {
        self.0.get(pattern).map_or("GET, HEAD, OPTIONS", String::as_str)
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "LOMS",
        description = "An order backend for shops: carts, orders and stock. Refusals are problem details (RFC 9457) with \
                       a stable `code`. Where there is a GET, there is a HEAD."
    ),
    components(schemas(ProblemBody))
)]
struct Base;
