-- Orders that have ended are listed by what they have come to, newest first: a rare status would
-- else be looked for among all orders. Those that await payment are among the newest anyway.

create index orders_of_status on orders (status, order_id) where status <> 'awaiting_payment';
