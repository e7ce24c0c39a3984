//! What the HTTP handlers do with a request, without HTTP: idempotency, prices, the ask to the actor,
//! and what each failure tells the client.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use loms::actors::cart::{Cart, EditError, Execute, Purchase, held};
use loms::actors::order::{self, MoveError, Order, Place, PlaceError, Placed};
use loms::actors::{ATTEMPTS_MAX, Core, Failure, NotWritten};
use loms::domain::cart::{self, Command};
use loms::domain::order::{Item, Rejection};
use loms::domain::stock::Shelf;
use loms::domain::{Count, Money, OrderId, Sku, UserId, order as domain};
use loms::store::{Change, Key, Keyed, Outcome, Refused, StockEdit};

use crate::ledger::Ledger;

/// As in `http/idempotency.rs`.
const TURN_MS_MAX: u64 = 10_000;

#[derive(Debug, Clone)]
pub enum Request {
    Show(UserId),
    Edit { user: UserId, command: Command, key: Option<Keyed> },
    Purchase { user: UserId, key: Option<Keyed> },
    Place { user: UserId, lines: Vec<(Sku, Count)>, key: Option<Keyed> },
    Move { id: OrderId, command: order::Command },
    Stock { edit: StockEdit, key: Option<Keyed> },
}

#[derive(Debug, Clone)]
pub enum Answer {
    Cart(Arc<cart::Cart>),
    Placed(Placed),
    Moved(Arc<domain::Order>),
    Stock(Vec<(Sku, Shelf)>),
}

/// Why a request was refused. Nothing was changed, save in doubt.
#[derive(Debug, Clone)]
pub enum Refusal {
    OutOfStock,
    OutOfLimits,
    EmptyCart,
    CartChanged,
    KeyReused,
    BelowReserved,
    NotFound,
    Rejected(Rejection),
    Failed(Failure),
}

type Answered = Result<Answer, Refusal>;

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Refusal {
    pub fn is_doubt(&self) -> bool {
        matches!(self, Self::Failed(Failure::InDoubt))
    }

    pub fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::CartChanged)
    }
}

impl Request {
    pub fn key(&self) -> Option<&Keyed> {
        match self {
            Self::Edit { key, .. } | Self::Purchase { key, .. } | Self::Place { key, .. } | Self::Stock { key, .. } => {
                key.as_ref()
            }
            Self::Show(_) | Self::Move { .. } => None,
        }
    }

    /// Whose cart it looks at.
    pub fn cart(&self) -> Option<&UserId> {
        match self {
            Self::Show(user) | Self::Edit { user, .. } | Self::Purchase { user, .. } => Some(user),
            Self::Place { .. } | Self::Move { .. } | Self::Stock { .. } => None,
        }
    }
}

/// The keys of requests that are under way in a process.
#[derive(Default)]
pub struct UnderWay(RefCell<HashMap<Key, Rc<tokio::sync::Mutex<()>>>>);

pub struct Front<'a> {
    pub core: Arc<Core>,
    pub under_way: &'a UnderWay,
    pub ledger: &'a Ledger,
    pub payment_timeout: TimeDelta,
}

