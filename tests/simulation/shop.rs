//! The programs that run, what happens to them, and how requests reach them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use loms::clock::Clock;
use loms::notifications::notifier::Notifier;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::broker::Letters;
use crate::front::{Answer, Front, Refusal, Request};
use crate::memory::MemoryStore;
use crate::process::{End, Ground, Link, Process};
use crate::scheduler::Lane;

/// The numbers of consumers stand apart from those of processes.
const CONSUMERS: u32 = 1_000;

pub struct Shop {
    pub ground: Rc<Ground>,
    slots: Vec<Rc<Slot>>,
    /// Processes that were replaced while they were halted.
    replaced: RefCell<Vec<Rc<Process>>>,
    consumers: RefCell<Vec<Consumer>>,
    started: Cell<u32>,
    healed: Cell<bool>,
}

/// A notifier's number, its way to everything and its thread.
type Consumer = (u32, Arc<Link>, Rc<Lane>);

/// A place where one process is to run at any time.
type Slot = RefCell<Option<Rc<Process>>>;

impl Shop {
    pub fn open(ground: Rc<Ground>, slots: usize) -> Rc<Self> {
        let slots = (0..slots).map(|_| Rc::default()).collect();
        let shop = Rc::new(Self {
            ground,
            slots,
            replaced: RefCell::default(),
            consumers: RefCell::default(),
            started: Cell::new(0),
            healed: Cell::new(false),
        });
        for slot in &shop.slots {
            tokio::task::spawn_local(Rc::clone(&shop).supervise(Rc::clone(slot)));
        }
        shop.start_consumer();
        shop
    }

    /// Starts the process again whenever it has ended, sooner or later.
    async fn supervise(self: Rc<Self>, slot: Rc<Slot>) {
        let random = &self.ground.world.random;
        loop {
            self.started.set(self.started.get() + 1);
            let process = Process::start(&self.ground, self.started.get());
            *slot.borrow_mut() = Some(Rc::clone(&process));
            if process.ends().await == End::Ended {
                // A program that ends still answers what it can.
                sleep(Duration::from_millis(random.between(0, 2_000))).await;
                process.kill(&self.ground.scheduler);
            }
            let pause_ms = if self.healed.get() { 100 } else { *random.pick(&[0, 100, 2_000, 20_000]) };
            sleep(Duration::from_millis(random.between(0, pause_ms))).await;
        }
    }

    fn start_consumer(&self) {
        let broker = Arc::clone(&self.ground.broker);
        let number = broker.new_consumer();
        let link = Link::new(CONSUMERS + number, &self.ground);
        let lane = self.ground.scheduler.lane("consumer");
        let store = Arc::new(MemoryStore::new(Arc::clone(&self.ground.database), Arc::clone(&link) as _));
        let letters = Letters { broker: Arc::clone(&broker), sender: number };
        let clock: Arc<dyn Clock> = Arc::clone(&self.ground.world.clock) as _;
        let notifier = Notifier::new(vec![Box::new(letters)], store, clock);
        lane.spawn(async move { broker.consume(number, notifier).await });
        self.consumers.borrow_mut().push((number, link, lane));
    }

    /// One of the things that happen to programs and networks.
    pub async fn suffer(self: &Rc<Self>) {
        let random = &self.ground.world.random;
        let slot = Rc::clone(random.pick(&self.slots));
        let Some(process) = slot.borrow().clone() else { return };
        match random.between(0, 9) {
            0..=2 => process.kill(&self.ground.scheduler),
            3 => {
                process.halt();
                sleep(Duration::from_millis(random.between(1, 25_000))).await;
                process.resume();
            }
            4 => {
                process.halt();
                if process.replace() {
                    self.replaced.borrow_mut().push(Rc::clone(&process));
                }
                sleep(Duration::from_millis(random.between(1, 40_000))).await;
                process.resume();
            }
            5 => {
                process.stop().await;
                process.kill(&self.ground.scheduler);
            }
            6 | 7 => {
                let duration = Duration::from_millis(random.between(1, 12_000));
                self.ground.world.trace.note(format_args!("the database is away for {duration:?}"));
                self.ground.broker.weather.cut_database(duration);
                sleep(duration).await;
            }
            8 => {
                let duration = Duration::from_millis(random.between(1, 30_000));
                self.ground.world.trace.note(format_args!("the broker is away for {duration:?}"));
                self.ground.broker.weather.cut_broker(duration);
            }
            _ => self.replace_consumer(),
        }
    }

    /// The notifiers are killed, or the broker loses the connection to the one that it knows, which goes on with what it
    /// has in hand.
    fn replace_consumer(&self) {
        if self.ground.world.random.chance(500) {
            for (number, link, lane) in self.consumers.take() {
                link.die();
                self.ground.scheduler.kill(&lane);
                self.ground.broker.kill_consumer(number);
            }
        }
        self.start_consumer();
    }

    /// Nothing fails any more. Processes that were replaced get some time to notice it.
    pub async fn heal(&self) {
        self.ground.world.trace.note("everything heals");
        self.healed.set(true);
        self.ground.broker.weather.heal();
        let replaced = std::mem::take(&mut *self.replaced.borrow_mut());
        replaced.iter().filter(|process| !process.is_dead()).for_each(|process| process.resume());
        let running = self.slots.iter().filter_map(|slot| slot.borrow().clone());
        running.filter(|process| !process.is_dead()).for_each(|process| process.resume());
        if !replaced.is_empty() {
            sleep(Duration::from_secs(8)).await;
            for process in replaced.iter().filter(|process| !process.is_dead()) {
                process.stop().await;
                process.kill(&self.ground.scheduler);
            }
        }
    }

    /// Whether only one process has ever written.
    pub fn has_had_one_process(&self) -> bool {
        self.started.get() == 1
    }

    pub fn running(&self) -> Vec<Rc<Process>> {
        let running = self.slots.iter().filter_map(|slot| slot.borrow().clone());
        running.filter(|process| process.core().is_some()).collect()
    }

    /// Sends the request to a process that listens; `None` where none does, or where no answer came
    /// in time. The process does not hear that the client has gone.
    pub async fn ask(&self, request: &Request, patience: Duration) -> Option<Result<Answer, Refusal>> {
        let running = self.running();
        if running.is_empty() {
            return None;
        }
        let process = Rc::clone(self.ground.world.random.pick(&running));
        let core = process.core()?;
        let (answer, answered) = oneshot::channel();
        let (ledger, payment_timeout, request) =
            (Arc::clone(&self.ground.ledger), self.ground.payment_timeout, request.clone());
        let attempt = ledger.asked(&request);
        let this = Rc::clone(&process);
        process.serve(async move {
            let front = Front { core, under_way: &this.under_way, ledger: &ledger, payment_timeout };
            let served = front.serve(request.clone()).await;
            ledger.answered(&request, attempt, &served);
            // Whoever asked may have stopped waiting.
            let _ = answer.send(served);
        });
        tokio::time::timeout(patience, answered).await.ok()?.ok()
    }
}
