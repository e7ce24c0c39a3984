//! Plays a plan against a shop: so many workers, each with one request at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::plan::{Deed, Fate, Plan, Step};
use super::progress::Progress;
use super::recording::{Invoice, Recording};
use super::report::{EXAMPLES_MAX, Refusal, RefusalKind, Report};
use super::schedule::Schedule;
use super::shop::{Added, Purchased, Shop};
use super::timings::Request;
use crate::domain::{OrderId, UserId};

/// Plays every step and reports what came of it.
///
/// # Errors
/// Where a worker panics; refusals are part of the report.
pub async fn drive(recording: Recording, plan: Plan, shop: Shop, connections: usize) -> anyhow::Result<Report> {
    let mut report = Report::default();
    report.outcome.returns_not_replayed = plan.returns_unmatched;
    let stage = Arc::new(Stage {
        progress: Progress::of(plan.steps.len()),
        schedule: Schedule::of(plan.steps, recording.users.len()),
        placed: Mutex::default(),
        said: AtomicUsize::new(0),
        recording,
        shop,
    });
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn(work(Arc::clone(&stage)));
    }
    while let Some(ended) = workers.join_next().await {
        report.merge(ended.context("a worker of the replay ended early")?);
    }
    report.timings.elapsed = began.elapsed();
    Ok(report)
}

/// What the workers share.
struct Stage {
    recording: Recording,
    schedule: Schedule,
    shop: Shop,
    progress: Progress,
    /// Orders that were placed and will be cancelled, by their invoice's place.
    placed: Mutex<HashMap<usize, Placed>>,
    /// Refusals told on stderr.
    said: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Placed {
    order: OrderId,
    units: i64,
}

async fn work(stage: Arc<Stage>) -> Report {
    let mut worker = Worker { stage: &stage, report: Report::default() };
    while let Some(mut step) = stage.schedule.next() {
        loop {
            worker.play(step).await;
            stage.progress.step();
            match stage.schedule.ended(step.user) {
                Some(waiting) => step = waiting,
                None => break,
            }
        }
    }
    worker.report
}

/// One connection's share of the work.
struct Worker<'stage> {
    stage: &'stage Stage,
    report: Report,
}

/// How an order's way to the checkout ended.
enum Checkout {
    Placed(Placed),
    OutOfStock,
    NothingInStock,
}

impl<'stage> Worker<'stage> {
    async fn play(&mut self, step: Step) {
        let user = self.stage.recording.user(step.user);
        match step.deed {
            Deed::Order { order, fate } => self.order(user, order, fate).await,
            Deed::Cancel { order } => self.cancel(order).await,
        }
    }

    async fn order(&mut self, user: &UserId, place: usize, fate: Fate) {
        self.report.outcome.orders += 1;
        let invoice = &self.stage.recording.invoices[place];
        match self.check_out(user, invoice).await {
            Ok(Checkout::Placed(placed)) => self.settle(place, placed, fate).await,
            Ok(Checkout::NothingInStock) => self.report.outcome.not_placed += 1,
            Ok(Checkout::OutOfStock) => {
                self.report.outcome.failed += 1;
                self.empty_cart(user).await;
            }
            Err(refusal) => {
                self.refused(&refusal);
                self.report.outcome.refused += 1;
                self.empty_cart(user).await;
            }
        }
    }

    async fn check_out(&mut self, user: &UserId, invoice: &'stage Invoice) -> Result<Checkout, Refusal> {
        let shop = &self.stage.shop;
        let mut units = 0;
        for line in &invoice.lines {
            let sku = self.stage.recording.sku(line.sku);
            match shop.add(user, sku, line.count, &mut self.report.timings).await? {
                Added::InCart => {
                    self.report.outcome.lines_added += 1;
                    units += line.count.units();
                }
                Added::OutOfStock => self.report.outcome.lines_out_of_stock += 1,
            }
        }
        if units == 0 {
            return Ok(Checkout::NothingInStock);
        }
        shop.list(user, &mut self.report.timings).await?;
        let placed = match shop.purchase(user, &invoice.number, &mut self.report.timings).await? {
            Purchased::Placed { order, units } => Placed { order, units },
            Purchased::OutOfStock => return Ok(Checkout::OutOfStock),
        };
        if placed.units != units {
            self.refused(&other_units(placed, units));
        }
        Ok(Checkout::Placed(placed))
    }

    async fn settle(&mut self, place: usize, placed: Placed, fate: Fate) {
        self.report.outcome.units_placed += placed.units;
        match fate {
            Fate::Pay => match self.stage.shop.pay(placed.order, &mut self.report.timings).await {
                Ok(()) => {
                    self.report.outcome.payed += 1;
                    self.report.outcome.units_payed += placed.units;
                }
                Err(refusal) => self.left_awaiting_payment(placed, Some(&refusal)),
            },
            // Counted when its cancel has been played, perhaps by another worker.
            Fate::CancelLater => self.stage.put_placed(place, placed),
            Fate::LeaveUnpaid => self.left_awaiting_payment(placed, None),
        }
    }

    async fn cancel(&mut self, place: usize) {
        let Some(placed) = self.stage.take_placed(place) else {
            self.report.outcome.returns_not_replayed += 1;
            return;
        };
        match self.stage.shop.cancel(placed.order, &mut self.report.timings).await {
            Ok(()) => {
                self.report.outcome.cancelled += 1;
                self.report.outcome.units_cancelled += placed.units;
            }
            Err(refusal) => self.left_awaiting_payment(placed, Some(&refusal)),
        }
    }

    fn left_awaiting_payment(&mut self, placed: Placed, refusal: Option<&Refusal>) {
        self.report.outcome.awaiting_payment += 1;
        self.report.outcome.units_awaiting_payment += placed.units;
        if let Some(refusal) = refusal {
            self.refused(refusal);
        }
    }

    /// The user's next order starts with a clean cart.
    async fn empty_cart(&mut self, user: &UserId) {
        if let Err(refusal) = self.stage.shop.empty(user, &mut self.report.timings).await {
            self.refused(&refusal);
        }
    }

    fn refused(&mut self, refusal: &Refusal) {
        if self.stage.said.fetch_add(1, Ordering::Relaxed) < EXAMPLES_MAX {
            self.stage.progress.say(&format!("refused: {refusal}"));
        }
        self.report.refuse(refusal);
    }
}

/// Each in a function of its own, so that the lock is never held over a request.
impl Stage {
    fn put_placed(&self, place: usize, placed: Placed) {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).insert(place, placed);
    }

    fn take_placed(&self, place: usize) -> Option<Placed> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).remove(&place)
    }
}

/// The order is there, but holds something else than what was put into the cart.
fn other_units(placed: Placed, units: i64) -> Refusal {
    let kind = RefusalKind { request: Request::Purchase, status: Some(201), code: "other_units".into() };
    let Placed { order, units: held } = placed;
    Refusal { kind, detail: format!("order {order} holds {held} units where {units} were put into the cart") }
}

#[cfg(test)]
mod tests;
