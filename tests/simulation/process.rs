//! A program under simulation: the real actors, wired as `application.rs` wires them, on lanes
//! instead of threads. It can be killed, halted, or told to stop.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor as _;
use async_trait::async_trait;
use futures_util::future::select;
use loms::actors::directory::Directory;
use loms::actors::journal::{self, Health, Journal};
use loms::actors::lease;
use loms::actors::order_ids::OrderIds;
use loms::actors::outbox_relay::{self, Backlog, OutboxRelay};
use loms::actors::recent_orders::RecentOrders;
use loms::actors::stock_keeper::StockKeeper;
use loms::actors::{Core, deadlines};
use loms::clock::Clock;
use loms::domain::Time;
use loms::store::{Change, Outbox as _, Store, StoreError, Verdict, in_time};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::broker::{Broker, Exchange};
use crate::front::UnderWay;
use crate::ledger::Ledger;
use crate::memory::{Call, Database, MemoryStore, Network, Passage, Tables};
use crate::scheduler::{Lane, Scheduler};
use crate::world::World;

/// Threads that serve requests.
const WORKERS: usize = 2;
/// So few that most orders give way to others.
const RECENT_ORDERS_MAX: usize = 3;
/// As in `application.rs`.
const DRAIN_MS_MAX: u64 = 15_000;
const CLOSE_MS_MAX: u64 = 10_000;

/// What all processes of a simulation stand on.
pub struct Ground {
    pub world: Arc<World>,
    pub scheduler: Scheduler,
    pub database: Arc<Database>,
    pub broker: Arc<Broker>,
    pub ledger: Arc<Ledger>,
    pub payment_timeout: chrono::TimeDelta,
}

/// A process's way to everything outside of it; closed while it is halted and once it is dead.
pub struct Link {
    number: u32,
    world: Arc<World>,
    broker: Arc<Broker>,
    ledger: Arc<Ledger>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Halted,
    Dead,
}

pub struct Process {
    pub link: Arc<Link>,
    lanes: Vec<Rc<Lane>>,
    parts: RefCell<Option<Parts>>,
    pub under_way: UnderWay,
    /// Requests that were admitted and not yet answered.
    admitted: Cell<u64>,
    stopping: Cell<bool>,
    end: watch::Sender<Option<End>>,
}

/// Why nobody waits for a process any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A part has ended that everything stands on, or it was killed.
    Ended,
    /// It is halted, and was taken for dead.
    Replaced,
}

struct Parts {
    core: Arc<Core>,
    relay: actix::Addr<OutboxRelay>,
    /// Of deadlines, and of other processes.
    minding: tokio::task::AbortHandle,
}

impl Process {
    pub fn start(ground: &Rc<Ground>, number: u32) -> Rc<Self> {
        let link = Link::new(number, ground);
        ground.world.trace.note(format_args!("{link} starts"));
        let lanes = (0..=WORKERS).map(|lane| ground.scheduler.lane(format!("{number}.{lane}"))).collect();
        let process = Rc::new(Self {
            link,
            lanes,
            parts: RefCell::default(),
            under_way: UnderWay::default(),
            admitted: Cell::new(0),
            stopping: Cell::new(false),
            end: watch::Sender::new(None),
        });
        let (ground, this) = (Rc::clone(ground), Rc::clone(&process));
        process.lanes[0].spawn(async move {
            if let Err(error) = this.live(&ground).await {
                ground.world.trace.note(format_args!("{} cannot start: {error}", this.link));
            }
            this.end.send_replace(Some(End::Ended));
        });
        process
    }

