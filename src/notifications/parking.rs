//! The parking queue: what is in it, and putting it back.

use lapin::Acker;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable};
use secrecy::SecretString;

use super::broker::{Broker, BrokerError, Outgoing, limited};
use super::consumer::{PUT_BACK_HEADER, REASON_HEADER};
use super::topology::{PARKING_QUEUE, QUEUE};

/// How many parked messages one run looks at. Those that it does not put back are the first that the next run meets.
const PARKED_MAX: usize = 10_000;

/// A parked message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The event's id; `None` for what is no event.
    pub id: Option<String>,
    pub reason: String,
    /// Whether it was put back.
    pub put_back: bool,
}

/// Looks once at every message that is parked now, and puts back those that are wanted: all of them,
/// or those with one of the ids. A dry run leaves everything where it is.
///
/// # Errors
/// [`BrokerError`]; what was put back so far stays so.
pub async fn redrive(url: &SecretString, ids: &[String], dry_run: bool) -> Result<Vec<Parked>, BrokerError> {
    let broker = Broker::connect(url, "loms notifications redrive").await?;
    let mut seen = Vec::new();
    // What is left stays taken until all were looked at, or it would be met again. Of it nothing is kept but how it is
    // given back: a body may be as large as the broker takes.
    let mut left: Vec<Acker> = Vec::new();
    let mut parked = PARKED_MAX;
    while seen.len() < parked
        && let Some(message) = limited(get(&broker)).await?
    {
        if seen.is_empty() {
            // Behind these comes what was put back and parked again at once.
            let behind = usize::try_from(message.message_count).unwrap_or(PARKED_MAX);
            parked = behind.saturating_add(1).min(PARKED_MAX);
        }
        let id = message.delivery.properties.message_id().as_ref().map(ToString::to_string);
        let wanted = ids.is_empty() || id.as_ref().is_some_and(|id| ids.contains(id));
        let put_back = wanted && !dry_run;
        seen.push(Parked { id, reason: reason(&message), put_back });
        let acker = message.delivery.acker.clone();
        if put_back {
            broker.publish(vec![outgoing(message)]).await?;
            limited(async { Ok(acker.ack(BasicAckOptions::default()).await.map(drop)?) }).await?;
        } else {
            left.push(acker);
        }
    }
    for acker in left {
        let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        limited(async { Ok(acker.nack(back).await.map(drop)?) }).await?;
    }
    broker.close().await;
    Ok(seen)
}

async fn get(broker: &Broker) -> Result<Option<BasicGetMessage>, BrokerError> {
    Ok(broker.channel.basic_get(PARKING_QUEUE.into(), BasicGetOptions::default()).await?)
}

fn reason(message: &BasicGetMessage) -> String {
    let headers = message.delivery.properties.headers().as_ref();
    let header = headers.and_then(|headers| headers.inner().get(REASON_HEADER));
    match header {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => "delivered too often".to_owned(),
    }
}

/// As it first came, without what happened to it since, save that it was put back.
fn outgoing(message: BasicGetMessage) -> Outgoing {
    let mut headers = FieldTable::default();
    headers.insert(PUT_BACK_HEADER.into(), AMQPValue::Boolean(true));
    let properties = message.delivery.properties.with_headers(headers);
    Outgoing { exchange: "", routing_key: QUEUE.to_owned(), mandatory: true, properties, body: message.delivery.data }
}
