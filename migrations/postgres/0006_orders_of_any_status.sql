-- Those that await payment are listed by an index too: where only a few do, they would else be looked for
-- among all orders. While it is built, orders can be read; only its exchange for the old one locks them, and
-- does not wait for it while everybody else waits behind.

create index orders_by_status on orders (status, order_id);
set local lock_timeout = '5s';
drop index orders_of_status;
alter index orders_by_status rename to orders_of_status;
