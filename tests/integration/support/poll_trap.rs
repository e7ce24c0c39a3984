//! A panic in a handler of the program in this process: at the first, second or later poll of a
//! request to some address. It sits in the span that each request is served in, as a subscriber of
//! traces that panics when the span is entered.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const SPAN: &str = "request";
const PATH: &str = "http.path";

#[derive(Clone, Default)]
pub struct PollTrap(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The address, and which poll of a request to it panics.
    planted: Option<(String, usize)>,
    spans: HashMap<u64, String>,
    last: u64,
}

impl PollTrap {
    /// The only subscriber of this process from now on.
    pub fn install() -> Self {
        let trap = Self::default();
        tracing::subscriber::set_global_default(trap.clone()).expect("the only one");
        trap
    }

    /// That poll of the next request to this path panics; the first one is 1.
    pub fn plant(&self, path: &str, poll: usize) {
        self.state().planted = Some((path.to_owned(), poll));
    }

    /// Takes it away; whether it was still there.
    pub fn remove(&self) -> bool {
        self.state().planted.take().is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this poll is the one that panics.
    fn counts_down(&self, span: &Id) -> bool {
        let mut state = self.state();
        let Some(path) = state.spans.get(&span.into_u64()).cloned() else { return false };
        let Some((_, polls)) = state.planted.as_mut().filter(|(planted, _)| *planted == path) else { return false };
        *polls -= 1;
        let now = *polls == 0;
        if now {
            state.planted = None;
        }
        now
    }
}

struct PathOf(String);

impl Visit for PathOf {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == PATH {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Subscriber for PollTrap {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.name() == SPAN
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut path = PathOf(String::new());
        attributes.record(&mut path);
        let mut state = self.state();
        state.last += 1;
        let id = state.last;
        state.spans.insert(id, path.0);
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        // What unwinds already is dropped within its span.
        assert!(std::thread::panicking() || !self.counts_down(span), "planted: a poll of a request");
    }

    fn exit(&self, _: &Id) {}

    fn try_close(&self, id: Id) -> bool {
        self.state().spans.remove(&id.into_u64()).is_some()
    }
}