impl Front<'_> {
    pub async fn serve(&self, request: Request) -> Answered {
        let Some(keyed) = request.key().cloned() else { return self.act(request).await };
        let lock = Rc::clone(self.under_way.0.borrow_mut().entry(keyed.key.clone()).or_default());
        let (turn, waited) = match lock.try_lock() {
            Ok(turn) => (turn, false),
            Err(_) => match tokio::time::timeout(Duration::from_millis(TURN_MS_MAX), lock.lock()).await {
                Ok(turn) => (turn, true),
                Err(_) => return Err(Failure::Overloaded.into()),
            },
        };
        let answered = self.once(request, &keyed, waited).await;
        drop(turn);
        let mut keys = self.under_way.0.borrow_mut();
        if Rc::strong_count(&lock) == 2 {
            keys.remove(&keyed.key);
        }
        answered
    }

    async fn once(&self, request: Request, keyed: &Keyed, waited: bool) -> Answered {
        if waited && let Some(outcome) = self.outcome(keyed).await? {
            return self.replay(outcome).await;
        }
        let refusal = match self.act(request).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        let replayed = match self.outcome(keyed).await {
            Ok(Some(outcome)) => self.replay(outcome).await,
            Ok(None) => return Err(refusal),
            Err(other) => Err(other),
        };
        replayed.map_err(|refusal| match refusal {
            Refusal::Failed(Failure::Unavailable) => Failure::InDoubt.into(),
            other => other,
        })
    }

    async fn outcome(&self, keyed: &Keyed) -> Result<Option<Outcome>, Refusal> {
        let key = keyed.key.clone();
        let stored = self.core.read(move |store| async move { store.outcome(&key).await }).await?;
        match stored {
            Some(stored) if stored.fingerprint != keyed.fingerprint => Err(Refusal::KeyReused),
            stored => Ok(stored.map(|stored| stored.outcome)),
        }
    }

    async fn replay(&self, outcome: Outcome) -> Answered {
        match outcome {
            Outcome::Cart { version, lines, .. } => Ok(Answer::Cart(Arc::new(Outcome::cart(version, lines)))),
            Outcome::Stock { shelves } => Ok(Answer::Stock(shelves)),
            Outcome::Order { order_id, shortages } => {
                let stored = self.core.read(move |store| async move { store.order(order_id).await }).await?;
                let order = Arc::new(stored.ok_or(Refusal::NotFound)?.as_placed());
                Ok(Answer::Placed(Placed { order, shortages }))
            }
        }
    }

    async fn act(&self, request: Request) -> Answered {
        match request {
            Request::Show(user) => Ok(Answer::Cart(held(&self.core, &user).await?)),
            Request::Edit { user, command, key } => {
                let start = || Cart::new(user.clone(), Arc::clone(&self.core));
                let edited = self.core.directory.carts.send(&user, Execute { command, key }, start).await;
                match edited.unwrap_or(Err(Failure::InDoubt.into())) {
                    Ok(cart) => Ok(Answer::Cart(cart)),
                    Err(EditError::Failed(failure)) => Err(failure.into()),
                    Err(EditError::KeyTaken) => Err(Refusal::KeyReused),
                    Err(EditError::OutOfStock { .. }) => Err(Refusal::OutOfStock),
                    Err(EditError::Rejected(_)) => Err(Refusal::OutOfLimits),
                }
            }
            Request::Purchase { user, key } => self.purchase(&user, key).await,
            Request::Place { user, lines, key } => {
                let draft = self.draft(&user, lines).await?;
                let id = draft.id;
                let place = Place { draft, emptied_cart_version: None, key };
                let start = || Order::new(id, Arc::clone(&self.core));
                let placed = self.core.directory.orders.send(&id, place, start).await;
                self.placed(id, placed.unwrap_or(Err(Failure::InDoubt.into())))
            }
            Request::Move { id, command } => {
                let start = || Order::new(id, Arc::clone(&self.core));
                let moved = self.core.directory.orders.send(&id, command, start).await;
                match moved.unwrap_or(Err(Failure::InDoubt.into())) {
                    Ok(order) => Ok(Answer::Moved(order)),
                    Err(MoveError::NotFound) => Err(Refusal::NotFound),
                    Err(MoveError::Rejected(rejection)) => Err(Refusal::Rejected(rejection)),
                    Err(MoveError::Failed(failure)) => Err(failure.into()),
                }
            }
            Request::Stock { edit, key } => match self.core.write(Change::StockEdited { edit, key }).await {
                Ok(written) => Ok(Answer::Stock(written.shelves)),
                Err(NotWritten::Refused { refused: Refused::BelowReserved(_), .. }) => Err(Refusal::BelowReserved),
                Err(NotWritten::Refused { refused: Refused::KeyTaken, .. }) => Err(Refusal::KeyReused),
                Err(NotWritten::Refused { .. }) => Err(Failure::Unavailable.into()),
                Err(NotWritten::Failed(failure)) => Err(failure.into()),
            },
        }
    }

    async fn purchase(&self, user: &UserId, key: Option<Keyed>) -> Answered {
        for _ in 0..ATTEMPTS_MAX {
            let cart = held(&self.core, user).await?;
            if cart.lines().is_empty() {
                return Err(Refusal::EmptyCart);
            }
            let lines = cart.lines().iter().map(|line| (line.sku.clone(), line.count)).collect();
            let draft = self.draft(user, lines).await?;
            let id = draft.id;
            let purchase = Purchase { version: cart.version, draft, key: key.clone() };
            let start = || Cart::new(user.clone(), Arc::clone(&self.core));
            let placed = self.core.directory.carts.send(user, purchase, start).await;
            match self.placed(id, placed.unwrap_or(Err(Failure::InDoubt.into()))) {
                Err(Refusal::CartChanged) => {}
                answered => return answered,
            }
        }
        Err(Refusal::CartChanged)
    }

    async fn draft(&self, user: &UserId, lines: Vec<(Sku, Count)>) -> Result<Arc<domain::Order>, Refusal> {
        let item = |(sku, count): (Sku, Count)| {
            let name = format!("{sku}, as sold").into();
            Item { sku, name, price: Money(100), count, allocations: Vec::new() }
        };
        let items = lines.into_iter().map(item).collect();
        let id = self.core.order_ids.next().await?;
        let created_at = self.core.clock.now();
        let draft = domain::Order::draft(id, user.clone(), items, created_at, created_at + self.payment_timeout);
        Ok(Arc::new(draft.map_err(|_| Refusal::OutOfLimits)?))
    }

    fn placed(&self, id: OrderId, placed: Result<Placed, PlaceError>) -> Answered {
        let refusal = match placed {
            Ok(placed) => return Ok(Answer::Placed(placed)),
            Err(PlaceError::CartChanged) => Refusal::CartChanged,
            Err(PlaceError::KeyTaken) => Refusal::KeyReused,
            Err(PlaceError::Failed(failure)) => failure.into(),
        };
        if !refusal.is_doubt() {
            self.ledger.never(id);
        }
        Err(refusal)
    }
}
