-- Events that a notifier has in hand, and until when no other one takes them (microseconds). Rows are there while users
-- are told, and where a notifier has died; who comes next overwrites these.
create table notification_leases (
    event_id text not null,
    holder integer not null,
    expires_at integer not null,
    constraint notification_leases_pkey primary key (event_id)
) strict, without rowid;
