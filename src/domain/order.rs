//! An order's life: `new → awaiting_payment | failed`, `awaiting_payment → payed | cancelled`.
//!
//! `Order::draft` makes a `new` order; `reserve` or `fail` places it. From then on `pay`,
//! `cancel` and `expire` decide a [`Transition`], and `apply` carries it out once it is durable.
//! The statuses `new` and `awaiting_payment` (or `failed`) both stand in the order's history:
//! versions 1 and 2.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::money::TotalTooLarge;
use super::stock::{Allocation, Shortage};
use super::{Count, Money, OrderId, Sku, Time, UserId};

/// The reason of an order that was cancelled because nobody paid for it in time.
pub const PAYMENT_TIMEOUT: &str = "payment_timeout";
/// The reason of an order that was cancelled on request.
pub const CANCELLED_ON_REQUEST: &str = "cancelled_on_request";
/// How many shortages a failed order's reason names; the others are counted.
const SHORTAGES_IN_REASON_MAX: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    New,
    AwaitingPayment,
    Failed,
    Payed,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub user: UserId,
    pub status: Status,
    /// One per SKU, in SKU order.
    pub items: Arc<[Item]>,
    pub total: Money,
    pub created_at: Time,
    pub updated_at: Time,
    /// Unpaid at this moment, the order is cancelled.
    pub expires_at: Time,
    /// How many statuses it has had.
    pub version: i32,
    pub reason: Option<String>,
    /// When it was first paid for in vain.
    pub payment_refused_at: Option<Time>,
}

/// A line of an order, with name and price as sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub sku: Sku,
    pub name: Arc<str>,
    pub price: Money,
    pub count: Count,
    /// Where the units come from; empty unless stock was reserved.
    pub allocations: Vec<Allocation>,
}

/// One step of an order's life: the event that is stored with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub to: Status,
    /// The order's version after it.
    pub version: i32,
    pub at: Time,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The order is in a status that the command does not start from.
    #[error("the order is {}", .0.as_str())]
    WrongStatus(Status),
    /// A payment at or after the deadline, which the cancel may not have reached yet.
    #[error("the time to pay for the order is over")]
    TooLate,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::New, Self::AwaitingPayment, Self::Failed, Self::Payed, Self::Cancelled];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Failed => "failed",
            Self::Payed => "payed",
            Self::Cancelled => "cancelled",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether an order may go from this status to the next.
    #[must_use]
    pub fn leads_to(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::New, Self::AwaitingPayment | Self::Failed) | (Self::AwaitingPayment, Self::Payed | Self::Cancelled)
        )
    }
}

impl Order {
    /// A `new` order at version 1. `items` hold one entry per SKU.
    ///
    /// # Errors
    /// [`TotalTooLarge`] where the sum of the prices leaves 64 bits.
    pub fn draft(
        id: OrderId,
        user: UserId,
        mut items: Vec<Item>,
        created_at: Time,
        expires_at: Time,
    ) -> Result<Self, TotalTooLarge> {
        items.sort_unstable_by(|one, other| one.sku.cmp(&other.sku));
        let total = Money::total(items.iter().map(|item| (item.price, item.count)))?;
        let updated_at = created_at;
        Ok(Self {
            id,
            user,
            status: Status::New,
            items: items.into(),
            total,
            created_at,
            updated_at,
            expires_at,
            version: 1,
            reason: None,
            payment_refused_at: None,
        })
    }

    /// The stock of every item is reserved: the order awaits payment.
    pub fn reserve(&mut self) {
        self.apply(&self.transition(Status::AwaitingPayment, self.created_at, None));
    }

    /// The stock does not cover the order.
    pub fn fail(&mut self, shortages: &[Shortage]) {
        let reason = shortage_reason(shortages);
        self.apply(&self.transition(Status::Failed, self.created_at, Some(&reason)));
    }

    /// Back to `new`: what was decided could not be kept.
    pub fn redraft(&mut self) {
        (self.status, self.version, self.reason) = (Status::New, 1, None);
        Arc::make_mut(&mut self.items).iter_mut().for_each(|item| item.allocations.clear());
    }

    /// `None` where it is payed already.
    ///
    /// # Errors
    /// [`Rejection::TooLate`] at or after `expires_at`, or once another payment was refused for that;
    /// [`Rejection::WrongStatus`] for a failed or cancelled order.
    pub fn pay(&self, now: Time) -> Result<Option<Transition>, Rejection> {
        match self.status {
            Status::Payed => Ok(None),
            Status::AwaitingPayment if now < self.expires_at && self.payment_refused_at.is_none() => {
                Ok(Some(self.transition(Status::Payed, now, None)))
            }
            Status::AwaitingPayment => Err(Rejection::TooLate),
            status => Err(Rejection::WrongStatus(status)),
        }
    }

    /// `None` where it is cancelled already. Whoever asks at or after its deadline is late: it has expired.
    ///
    /// # Errors
    /// [`Rejection::WrongStatus`] for a failed or payed order.
    pub fn cancel(&self, now: Time) -> Result<Option<Transition>, Rejection> {
        match self.status {
            Status::Cancelled => Ok(None),
            Status::AwaitingPayment => {
                let on_request = || self.transition(Status::Cancelled, now, Some(CANCELLED_ON_REQUEST));
                Ok(Some(self.expire(now).unwrap_or_else(on_request)))
            }
            status => Err(Rejection::WrongStatus(status)),
        }
    }

