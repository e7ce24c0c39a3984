//! A shop that reaches its PostgreSQL over a network that breaks on request, and its buyers.

use super::buyers::SKUS;
use super::crowd::Crowd;
use super::fragile_shop::{Ground, Shop, skus};
use super::postgres::Database;
use super::program::Settings;
use super::tcp_proxy::TcpProxy;

const ON_HAND: i64 = 1_000_000_000;

/// Dropped in this order: the program goes before its network and its database.
pub struct DistantShop {
    pub shop: Shop,
    pub proxy: TcpProxy,
    pub crowd: Crowd,
    pub database: Database,
}

impl DistantShop {
    /// `None`, and that is printed, where the tests run without a server.
    pub async fn open(buyers: usize) -> Option<Self> {
        let database = Database::create()?;
        let url = database.url();
        let server = url.rsplit('@').next()?.split('/').next()?.to_owned();
        let proxy = TcpProxy::start(server.parse().expect("an address")).await;
        let address = url.replace(&server, &proxy.address().to_string());
        let ground = Ground::Behind { address, database: url };
        let shop = Shop::open(ground, &skus(SKUS, ON_HAND), Settings::new());
        Some(Self { shop, proxy, crowd: Crowd::of(buyers, "buyer"), database })
    }
}
