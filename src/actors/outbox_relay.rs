//! Hands committed events to the outlet, in their order, and moves the writer's cursor after them.
//!
//! Woken by each commit, never by polling. What the outlet has taken is kept with the journal's next
//! batch; after a crash in between it is offered again, and whoever consumes events knows their ids.
//! The events that a dead writer left are handed on, too. An outlet that fails slows nobody: events
//! wait in the database, and are offered again with rising pauses.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::domain::order::Order;
use crate::domain::{EventId, OrderEvent, Step};
use crate::notifications::{Outlet, OutletError};
use crate::store::Store;

use super::journal::{self, Journal};

mod window;
use window::{RelayError, Relayed, Taken, hand_over, hand_over_abandoned, hand_over_fresh};

/// How many committed events are kept in memory; past it they are read again when their turn comes.
const FRESH_EVENTS_MAX: usize = 20_000;
/// So are those of orders with more lines than this: few orders have as many.
const FRESH_ITEMS_MAX: usize = 32;
/// How many events are handed over at once: the first after a failure, for the outlet may go on to
/// refuse them, and twice as many after each success up to the second.
const WINDOW_EVENTS: (u32, u32) = (50, 2_000);
/// Pause after a failure, rising from the first to the second.
const RETRY_PAUSE_MS: (u64, u64) = (100, 5_000);
/// How often it is looked for what dead writers left.
const ADOPT_MS: u64 = 5_000;

pub struct OutboxRelay {
    /// `None` while events are on their way.
    outlet: Option<Box<dyn Outlet>>,
    resources: Resources,
    journal: Addr<Journal>,
    /// The writer's last event that the outlet has taken.
    published: EventId,
    /// The writer's last event that is committed.
    committed: i64,
    /// The last of the committed events, without a gap, that were not handed over yet: they need not
    /// be read again.
    fresh: VecDeque<OrderEvent>,
    window_events: u32,
    pause_ms: u64,
    /// Waits for the end of a pause.
    resting: bool,
    /// It is to be looked for what dead writers left, as soon as the outlet is free.
    adopt_due: bool,
    last_turn: Turn,
    closing: Option<oneshot::Sender<()>>,
    backlog: Arc<Backlog>,
    /// Dropped with the relay, however it ends: then the process must end too, or events would wait for
    /// its next start.
    _lifeline: oneshot::Sender<()>,
}

/// What events are read with.
pub struct Resources {
    pub store: Arc<dyn Store>,
    /// The runtime on which the store's reading connections and the outlet's sockets live.
    pub io: Handle,
    pub clock: Arc<dyn Clock>,
}

/// How far the outlet is behind, for whoever watches.
#[derive(Debug, Default)]
pub struct Backlog {
    pub events: AtomicI64,
    /// The broker does not take events.
    pub failing: AtomicBool,
}

/// The writer's events up to this one are committed; the last of them are those of these steps, as
/// far as they are known.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Committed {
    pub last: i64,
    pub steps: Vec<(Arc<Order>, Step)>,
}

/// Hands over what is committed as far as it can be, closes the outlet and ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close(pub oneshot::Sender<()>);

/// Whose events were handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Own,
    /// None: the next own event waits for what another writer has to tell of the same order.
    Held,
    /// The dead writers'.
    Adopted,
}

impl OutboxRelay {
    /// Goes on after the last event of this writer that was published. `lifeline` is dropped when the
    /// relay ends.
    #[must_use]
    pub fn new(
        outlet: Box<dyn Outlet>,
        resources: Resources,
        journal: Addr<Journal>,
        published: EventId,
        backlog: Arc<Backlog>,
        lifeline: oneshot::Sender<()>,
    ) -> Self {
        Self {
            outlet: Some(outlet),
            resources,
            journal,
            published,
            committed: published.seq,
            fresh: VecDeque::new(),
            window_events: WINDOW_EVENTS.1,
            pause_ms: RETRY_PAUSE_MS.0,
            resting: false,
            adopt_due: false,
            last_turn: Turn::Own,
            closing: None,
            backlog,
            _lifeline: lifeline,
        }
    }

    fn pump(&mut self, context: &mut Context<Self>) {
        self.backlog.events.store(self.committed - self.published.seq, Ordering::Relaxed);
        let own_wait = self.committed > self.published.seq;
        if self.adopt_due && !self.resting && self.closing.is_none() && !(own_wait && self.last_turn == Turn::Adopted) {
            return self.adopt_now(context);
        }
        if self.resting || !own_wait {
            return self.close_if_asked(context);
        }
        let Some(outlet) = self.outlet.take() else { return };
        while self.fresh.front().is_some_and(|event| event.id.seq <= self.published.seq) {
            self.fresh.pop_front();
        }
        if self.fresh.front().is_some_and(|event| event.id.seq == self.published.seq + 1) {
            let window = self.fresh.len().min(self.window_events as usize);
            let events = self.fresh.drain(..window).collect();
            self.relay(hand_over_fresh(self.resources.store(), outlet, self.published, events), context);
        } else {
            self.relay(hand_over(self.resources.store(), outlet, self.published, self.window_events), context);
        }
    }

