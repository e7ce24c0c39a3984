//! The exchange and the queues, described once: the program declares them from here, and
//! `rabbitmq/definitions.json` is made from here.
//!
//! Queue type, limits, dead-letter strategy and overflow are all stated, for their defaults differ
//! between RabbitMQ 3.10, 4.0 and 4.3.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind, ExchangeKind};
use serde_json::{Value, json};

use crate::domain::event::PAYMENT_REFUSED;
use crate::domain::order::Status;

use super::notifier::NOT_TOLD;

/// Every event goes here, with the routing key `order.<name>`.
pub const EXCHANGE: &str = "loms.orders";
/// A routing key goes on with the event's name.
pub const ROUTING_PREFIX: &str = "order.";
/// Where notifiers take events from.
pub const QUEUE: &str = "notifications";
/// Bound to the notifiers' queue by whoever has put a mark into it, and gone with that queue: where it is missing, the queue
/// is not the one that was marked. It takes no messages.
pub const MARKED: &str = "notifications.marked";
/// Where messages end that could not be told; an operator puts them back.
pub const PARKING_QUEUE: &str = "notifications.parked";
/// Queues in which a message waits for its next attempt, by rising delay.
pub const RETRY_QUEUES: [RetryQueue; 3] = [
    RetryQueue { name: "notifications.retry.5s", delay_ms: 5_000 },
    RetryQueue { name: "notifications.retry.1m", delay_ms: 60_000 },
    RetryQueue { name: "notifications.retry.10m", delay_ms: 600_000 },
];

/// Where an event waits that was tried so often, from 1.
#[must_use]
pub fn retry_queue(attempts: u32) -> &'static RetryQueue {
    let last = RETRY_QUEUES.len() - 1;
    let at = usize::try_from(attempts.saturating_sub(1)).unwrap_or(last).min(last);
    &RETRY_QUEUES[at]
}

/// Past it the broker refuses messages, and they stay in the outbox.
const QUEUE_MESSAGES_MAX: i64 = 1_000_000;
/// A message that was given back this often, because its consumers died, is parked.
const DELIVERIES_MAX: i64 = 20;
/// Whoever looks through the parking queue gives back what is to stay. Never: without a limit, RabbitMQ 4 takes 20
/// and throws away what was looked at more often; 3.10 has no word for none.
const PARKED_DELIVERIES_MAX: i64 = 1_000_000_000;

pub struct RetryQueue {
    pub name: &'static str,
    pub delay_ms: i64,
}

