//! One thread that plays many: every lane is a thread of the simulated programs, and which of the
//! lanes that could go on does so next is drawn anew each time. Within a lane, tasks take turns as
//! they do on a real thread. Time stands still while anything can go on, and then jumps to the next timer.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::LocalSet;

use crate::world::World;

/// How many turns are given before the runtime's own tasks and timers are looked after.
const TURNS: usize = 4;

pub struct Lane {
    tasks: RefCell<LocalSet>,
    signal: Arc<Signal>,
    /// The operating system does not run it.
    halted: Cell<bool>,
    name: String,
}

/// Whether a lane has something to do, and whom to tell.
struct Signal {
    woken: AtomicBool,
    scheduler: Arc<Mutex<Option<Waker>>>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        if let Some(waker) = &*self.scheduler.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

impl Lane {
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow().spawn_local(task);
    }

    pub fn halt(&self, halted: bool) {
        self.halted.set(halted);
        Arc::clone(&self.signal).wake();
    }

    fn is_ready(&self) -> bool {
        !self.halted.get() && self.signal.woken.load(Ordering::Relaxed)
    }

    fn turn(&self) {
        self.signal.woken.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.signal));
        let mut tasks = self.tasks.borrow_mut();
        // A lane never ends by itself: what is spawned later is awaited.
        let _ = Pin::new(&mut *tasks).poll(&mut Context::from_waker(&waker));
    }
}

#[derive(Default)]
pub struct Scheduler {
    lanes: RefCell<Vec<Rc<Lane>>>,
    /// Lanes whose process is dead, to be dropped with all of their tasks.
    dead: RefCell<Vec<Rc<Lane>>>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Scheduler {
    pub fn lane(&self, name: impl Into<String>) -> Rc<Lane> {
        let signal = Arc::new(Signal { woken: AtomicBool::new(true), scheduler: Arc::clone(&self.waker) });
        let tasks = RefCell::new(LocalSet::new());
        let lane = Rc::new(Lane { tasks, signal, halted: Cell::new(false), name: name.into() });
        self.lanes.borrow_mut().push(Rc::clone(&lane));
        lane
    }

    /// Its tasks do not go on any more, and are dropped when the present turn has ended.
    pub fn kill(&self, lane: &Rc<Lane>) {
        lane.halt(true);
        self.lanes.borrow_mut().retain(|other| !Rc::ptr_eq(other, lane));
        self.dead.borrow_mut().push(Rc::clone(lane));
    }

    /// Gives turns until `finished`.
    pub async fn run(&self, world: &World, finished: &Cell<bool>) {
        std::future::poll_fn(|context| {
            *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
            for _ in 0..TURNS {
                self.bury();
                if finished.get() || world.has_failed() {
                    return Poll::Ready(());
                }
                let Some(lane) = self.draw(world) else { return Poll::Pending };
                lane.turn();
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn draw(&self, world: &World) -> Option<Rc<Lane>> {
        let lanes = self.lanes.borrow();
        let ready: Vec<&Rc<Lane>> = lanes.iter().filter(|lane| lane.is_ready()).collect();
        match ready[..] {
            [] => None,
            [only] => Some(Rc::clone(only)),
            _ => {
                let drawn = *world.random.pick(&ready);
                world.trace.step(&drawn.name);
                Some(Rc::clone(drawn))
            }
        }
    }

    fn bury(&self) {
        let dead = std::mem::take(&mut *self.dead.borrow_mut());
        for lane in dead {
            *lane.tasks.borrow_mut() = LocalSet::new();
        }
    }
}
