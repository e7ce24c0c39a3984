//! `loms notifications`: takes events from the queue, tells of them, and acknowledges after.
//!
//! What could not be told waits in a retry queue, in the end in the parking queue. A message that
//! is no event goes to the parking queue with the reason, and the queue behind it moves on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Consumer};
use secrecy::SecretString;

use crate::clock::Clock;
use crate::domain::{EventId, OrderEvent};
use crate::store::Store;

use super::broker::{Broker, BrokerError, Outgoing, limited};
use super::message;
use super::notifier::{Notifier, Source, Verdict};
use super::topology::{PARKING_QUEUE, QUEUE, retry_queue};
use super::{insist, resend};

/// How many messages this process holds that it has not acknowledged.
const PREFETCH_MESSAGES: u16 = 100;
/// Pause between two attempts to reach the broker, rising from the first to the second.
const RETRY_PAUSE_MS: (u64, u64) = (100, 10_000);
/// What is being sent at a stop, and the record of it, is torn off after this time.
const FINISH_MS_MAX: u64 = 10_000;
/// Why a message was parked, in its headers.
pub const REASON_HEADER: &str = "x-loms-reason";
/// An operator has put the message back, in its headers.
pub const PUT_BACK_HEADER: &str = "x-loms-put-back";
/// How often it was tried, in its headers: what the broker counts is lost when a message is published again.
pub const ATTEMPTS_HEADER: &str = "x-loms-attempts";

#[derive(Debug, thiserror::Error)]
enum ConsumerError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the broker has ended the consumer")]
    Cancelled,
}

/// What is needed to work events off.
pub struct Resources {
    pub notifier: Notifier,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// ISO 4217.
    pub currency: String,
}

/// Consumes until `stop` comes true; whatever fails is tried again. What is being sent by then is recorded and
/// acknowledged: torn off in between, it would be told twice.
pub async fn run(url: &SecretString, resources: &Resources, stop: impl Future<Output = ()>) {
    let stop = async {
        stop.await;
        resources.notifier.stop();
    };
    let stop = stop.shared();
    let too_late = stop.clone().then(|()| tokio::time::sleep(Duration::from_millis(FINISH_MS_MAX)));
    tokio::select! {
        () = work_until(stop, url, resources) => {}
        () = too_late => tracing::warn!("what is in hand cannot be finished in time; it may be told again"),
    }
}

