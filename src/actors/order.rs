//! One order: decides in memory, answers once the decision is durable, and cancels itself at its
//! deadline. Holds no SQL, no HTTP and no clock of its own.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::domain::order::{self, Rejection, Status, Transition};
use crate::domain::stock::Shortage;
use crate::domain::{OrderId, Time};
use crate::store::{Change, Keyed, Movement, Refused};

use super::directory::{Leave, Resident};
use super::{ATTEMPTS_MAX, Core, Failure, NotWritten, answer_in_time, stock_keeper};

/// Its state is among the recent orders, but not while a command runs, after any doubt, or when it
/// had to give way: then the store knows.
pub struct Order {
    id: OrderId,
    core: Arc<Core>,
    deadline: Option<SpawnHandle>,
}

/// Places a drafted order. The first message that an order gets.
#[derive(Message)]
#[rtype(result = "Result<Placed, PlaceError>")]
pub struct Place {
    pub draft: Arc<order::Order>,
    /// For a purchase: the version of the user's cart after it was emptied.
    pub emptied_cart_version: Option<i64>,
    pub key: Option<Keyed>,
}

/// An order as it was placed; failed where there are shortages.
#[derive(Debug, Clone)]
pub struct Placed {
    pub order: Arc<order::Order>,
    pub shortages: Vec<Shortage>,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The cart is no longer at the version that was purchased.
    #[error("the cart was changed meanwhile")]
    CartChanged,
    /// The request's key has an outcome already.
    #[error("the idempotency key was used before")]
    KeyTaken,
    #[error(transparent)]
    Failed(#[from] Failure),
}

#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "Result<Arc<order::Order>, MoveError>")]
pub enum Command {
    Pay,
    Cancel,
}

#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("there is no such order")]
    NotFound,
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// An order that awaits payment as the store has it: from here on it minds its deadline.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Awaken(pub Arc<order::Order>);

/// Its deadline has come by the clock, though perhaps not by its timer: timers stand still while a machine sleeps.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Overdue;

/// The deadline may have come.
#[derive(Message)]
#[rtype(result = "()")]
struct Expire;

impl Order {
    #[must_use]
    pub fn new(id: OrderId, core: Arc<Core>) -> Self {
        Self { id, core, deadline: None }
    }

    /// What a finished command leaves: a timer for an order that awaits payment, nothing of one
    /// that has ended. One whose state is not known and that has no timer is left to the sweep: it reads what is
    /// overdue by the page, where thousands that fell due in an outage would each ask the database again.
    fn finish(&mut self, state: Option<Arc<order::Order>>, context: &mut Context<Self>) {
        match state {
            Some(order) if order.status == Status::AwaitingPayment => {
                if self.deadline.is_none() {
                    let left = (order.expires_at - self.core.clock.now()).to_std().unwrap_or_default();
                    self.deadline = Some(context.notify_later(Expire, left));
                }
                self.core.recent_orders.remember(order);
            }
            None if self.deadline.is_some() => {}
            Some(_) | None => self.core.directory.orders.retire(&self.id, &context.address()),
        }
    }

    fn finish_move(
        &mut self,
        state: Option<Arc<order::Order>>,
        moved: &Result<Arc<order::Order>, MoveError>,
        context: &mut Context<Self>,
    ) {
        match moved {
            Err(MoveError::NotFound) => self.core.directory.orders.retire(&self.id, &context.address()),
            _ => self.finish(state, context),
        }
    }
}

impl Actor for Order {
    type Context = Context<Self>;
}

impl Resident for Order {
    type Shown = ();

    fn shown(&self) {}
}

impl Handler<Place> for Order {
    // Waits: the next command on this order sees durable state only. Other orders fill the batch.
    type Result = AtomicResponse<Self, Result<Placed, PlaceError>>;

    fn handle(&mut self, place: Place, _: &mut Self::Context) -> Self::Result {
        let placed = place_durably(Arc::clone(&self.core), place).into_actor(self);
        AtomicResponse::new(Box::pin(placed.map(|placed, actor, context| {
            match &placed {
                Ok(placed) => actor.finish(Some(Arc::clone(&placed.order)), context),
                Err(PlaceError::Failed(Failure::InDoubt)) => actor.finish(None, context),
                // There is no such order.
                Err(_) => actor.core.directory.orders.retire(&actor.id, &context.address()),
            }
            placed
        })))
    }
}

impl Handler<Command> for Order {
    type Result = AtomicResponse<Self, Result<Arc<order::Order>, MoveError>>;

    fn handle(&mut self, command: Command, _: &mut Self::Context) -> Self::Result {
        let (core, id, state) = (Arc::clone(&self.core), self.id, self.core.recent_orders.take(self.id));
        let moved = async move {
            match command {
                Command::Pay => pay_durably(&core, id, state).await,
                Command::Cancel => move_durably(&core, id, state, order::Order::cancel).await,
            }
        };
        let moved = moved.into_actor(self);
        AtomicResponse::new(Box::pin(moved.map(|(state, moved), actor, context| {
            actor.finish_move(state, &moved, context);
            moved
        })))
    }
}

impl Handler<Expire> for Order {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Expire, _: &mut Self::Context) -> Self::Result {
        self.deadline = None;
        let decide = |order: &order::Order, now: Time| Ok(order.expire(now));
        let (core, id, state) = (Arc::clone(&self.core), self.id, self.core.recent_orders.take(self.id));
        let moved = async move {
            match core.expiring.next().await {
                Ok(_turn) => move_durably(&core, id, state, decide).await,
                Err(failure) => (None, Err(failure.into())),
            }
        };
        let moved = moved.into_actor(self);
        let finished = moved.map(|(state, moved), actor, context| actor.finish_move(state, &moved, context));
        AtomicResponse::new(Box::pin(finished))
    }
}