struct Queue {
    name: &'static str,
    arguments: Vec<(&'static str, Argument)>,
}

#[derive(Clone)]
enum Argument {
    Text(&'static str),
    Number(i64),
}

/// Declares everything; what is there already must be the same.
///
/// # Errors
/// Where the broker refuses, or has something else under one of the names.
pub async fn declare(channel: &Channel) -> Result<(), lapin::Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    for queue in queues() {
        let mut arguments = FieldTable::default();
        for (name, argument) in queue.arguments {
            let value = match argument {
                Argument::Text(text) => AMQPValue::LongString(text.into()),
                Argument::Number(number) => AMQPValue::LongLongInt(number),
            };
            arguments.insert(name.into(), value);
        }
        channel.queue_declare(queue.name.into(), QueueDeclareOptions::durable(), arguments).await?;
    }
    for key in bindings() {
        bind(channel, EXCHANGE, &key).await?;
    }
    Ok(())
}

/// Whether a mark was put into the notifiers' queue, and that queue is still there. Where it was not, the channel is of no
/// further use.
///
/// # Errors
/// Where the broker does not say.
pub async fn is_marked(channel: &Channel) -> Result<bool, lapin::Error> {
    let look = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    match channel.exchange_declare(MARKED.into(), ExchangeKind::Fanout, look, FieldTable::default()).await {
        Ok(()) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says that there is a mark in the notifiers' queue, for as long as that queue is there once [`bind_marked`] has tied the two
/// together.
///
/// # Errors
/// Where the broker refuses.
pub async fn declare_marked(channel: &Channel) -> Result<(), lapin::Error> {
    let made = ExchangeDeclareOptions { durable: true, auto_delete: true, internal: true, ..Default::default() };
    channel.exchange_declare(MARKED.into(), ExchangeKind::Fanout, made, FieldTable::default()).await
}

/// The broker deletes the exchange with the last queue that is bound to it, in one step.
///
/// # Errors
/// Where the broker refuses, or the queue that was marked has just gone.
pub async fn bind_marked(channel: &Channel) -> Result<(), lapin::Error> {
    bind(channel, MARKED, "").await
}

async fn bind(channel: &Channel, exchange: &str, key: &str) -> Result<(), lapin::Error> {
    let options = QueueBindOptions::default();
    channel.queue_bind(QUEUE.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

fn is_not_found(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}

/// The same as RabbitMQ loads it at its start, in a virtual host of this name.
#[must_use]
pub fn definitions(virtual_host: &str) -> Value {
    let queue = |queue: Queue| {
        let arguments = queue.arguments.into_iter().map(|(name, argument)| {
            let value = match argument {
                Argument::Text(text) => json!(text),
                Argument::Number(number) => json!(number),
            };
            (name.to_owned(), value)
        });
        let arguments: serde_json::Map<String, Value> = arguments.collect();
        json!({ "name": queue.name, "vhost": virtual_host, "durable": true, "auto_delete": false, "arguments": arguments })
    };
    let binding = |key| {
        json!({
            "source": EXCHANGE, "vhost": virtual_host, "destination": QUEUE, "destination_type": "queue",
            "routing_key": key, "arguments": {},
        })
    };
    json!({
        "exchanges": [{
            "name": EXCHANGE, "vhost": virtual_host, "type": "topic", "durable": true, "auto_delete": false,
            "internal": false, "arguments": {},
        }],
        "queues": queues().into_iter().map(queue).collect::<Vec<_>>(),
        "bindings": bindings().into_iter().map(binding).collect::<Vec<_>>(),
    })
}

/// What users are told of. That an order is new is published for whoever else wants to know; here it would
/// be half of all that the queue has to keep, and the notifiers to throw away.
fn bindings() -> Vec<String> {
    let told = Status::ALL.into_iter().filter(|status| *status != NOT_TOLD).map(Status::as_str);
    told.chain([PAYMENT_REFUSED]).map(|name| format!("{ROUTING_PREFIX}{name}")).collect()
}

fn queues() -> Vec<Queue> {
    let mut queues = vec![
        Queue {
            name: QUEUE,
            arguments: [
                durable(),
                dead_letters_to(PARKING_QUEUE),
                vec![
                    ("x-delivery-limit", Argument::Number(DELIVERIES_MAX)),
                    ("x-max-length", Argument::Number(QUEUE_MESSAGES_MAX)),
                ],
            ]
            .into_iter()
            .flatten()
            .collect(),
        },
        Queue {
            name: PARKING_QUEUE,
            arguments: [durable(), vec![("x-delivery-limit", Argument::Number(PARKED_DELIVERIES_MAX))]].concat(),
        },
    ];
    queues.extend(RETRY_QUEUES.into_iter().map(|retry| {
        let delay = vec![("x-message-ttl", Argument::Number(retry.delay_ms))];
        Queue {
            name: retry.name,
            arguments: [durable(), dead_letters_to(QUEUE), delay].into_iter().flatten().collect(),
        }
    }));
    queues
}

fn durable() -> Vec<(&'static str, Argument)> {
    vec![("x-queue-type", Argument::Text("quorum")), ("x-overflow", Argument::Text("reject-publish"))]
}

/// At least once: the broker keeps the message until the other queue has it.
fn dead_letters_to(queue: &'static str) -> Vec<(&'static str, Argument)> {
    vec![
        ("x-dead-letter-exchange", Argument::Text("")),
        ("x-dead-letter-routing-key", Argument::Text(queue)),
        ("x-dead-letter-strategy", Argument::Text("at-least-once")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_file_says_the_same() {
        let file = include_str!("../../rabbitmq/definitions.json");
        let file: Value = serde_json::from_str(file).expect("JSON");
        let ours = definitions("/");
        for part in ["exchanges", "queues", "bindings"] {
            assert_eq!(file[part], ours[part], "{part}");
        }
    }
}
