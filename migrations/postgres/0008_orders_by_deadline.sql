-- Orders that await payment are read by the page, in the order of their deadlines. Where PostgreSQL believes that only a few
-- of them wait, it sorted all that do for each page: the index now has their whole order. While it is built, orders can
-- be read; see migration 6 for its exchange.

create index orders_by_deadline on orders (expires_at, order_id) where status = 'awaiting_payment';
set local lock_timeout = '5s';
drop index orders_awaiting_payment;
alter index orders_by_deadline rename to orders_awaiting_payment;
