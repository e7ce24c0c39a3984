//! The books: what was committed, what was answered, and whether the two agree. Looked at after
//! every commit and after every answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;
use loms::actors::order::{Command, Placed};
use loms::clock::Clock as _;
use loms::domain::cart::Cart;
use loms::domain::order::{CANCELLED_ON_REQUEST, Order, PAYMENT_TIMEOUT, Rejection, Status};
use loms::domain::{OrderId, Sku, UserId, WarehouseId};
use loms::store::{Change, Key, Movement, StockEdit, Verdict};

use crate::front::{Answer, Refusal, Request};
use crate::memory::{Database, Tables};
use crate::world::World;

pub struct Ledger {
    world: Arc<World>,
    database: Arc<Database>,
    payment_timeout: TimeDelta,
    accounts: Mutex<Accounts>,
}

#[derive(Default)]
struct Accounts {
    /// On hand, from what was written off, counted and adjusted.
    on_hand: BTreeMap<(Sku, WarehouseId), i64>,
    /// Every cart at every version that it had.
    carts: BTreeMap<(UserId, i64), Cart>,
    /// The versions to which purchases have emptied carts.
    emptied: BTreeMap<OrderId, i64>,
    /// The last version of each cart that somebody was told of.
    told: BTreeMap<UserId, i64>,
    ended: BTreeMap<OrderId, Status>,
    keys: HashMap<Key, usize>,
    /// Orders of which somebody was told that they were not made.
    never: BTreeSet<OrderId>,
    /// Requests that were neither refused for good nor may be forgotten: by what they ask for.
    open_moves: BTreeMap<(OrderId, bool), u32>,
    open_keys: HashMap<Key, u32>,
    asked_keys: HashMap<Key, u32>,
    open_edits: BTreeMap<UserId, u32>,
    edits: BTreeMap<UserId, u32>,
    acknowledged: Vec<Arc<Order>>,
}

/// An attempt at a request, as things were when it was asked; of one without a key only how the cart was.
#[derive(Clone, Copy, Default)]
pub struct Attempt {
    /// The key had acted before.
    acted: bool,
    /// Other attempts with the key that were not refused yet, and how many had been asked.
    open: u32,
    asked: u32,
    /// The version of the user's cart that somebody was told of.
    cart: i64,
}

