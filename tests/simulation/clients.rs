//! Users who buy, pay in time and late, cancel, and ask again with the same key; and somebody who
//! counts the stock.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use loms::actors::order::Command as Move;
use loms::clock::Clock as _;
use loms::domain::cart::Command;
use loms::domain::{Count, OrderId, Sku, Time, UserId, WarehouseId};
use loms::store::{Key, Keyed, ShelfEdit, StockEdit};
use tokio::time::sleep;

use crate::front::{Answer, Refusal, Request};
use crate::shop::Shop;

const ATTEMPTS_MAX: u64 = 8;

/// Orders that a user knows of, with their deadlines.
pub type Orders = Rc<RefCell<Vec<(OrderId, Time)>>>;

pub struct Client {
    pub shop: Rc<Shop>,
    pub user: UserId,
    pub goods: Rc<Vec<Sku>>,
    pub orders: Orders,
    /// Of all clients, so that keys differ.
    pub number: usize,
    pub actions: u64,
}

impl Client {
    pub async fn live(self) {
        for action in 0..self.actions {
            let request = self.think(action).await;
            let answer = self.insist(&request).await;
            if let Some(Ok(Answer::Placed(placed))) = &answer
                && placed.shortages.is_empty()
            {
                self.orders.borrow_mut().push((placed.order.id, placed.order.expires_at));
            }
            let again = request.key().is_some() && self.shop.ground.world.random.chance(100);
            if let (Some(Ok(answer)), true) = (&answer, again) {
                self.repeat(&request, answer).await;
            }
        }
    }

    async fn think(&self, action: u64) -> Request {
        let random = &self.shop.ground.world.random;
        let choice = random.between(0, 99);
        let order = {
            let orders = self.orders.borrow();
            (!orders.is_empty()).then(|| *random.pick(&orders))
        };
        if let (Some((id, deadline)), 0..45) = (order, choice) {
            let command = if choice < 32 { Move::Pay } else { Move::Cancel };
            if choice.is_multiple_of(3) {
                self.wait_for(deadline).await;
            } else {
                self.pause().await;
            }
            return Request::Move { id, command };
        }
        self.pause().await;
        let key = random.chance(600).then(|| self.key(action));
        let (user, sku) = (self.user.clone(), random.pick(&self.goods).clone());
        let count = count(random.between(1, 5));
        match random.between(0, 99) {
            0..40 => Request::Edit { user, command: Command::Add { sku, count }, key },
            40..46 => Request::Edit { user, command: Command::Set { sku, count }, key: None },
            46..52 => Request::Edit { user, command: Command::Remove { sku, count: Some(count) }, key: None },
            52..54 => Request::Edit { user, command: Command::Empty, key: None },
            54..60 => Request::Show(user),
            60..80 => Request::Purchase { user, key },
            _ => {
                let mut lines = vec![(sku, count)];
                let other = random.pick(&self.goods).clone();
                if other != lines[0].0 {
                    lines.push((other, self::count(random.between(1, 3))));
                }
                Request::Place { user, lines, key }
            }
        }
    }

    async fn pause(&self) {
        let random = &self.shop.ground.world.random;
        let max = *random.pick(&[0, 0, 0, 10, 300, 4_000]);
        sleep(Duration::from_millis(random.between(0, max))).await;
    }

    /// A few milliseconds before an order's deadline, at it, or after it.
    async fn wait_for(&self, deadline: Time) {
        let world = &self.shop.ground.world;
        let around = deadline - chrono::TimeDelta::milliseconds(3);
        let left = (around - world.clock.now()).to_std().unwrap_or_default();
        sleep(left + Duration::from_millis(world.random.between(0, 6))).await;
    }

    fn key(&self, action: u64) -> Keyed {
        let text = format!("{}-{action}", self.number);
        let fingerprint = [u8::try_from(self.number % 256).unwrap_or(0); 32];
        Keyed { key: Key::parse(&text).expect("printable"), fingerprint, tags: None }
    }

    /// Asks until there is an answer that asking again would not better, or patience is at its end.
    async fn insist(&self, request: &Request) -> Option<Result<Answer, Refusal>> {
        let random = &self.shop.ground.world.random;
        let mut last = None;
        for _ in 0..random.between(1, ATTEMPTS_MAX) {
            let patience = Duration::from_millis(*random.pick(&[50, 3_000, 20_000]));
            let answer = self.shop.ask(request, patience).await;
            self.shop.ground.world.trace.note(format_args!("client {}: {request:?}: {answer:?}", self.number));
            let enough =
                matches!(&answer, Some(Ok(_))) || matches!(&answer, Some(Err(refusal)) if !refusal.is_worth_a_retry());
            last = answer;
            // Without a key, asking again might do it twice.
            if enough || (request.key().is_none() && random.chance(700)) {
                break;
            }
            sleep(Duration::from_millis(random.between(0, 3_000))).await;
        }
        last
    }

    /// Whoever asks again with the key is answered as before.
    async fn repeat(&self, request: &Request, before: &Answer) {
        let Some(Ok(again)) = self.shop.ask(request, Duration::from_secs(20)).await else { return };
        let same = match (before, &again) {
            (Answer::Cart(before), Answer::Cart(again)) => before == again,
            (Answer::Placed(before), Answer::Placed(again)) => before.order == again.order,
            (Answer::Stock(before), Answer::Stock(again)) => before == again,
            _ => false,
        };
        self.shop.ground.world.check(same, || format!("{request:?}: {before:?}, and when asked again {again:?}"));
    }
}

/// Goods in, goods lost, and counts.
pub async fn keep_stock(client: Client, warehouses: i32) {
    let random = &client.shop.ground.world.random;
    for action in 0..client.actions {
        sleep(Duration::from_millis(random.between(0, 12_000))).await;
        let sku = random.pick(&client.goods).clone();
        let warehouse = WarehouseId(1 + i32::try_from(random.between(0, 1)).unwrap_or(0).min(warehouses - 1));
        let units = i64::try_from(random.between(0, 12)).unwrap_or(0);
        let edit = if random.chance(400) {
            StockEdit::Count(vec![ShelfEdit { sku, warehouse, units }])
        } else {
            let row = ShelfEdit { sku, warehouse, units: units - 4 };
            StockEdit::Adjust { row, reason: "delivery".to_owned(), at: client.shop.ground.world.clock.now() }
        };
        let key = random.chance(500).then(|| client.key(action));
        client.insist(&Request::Stock { edit, key }).await;
    }
}

pub fn count(units: u64) -> Count {
    Count::new(i64::try_from(units).unwrap_or(i64::MAX)).expect("a few units")
}
