-- The purchase path: carts, orders, stock, events, writers, idempotency keys.
--
-- The same tables as in PostgreSQL. Times are whole microseconds since 1970, UTC; text compares
-- by its bytes, as it does in memory and in PostgreSQL.

-- A user's cart. Its version counts its edits; every write names the version that it expects.
create table carts (
    user_id text not null,
    version integer not null,
    constraint carts_pkey primary key (user_id)
) strict, without rowid;

-- The lines of a cart.
create table cart_items (
    user_id text not null,
    sku text not null,
    count integer not null,
    constraint cart_items_pkey primary key (user_id, sku),
    constraint cart_items_count_range check (count between 1 and 1000000)
) strict, without rowid;

-- An order and where its life has come to. Prices are in minor units.
create table orders (
    order_id integer not null,
    user_id text not null,
    status text not null,
    total_price integer not null,
    created_at integer not null,
    updated_at integer not null,
    expires_at integer not null,
    version integer not null,
    reason text,
    constraint orders_pkey primary key (order_id),
    constraint orders_status_known check (status in ('awaiting_payment', 'failed', 'payed', 'cancelled'))
) strict;

create index orders_of_user on orders (user_id, order_id);
create index orders_awaiting_payment on orders (expires_at) where status = 'awaiting_payment';

-- What was ordered, with name and price as sold. A line that takes from several warehouses has a
-- row for each; an order without reserved stock has rows without a warehouse. The lines of orders
-- that await payment are the reservations: there is no second table that could disagree.
create table order_lines (
    order_id integer not null,
    line integer not null,
    sku text not null,
    name text not null,
    price integer not null,
    count integer not null,
    warehouse_id integer,
    constraint order_lines_pkey primary key (order_id, line),
    constraint order_lines_count_positive check (count > 0)
) strict, without rowid;

-- One SKU in one warehouse.
create table stocks (
    sku text not null,
    warehouse_id integer not null,
    on_hand integer not null,
    reserved integer not null default 0,
    constraint stocks_pkey primary key (sku, warehouse_id),
    constraint stocks_reserved_covered check (0 <= reserved and reserved <= on_hand)
) strict, without rowid;

-- Goods in and goods lost: every adjustment of a shelf, with its reason.
create table stock_adjustments (
    adjustment_id integer,
    sku text not null,
    warehouse_id integer not null,
    delta integer not null,
    reason text not null,
    adjusted_at integer not null,
    constraint stock_adjustments_pkey primary key (adjustment_id)
) strict;

-- One row per status change: the order's history, the audit and the outbox at once. Numbered per
-- writer, densely, in commit order, by the only one who writes them.
create table events (
    writer_id integer not null,
    seq integer not null,
    order_id integer not null,
    version integer not null,
    status text not null,
    reason text,
    occurred_at integer not null,
    constraint events_pkey primary key (writer_id, seq)
) strict, without rowid;

create index events_of_order on events (order_id);

-- A running process that writes. Its owner is a random number of that process; a batch is written
-- under the epoch that the process knows, so that one which was replaced is refused. last_batch
-- tells after a lost answer whether the batch is in; published is the outbox relay's cursor.
create table writers (
    writer_id integer not null,
    owner integer not null,
    epoch integer not null,
    last_batch integer not null default 0,
    last_event integer not null default 0,
    published integer not null default 0,
    seen_at integer not null,
    constraint writers_pkey primary key (writer_id)
) strict, without rowid;

-- The outcome of a request that carried an Idempotency-Key, stored with its change.
create table idempotency_keys (
    key text not null,
    fingerprint blob not null,
    outcome text not null,
    created_at integer not null,
    constraint idempotency_keys_pkey primary key (key)
) strict, without rowid;

-- The next order id that no process has been given. One row.
create table order_ids (
    singleton integer not null default 1,
    next_id integer not null,
    constraint order_ids_pkey primary key (singleton),
    constraint order_ids_one_row check (singleton = 1)
) strict;

insert into order_ids (next_id) values (1);