impl Ledger {
    pub fn new(world: Arc<World>, database: Arc<Database>, payment_timeout: TimeDelta) -> Self {
        let on_hand = database.tables().shelves.iter().map(|(place, shelf)| (place.clone(), shelf.on_hand)).collect();
        let accounts = Mutex::new(Accounts { on_hand, ..Accounts::default() });
        Self { world, database, payment_timeout, accounts }
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn committed(&self, after: &Tables, changes: &[Change], verdicts: &[Verdict]) {
        let mut accounts = self.accounts();
        for (change, verdict) in changes.iter().zip(verdicts) {
            if !matches!(verdict, Verdict::Refused(_)) {
                self.enter(&mut accounts, after, change);
            }
        }
        for difference in after.differences() {
            self.world.fail(difference);
        }
        for (place, shelf) in &after.shelves {
            let expected = accounts.on_hand.get(place).copied().unwrap_or(0);
            self.world.check(shelf.on_hand == expected, || format!("{place:?}: {shelf:?}, but {expected} are due"));
        }
    }

    fn enter(&self, accounts: &mut Accounts, after: &Tables, change: &Change) {
        let world = &self.world;
        if let Some(keyed) = change.key() {
            let times = accounts.keys.entry(keyed.key.clone()).or_default();
            *times += 1;
            world.check(*times == 1, || format!("the key {:?} has acted twice", keyed.key));
            let open = accounts.open_keys.get(&keyed.key).copied().unwrap_or(0);
            world.check(open > 0, || format!("{:?} acts, but everybody was told that it did not", keyed.key));
        }
        match change {
            Change::CartEdited { user, key, .. } => {
                if key.is_none() {
                    let edits = accounts.edits.entry(user.clone()).or_default();
                    *edits += 1;
                    let open = accounts.open_edits.get(user).copied().unwrap_or(0);
                    world.check(*edits <= open, || format!("{user}: {edits} edits were made, {open} asked for"));
                }
                Self::keep_cart(accounts, after, user);
            }
            Change::OrderPlaced { order, emptied_cart_version, .. } => {
                let id = order.id;
                world.check(!accounts.never.contains(&id), || format!("order {id} is there, in spite of the answer"));
                world.check(order.expires_at == order.created_at + self.payment_timeout, || format!("{order:?}"));
                if let Some(version) = emptied_cart_version
                    && order.status == Status::AwaitingPayment
                {
                    Self::keep_cart(accounts, after, &order.user);
                    accounts.emptied.insert(id, *version);
                }
            }
            Change::OrderMoved { order, movement } => self.enter_move(accounts, order, *movement),
            Change::PaymentRefused { order } => {
                let refusable = match order.status {
                    Status::AwaitingPayment => order.payment_refused_at.is_some_and(|at| at >= order.expires_at),
                    status => status != Status::Payed,
                };
                world.check(refusable, || format!("a payment is refused in vain: {order:?}"));
            }
            Change::StockEdited { edit, .. } => {
                for row in edit.rows() {
                    let on_hand = accounts.on_hand.entry((row.sku.clone(), row.warehouse));
                    match edit {
                        StockEdit::Count(_) => drop(on_hand.insert_entry(row.units)),
                        StockEdit::Begin(_) => drop(on_hand.or_insert(row.units)),
                        StockEdit::Adjust { .. } => *on_hand.or_default() += row.units,
                    }
                }
            }
        }
    }

    fn keep_cart(accounts: &mut Accounts, after: &Tables, user: &UserId) {
        let cart = after.carts.get(user).cloned().unwrap_or_default();
        accounts.carts.insert((user.clone(), cart.version), cart);
    }

    fn enter_move(&self, accounts: &mut Accounts, order: &Order, movement: Movement) {
        let world = &self.world;
        if let Some(before) = accounts.ended.insert(order.id, order.status) {
            world.fail(format_args!("order {} becomes {:?} after {before:?}", order.id, order.status));
        }
        let now = world.clock.now();
        world.check(order.updated_at <= now, || format!("order {} ended in the future", order.id));
        let pays = order.status == Status::Payed;
        world.check(pays == (movement == Movement::WriteOff), || format!("{movement:?} of {order:?}"));
        let late = order.updated_at >= order.expires_at;
        match order.reason.as_deref() {
            Some(PAYMENT_TIMEOUT) => {
                world.check(late && !pays, || format!("before its deadline, a cancel: {order:?}"));
            }
            reason => {
                world.check(!late, || format!("at or after its deadline, a payment or a cancel on request: {order:?}"));
                world.check(pays || reason == Some(CANCELLED_ON_REQUEST), || format!("{order:?}"));
                let open = accounts.open_moves.get(&(order.id, pays)).copied().unwrap_or(0);
                world.check(open > 0, || format!("nobody awaits that order {} is {:?}", order.id, order.status));
            }
        }
        if pays {
            for item in &*order.items {
                for allocation in &item.allocations {
                    let place = (item.sku.clone(), allocation.warehouse);
                    *accounts.on_hand.entry(place).or_default() -= allocation.count.units();
                }
            }
        }
    }

    /// Somebody was told that this order was not made.
    pub fn never(&self, id: OrderId) {
        self.accounts().never.insert(id);
        let is_there = self.database.tables().orders.contains_key(&id);
        self.world.check(!is_there, || format!("\"nothing was changed\", but order {id} is there"));
    }

    pub fn asked(&self, request: &Request) -> Attempt {
        let open = self.count(request, |open| *open += 1).saturating_sub(1);
        let mut accounts = self.accounts();
        let cart = request.cart().and_then(|user| accounts.told.get(user)).copied().unwrap_or(0);
        let Some(keyed) = request.key() else { return Attempt { cart, ..Attempt::default() } };
        let acted = accounts.keys.contains_key(&keyed.key);
        let asked = accounts.asked_keys.entry(keyed.key.clone()).or_default();
        *asked += 1;
        Attempt { acted, open, asked: *asked, cart }
    }

    /// The answer as it leaves the program.
    pub fn answered(&self, request: &Request, attempt: Attempt, answer: &Result<Answer, Refusal>) {
        match answer {
            Ok(Answer::Cart(cart)) => self.shown(request, attempt, cart),
            Ok(Answer::Placed(placed)) => self.placed(placed),
            Ok(Answer::Moved(order)) => self.moved(request, order),
            Ok(Answer::Stock(_)) => {}
            Err(refusal) => self.refused(request, attempt, refusal),
        }
    }

    fn shown(&self, request: &Request, attempt: Attempt, cart: &Cart) {
        let (Request::Show(user) | Request::Edit { user, .. }) = request else { return };
        let mut accounts = self.accounts();
        let known = accounts.carts.get(&(user.clone(), cart.version));
        let holds = known.map_or(*cart == Cart::default(), |known| known == cart);
        self.world.check(holds, || format!("{user} is shown {cart:?}, but the cart was {known:?}"));
        // With a key it may be the answer of an earlier attempt.
        let fresh = cart.version >= attempt.cart || request.key().is_some();
        self.world.check(fresh, || format!("{user} is shown {cart:?}, but was told of {} before", attempt.cart));
        tell(&mut accounts, user, cart.version);
    }

    fn placed(&self, placed: &Placed) {
        let order = &placed.order;
        let stored = self.database.tables().orders.get(&order.id).cloned().map(Order::as_placed);
        let holds = stored.as_ref() == Some(&**order);
        self.world.check(holds, || format!("acknowledged {order:?}, but stored {stored:?}"));
        let fits = placed.shortages.is_empty() == (order.status == Status::AwaitingPayment);
        self.world.check(fits, || format!("{placed:?}"));
        let mut accounts = self.accounts();
        if let Some(version) = accounts.emptied.get(&order.id).copied() {
            tell(&mut accounts, &order.user, version);
        }
        accounts.acknowledged.push(Arc::clone(order));
    }

    fn moved(&self, request: &Request, order: &Arc<Order>) {
        let Request::Move { command, .. } = request else { return };
        let wanted = if *command == Command::Pay { Status::Payed } else { Status::Cancelled };
        let stored = self.database.tables().orders.get(&order.id).cloned();
        let holds = order.status == wanted && stored.as_ref().is_some_and(|stored| is_same(stored, order));
        self.world.check(holds, || format!("{command:?} was acknowledged with {order:?}, but stored is {stored:?}"));
        self.accounts().acknowledged.push(Arc::clone(order));
    }

    fn refused(&self, request: &Request, attempt: Attempt, refusal: &Refusal) {
        if refusal.is_doubt() {
            return;
        }
        if let (Request::Move { id, .. }, Refusal::Rejected(Rejection::WrongStatus(status))) = (request, refusal) {
            let stored = self.database.tables().orders.get(id).map(|order| order.status);
            self.world.check(stored == Some(*status), || format!("order {id} is said to be {status:?}, is {stored:?}"));
        }
        if let (Request::Move { id, command: Command::Pay }, Refusal::Rejected(rejection)) = (request, refusal) {
            let order = self.database.tables().orders.get(id).cloned();
            let told = order.as_ref().is_some_and(|order| order.payment_refused_at.is_some());
            self.world.check(told, || format!("a payment is refused ({rejection}), and nobody will tell: {order:?}"));
        }
        if let (Request::Move { id, .. }, Refusal::NotFound) = (request, refusal) {
            let is_there = self.database.tables().orders.contains_key(id);
            self.world.check(!is_there, || format!("order {id} is said not to be there"));
        }
        if let (Request::Purchase { user, .. }, Refusal::EmptyCart) = (request, refusal) {
            let accounts = self.accounts();
            let since = accounts.carts.range((user.clone(), attempt.cart)..=(user.clone(), i64::MAX));
            let was_empty = since.into_iter().any(|(_, cart)| cart.lines().is_empty()) || attempt.cart == 0;
            self.world
                .check(was_empty, || format!("{user} is told of an empty cart, which it was not since it was asked"));
        }
        let left = self.count(request, |open| *open -= 1);
        // What nobody waits for any more must not be there.
        let accounts = self.accounts();
        if let Some(keyed) = request.key() {
            // That this attempt came too early to see what another one did meanwhile is no lie; too late
            // it comes only where it failed.
            let others = attempt.open > 0 || accounts.asked_keys.get(&keyed.key) > Some(&attempt.asked);
            let in_vain = left > 0 && matches!(refusal, Refusal::Failed(_));
            let acted = accounts.keys.contains_key(&keyed.key) && !in_vain && (attempt.acted || !others);
            self.world.check(!acted, || format!("{request:?} was refused with {refusal:?}, but has acted"));
        }
        if let Request::Move { id, command } = request {
            let pays = *command == Command::Pay;
            let moved = accounts.ended.get(id).is_some_and(|status| pays == (*status == Status::Payed));
            let by_itself = !pays && self.database.tables().orders.get(id).is_some_and(is_expired);
            self.world.check(!moved || left > 0 || by_itself, || format!("{request:?}: {refusal:?}, but it was done"));
        }
    }

    /// Requests of this kind that may still act.
    fn count(&self, request: &Request, change: impl Fn(&mut u32)) -> u32 {
        let mut accounts = self.accounts();
        let open = if let Some(keyed) = request.key() {
            accounts.open_keys.entry(keyed.key.clone()).or_default()
        } else {
            match request {
                Request::Move { id, command } => {
                    accounts.open_moves.entry((*id, *command == Command::Pay)).or_default()
                }
                Request::Edit { user, .. } => accounts.open_edits.entry(user.clone()).or_default(),
                _ => return 0,
            }
        };
        change(open);
        *open
    }

    /// What was acknowledged is there, and whatever has ended has stayed so.
    pub fn close(&self) {
        let accounts = self.accounts();
        let tables = self.database.tables();
        for order in &accounts.acknowledged {
            let stored = tables.orders.get(&order.id);
            let kept = match order.status {
                Status::Payed | Status::Cancelled => stored.is_some_and(|stored| is_same(stored, order)),
                _ => stored.cloned().map(Order::as_placed).as_ref() == Some(&**order),
            };
            self.world.check(kept, || format!("acknowledged was {order:?}, stored is {stored:?}"));
        }
        for id in &accounts.never {
            self.world.check(!tables.orders.contains_key(id), || format!("order {id} is there after all"));
        }
        for difference in tables.differences() {
            self.world.fail(difference);
        }
    }
}

fn tell(accounts: &mut Accounts, user: &UserId, version: i64) {
    let told = accounts.told.entry(user.clone()).or_default();
    *told = version.max(*told);
}

/// That a payment was refused may be heard of later.
fn is_same(stored: &Order, told: &Order) -> bool {
    Order { payment_refused_at: None, ..stored.clone() } == Order { payment_refused_at: None, ..told.clone() }
}

fn is_expired(order: &Order) -> bool {
    order.reason.as_deref() == Some(PAYMENT_TIMEOUT)
}
