//! The statements of a stock edit that both databases understand.

/// What becomes of a shelf that is to be inserted and is there: it is counted, unless more is reserved of it.
pub(super) const COUNT_AGAIN: &str =
    "do update set on_hand = excluded.on_hand where stocks.reserved <= excluded.on_hand";
/// Or it stays as it is.
pub(super) const LEAVE: &str = "do nothing";

/// $1 SKU, $2 warehouse, $3 units, $4 the most on hand. No row where the shelf is not there or does not take it.
pub(super) const ADD_TO_SHELF: &str = "
    update stocks set on_hand = on_hand + $3
    where sku = $1 and warehouse_id = $2 and on_hand >= reserved - $3 and ($3 < 0 or on_hand <= $4 - $3)";

/// Parameters as before. No row where the shelf is there, or would have too much or too little.
pub(super) const BEGIN_SHELF: &str = "
    insert into stocks (sku, warehouse_id, on_hand) select $1, $2, $3 where $3 between 0 and $4
    on conflict (sku, warehouse_id) do nothing";

pub(super) const NOTE_ADJUSTMENT: &str = "
    insert into stock_adjustments (sku, warehouse_id, delta, reason, adjusted_at) values ($1, $2, $3, $4, $5)";

/// No row where the key is already there.
pub(super) const KEEP_KEY: &str = "
    insert into idempotency_keys (key, fingerprint, outcome, created_at) values ($1, $2, $3, $4)
    on conflict (key) do nothing";
