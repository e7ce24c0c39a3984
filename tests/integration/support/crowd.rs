//! Buyers who all buy at once, each on a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::buyers::Buyer;
use super::client::Client;
use super::fragile_shop::order_of;

/// Meanwhile each of the others has bought something too.
const ORDERS_AHEAD: usize = 5;

#[derive(Default)]
pub struct Crowd {
    /// Those who do not buy at the moment.
    buyers: Vec<Buyer>,
    buying: JoinSet<Buyer>,
    stop: Arc<AtomicBool>,
}

impl Crowd {
    /// So many, whose names begin with this.
    pub fn of(count: usize, name: &str) -> Self {
        let buyers = (0..count).map(|number| Buyer::new(&format!("{name}-{number}"))).collect();
        Self { buyers, ..Self::default() }
    }

    /// All buy, until they are told to stop or cannot go on. Returns when they are at it.
    ///
    /// # Panics
    /// Where nothing can be bought.
    pub async fn start(&mut self, client: &Client) {
        self.stop = Arc::default();
        for mut buyer in std::mem::take(&mut self.buyers) {
            let (client, stop) = (client.clone(), Arc::clone(&self.stop));
            self.buying.spawn(async move {
                buyer.buy(&client, &stop).await;
                buyer
            });
        }
        for _ in 0..ORDERS_AHEAD {
            let placed = client.post("/orders", &order_of("early-bird", "S0", 1)).await;
            assert_eq!(placed.status, 201, "{placed:?}");
        }
    }

    /// Waits until each has an answer to what it asked last.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.buyers.extend(std::mem::take(&mut self.buying).join_all().await);
    }

    /// Everything that they were told is true: see [`Buyer::check`].
    pub async fn check(&mut self, client: &Client) {
        for buyer in &mut self.buyers {
            buyer.check(client).await;
        }
    }

    pub fn told(&self) -> usize {
        self.buyers.iter().map(|buyer| buyer.told).sum()
    }

    /// The longest wait of any for an answer that it is done.
    pub fn done_after_max(&self) -> Duration {
        self.buyers.iter().map(|buyer| buyer.done_after_max).max().unwrap_or_default()
    }

    /// The longest wait of any for an answer that nothing was changed.
    pub fn refused_after_max(&self) -> Duration {
        self.buyers.iter().map(|buyer| buyer.refused_after_max).max().unwrap_or_default()
    }

    /// The longest wait of any for an answer that it is not known.
    pub fn doubted_after_max(&self) -> Duration {
        self.buyers.iter().map(|buyer| buyer.doubted_after_max).max().unwrap_or_default()
    }
}
