//! The channel that is always there: a line in the log.

use async_trait::async_trait;

use crate::domain::OrderEvent;

use super::{Channel, ChannelError, Contact, Delivery};

pub struct Log;

#[async_trait]
impl Channel for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn is_local(&self) -> bool {
        true
    }

    async fn send(&self, event: &OrderEvent, _: Option<&Contact>) -> Result<Delivery, ChannelError> {
        let reason = event.reason.as_deref().unwrap_or_default();
        let (order, user, told) = (event.order.0, event.user.as_str(), event.name());
        tracing::info!(event.id = %event.id, order.id = order, user, told, reason, "a user is notified");
        Ok(Delivery::Sent)
    }
}
