//! What is read of the database, beside the writer.

use std::ops::Range;

use async_trait::async_trait;
use loms::domain::cart::Cart;
use loms::domain::order::{Order, Status};
use loms::domain::stock::Shelf;
use loms::domain::{EventId, EventKind, OrderEvent, OrderId, Sku, Time, UserId};
use loms::store::{
    HistoryEntry, Key, OpenError, OrderFilter, OtherWriter, Outbox, Store, StoreError, StoredOutcome, Writer,
    WriterIdentity,
};

use loms::store::outbox::told_after;

use super::MemoryStore;

#[async_trait]
impl Store for MemoryStore {
    async fn migrate(&self) -> Result<(), OpenError> {
        Ok(())
    }

    async fn open_writer(&self, owner: i64, now: Time) -> Result<(WriterIdentity, Box<dyn Writer>), StoreError> {
        self.claim_writer(owner, now).await
    }

    async fn reopen_writer(&self, identity: WriterIdentity, now: Time) -> Result<Option<Box<dyn Writer>>, StoreError> {
        self.reclaim_writer(identity, now).await
    }

    async fn other_writers(&self, owner: i64) -> Result<Vec<OtherWriter>, StoreError> {
        self.call(|database| database.tables().other_writers(owner)).await
    }

    async fn dismiss_writer(&self, seen: &OtherWriter) -> Result<(), StoreError> {
        self.take_place(seen).await
    }

    async fn take_order_ids(&self, count: i64) -> Result<Range<i64>, StoreError> {
        self.call(|database| {
            let mut next = database.next_order_id.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *next += count;
            *next - count + 1..*next + 1
        })
        .await
    }

    async fn cart(&self, user: &UserId) -> Result<Cart, StoreError> {
        self.call(|database| database.tables().carts.get(user).cloned().unwrap_or_default()).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        self.call(|database| database.tables().orders.get(&id).cloned()).await
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<Order>, StoreError> {
        let matches = |order: &&Order| {
            filter.user.as_ref().is_none_or(|user| order.user == *user)
                && filter.status.is_none_or(|status| order.status == status)
                && filter.before.is_none_or(|before| order.id < before)
        };
        let limit = filter.limit as usize;
        self.call(|database| database.tables().orders.values().rev().filter(matches).take(limit).cloned().collect())
            .await
    }

    async fn history(&self, id: OrderId) -> Result<Vec<HistoryEntry>, StoreError> {
        let entry = |event: &OrderEvent| {
            let entry = HistoryEntry {
                event_id: event.id.to_string(),
                status: event.status,
                at: event.at,
                reason: event.reason.clone(),
            };
            (event.version, entry)
        };
        let is_its = |event: &&OrderEvent| event.order == id && event.kind == EventKind::StatusChanged;
        let mut history: Vec<_> =
            self.call(|database| database.tables().events.values().filter(is_its).map(entry).collect()).await?;
        history.sort_unstable_by_key(|(version, _)| *version);
        Ok(history.into_iter().map(|(_, entry)| entry).collect())
    }

    async fn awaiting_payment(
        &self,
        after: (Time, OrderId),
        until: Time,
        limit: u32,
    ) -> Result<Vec<Order>, StoreError> {
        let due = |order: &&Order| {
            let awaits = order.status == Status::AwaitingPayment;
            awaits && (order.expires_at, order.id) > after && order.expires_at <= until
        };
        let mut orders: Vec<Order> =
            self.call(|database| database.tables().orders.values().filter(due).cloned().collect()).await?;
        orders.sort_unstable_by_key(|order| (order.expires_at, order.id));
        orders.truncate(limit as usize);
        Ok(orders)
    }

    async fn shelves(&self, skus: &[Sku]) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        self.call(|database| database.tables().shelves_of(skus)).await
    }

    async fn shelves_after(&self, after: Option<&(Sku, Shelf)>, limit: u32) -> Result<Vec<(Sku, Shelf)>, StoreError> {
        let after = after.map(|(sku, shelf)| (sku.clone(), shelf.warehouse));
        self.call(|database| {
            let tables = database.tables();
            let rest = tables.shelves.iter().filter(|(place, _)| after.as_ref().is_none_or(|after| *place > after));
            rest.take(limit as usize).map(|((sku, _), shelf)| (sku.clone(), *shelf)).collect()
        })
        .await
    }

    async fn outcome(&self, key: &Key) -> Result<Option<StoredOutcome>, StoreError> {
        self.call(|database| database.tables().keys.get(key).cloned()).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.call(|database| {
            let tables = database.tables();
            tables.orders.is_empty() && tables.carts.is_empty() && tables.shelves.is_empty()
        })
        .await
    }

    async fn differences(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        let mut differences = self.call(|database| database.tables().differences()).await?;
        differences.truncate(limit as usize);
        Ok(differences)
    }

    async fn close(&self) {}
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn published(&self, writer: i32) -> Result<EventId, StoreError> {
        let seq = self.call(|database| database.tables().writers.get(&writer).map(|row| row.published)).await?;
        Ok(EventId { writer, seq: seq.ok_or(StoreError::Database(sqlx::Error::RowNotFound))? })
    }

    async fn last_events(&self) -> Result<Vec<EventId>, StoreError> {
        self.call(|database| {
            let tables = database.tables();
            tables.writers.iter().map(|(writer, row)| EventId { writer: *writer, seq: row.last_event }).collect()
        })
        .await
    }

    async fn events_after(&self, after: EventId, limit: u32) -> Result<Vec<OrderEvent>, StoreError> {
        let next = EventId { seq: after.seq + 1, ..after }..EventId { writer: after.writer + 1, seq: 0 };
        self.call(|database| {
            let tables = database.tables();
            tables.events.range(next).take(limit as usize).map(|(_, event)| event.clone()).collect()
        })
        .await
    }

    async fn ready(&self, events: &[OrderEvent]) -> Result<usize, StoreError> {
        self.call(|database| {
            let tables = database.tables();
            let is_held = |event: &OrderEvent| {
                tables.events.values().any(|other| {
                    other.order == event.order
                        && other.version < told_after(event)
                        && other.id.writer != event.id.writer
                        && tables.writers.get(&other.id.writer).is_some_and(|row| row.published < other.id.seq)
                })
            };
            events.iter().position(is_held).unwrap_or(events.len())
        })
        .await
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<OrderEvent>, StoreError> {
        self.call(|database| {
            let tables = database.tables();
            tables.events.values().filter(|event| ids.contains(&event.id)).cloned().collect()
        })
        .await
    }

    async fn abandoned(&self, now: Time, heir: i32) -> Result<Vec<EventId>, StoreError> {
        self.call(|database| {
            let tables = database.tables();
            if !tables.is_heir(heir, now) {
                return Vec::new();
            }
            let left = tables
                .writers
                .iter()
                .filter(|(writer, row)| **writer != heir && !row.lives(now) && row.published < row.last_event);
            left.map(|(writer, row)| EventId { writer: *writer, seq: row.published }).collect()
        })
        .await
    }

    async fn mark_published(&self, up_to: EventId) -> Result<(), StoreError> {
        self.call(|_| ()).await?;
        // The row may be held by a transaction.
        let _transaction = self.database.transaction.lock().await;
        if let Some(row) = self.database.tables().writers.get_mut(&up_to.writer) {
            row.published = row.published.max(up_to.seq);
        }
        Ok(())
    }
}
