-- So many orders of three lines, with their history, as a writer of its own would have left them: all
-- in one status, with deadlines spread evenly over a time from the first on.
insert into writers (writer_id, owner, epoch, last_batch, last_event, published, seen_at)
select 1000, 0, 1, 1, statuses * :orders, statuses * :orders, now() - interval '1 hour'
from (select case :'status' when 'awaiting_payment' then 2 else 3 end) as history (statuses);

insert into orders (order_id, user_id, status, total_price, created_at, updated_at, expires_at, version)
select first_id + number, 'user-' || (number::bigint * 7919 % 100000), :'status', 300, now(), now(),
       now() + interval :'first' + interval :'spread' * number / :orders, writers.last_event / :orders
from (select next_id from order_ids) as ids (first_id), writers, generate_series(0, :orders - 1) as number
where writers.writer_id = 1000;

insert into order_lines (order_id, line, sku, name, price, count, warehouse_id)
select order_id, line, sku, 'Product ' || sku, 100, 1, 1
from orders, generate_series(1, 3) as line,
    lateral (select 'S' || lpad(((order_id * 31 + 3333 * line) % 10000)::text, 5, '0')) as wanted (sku);

insert into events (writer_id, seq, order_id, version, status, occurred_at)
select 1000, row_number() over (order by order_id, step), order_id, step,
       case step when 1 then 'new' when 2 then 'awaiting_payment' else :'status' end, now()
from orders, generate_series(1, orders.version) as step;

update stocks set
    on_hand = on_hand - case :'status' when 'payed' then units else 0 end,
    reserved = reserved + case :'status' when 'awaiting_payment' then units else 0 end
from (select sku, warehouse_id, sum(count) as units from order_lines group by sku, warehouse_id) as ordered
where stocks.sku = ordered.sku and stocks.warehouse_id = ordered.warehouse_id;

update order_ids set next_id = next_id + :orders;

vacuum analyze;
checkpoint;
