-- Nothing: in SQLite each index has the order's id behind its columns.

select 1;
