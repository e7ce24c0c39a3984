//! One shopping cart: decides in memory, answers once the decision is durable.
//! Holds no SQL, no HTTP and no clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;

use crate::domain::cart::{self, Command, Edit, Rejection};
use crate::domain::{UserId, order, stock};
use crate::store::{Change, Keyed, Refused};

use super::directory::{Leave, Resident};
use super::lease::{Lease, Term};
use super::order::{Order, Place, PlaceError, Placed};
use super::{ATTEMPTS_MAX, Core, Failure, NotWritten, Written};

/// A cart that nobody asked for this long leaves memory.
const IDLE_S_MAX: u64 = 600;

pub struct Cart {
    user: UserId,
    core: Arc<Core>,
    shown: Arc<Shown>,
}

/// What a cart durably holds, for whoever asks.
#[derive(Default)]
pub struct Shown {
    /// As of the term in which it was read or written: after that the store knows, and so it does until it is
    /// needed and after any doubt.
    held: Mutex<Option<(Term, Arc<cart::Cart>)>>,
    /// Since the cart last looked whether it is idle.
    used: AtomicBool,
}

/// What the user's cart holds, without a message to the cart where that is known.
///
/// # Errors
/// [`Failure::Unavailable`] where it is not and the database is away.
pub async fn held(core: &Arc<Core>, user: &UserId) -> Result<Arc<cart::Cart>, Failure> {
    if let Some(held) = core.directory.carts.shown(user).and_then(|shown| shown.get(&core.lease)) {
        return Ok(held);
    }
    let start = || Cart::new(user.clone(), Arc::clone(core));
    core.directory.carts.send(user, Show, start).await.unwrap_or(Err(Failure::Unavailable))
}

/// What the cart holds, also where it must be read first.
#[derive(Message)]
#[rtype(result = "Result<Arc<cart::Cart>, Failure>")]
struct Show;

/// Edits the cart and gives what it then holds.
#[derive(Message)]
#[rtype(result = "Result<Arc<cart::Cart>, EditError>")]
pub struct Execute {
    pub command: Command,
    pub key: Option<Keyed>,
}

/// Makes an order of the cart, of which the draft was made at this version, and empties it.
#[derive(Message)]
#[rtype(result = "Result<Placed, PlaceError>")]
pub struct Purchase {
    pub version: i64,
    pub draft: Arc<order::Order>,
    pub key: Option<Keyed>,
}

#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The stock does not cover what the cart would then hold.
    #[error("only {available} can be bought")]
    OutOfStock { available: i64 },
    /// The request's key has an outcome already.
    #[error("the idempotency key was used before")]
    KeyTaken,
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Cart {
    #[must_use]
    pub fn new(user: UserId, core: Arc<Core>) -> Self {
        Self { user, core, shown: Arc::default() }
    }
}

impl Shown {
    fn get(&self, lease: &Lease) -> Option<Arc<cart::Cart>> {
        self.used.store(true, Ordering::Relaxed);
        let now = lease.term()?;
        let (term, held) = self.lock().clone()?;
        (term == now).then_some(held)
    }

    /// The term is that in which the cart began to be read.
    fn remember(&self, term: Option<Term>, held: Arc<cart::Cart>) {
        *self.lock() = term.map(|term| (term, held));
    }

    fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Term, Arc<cart::Cart>)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actor for Cart {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(Duration::from_secs(IDLE_S_MAX), |cart, context| {
            if !cart.shown.used.swap(false, Ordering::Relaxed) {
                cart.core.directory.carts.retire(&cart.user, &context.address());
            }
        });
    }
}

impl Resident for Cart {
    type Shown = Arc<Shown>;

    fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }
}

impl Handler<Show> for Cart {
    type Result = AtomicResponse<Self, Result<Arc<cart::Cart>, Failure>>;

    fn handle(&mut self, _: Show, _: &mut Self::Context) -> Self::Result {
        let (core, user, shown) = (Arc::clone(&self.core), self.user.clone(), self.shown());
        let known = async move { known(&core, &user, &shown).await };
        AtomicResponse::new(Box::pin(known.into_actor(self)))
    }
}

impl Handler<Execute> for Cart {
    // Waits: the next command on this cart sees durable state only. Other carts fill the batch.
    type Result = AtomicResponse<Self, Result<Arc<cart::Cart>, EditError>>;

    fn handle(&mut self, execute: Execute, _: &mut Self::Context) -> Self::Result {
        let edited = edit_durably(Arc::clone(&self.core), self.user.clone(), self.shown(), execute);
        AtomicResponse::new(Box::pin(edited.into_actor(self)))
    }
}

impl Handler<Purchase> for Cart {
    type Result = AtomicResponse<Self, Result<Placed, PlaceError>>;

