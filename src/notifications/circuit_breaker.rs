//! A channel whose other side does not answer is left alone for a moment: whoever waited for it each time would keep all
//! other channels waiting too, for events are told one after another.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::OrderEvent;
use crate::domain::contact::Contact;

use super::channels::{Channel, ChannelError, Delivery};

/// A failure that took so long is silence. A refusal comes sooner, and costs nobody any time.
const SILENCE: Duration = Duration::from_secs(5);
/// After so many calls in a row that met silence, the channel is left alone.
const SILENT_CALLS_MAX: u32 = 4;
/// So long; then one event is tried, and all others again where that is answered.
const REST: Duration = Duration::from_secs(30);

pub struct CircuitBreaker {
    pub channel: Box<dyn Channel>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    silent_calls: u32,
    /// While it is left alone.
    next_try_at: Option<Instant>,
}

impl CircuitBreaker {
    #[must_use]
    pub fn around(channel: Box<dyn Channel>) -> Self {
        Self { channel, heard: Mutex::default() }
    }

    /// What the channel says; `None` where it is left alone.
    pub async fn send(&self, event: &OrderEvent, contact: Option<&Contact>) -> Option<Result<Delivery, ChannelError>> {
        if self.channel.needs_contact() && contact.is_none() {
            return Some(self.channel.send(event, contact).await);
        }
        if !self.may_try() {
            return None;
        }
        let began = Instant::now();
        let sent = self.channel.send(event, contact).await;
        match &sent {
            Ok(Delivery::Skipped(_)) => self.has_asked_nobody(),
            Err(ChannelError::Later(_)) if began.elapsed() >= SILENCE => self.has_met_silence(),
            _ => self.with(|heard| *heard = Heard::default()),
        }
        Some(sent)
    }

    /// Of all that come when it was left alone for long enough, the first may.
    fn may_try(&self) -> bool {
        let now = Instant::now();
        self.with(|heard| match heard.next_try_at {
            Some(next_try_at) if now < next_try_at => false,
            Some(_) => {
                heard.next_try_at = Some(now + REST);
                true
            }
            None => true,
        })
    }

    /// Where this was the one to be tried, the next one is.
    fn has_asked_nobody(&self) {
        self.with(|heard| heard.next_try_at = heard.next_try_at.map(|_| Instant::now()));
    }

    fn has_met_silence(&self) {
        self.with(|heard| {
            heard.silent_calls += 1;
            if heard.silent_calls >= SILENT_CALLS_MAX {
                heard.next_try_at = Some(Instant::now() + REST);
            }
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
