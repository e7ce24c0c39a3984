-- What most would write: one transaction per order, here even as one stored procedure, so that it
-- costs a single round trip. It writes the same rows into the same tables as LOMS does for
-- POST /orders: the order, its lines, two events and the reserved stock. Rows are locked in SKU order.

create sequence baseline_order_ids;
create sequence baseline_event_seqs;

create function baseline_place_order(buyer text, wanted text[]) returns bigint language plpgsql as $$
declare
    placed_id bigint := nextval('baseline_order_ids');
    reserved_rows integer;
begin
    perform 1 from stocks where sku = any(wanted) and warehouse_id = 1 order by sku for update;
    update stocks set reserved = reserved + 1
    where sku = any(wanted) and warehouse_id = 1 and reserved + 1 <= on_hand;
    get diagnostics reserved_rows = row_count;
    if reserved_rows <> cardinality(wanted) then
        raise exception 'out of stock';
    end if;
    insert into orders (order_id, user_id, status, total_price, created_at, updated_at, expires_at, version)
    values (placed_id, buyer, 'awaiting_payment', 300, now(), now(), now() + interval '10 minutes', 2);
    insert into order_lines (order_id, line, sku, name, price, count, warehouse_id)
    select placed_id, position, sku, 'Product ' || sku, 100, 1, 1
    from unnest(wanted) with ordinality as lines (sku, position);
    insert into events (writer_id, seq, order_id, version, status, occurred_at)
    values (0, nextval('baseline_event_seqs'), placed_id, 1, 'new', now()),
           (0, nextval('baseline_event_seqs'), placed_id, 2, 'awaiting_payment', now());
    return placed_id;
end
$$;
