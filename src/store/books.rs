//! What must always be true of the books, as queries that find where it is not.
//!
//! Each gives a sentence for each thing that does not add up, and is plain enough for both
//! databases. They run in one snapshot.

pub(super) const CHECKS: [&str; 9] = [
    // Reserved is what orders that await payment have taken.
    "select 'SKU ' || sku || ' in warehouse ' || coalesce(cast(warehouse_id as text), 'none') || ': '
         || cast(sum(reserved) as text) || ' units are reserved, but orders that await payment hold '
         || cast(sum(held) as text)
     from (select sku, warehouse_id, reserved, 0 as held from stocks
           union all
           select l.sku, l.warehouse_id, 0, l.count from order_lines l
           join orders o on o.order_id = l.order_id
           where o.status = 'awaiting_payment') books
     group by sku, warehouse_id having sum(reserved) <> sum(held) order by sku limit $1",
    "select 'SKU ' || sku || ' in warehouse ' || cast(warehouse_id as text) || ': '
         || cast(reserved as text) || ' units are reserved of ' || cast(on_hand as text) || ' on hand'
     from stocks where reserved < 0 or reserved > on_hand order by sku limit $1",
    // An order's events form a legal path.
    "select 'order ' || cast(e.order_id as text) || ': its status ' || cast(e.version as text) || ' is '
         || e.status || ' after ' || coalesce(previous.status, 'nothing')
     from events e
     left join events previous on previous.order_id = e.order_id and previous.version = e.version - 1
         and previous.status <> 'payment_refused'
     where e.status <> 'payment_refused' and not (
         (e.version = 1 and e.status = 'new')
         or (e.version = 2 and coalesce(previous.status, '') = 'new' and e.status in ('awaiting_payment', 'failed'))
         or (e.version = 3 and coalesce(previous.status, '') = 'awaiting_payment' and e.status in ('payed', 'cancelled')))
     order by e.order_id limit $1",
    // The path ends in the order's status.
    "select 'order ' || cast(o.order_id as text) || ' is ' || o.status || ' at version ' || cast(o.version as text)
         || ', but its history has ' || cast(count(e.version) as text) || ' entries, the last of that version '
         || coalesce(max(case when e.version = o.version then e.status end), 'missing')
     from orders o left join events e on e.order_id = o.order_id and e.status <> 'payment_refused'
     group by o.order_id, o.status, o.version
     having count(e.version) <> o.version
         or coalesce(max(case when e.version = o.version then e.status end), '') <> o.status
     order by o.order_id limit $1",
    "select 'order ' || cast(e.order_id as text) || ' has a history, but is missing'
     from events e left join orders o on o.order_id = e.order_id
     where o.order_id is null and e.version = 1 order by e.order_id limit $1",
    // That a payment was refused is told once.
    "select 'order ' || cast(o.order_id as text) || ' has ' || cast(count(e.seq) as text)
         || ' refused payments among its events, but '
         || case when o.payment_refused_at is null then 'knows of none' else 'should have one' end
     from orders o left join events e on e.order_id = o.order_id and e.status = 'payment_refused'
     group by o.order_id, o.payment_refused_at
     having count(e.seq) <> case when o.payment_refused_at is null then 0 else 1 end
     order by o.order_id limit $1",
    // Whose payment was taken is not told that it was refused.
    "select 'order ' || cast(order_id as text) || ' is payed, but a payment of it counts as refused'
     from orders where status = 'payed' and payment_refused_at is not null order by order_id limit $1",
    // The total is the sum of the lines.
    "select 'order ' || cast(o.order_id as text) || ' costs ' || cast(o.total_price as text)
         || ', but its lines cost ' || cast(coalesce(sum(l.price * l.count), 0) as text)
     from orders o left join order_lines l on l.order_id = o.order_id
     group by o.order_id, o.total_price
     having coalesce(sum(l.price * l.count), -1) <> o.total_price order by o.order_id limit $1",
    // Events are numbered densely, up to what the writer's row says.
    "select 'writer ' || cast(w.writer_id as text) || ' has written ' || cast(w.last_event as text)
         || ' events, but ' || cast(count(e.seq) as text) || ' are there, the last being '
         || cast(coalesce(max(e.seq), 0) as text)
     from writers w left join events e on e.writer_id = w.writer_id
     group by w.writer_id, w.last_event
     having count(e.seq) <> w.last_event or coalesce(max(e.seq), 0) <> w.last_event
     order by w.writer_id limit $1",
];