    /// Until a part ends that everything stands on.
    async fn live(&self, ground: &Ground) -> Result<(), StoreError> {
        let network: Arc<dyn Network> = Arc::clone(&self.link) as Arc<dyn Network>;
        let memory = Arc::new(MemoryStore::new(Arc::clone(&ground.database), network));
        let store: Arc<dyn Store> = Arc::clone(&memory) as Arc<dyn Store>;
        let clock: Arc<dyn Clock> = Arc::clone(&ground.world.clock) as Arc<dyn Clock>;
        let health = Arc::<Health>::default();
        let (lifeline, mut journal_ends) = oneshot::channel();
        let (journal, identity, lease) =
            Journal::open(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&health), lifeline).await?;
        let shelves = in_time(store.shelves_after(None, u32::MAX)).await?;
        let (lifeline, mut keeper_ends) = oneshot::channel();
        let stock_keeper = StockKeeper::new(shelves, journal.clone(), lifeline).start();
        let published = in_time(memory.published(identity.writer_id)).await?;
        let outlet = Box::new(Exchange { link: Arc::clone(&self.link), broker: Arc::clone(&ground.broker) });
        let io = Handle::current();
        let resources =
            outbox_relay::Resources { store: Arc::clone(&store), io: io.clone(), clock: Arc::clone(&clock) };
        let (lifeline, relay_ends) = oneshot::channel();
        let backlog = Arc::new(Backlog::default());
        let relay = OutboxRelay::new(outlet, resources, journal.clone(), published, backlog, lifeline).start();
        let order_ids = OrderIds::new(Arc::clone(&store), io.clone(), Arc::clone(&health));
        let (directory, recent_orders) = (Directory::default(), RecentOrders::new(RECENT_ORDERS_MAX));
        let expiring = deadlines::Turns::default();
        let core = Arc::new(Core {
            store,
            io,
            clock,
            journal,
            stock_keeper,
            order_ids,
            directory,
            recent_orders,
            expiring,
            lease,
        });
        let (minded, watched) = (deadlines::mind(Arc::clone(&core)), lease::keep(Arc::clone(&core), health));
        let minding = tokio::task::spawn_local(async { tokio::join!(minded, watched) }).abort_handle();
        *self.parts.borrow_mut() = Some(Parts { core, relay, minding });
        self.link.world.trace.note(format_args!("{} serves as writer {}", self.link, identity.writer_id));
        let torn = Box::pin(async {
            let _ = relay_ends.await;
            // Where it is told to stop, the relay is the first to end, and no loss.
            if self.stopping.get() {
                std::future::pending::<()>().await;
            }
        });
        select(select(&mut journal_ends, &mut keeper_ends), torn).await;
        self.link.world.trace.note(format_args!("{} has lost a part and ends", self.link));
        Ok(())
    }

    /// What requests are served with; `None` before it listens and after it was told to stop.
    pub fn core(&self) -> Option<Arc<Core>> {
        let serves = !self.stopping.get() && self.end.borrow().is_none() && self.link.is(State::Running);
        self.parts.borrow().as_ref().filter(|_| serves).map(|parts| Arc::clone(&parts.core))
    }

    /// Runs a request on one of the process's workers.
    pub fn serve(self: &Rc<Self>, request: impl Future<Output = ()> + 'static) {
        let worker = 1 + self.link.world.random.below(WORKERS);
        let this = Rc::clone(self);
        self.admitted.set(self.admitted.get() + 1);
        self.lanes[worker].spawn(async move {
            request.await;
            this.admitted.set(this.admitted.get() - 1);
        });
    }

    /// Returns when nobody is to wait for it any more.
    pub async fn ends(&self) -> End {
        let mut end = self.end.subscribe();
        // The sender lives in this very value.
        end.wait_for(Option::is_some).await.ok().and_then(|end| *end).unwrap_or(End::Ended)
    }

    /// Another takes its place, unless it has ended already; gives whether it does.
    pub fn replace(&self) -> bool {
        self.end.send_if_modified(|end| {
            let lives = end.is_none();
            end.get_or_insert(End::Replaced);
            lives
        })
    }

    pub fn kill(&self, scheduler: &Scheduler) {
        self.link.world.trace.note(format_args!("{} is killed", self.link));
        self.link.die();
        self.lanes.iter().for_each(|lane| scheduler.kill(lane));
        self.parts.take();
        self.end.send_replace(Some(End::Ended));
    }

    pub fn halt(&self) {
        self.link.world.trace.note(format_args!("{} is halted", self.link));
        self.link.state.send_if_modified(|state| Self::turn(state, State::Running, State::Halted));
        self.lanes.iter().for_each(|lane| lane.halt(true));
    }

    pub fn resume(&self) {
        self.link.world.trace.note(format_args!("{} goes on", self.link));
        self.link.state.send_if_modified(|state| Self::turn(state, State::Halted, State::Running));
        self.lanes.iter().for_each(|lane| lane.halt(!self.link.is(State::Running)));
    }

    fn turn(state: &mut State, from: State, to: State) -> bool {
        let turns = *state == from;
        if turns {
            *state = to;
        }
        turns
    }

    pub fn is_dead(&self) -> bool {
        self.link.is(State::Dead)
    }

    /// Ends in order, as the program does when it is told to stop.
    pub async fn stop(&self) {
        self.link.world.trace.note(format_args!("{} is told to stop", self.link));
        self.stopping.set(true);
        let Some(parts) = self.parts.take() else { return };
        parts.minding.abort();
        let drained = async {
            while self.admitted.get() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS_MAX), drained).await;
        let limit = Duration::from_millis(CLOSE_MS_MAX);
        let (closed, closes) = oneshot::channel();
        if parts.relay.try_send(outbox_relay::Close(closed)).is_ok() {
            let _ = tokio::time::timeout(limit, closes).await;
        }
        let (closed, closes) = oneshot::channel();
        if parts.core.journal.try_send(journal::Close(closed)).is_ok() {
            let _ = tokio::time::timeout(limit, closes).await;
        }
    }
}

impl Link {
    pub fn new(number: u32, ground: &Ground) -> Arc<Self> {
        let (world, broker) = (Arc::clone(&ground.world), Arc::clone(&ground.broker));
        let ledger = Arc::clone(&ground.ledger);
        Arc::new(Self { number, world, broker, ledger, state: watch::Sender::new(State::Running) })
    }

    pub fn die(&self) {
        self.state.send_replace(State::Dead);
    }

    fn is(&self, state: State) -> bool {
        *self.state.borrow() == state
    }
}

impl fmt::Display for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {}", self.number)
    }
}

#[async_trait]
impl Network for Link {
    fn passage(&self, call: Call) -> Passage {
        let passage = self.broker.weather.passage(call);
        self.world.trace.note(format_args!("{self}: {call:?} {passage:?}"));
        passage
    }

    async fn standing(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in this very value.
        let _ = state.wait_for(|state| *state == State::Running).await;
    }

    fn committed(&self, tables: &Tables, changes: &[Change], verdicts: &[Verdict], now: Time) {
        self.world
            .trace
            .note(format_args!("{self}: committed {} changes, decided by {now}: {verdicts:?}", changes.len()));
        self.ledger.committed(tables, changes, verdicts);
    }
}
