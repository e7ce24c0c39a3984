-- Notifications: what users were told, and how they can be reached.

-- What became of an event on a channel: one row each, kept up to date by every attempt. Once it is
-- sent it is never sent again, however often the event arrives. status is the order's status that is
-- told; next_attempt_at is set while the program itself, without a broker, is to try again.
create table notifications (
    notification_id bigint generated always as identity,
    event_id text collate "C" not null,
    channel text collate "C" not null,
    user_id text collate "C" not null,
    order_id bigint not null,
    status text collate "C" not null,
    outcome text collate "C" not null,
    attempts integer not null,
    reason text,
    attempted_at timestamptz not null,
    next_attempt_at timestamptz,
    constraint notifications_pkey primary key (notification_id),
    constraint notifications_once unique (event_id, channel),
    constraint notifications_outcome_known check (outcome in ('sent', 'skipped', 'waiting', 'failed'))
);

create index notifications_of_user on notifications (user_id, notification_id);
create index notifications_due on notifications (next_attempt_at) where next_attempt_at is not null;

-- How a user can be reached.
create table contacts (
    user_id text collate "C" not null,
    email text not null,
    locale text collate "C" not null,
    updated_at timestamptz not null,
    constraint contacts_pkey primary key (user_id)
);
