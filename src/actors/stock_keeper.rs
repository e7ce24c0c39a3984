//! The one who knows every SKU's shelves and serialises reservations.
//!
//! A whole order is reserved by one message, all lines or none: no partial holds, no lock order,
//! nobody refused because of a hold that is about to be released. What is reserved goes straight
//! to the Journal, so that the database sees reservations in the order in which they were decided.
//! Its numbers are the database's plus what is under way to it; where another process took
//! something, the database refuses, and the shelves are read again. Holds no SQL and never waits.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use foldhash::{HashMap, HashMapExt, HashSet};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::cart::Line;
use crate::domain::order::{Order, Status};
use crate::domain::stock::{self, Allocation, Shelf, Shortage};
use crate::domain::{Sku, WarehouseId};
use crate::store::{Change, Keyed, Refused, ShelfDelta};

use super::journal::{self, Journal};
use super::{Answer, COMMANDS_UNDER_WAY_MAX, Failure, NotWritten};

/// What another process may have changed is believed where the shelves were read from the database this recently: a
/// shortage, for goods may have been put there; for a cart that nothing is reserved for, plenty too while others sell.
const SHELVES_AGE_MS_MAX: u64 = 100;

pub struct StockKeeper {
    shelves: HashMap<Sku, Shelves>,
    journal: Addr<Journal>,
    /// Questions about SKUs that are being read again, and when they came.
    undecided: Vec<(Instant, Question)>,
    /// Dropped with the StockKeeper, however it ends: then the process must end too.
    _lifeline: oneshot::Sender<()>,
}

/// One SKU's shelves, in warehouse order.
#[derive(Default)]
struct Shelves {
    shelves: Vec<Shelf>,
    /// Per shelf: reserved here, not yet settled by the Journal.
    under_way: Vec<i64>,
    read_at: Option<Instant>,
}

/// Reserves a drafted order, or fails it, and hands it to the Journal.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Place {
    pub draft: Arc<Order>,
    /// The version of the user's cart after it was emptied for this order.
    pub emptied_cart_version: Option<i64>,
    pub key: Option<Keyed>,
    pub answer: Answer,
}

/// Hands a cart's change to the Journal, where the stock covers this line of it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EditCart {
    pub line: Line,
    /// No other process takes from the shelves.
    pub writes_alone: bool,
    pub change: Change,
    pub answer: Answer,
}

/// What became of the changes of a batch, and shelves as the database now has them.
#[derive(Message, Default)]
#[rtype(result = "()")]
pub struct Settled {
    /// Reservations, and whether they were written.
    pub reserved: Vec<(ShelfDelta, bool)>,
    /// What was written off or released.
    pub moved: Vec<ShelfDelta>,
    /// SKUs that were read again, and when that began.
    pub refreshed: Option<(Instant, Vec<Sku>)>,
    /// Some could not be read again.
    pub unread: bool,
    pub shelves: Vec<(Sku, Shelf)>,
}

enum Question {
    Place(Place),
    EditCart(EditCart),
}

impl StockKeeper {
    /// Knows these shelves to begin with. `lifeline` is dropped when the StockKeeper ends.
    #[must_use]
    pub fn new(shelves: Vec<(Sku, Shelf)>, journal: Addr<Journal>, lifeline: oneshot::Sender<()>) -> Self {
        let mut keeper = Self { shelves: HashMap::new(), journal, undecided: Vec::new(), _lifeline: lifeline };
        for (sku, shelf) in shelves {
            keeper.shelves.entry(sku).or_default().see(shelf);
        }
        keeper
    }

    fn place(&mut self, place: Place, asked_at: Instant) {
        let mut allocations = Vec::with_capacity(place.draft.items.len());
        let mut shortages = Vec::new();
        for item in &*place.draft.items {
            let shelves = self.shelves_of(&item.sku);
            match stock::allocate(shelves, item.count) {
                Some(allocated) => allocations.push(allocated),
                None => shortages.push(Shortage {
                    sku: item.sku.clone(),
                    requested: item.count.units(),
                    available: stock::available(shelves),
                }),
            }
        }
        if shortages.is_empty() {
            self.reserve(place, allocations);
        } else if !self.read_again(shortages.iter().map(|shortage| &shortage.sku), asked_at) {
            self.fail(place, shortages);
        } else {
            self.undecided.push((asked_at, Question::Place(place)));
        }
    }

