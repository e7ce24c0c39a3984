//! A channel whose other side does not answer is left alone for a moment: whoever waited for it each time would keep all
//! other channels waiting too, for events are told one after another.

use std::time::Duration;

use async_trait::async_trait;
use recloser::{AsyncRecloser, Recloser};
use tokio::time::Instant;

use crate::domain::OrderEvent;

use super::{Channel, ChannelError, Contact, Delivery};

/// A failure that took so long is silence. A refusal comes sooner, and costs nobody any time.
const SILENCE_MS: u64 = 5_000;
/// Where half of the last so many calls met silence, the channel is left alone.
const CALLS: usize = 4;
/// Events of this time are tried again as those that failed.
const REST_MS: u64 = 30_000;

pub struct CircuitBreaker<C> {
    channel: C,
    breaker: AsyncRecloser,
    silence: Duration,
}

impl<C: Channel> CircuitBreaker<C> {
    #[must_use]
    pub fn around(channel: C) -> Self {
        Self::with_limits(channel, Duration::from_millis(SILENCE_MS), Duration::from_millis(REST_MS))
    }

    fn with_limits(channel: C, silence: Duration, rest: Duration) -> Self {
        let breaker = Recloser::custom().error_rate(0.5).closed_len(CALLS).half_open_len(1).open_wait(rest).build();
        Self { channel, breaker: breaker.into(), silence }
    }
}

#[async_trait]
impl<C: Channel> Channel for CircuitBreaker<C> {
    fn name(&self) -> &'static str {
        self.channel.name()
    }

    fn needs_contact(&self) -> bool {
        self.channel.needs_contact()
    }

    fn is_local(&self) -> bool {
        self.channel.is_local()
    }

    async fn send(&self, event: &OrderEvent, contact: Option<&Contact>) -> Result<Delivery, ChannelError> {
        let began = Instant::now();
        let sending = async {
            match self.channel.send(event, contact).await {
                Err(silent @ ChannelError::Later(_)) if began.elapsed() >= self.silence => Err(silent),
                sent => Ok(sent),
            }
        };
        match self.breaker.call(sending).await {
            Ok(sent) => sent,
            Err(recloser::Error::Inner(silent)) => Err(silent),
            Err(recloser::Error::Rejected) => {
                Err(ChannelError::Later("it did not answer several times, and is left alone for a moment".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::tests::samples;
    use super::*;
    use crate::domain::order::Status;

    const SILENCE: Duration = Duration::from_millis(50);
    const REST: Duration = Duration::from_millis(500);

    /// Answers like this, after so long; and counts.
    struct Other(Mutex<(Result<Delivery, ChannelError>, Duration, usize)>);

    #[async_trait]
    impl Channel for Other {
        fn name(&self) -> &'static str {
            "other"
        }

        async fn send(&self, _: &OrderEvent, _: Option<&Contact>) -> Result<Delivery, ChannelError> {
            let (answer, takes) = {
                let mut state = self.0.lock().expect("no panic");
                state.2 += 1;
                (state.0.clone(), state.1)
            };
            tokio::time::sleep(takes).await;
            answer
        }
    }

    fn breaker(answer: Result<Delivery, ChannelError>, takes: Duration) -> CircuitBreaker<Other> {
        CircuitBreaker::with_limits(Other(Mutex::new((answer, takes, 0))), SILENCE, REST)
    }

    fn later() -> Result<Delivery, ChannelError> {
        Err(ChannelError::Later("it failed".to_owned()))
    }

    async fn calls_of(breaker: &CircuitBreaker<Other>, times: usize) -> usize {
        let event = samples::event(Status::Payed);
        for _ in 0..times {
            let _ = breaker.send(&event, None).await;
        }
        breaker.channel.0.lock().expect("no panic").2
    }

    #[tokio::test]
    async fn who_does_not_answer_is_left_alone_and_asked_again_later() {
        let breaker = breaker(later(), SILENCE);
        let asked = calls_of(&breaker, 3 * CALLS).await;
        assert!(asked <= CALLS + 1, "{asked} calls");
        tokio::time::sleep(REST).await;
        *breaker.channel.0.lock().expect("no panic") = (Ok(Delivery::Sent), Duration::ZERO, 0);
        assert_eq!(calls_of(&breaker, 3 * CALLS).await, 3 * CALLS);
    }

    #[tokio::test]
    async fn who_refuses_at_once_is_asked_each_time() {
        let breaker = breaker(later(), Duration::ZERO);
        assert_eq!(calls_of(&breaker, 3 * CALLS).await, 3 * CALLS);
    }
}
