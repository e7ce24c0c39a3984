//! One shopping cart: decides in memory, answers once the decision is durable.
//! Holds no SQL, no HTTP and no clock.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::domain::cart::{self, Command, Edit, Rejection};
use crate::domain::{UserId, order};
use crate::store::{Change, Keyed, Refused};

use super::directory::Leave;
use super::order::{Order, Place, PlaceError, Placed};
use super::{ANSWER_MS_MAX, ATTEMPTS_MAX, Core, Failure, NotWritten, stock_keeper};

/// A cart that nobody asked for this long leaves memory.
const IDLE_S_MAX: u64 = 600;

pub struct Cart {
    user: UserId,
    core: Arc<Core>,
    /// `None` until it is needed, while a command runs, and after any doubt: then the store knows.
    state: Option<cart::Cart>,
    used: bool,
}

/// What the cart holds.
#[derive(Message)]
#[rtype(result = "Result<cart::Cart, Failure>")]
pub struct Show;

/// Edits the cart and gives what it then holds.
#[derive(Message)]
#[rtype(result = "Result<cart::Cart, EditError>")]
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
        Self { user, core, state: None, used: true }
    }
}

impl Actor for Cart {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(super::COMMANDS_UNDER_WAY_MAX);
        context.run_interval(Duration::from_secs(IDLE_S_MAX), |cart, context| {
            if !std::mem::take(&mut cart.used) {
                cart.core.directory.carts.retire(&cart.user, &context.address());
            }
        });
    }
}

impl Handler<Show> for Cart {
    type Result = AtomicResponse<Self, Result<cart::Cart, Failure>>;

    fn handle(&mut self, _: Show, _: &mut Self::Context) -> Self::Result {
        self.used = true;
        let known = known(Arc::clone(&self.core), self.user.clone(), self.state.take()).into_actor(self);
        AtomicResponse::new(Box::pin(known.map(|cart, actor, _| {
            actor.state = cart.clone().ok();
            cart
        })))
    }
}

impl Handler<Execute> for Cart {
    // Waits: the next command on this cart sees durable state only. Other carts fill the batch.
    type Result = AtomicResponse<Self, Result<cart::Cart, EditError>>;

    fn handle(&mut self, execute: Execute, _: &mut Self::Context) -> Self::Result {
        self.used = true;
        let core = Arc::clone(&self.core);
        let edited = edit_durably(core, self.user.clone(), self.state.take(), execute).into_actor(self);
        AtomicResponse::new(Box::pin(edited.map(|(state, edited), actor, _| {
            actor.state = state;
            edited
        })))
    }
}

impl Handler<Purchase> for Cart {
    type Result = AtomicResponse<Self, Result<Placed, PlaceError>>;

    fn handle(&mut self, purchase: Purchase, _: &mut Self::Context) -> Self::Result {
        self.used = true;
        let core = Arc::clone(&self.core);
        let purchased = purchase_durably(core, self.user.clone(), self.state.take(), purchase).into_actor(self);
        AtomicResponse::new(Box::pin(purchased.map(|(state, placed), actor, _| {
            actor.state = state;
            placed
        })))
    }
}

impl Handler<Leave> for Cart {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Self::Context) {
        context.stop();
    }
}

async fn known(core: Arc<Core>, user: UserId, state: Option<cart::Cart>) -> Result<cart::Cart, Failure> {
    match state {
        Some(cart) => Ok(cart),
        None => core.read(move |store| async move { store.cart(&user).await }).await,
    }
}

type Edited = (Option<cart::Cart>, Result<cart::Cart, EditError>);

/// Decides and writes; where what it knew was stale, reads the cart and decides again.
async fn edit_durably(core: Arc<Core>, user: UserId, mut state: Option<cart::Cart>, execute: Execute) -> Edited {
    let Execute { command, key } = execute;
    for _ in 0..ATTEMPTS_MAX {
        let mut cart = match known(Arc::clone(&core), user.clone(), state.take()).await {
            Ok(cart) => cart,
            Err(failure) => return (None, Err(failure.into())),
        };
        let edit = match decide(&core, &cart, command.clone()).await {
            Ok(Some(edit)) => edit,
            Ok(None) => return (Some(cart.clone()), Ok(cart)),
            Err(error) => return (Some(cart), Err(error)),
        };
        cart.apply(edit.clone());
        let change = Change::CartEdited { user: user.clone(), cart, edit, key: key.clone() };
        match core.write(change).await {
            Ok(written) => match written.change {
                Change::CartEdited { cart, .. } => return (Some(cart.clone()), Ok(cart)),
                _ => return (None, Err(Failure::InDoubt.into())),
            },
            Err(NotWritten::Refused { refused: Refused::KeyTaken, .. }) => return (None, Err(EditError::KeyTaken)),
            Err(NotWritten::Refused { .. }) => {}
            Err(NotWritten::Failed(failure)) => return (None, Err(failure.into())),
        }
    }
    (None, Err(Failure::Unavailable.into()))
}

/// What the command changes, where the stock covers what the cart then holds.
async fn decide(core: &Core, cart: &cart::Cart, command: Command) -> Result<Option<Edit>, EditError> {
    let takes_more = matches!(command, Command::Add { .. } | Command::Set { .. });
    let edit = cart.decide(command)?;
    if let (true, Some(Edit::LineSet(line))) = (takes_more, &edit) {
        let (answer, answered) = oneshot::channel();
        let covers = stock_keeper::Covers { sku: line.sku.clone(), count: line.count, answer };
        core.stock_keeper.try_send(covers).map_err(|_| Failure::Overloaded)?;
        match tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), answered).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(available))) => return Err(EditError::OutOfStock { available }),
            Ok(Err(_)) | Err(_) => return Err(Failure::Unavailable.into()),
        }
    }
    Ok(edit)
}

type Purchased = (Option<cart::Cart>, Result<Placed, PlaceError>);

async fn purchase_durably(core: Arc<Core>, user: UserId, state: Option<cart::Cart>, purchase: Purchase) -> Purchased {
    let mut cart = match known(Arc::clone(&core), user, state).await {
        Ok(cart) => cart,
        Err(failure) => return (None, Err(failure.into())),
    };
    if cart.version != purchase.version {
        return (Some(cart), Err(PlaceError::CartChanged));
    }
    let id = purchase.draft.id;
    let emptied_cart_version = Some(cart.version + 1);
    let place = Place { draft: purchase.draft, emptied_cart_version, key: purchase.key };
    let start = || Order::new(id, Arc::clone(&core));
    match core.directory.orders.send(&id, place, start).await {
        Ok(Ok(placed)) => {
            if placed.shortages.is_empty() {
                cart.apply(Edit::Emptied);
            }
            (Some(cart), Ok(placed))
        }
        Ok(Err(error)) => (None, Err(error)),
        Err(_) => (None, Err(Failure::InDoubt.into())),
    }
}