    fn handle(&mut self, purchase: Purchase, _: &mut Self::Context) -> Self::Result {
        let purchased = purchase_durably(Arc::clone(&self.core), self.user.clone(), self.shown(), purchase);
        AtomicResponse::new(Box::pin(purchased.into_actor(self)))
    }
}

impl Handler<Leave> for Cart {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Self::Context) {
        context.stop();
    }
}

async fn known(core: &Core, user: &UserId, shown: &Shown) -> Result<Arc<cart::Cart>, Failure> {
    if let Some(held) = shown.get(&core.lease) {
        return Ok(held);
    }
    let (user, term) = (user.clone(), core.lease.term());
    let held = Arc::new(core.read(move |store| async move { store.cart(&user).await }).await?);
    shown.remember(term, Arc::clone(&held));
    Ok(held)
}

/// A cart that was taken out of the directory with a command in hand may have a successor, which has read what was
/// there before.
fn remember_written(core: &Core, user: &UserId, shown: &Arc<Shown>, term: Option<Term>, held: Arc<cart::Cart>) {
    shown.remember(term, held);
    if core.directory.carts.shown(user).is_some_and(|live| !Arc::ptr_eq(&live, shown)) {
        core.lease.begin_term();
    }
}

/// Decides and writes; where what it knew was stale, reads the cart and decides again.
async fn edit_durably(
    core: Arc<Core>,
    user: UserId,
    shown: Arc<Shown>,
    execute: Execute,
) -> Result<Arc<cart::Cart>, EditError> {
    let Execute { command, key } = execute;
    core.lease.known_to_all().await;
    let takes_more = matches!(command, Command::Add { .. } | Command::Set { .. });
    for _ in 0..ATTEMPTS_MAX {
        let term = core.lease.term();
        let held = known(&core, &user, &shown).await?;
        let Some(edit) = held.decide(command.clone())? else {
            still_covered(&core, &command).await?;
            return Ok(held);
        };
        let mut cart = cart::Cart::clone(&held);
        cart.apply(edit.clone());
        let to_cover = match &edit {
            Edit::LineSet(line) if takes_more => Some(line.clone()),
            _ => None,
        };
        let change = Change::CartEdited { user: user.clone(), cart, edit, key: key.clone() };
        let written = match to_cover {
            Some(line) => core.write_covered(line, change).await,
            None => core.write(change).await,
        };
        match written {
            Ok(Written { change: Change::CartEdited { cart, .. }, .. }) => {
                let held = Arc::new(cart);
                remember_written(&core, &user, &shown, term, Arc::clone(&held));
                return Ok(held);
            }
            Err(NotWritten::Refused { refused: Refused::NotCovered { available }, .. }) => {
                return Err(EditError::OutOfStock { available });
            }
            Err(NotWritten::Failed(failure)) => {
                shown.forget();
                return Err(failure.into());
            }
            Err(NotWritten::Refused { refused: Refused::KeyTaken, .. }) => {
                shown.forget();
                return Err(EditError::KeyTaken);
            }
            Ok(_) | Err(NotWritten::Refused { .. }) => shown.forget(),
        }
    }
    Err(Failure::Unavailable.into())
}

/// Where a count is set that the cart has already, nothing is written; the stock must cover it all the same.
async fn still_covered(core: &Core, command: &Command) -> Result<(), EditError> {
    let Command::Set { sku, count } = command else { return Ok(()) };
    let skus = [sku.clone()];
    let shelves = core.read(move |store| async move { store.shelves(&skus).await }).await?;
    let available = stock::available(&shelves.into_iter().map(|(_, shelf)| shelf).collect::<Vec<_>>());
    if available < count.units() { Err(EditError::OutOfStock { available }) } else { Ok(()) }
}

async fn purchase_durably(
    core: Arc<Core>,
    user: UserId,
    shown: Arc<Shown>,
    purchase: Purchase,
) -> Result<Placed, PlaceError> {
    core.lease.known_to_all().await;
    let term = core.lease.term();
    let held = known(&core, &user, &shown).await?;
    if held.version != purchase.version {
        return Err(PlaceError::CartChanged);
    }
    let id = purchase.draft.id;
    let emptied_cart_version = Some(held.version + 1);
    let place = Place { draft: purchase.draft, emptied_cart_version, key: purchase.key };
    let start = || Order::new(id, Arc::clone(&core));
    let placed = core.directory.orders.send(&id, place, start).await.unwrap_or(Err(Failure::InDoubt.into()));
    match &placed {
        Ok(placed) if placed.shortages.is_empty() => {
            let mut emptied = cart::Cart::clone(&held);
            emptied.apply(Edit::Emptied);
            remember_written(&core, &user, &shown, term, Arc::new(emptied));
        }
        Ok(_) => {}
        Err(_) => shown.forget(),
    }
    placed
}
