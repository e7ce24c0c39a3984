//! How many requests may be under way at once. A request that waits for its own client's body counts
//! for nothing meanwhile: slow clients do not stand in the way of others. Lists take turns.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::timeout;

use crate::actors::COMMANDS_UNDER_WAY_MAX;
use crate::store::{ACQUIRE_MS_MAX, POOL_CONNECTIONS_MAX};

/// A body up to this size may wait for its rest beside any number of others.
const SMALL_BODY_BYTES_MAX: usize = 16 * 1024;
/// How many larger ones may.
const LARGE_BODIES_COMING_MAX: usize = 256;
/// How many lists are read at once. A page of them takes long, and much memory: the other connections to the database
/// are left to orders and carts, and to what the program itself asks, order ids among it.
const LISTS_READ_MAX: usize = POOL_CONNECTIONS_MAX as usize / 2;
/// A list waits for its turn as long as it might for a connection.
const LIST_TURN_WITHIN: Duration = Duration::from_millis(ACQUIRE_MS_MAX);

/// Of one server.
pub struct Gate {
    /// Commands are admitted as long as there is a permit; past it they are refused at once.
    commands: Arc<Semaphore>,
    large_bodies: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

/// Why a request is refused at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// As many as may be are under way.
    TooMany,
    /// The program was told to stop, and answers what it has admitted.
    Stopping,
}

/// Holds a request's place until it is answered, or dropped without an answer.
pub struct Admission(Admitted);

/// A request that was admitted.
#[derive(Clone)]
pub struct Admitted {
    gate: Arc<Gate>,
    permit: Rc<RefCell<Option<OwnedSemaphorePermit>>>,
}

/// A body that comes in pieces. Its request holds no permit as long as this lives.
pub struct Coming<'a> {
    request: &'a Admitted,
    large: Option<OwnedSemaphorePermit>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            commands: Arc::new(Semaphore::new(COMMANDS_UNDER_WAY_MAX)),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_COMING_MAX)),
            lists: Arc::new(Semaphore::new(LISTS_READ_MAX)),
        }
    }
}

impl Gate {
    /// Nobody is admitted any more.
    pub fn close(&self) {
        self.commands.close();
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// How many more would be admitted now.
    #[must_use]
    pub fn admissible(&self) -> usize {
        self.commands.available_permits()
    }

    /// A turn to read a list, to be held until the list is answered.
    ///
    /// # Errors
    /// [`NotAdmitted::TooMany`] where it does not come in time.
    pub(super) async fn turn_to_list(&self) -> Result<OwnedSemaphorePermit, NotAdmitted> {
        let turn = timeout(LIST_TURN_WITHIN, Arc::clone(&self.lists).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(refused)
    }
}

impl Admission {
    /// # Errors
    /// [`NotAdmitted`].
    pub fn new(gate: &Arc<Gate>) -> Result<Self, NotAdmitted> {
        let admitted = Admitted { gate: Arc::clone(gate), permit: Rc::default() };
        admitted.enter()?;
        Ok(Self(admitted))
    }

    /// For whoever reads the request's body.
    #[must_use]
    pub fn request(&self) -> Admitted {
        self.0.clone()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Admitted {
    /// Its body is not there yet.
    #[must_use]
    pub fn wait_for_body(&self) -> Coming<'_> {
        self.leave();
        Coming { request: self, large: None }
    }

    fn leave(&self) {
        self.permit.take();
    }

    fn enter(&self) -> Result<(), NotAdmitted> {
        let permit = Arc::clone(&self.gate.commands).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::Closed => NotAdmitted::Stopping,
            TryAcquireError::NoPermits => refused(),
        })?;
        *self.permit.borrow_mut() = Some(permit);
        Ok(())
    }
}

impl Coming<'_> {
    /// Whether there is room for a body of which so much has come.
    #[must_use]
    pub fn has_room_for(&mut self, bytes: usize) -> bool {
        if bytes > SMALL_BODY_BYTES_MAX && self.large.is_none() {
            self.large = Arc::clone(&self.request.gate.large_bodies).try_acquire_owned().ok();
            return self.large.is_some();
        }
        true
    }

    /// It is there, and its request asks for a place again.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn has_come(self) -> Result<(), NotAdmitted> {
        self.request.enter()
    }
}

fn refused() -> NotAdmitted {
    metrics::counter!("loms_requests_refused").increment(1);
    NotAdmitted::TooMany
}
