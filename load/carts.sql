-- A cart of three lines for each of so many users, as POST /carts/{user}/items would have made them.
insert into carts (user_id, version)
select 'user-' || lpad(number::text, 5, '0'), 3 from generate_series(0, :users - 1) as number;

insert into cart_items (user_id, sku, count)
select 'user-' || lpad(number::text, 5, '0'), 'S' || lpad(((number + 3333 * line) % 10000)::text, 5, '0'), 1
from generate_series(0, :users - 1) as number, generate_series(0, 2) as line;

vacuum analyze;