    fn reserve(&mut self, place: Place, allocations: Vec<Vec<Allocation>>) {
        let Place { draft: mut order, emptied_cart_version, key, answer } = place;
        let placed = Arc::make_mut(&mut order);
        for (item, allocations) in Arc::make_mut(&mut placed.items).iter_mut().zip(allocations) {
            if let Some(shelves) = self.shelves.get_mut(&item.sku) {
                shelves.reserve(&allocations);
            }
            item.allocations = allocations;
        }
        placed.reserve();
        let change = Change::OrderPlaced { order, shortages: Vec::new(), emptied_cart_version, key };
        self.hand_over(change, answer);
    }

    fn fail(&mut self, place: Place, shortages: Vec<Shortage>) {
        let Place { draft: mut order, key, answer, .. } = place;
        Arc::make_mut(&mut order).fail(&shortages);
        let change = Change::OrderPlaced { order, shortages, emptied_cart_version: None, key };
        self.hand_over(change, answer);
    }

    fn hand_over(&mut self, change: Change, answer: Answer) {
        let Err(refused) = self.journal.try_send(journal::Write { change, answer }) else { return };
        let (SendError::Full(write) | SendError::Closed(write)) = refused;
        let mut settled = Settled::default();
        settled.add(&write.change, false);
        self.settle(settled);
        // Whoever asked may have stopped waiting.
        let _ = write.answer.send(Err(Failure::Overloaded.into()));
    }

    fn edit_cart(&mut self, edit: EditCart, asked_at: Instant) {
        let available = stock::available(self.shelves_of(&edit.line.sku));
        let is_covered = available >= edit.line.count.units();
        if !(is_covered && edit.writes_alone) && self.read_again([&edit.line.sku], asked_at) {
            self.undecided.push((asked_at, Question::EditCart(edit)));
        } else if is_covered {
            self.hand_over(edit.change, edit.answer);
        } else {
            let refused = Refused::NotCovered { available };
            let _ = edit.answer.send(Err(NotWritten::Refused { refused, change: Box::new(edit.change) }));
        }
    }

    /// Whether these SKUs' shelves will be read again, because what is known of them was too old when the question
    /// came.
    fn read_again<'a>(&self, skus: impl IntoIterator<Item = &'a Sku>, asked_at: Instant) -> bool {
        let age_max = Duration::from_millis(SHELVES_AGE_MS_MAX);
        let old = |sku: &&Sku| {
            let read_at = self.shelves.get(*sku).and_then(|shelves| shelves.read_at);
            read_at.is_none_or(|read_at| read_at + age_max < asked_at)
        };
        let old: Vec<Sku> = skus.into_iter().filter(old).cloned().collect();
        !old.is_empty() && self.journal.try_send(journal::Refresh(old)).is_ok()
    }

    fn settle(&mut self, settled: Settled) {
        for (delta, written) in settled.reserved {
            if let Some((shelf, under_way)) = self.shelf_mut(&delta) {
                *under_way -= delta.reserved;
                if !written {
                    shelf.reserved -= delta.reserved;
                }
            }
        }
        for delta in settled.moved {
            if let Some((shelf, _)) = self.shelf_mut(&delta) {
                shelf.on_hand += delta.on_hand;
                shelf.reserved += delta.reserved;
            }
        }
        if let Some((read_at, skus)) = &settled.refreshed {
            let there: HashSet<(&Sku, WarehouseId)> =
                settled.shelves.iter().map(|(sku, shelf)| (sku, shelf.warehouse)).collect();
            for sku in skus {
                let shelves = self.shelves.entry(sku.clone()).or_default();
                shelves.forget_where(|warehouse| !there.contains(&(sku, warehouse)));
                shelves.read_at = Some(*read_at);
            }
        }
        for (sku, shelf) in settled.shelves {
            self.shelves.entry(sku).or_default().see(shelf);
        }
        if settled.refreshed.is_none() && !settled.unread {
            return;
        }
        for (asked_at, question) in std::mem::take(&mut self.undecided) {
            match question {
                Question::Place(Place { answer, .. }) | Question::EditCart(EditCart { answer, .. })
                    if settled.unread =>
                {
                    // Whoever asked may have stopped waiting.
                    let _ = answer.send(Err(Failure::Unavailable.into()));
                }
                Question::Place(place) => self.place(place, asked_at),
                Question::EditCart(edit) => self.edit_cart(edit, asked_at),
            }
        }
    }

    fn shelves_of(&self, sku: &Sku) -> &[Shelf] {
        self.shelves.get(sku).map_or(&[], |shelves| &shelves.shelves)
    }

    fn shelf_mut(&mut self, delta: &ShelfDelta) -> Option<(&mut Shelf, &mut i64)> {
        let shelves = self.shelves.get_mut(&delta.sku)?;
        let at = shelves.shelves.iter().position(|shelf| shelf.warehouse == delta.warehouse)?;
        Some((&mut shelves.shelves[at], &mut shelves.under_way[at]))
    }
}