async fn work_until(stop: impl Future<Output = ()> + Clone, url: &SecretString, resources: &Resources) {
    let mut stopped = std::pin::pin!(stop.clone());
    let mut pause_ms = RETRY_PAUSE_MS.0;
    loop {
        let Err(failure) = consume(stop.clone(), url, resources).await else { return };
        tracing::warn!(error = %failure.error, "the queue cannot be consumed; trying again");
        pause_ms = if failure.had_begun { RETRY_PAUSE_MS.0 } else { RETRY_PAUSE_MS.1.min(2 * pause_ms) };
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

struct ConsumeFailure {
    error: ConsumerError,
    /// Messages could be taken before it failed.
    had_begun: bool,
}

async fn consume(
    stop: impl Future<Output = ()>,
    url: &SecretString,
    resources: &Resources,
) -> Result<(), ConsumeFailure> {
    let mut stop = std::pin::pin!(stop);
    let early = |error: BrokerError| ConsumeFailure { error: error.into(), had_begun: false };
    let broker = tokio::select! {
        () = &mut stop => return Ok(()),
        connected = connect(url) => connected.map_err(early)?,
    };
    let mut consumer = limited(start(&broker)).await.map_err(early)?;
    tracing::info!("taking events from the queue {QUEUE}");
    loop {
        let first = tokio::select! {
            () = &mut stop => break,
            first = consumer.next() => first,
        };
        let worked = work_off(first, &broker, &mut consumer, resources).await;
        worked.map_err(|error| ConsumeFailure { error, had_begun: true })?;
    }
    // Acknowledgements that are on their way arrive first.
    broker.close().await;
    Ok(())
}

async fn connect(url: &SecretString) -> Result<Broker, BrokerError> {
    let broker = Broker::open(url, "loms notifications").await?;
    let prepared = broker.prepare().await;
    if prepared.is_err() {
        broker.unblocked().await;
    }
    prepared.map(|()| broker)
}

async fn start(broker: &Broker) -> Result<Consumer, BrokerError> {
    let channel = &broker.channel;
    channel.basic_qos(PREFETCH_MESSAGES, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?)
}

/// Takes what has come with the first message, tells of all, and acknowledges.
async fn work_off(
    first: Option<lapin::Result<Delivery>>,
    broker: &Broker,
    consumer: &mut Consumer,
    resources: &Resources,
) -> Result<(), ConsumerError> {
    let mut deliveries = vec![first.ok_or(ConsumerError::Cancelled)?.map_err(BrokerError::from)?];
    let mut has_ended = false;
    while let Some(next) = consumer.next().now_or_never() {
        // The broker says once that the queue has gone.
        let Some(delivery) = next else {
            has_ended = true;
            break;
        };
        deliveries.push(delivery.map_err(BrokerError::from)?);
    }
    let (marks, events): (Vec<_>, Vec<_>) = deliveries.iter().partition(|delivery| resend::is_mark(delivery));
    let (put_back, others): (Vec<_>, Vec<_>) = events.into_iter().partition(|delivery| is_put_back(delivery));
    let mut elsewhere = tell(&others, resources, Source::Broker).await;
    elsewhere.extend(tell(&put_back, resources, Source::Operator).await);
    let go_on = || resend::go_on(&marks, &*resources.store, &resources.currency, resources.clock.now());
    elsewhere.extend(insist(go_on).await);
    broker.after_alarms(broker.publish_without_limit(elsewhere)).await?;
    let Some(last) = deliveries.last() else { return Ok(()) };
    let all = BasicAckOptions { multiple: true };
    broker.after_alarms(async { last.acker.ack(all).await.map(drop).map_err(BrokerError::from) }).await?;
    if has_ended { Err(ConsumerError::Cancelled) } else { Ok(()) }
}

/// Tells of the events, and gives what is to come again or to be parked.
async fn tell(deliveries: &[&Delivery], resources: &Resources, source: Source) -> Vec<Outgoing> {
    let mut events: Vec<OrderEvent> = Vec::with_capacity(deliveries.len());
    let mut met: HashMap<EventId, usize> = HashMap::with_capacity(deliveries.len());
    let mut of_events = Vec::with_capacity(deliveries.len());
    let mut elsewhere = Vec::new();
    for delivery in deliveries {
        match message::read(&delivery.data, &resources.currency) {
            // One that was published twice may come twice at once: it is told once.
            Ok(event) => {
                let at = *met.entry(event.id).or_insert(events.len());
                if at == events.len() {
                    events.push(event);
                }
                of_events.push((delivery, at));
            }
            Err(error) => elsewhere.push(parked(delivery, &error.to_string())),
        }
    }
    let verdicts = insist(|| resources.notifier.notify(&events, source)).await;
    let mut verdicts: Vec<_> = verdicts.into_iter().map(Some).collect();
    for (delivery, at) in of_events {
        // Of several deliveries of one event the first goes on its way, and the others end here.
        match verdicts[at].take() {
            Some(Verdict::Done) | None => {}
            Some(Verdict::InHand) => elsewhere.push(later(delivery)),
            Some(Verdict::Again { attempts }) => elsewhere.push(again(delivery, attempts)),
            Some(Verdict::GivenUp { reason }) => elsewhere.push(parked(delivery, &reason)),
        }
    }
    elsewhere
}

fn is_put_back(delivery: &Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref();
    headers.is_some_and(|headers| headers.inner().contains_key(PUT_BACK_HEADER))
}

/// The same message, a little later.
fn later(delivery: &Delivery) -> Outgoing {
    on_its_way(delivery, retry_queue(1).name, delivery.properties.clone())
}

fn again(delivery: &Delivery, attempts: u32) -> Outgoing {
    let header = (ATTEMPTS_HEADER, AMQPValue::LongLongInt(attempts.into()));
    moved(delivery, retry_queue(attempts).name, header)
}

fn parked(delivery: &Delivery, reason: &str) -> Outgoing {
    tracing::warn!(reason, "a message is parked");
    moved(delivery, PARKING_QUEUE, (REASON_HEADER, AMQPValue::LongString(reason.into())))
}

/// The same message for another queue, with what became of it.
fn moved(delivery: &Delivery, queue: &'static str, header: (&'static str, AMQPValue)) -> Outgoing {
    let mut headers = delivery.properties.headers().as_ref().map(FieldTable::inner).cloned().unwrap_or_default();
    headers.remove(PUT_BACK_HEADER);
    headers.insert(header.0.into(), header.1);
    on_its_way(delivery, queue, delivery.properties.clone().with_headers(headers.into()))
}

fn on_its_way(delivery: &Delivery, queue: &'static str, properties: BasicProperties) -> Outgoing {
    Outgoing { exchange: "", routing_key: queue.to_owned(), mandatory: true, properties, body: delivery.data.clone() }
}
