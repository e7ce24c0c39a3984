-- A user's notifications are found by the user's orders. In an index by user each new entry lies
-- elsewhere: SQLite wrote a page for every notification. Those of new orders lie side by side.

create index notifications_of_order on notifications (order_id);
drop index notifications_of_user;
