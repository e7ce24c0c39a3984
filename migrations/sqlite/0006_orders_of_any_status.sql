-- Those that await payment are listed by an index too: where only a few do, they would else be looked for
-- among all orders.

drop index orders_of_status;
create index orders_of_status on orders (status, order_id);
