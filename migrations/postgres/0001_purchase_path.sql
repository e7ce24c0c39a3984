-- The purchase path: carts, orders, stock, events, writers, idempotency keys.
--
-- There are no foreign keys and no triggers: one writer statement keeps the tables together, and
-- the schema stays portable to distributed engines that speak PostgreSQL's protocol.
-- SKUs and users compare by their bytes (collate "C"), as they do in memory and in SQLite.

-- A user's cart. Its version counts its edits; every write names the version that it expects.
create table carts (
    user_id text collate "C" not null,
    version bigint not null,
    constraint carts_pkey primary key (user_id)
);

-- The lines of a cart.
create table cart_items (
    user_id text collate "C" not null,
    sku text collate "C" not null,
    count integer not null,
    constraint cart_items_pkey primary key (user_id, sku),
    constraint cart_items_count_range check (count between 1 and 1000000)
);

-- An order and where its life has come to. Prices are in minor units.
create table orders (
    order_id bigint not null,
    user_id text collate "C" not null,
    status text collate "C" not null,
    total_price bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    expires_at timestamptz not null,
    version integer not null,
    reason text,
    constraint orders_pkey primary key (order_id),
    constraint orders_status_known check (status in ('awaiting_payment', 'failed', 'payed', 'cancelled'))
);

create index orders_of_user on orders (user_id, order_id);
create index orders_awaiting_payment on orders (expires_at) where status = 'awaiting_payment';

-- What was ordered, with name and price as sold. A line that takes from several warehouses has a
-- row for each; an order without reserved stock has rows without a warehouse. The lines of orders
-- that await payment are the reservations: there is no second table that could disagree.
create table order_lines (
    order_id bigint not null,
    line integer not null,
    sku text collate "C" not null,
    name text not null,
    price bigint not null,
    count integer not null,
    warehouse_id integer,
    constraint order_lines_pkey primary key (order_id, line),
    constraint order_lines_count_positive check (count > 0)
);

-- One SKU in one warehouse. Every reservation rewrites a row here: the fill factor leaves room to
-- do that within the page.
create table stocks (
    sku text collate "C" not null,
    warehouse_id integer not null,
    on_hand bigint not null,
    reserved bigint not null default 0,
    constraint stocks_pkey primary key (sku, warehouse_id),
    constraint stocks_reserved_covered check (0 <= reserved and reserved <= on_hand)
) with (fillfactor = 50);

-- Goods in and goods lost: every adjustment of a shelf, with its reason.
create table stock_adjustments (
    adjustment_id bigint generated always as identity,
    sku text collate "C" not null,
    warehouse_id integer not null,
    delta bigint not null,
    reason text not null,
    adjusted_at timestamptz not null,
    constraint stock_adjustments_pkey primary key (adjustment_id)
);

-- One row per status change: the order's history, the audit and the outbox at once. Numbered per
-- writer, densely, in commit order, by the only one who writes them.
create table events (
    writer_id integer not null,
    seq bigint not null,
    order_id bigint not null,
    version integer not null,
    status text collate "C" not null,
    reason text,
    occurred_at timestamptz not null,
    constraint events_pkey primary key (writer_id, seq)
);

create index events_of_order on events (order_id);

-- A running process that writes. Its owner is a random number of that process; a batch is written
-- under the epoch that the process knows, so that one which was replaced is refused. last_batch
-- tells after a lost answer whether the batch is in; published is the outbox relay's cursor.
create table writers (
    writer_id integer not null,
    owner bigint not null,
    epoch bigint not null,
    last_batch bigint not null default 0,
    last_event bigint not null default 0,
    published bigint not null default 0,
    seen_at timestamptz not null,
    constraint writers_pkey primary key (writer_id)
) with (fillfactor = 20);

-- The outcome of a request that carried an Idempotency-Key, stored with its change.
create table idempotency_keys (
    key text collate "C" not null,
    fingerprint bytea not null,
    outcome text not null,
    created_at timestamptz not null,
    constraint idempotency_keys_pkey primary key (key)
);

-- The next order id that no process has been given. One row.
create table order_ids (
    singleton boolean not null default true,
    next_id bigint not null,
    constraint order_ids_pkey primary key (singleton),
    constraint order_ids_one_row check (singleton)
);

insert into order_ids (next_id) values (1);