    /// The cancel that is due where the order is still unpaid at its deadline.
    #[must_use]
    pub fn expire(&self, now: Time) -> Option<Transition> {
        let due = self.status == Status::AwaitingPayment && now >= self.expires_at;
        due.then(|| self.transition(Status::Cancelled, now, Some(PAYMENT_TIMEOUT)))
    }

    /// A payment was refused. Only the first one is kept: nobody is told twice.
    pub fn refuse_payment(&mut self, now: Time) {
        self.payment_refused_at.get_or_insert(now.max(self.updated_at));
    }

    pub fn apply(&mut self, transition: &Transition) {
        debug_assert!(self.status.leads_to(transition.to) && transition.version == self.version + 1);
        self.status = transition.to;
        self.version = transition.version;
        self.updated_at = transition.at;
        self.reason.clone_from(&transition.reason);
    }

    /// The order as its buyer was first told of it, whatever became of it since.
    #[must_use]
    pub fn as_placed(mut self) -> Self {
        if matches!(self.status, Status::Payed | Status::Cancelled) {
            self.status = Status::AwaitingPayment;
            self.version = 2;
            self.updated_at = self.created_at;
            self.reason = None;
        }
        self.payment_refused_at = None;
        self
    }

    /// Time that went backwards between two steps does not go into the history.
    fn transition(&self, to: Status, now: Time, reason: Option<&str>) -> Transition {
        let at = now.max(self.updated_at);
        Transition { to, version: self.version + 1, at, reason: reason.map(str::to_owned) }
    }
}

fn shortage_reason(shortages: &[Shortage]) -> String {
    let mut reason = String::from("out_of_stock: ");
    for (at, shortage) in shortages.iter().take(SHORTAGES_IN_REASON_MAX).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let Shortage { sku, requested, available } = shortage;
        // Writing into a String cannot fail.
        let _ = write!(reason, "{comma}{sku} (requested {requested}, available {available})");
    }
    if shortages.len() > SHORTAGES_IN_REASON_MAX {
        let _ = write!(reason, " and {} more", shortages.len() - SHORTAGES_IN_REASON_MAX);
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    fn order() -> Order {
        let created_at = DateTime::UNIX_EPOCH;
        let item = Item {
            sku: Sku::parse("A").expect("a valid SKU"),
            name: "Lamp".into(),
            price: Money(5),
            count: Count::new(2).expect("a valid count"),
            allocations: vec![],
        };
        let user = UserId::parse("ann").expect("a valid user");
        let expires_at = created_at + TimeDelta::minutes(10);
        let mut order = Order::draft(OrderId(1), user, vec![item], created_at, expires_at).expect("a small total");
        order.reserve();
        order
    }

    #[test]
    fn payed_up_to_the_deadline_and_not_at_it() {
        let order = order();
        let last = order.expires_at - TimeDelta::microseconds(1);
        let payed = order.pay(last).expect("in time").expect("a change");
        assert_eq!((payed.to, payed.version), (Status::Payed, 3));
        assert_eq!(order.pay(order.expires_at), Err(Rejection::TooLate));
        let mut refused = order.clone();
        refused.refuse_payment(order.expires_at);
        assert_eq!(refused.pay(last), Err(Rejection::TooLate), "its user was told that the money goes back");
        assert_eq!(order.expire(last), None);
        let expired = order.expire(order.expires_at).expect("due");
        assert_eq!((expired.to, expired.reason.as_deref()), (Status::Cancelled, Some(PAYMENT_TIMEOUT)));
    }

    #[test]
    fn paying_or_cancelling_twice_changes_nothing_more() {
        let now = order().created_at;
        let mut payed = order();
        payed.apply(&payed.pay(now).expect("allowed").expect("a change"));
        assert_eq!(payed.pay(now), Ok(None));
        assert_eq!(payed.cancel(now), Err(Rejection::WrongStatus(Status::Payed)));
        assert_eq!(payed.expire(payed.expires_at), None);

        let mut cancelled = order();
        cancelled.apply(&cancelled.cancel(now).expect("allowed").expect("a change"));
        assert_eq!(cancelled.cancel(now), Ok(None));
        assert_eq!(cancelled.pay(now), Err(Rejection::WrongStatus(Status::Cancelled)));
        assert_eq!(cancelled.clone().as_placed(), order());

        let due = order();
        let cancel = due.cancel(due.expires_at).expect("allowed").expect("a change");
        assert_eq!(cancel.reason.as_deref(), Some(PAYMENT_TIMEOUT), "whoever asks then asks too late");
    }

    #[test]
    fn a_failed_order_names_what_was_short_and_ends_there() {
        let mut failed = order();
        (failed.status, failed.version) = (Status::New, 1);
        let sku = Sku::parse("A").expect("a valid SKU");
        failed.fail(&vec![Shortage { sku, requested: 2, available: 1 }; 21]);
        let reason = failed.reason.clone().expect("a reason");
        assert!(reason.starts_with("out_of_stock: A (requested 2, available 1), A"), "{reason}");
        assert!(reason.ends_with(" and 1 more"), "{reason}");
        assert_eq!(failed.pay(failed.created_at), Err(Rejection::WrongStatus(Status::Failed)));
        assert_eq!(failed.cancel(failed.created_at), Err(Rejection::WrongStatus(Status::Failed)));
    }
}
