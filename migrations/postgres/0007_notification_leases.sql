-- Events that a notifier has in hand, and until when no other one takes them. Rows are there while users are told, and
-- where a notifier has died; who comes next overwrites these.
create table notification_leases (
    event_id text collate "C" not null,
    holder bigint not null,
    expires_at timestamptz not null,
    constraint notification_leases_pkey primary key (event_id)
);