    /// What is not kept is read from the database when its turn comes.
    fn keep_fresh(&mut self, last: i64, steps: &[(Arc<Order>, Step)]) {
        let count: i64 = steps.iter().map(|(_, step)| OrderEvent::count_of(*step)).sum();
        let mut next = EventId { seq: last - count + 1, ..self.published };
        let follows = self.fresh.back().is_none_or(|kept| kept.id.seq + 1 == next.seq);
        let are_large = steps.iter().any(|(order, _)| order.items.len() > FRESH_ITEMS_MAX);
        if !follows || are_large || self.fresh.len() > FRESH_EVENTS_MAX {
            return;
        }
        for (order, step) in steps {
            self.fresh.extend(OrderEvent::of_step(order, *step, next));
            next.seq += OrderEvent::count_of(*step);
        }
    }

    /// Sockets live on the I/O runtime.
    fn relay(&mut self, relayed: impl Future<Output = Relayed> + Send + 'static, context: &mut Context<Self>) {
        let relayed = self.resources.io.spawn(relayed).into_actor(self);
        context.spawn(relayed.map(|relayed, relay, context| match relayed {
            Ok(Relayed { outlet, result }) => {
                relay.outlet = Some(outlet);
                relay.go_on(result, context);
            }
            Err(error) => {
                tracing::error!(%error, "the outbox relay was torn off; it ends");
                context.stop();
            }
        }));
    }

    fn go_on(&mut self, result: Result<Taken, RelayError>, context: &mut Context<Self>) {
        let last_turn = std::mem::replace(&mut self.last_turn, Turn::Own);
        match result {
            Ok(Taken::Adopted { some }) => {
                self.last_turn = Turn::Adopted;
                self.adopt_due |= some;
                if some {
                    self.succeed();
                } else if last_turn == Turn::Held {
                    self.rest(context);
                } else if self.committed == self.published.seq {
                    // Another one has handed over what failed here.
                    self.backlog.failing.store(false, Ordering::Relaxed);
                }
            }
            Ok(Taken::Own(taken)) => {
                self.published = taken;
                // Where the mailbox is full the next one comes in its place.
                let _ = self.journal.try_send(journal::Published(taken.seq));
                self.succeed();
            }
            Err(error) => {
                // Some of what comes next may have been taken.
                self.fresh.clear();
                let events = self.committed - self.published.seq;
                if let RelayError::Held(_) = error
                    && self.closing.is_none()
                {
                    tracing::debug!(%error, backlog.events = events, "events wait");
                    // A living writer tells its events itself, a dead one's are told here.
                    (self.last_turn, self.adopt_due) = (Turn::Held, true);
                } else {
                    tracing::warn!(%error, backlog.events = events, "events cannot be handed over");
                    // Whether the database is there is known from the journal.
                    let is_the_broker = matches!(error, RelayError::Outlet(OutletError::Broker(_)));
                    self.backlog.failing.store(is_the_broker, Ordering::Relaxed);
                    self.window_events = WINDOW_EVENTS.0;
                    self.rest(context);
                }
            }
        }
        self.pump(context);
    }

    /// The outlet has taken a window: the next may be larger.
    fn succeed(&mut self) {
        self.pause_ms = RETRY_PAUSE_MS.0;
        self.window_events = WINDOW_EVENTS.1.min(2 * self.window_events);
        self.backlog.failing.store(false, Ordering::Relaxed);
    }

    fn rest(&mut self, context: &mut Context<Self>) {
        self.resting = true;
        context.run_later(Duration::from_millis(self.pause_ms), |relay, context| {
            relay.resting = false;
            relay.pump(context);
        });
        self.pause_ms = RETRY_PAUSE_MS.1.min(2 * self.pause_ms);
    }

    fn adopt(&mut self, context: &mut Context<Self>) {
        self.adopt_due = true;
        self.pump(context);
    }

    fn adopt_now(&mut self, context: &mut Context<Self>) {
        let Some(outlet) = self.outlet.take() else { return };
        self.adopt_due = false;
        let (now, own, window) = (self.resources.clock.now(), self.published.writer, self.window_events);
        self.relay(hand_over_abandoned(self.resources.store(), outlet, now, own, window), context);
    }

    fn close_if_asked(&mut self, context: &mut Context<Self>) {
        let Some(closed) = self.closing.take() else { return };
        let Some(mut outlet) = self.outlet.take() else {
            self.closing = Some(closed);
            return;
        };
        let close = self.resources.io.spawn(async move { outlet.close().await }).into_actor(self);
        context.spawn(close.map(|_, _, context| {
            // Whoever asked may have stopped waiting.
            let _ = closed.send(());
            context.stop();
        }));
    }
}

impl Resources {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
}

impl Actor for OutboxRelay {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let attach = journal::Inform(context.address().recipient());
        if self.journal.try_send(attach).is_err() {
            context.stop();
        }
        context.run_interval(Duration::from_millis(ADOPT_MS), Self::adopt);
    }
}

impl Handler<Committed> for OutboxRelay {
    type Result = ();

    fn handle(&mut self, Committed { last, steps }: Committed, context: &mut Context<Self>) {
        if last > self.committed {
            self.keep_fresh(last, &steps);
            self.committed = last;
        }
        self.pump(context);
    }
}

impl Handler<Close> for OutboxRelay {
    type Result = ();

    fn handle(&mut self, Close(closed): Close, context: &mut Self::Context) {
        // What waits for the end of a pause waits for the next start instead.
        self.closing = Some(closed);
        self.pump(context);
    }
}