impl Handler<Awaken> for Order {
    type Result = ();

    fn handle(&mut self, Awaken(order): Awaken, context: &mut Self::Context) {
        if self.deadline.is_none() {
            self.finish(Some(order), context);
        }
    }
}

impl Handler<Overdue> for Order {
    type Result = ();

    fn handle(&mut self, _: Overdue, context: &mut Self::Context) {
        match self.deadline.take() {
            Some(timer) => {
                context.cancel_future(timer);
                context.notify(Expire);
            }
            // It was started by this message, or is about to leave.
            None => self.core.directory.orders.retire(&self.id, &context.address()),
        }
    }
}

impl Handler<Leave> for Order {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Self::Context) {
        context.stop();
    }
}

/// Reserves and writes; where another process was faster at a shelf, decides again.
async fn place_durably(core: Arc<Core>, place: Place) -> Result<Placed, PlaceError> {
    let Place { mut draft, emptied_cart_version, mut key } = place;
    for _ in 0..ATTEMPTS_MAX {
        let (answer, answered) = oneshot::channel();
        let ask = stock_keeper::Place { draft, emptied_cart_version, key, answer };
        core.stock_keeper.try_send(ask).map_err(|_| Failure::Overloaded)?;
        let (refused, change) = match answer_in_time(answered).await {
            Ok(written) => match written.change {
                Change::OrderPlaced { order, shortages, .. } => return Ok(Placed { order, shortages }),
                _ => return Err(Failure::InDoubt.into()),
            },
            Err(NotWritten::Failed(failure)) => return Err(failure.into()),
            Err(NotWritten::Refused { refused, change }) => (refused, *change),
        };
        match (refused, change) {
            (Refused::Short, Change::OrderPlaced { order, key: same_key, .. }) => {
                draft = order;
                Arc::make_mut(&mut draft).redraft();
                key = same_key;
            }
            (Refused::Stale, _) if emptied_cart_version.is_some() => return Err(PlaceError::CartChanged),
            (Refused::KeyTaken, _) => return Err(PlaceError::KeyTaken),
            _ => return Err(Failure::Unavailable.into()),
        }
    }
    Err(Failure::Overloaded.into())
}

type Moved = (Option<Arc<order::Order>>, Result<Arc<order::Order>, MoveError>);

/// Decides and writes; where what it knew was stale, reads the order and decides again. Gives the
/// state as it is afterwards, where that is known.
async fn move_durably(
    core: &Core,
    id: OrderId,
    mut state: Option<Arc<order::Order>>,
    decide: impl Fn(&order::Order, Time) -> Result<Option<Transition>, Rejection>,
) -> Moved {
    for _ in 0..ATTEMPTS_MAX {
        let order = match present(core, id, state.take()).await {
            Ok(order) => order,
            Err(error) => return (None, Err(error)),
        };
        let transition = match decide(&order, core.clock.now()) {
            Ok(Some(transition)) => transition,
            Ok(None) => return (Some(Arc::clone(&order)), Ok(order)),
            Err(rejection) => return (Some(order), Err(rejection.into())),
        };
        let order = moved(order, &transition);
        let movement = if transition.to == Status::Payed { Movement::WriteOff } else { Movement::Release };
        match core.write(Change::OrderMoved { order: Arc::clone(&order), movement }).await {
            Ok(_) => return (Some(Arc::clone(&order)), Ok(order)),
            Err(NotWritten::Refused { .. }) => {}
            Err(NotWritten::Failed(failure)) => return (None, Err(failure.into())),
        }
    }
    (None, Err(Failure::Unavailable.into()))
}

/// A refused payment is told before its refusal is answered: the money must go back. Where the refusal was
/// decided on a stale state, it is decided again: the order may be payed since.
async fn pay_durably(core: &Core, id: OrderId, mut state: Option<Arc<order::Order>>) -> Moved {
    for _ in 0..ATTEMPTS_MAX {
        let (decided_on, paid) = move_durably(core, id, state.take(), order::Order::pay).await;
        let (Some(mut order), Err(MoveError::Rejected(_))) = (decided_on.clone(), &paid) else {
            return (decided_on, paid);
        };
        if order.payment_refused_at.is_some() {
            return (Some(order), paid);
        }
        Arc::make_mut(&mut order).refuse_payment(core.clock.now());
        match core.write(Change::PaymentRefused { order: Arc::clone(&order) }).await {
            Ok(_) => return (Some(order), paid),
            Err(NotWritten::Refused { .. }) => {}
            Err(NotWritten::Failed(failure)) => return (None, Err(failure.into())),
        }
    }
    (None, Err(Failure::Unavailable.into()))
}

/// The order as it is known, else as the store has it.
async fn present(core: &Core, id: OrderId, known: Option<Arc<order::Order>>) -> Result<Arc<order::Order>, MoveError> {
    if let Some(order) = known {
        return Ok(order);
    }
    let order = core.read(move |store| async move { store.order(id).await }).await?;
    order.map(Arc::new).ok_or(MoveError::NotFound)
}

fn moved(mut order: Arc<order::Order>, transition: &Transition) -> Arc<order::Order> {
    Arc::make_mut(&mut order).apply(transition);
    order
}