impl Shelves {
    /// Forgets shelves that the database no longer has, where nothing is under way to them.
    fn forget_where(&mut self, is_gone: impl Fn(WarehouseId) -> bool) {
        for at in (0..self.shelves.len()).rev() {
            if self.under_way[at] == 0 && is_gone(self.shelves[at].warehouse) {
                self.shelves.remove(at);
                self.under_way.remove(at);
            }
        }
    }

    /// Takes over what the database has; what is under way to it comes on top.
    fn see(&mut self, shelf: Shelf) {
        match self.shelves.binary_search_by_key(&shelf.warehouse, |known| known.warehouse) {
            Ok(at) => self.shelves[at] = Shelf { reserved: shelf.reserved + self.under_way[at], ..shelf },
            Err(at) => {
                self.shelves.insert(at, shelf);
                self.under_way.insert(at, 0);
            }
        }
    }

    fn reserve(&mut self, allocations: &[Allocation]) {
        for allocation in allocations {
            let at = self.shelves.iter().position(|shelf| shelf.warehouse == allocation.warehouse);
            if let Some(at) = at {
                self.shelves[at].reserved += allocation.count.units();
                self.under_way[at] += allocation.count.units();
            }
        }
    }
}

impl Settled {
    /// Adds what a change means for the shelves, now that it was written or surely was not.
    pub fn add(&mut self, change: &Change, written: bool) {
        match change {
            Change::OrderPlaced { order, .. } if order.status == Status::AwaitingPayment => {
                self.reserved.extend(change.shelf_deltas().map(|delta| (delta, written)));
            }
            Change::OrderMoved { .. } if written => self.moved.extend(change.shelf_deltas()),
            _ => {}
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { reserved, moved, refreshed, unread, shelves } = self;
        reserved.is_empty() && moved.is_empty() && refreshed.is_none() && !unread && shelves.is_empty()
    }
}

impl Actor for StockKeeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(2 * COMMANDS_UNDER_WAY_MAX);
        let attach = journal::Attach(context.address().recipient());
        if self.journal.try_send(attach).is_err() {
            context.stop();
        }
    }
}

impl Handler<Place> for StockKeeper {
    type Result = ();

    fn handle(&mut self, place: Place, _: &mut Self::Context) {
        self.place(place, Instant::now());
    }
}

impl Handler<EditCart> for StockKeeper {
    type Result = ();

    fn handle(&mut self, edit: EditCart, _: &mut Self::Context) {
        self.edit_cart(edit, Instant::now());
    }
}

impl Handler<Settled> for StockKeeper {
    type Result = ();

    fn handle(&mut self, settled: Settled, _: &mut Self::Context) {
        self.settle(settled);
    }
}
