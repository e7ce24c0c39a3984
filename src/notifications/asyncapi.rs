//! The AsyncAPI document of the events, made from what writes them and from the topology.

use serde_json::{Value, json};

use crate::domain::event::PAYMENT_REFUSED;
use crate::domain::order::Status;

use super::{message, topology};

/// AsyncAPI 3.0.0, <https://www.asyncapi.com/docs/reference/specification/v3.0.0>.
#[must_use]
pub fn document() -> Value {
    let names = || Status::ALL.into_iter().map(Status::as_str).chain([PAYMENT_REFUSED]);
    let messages = names().map(|name| {
        let title = match name {
            PAYMENT_REFUSED => "A payment for an order was refused, for the first time: the money must go back".into(),
            status => format!("An order is {status}"),
        };
        let r#type = format!("{}{name}", message::TYPE_PREFIX);
        let message = json!({
            "name": r#type,
            "title": title,
            "contentType": message::CONTENT_TYPE,
            "payload": { "$ref": "#/components/schemas/OrderEvent" },
            "bindings": { "amqp": { "messageType": r#type, "bindingVersion": "0.3.0" } },
        });
        (name.to_owned(), message)
    });
    let messages: serde_json::Map<String, Value> = messages.collect();
    let references: Vec<Value> =
        messages.keys().map(|name| json!({ "$ref": format!("#/channels/orders/messages/{name}") })).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "LOMS",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What becomes of orders: an event for each change of status and for the first refused \
                            payment, at least once, those of an order in their order. CloudEvents 1.0 in JSON.",
        },
        "defaultContentType": message::CONTENT_TYPE,
        "channels": { "orders": {
            "address": format!("{}{{name}}", topology::ROUTING_PREFIX),
            "description": "The routing key ends in the status that the order has come to, or in payment_refused.",
            "parameters": { "name": { "enum": names().collect::<Vec<_>>() } },
            "messages": messages,
            "bindings": { "amqp": {
                "is": "routingKey",
                "exchange": { "name": topology::EXCHANGE, "type": "topic", "durable": true, "autoDelete": false },
                "bindingVersion": "0.3.0",
            } },
        } },
        "operations": { "publishOrderEvents": {
            "action": "send",
            "channel": { "$ref": "#/channels/orders" },
            "messages": references,
            "bindings": { "amqp": { "deliveryMode": 2, "mandatory": true, "bindingVersion": "0.3.0" } },
        } },
        "components": { "schemas": { "OrderEvent": message::schema() } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_a_message_is_described() {
        let document = document();
        let schema = &document["components"]["schemas"]["OrderEvent"];
        let envelope = ["id", "source", "type", "subject", "time", "specversion", "dataschema", "datacontenttype"];
        for member in envelope {
            assert!(schema["properties"][member].is_object(), "{member}: {schema}");
        }
        let data = &schema["properties"]["data"]["properties"];
        for member in ["order_id", "user", "status", "previous_status", "reason", "total_price", "currency", "version"]
        {
            assert!(data[member].is_object(), "{member}: {schema}");
        }
        assert!(data["items"]["items"]["properties"]["sku"].is_object(), "{schema}");
        assert!(!schema.to_string().contains("$ref"), "it needs no other document: {schema}");
        assert_eq!(document["channels"]["orders"]["messages"]["payed"]["name"], "loms.order.payed");
    }
}
