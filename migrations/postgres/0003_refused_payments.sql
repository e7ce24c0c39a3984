-- Refused payments: an order that was paid for at or after its deadline, or after it had ended, says
-- since when somebody waits for the money. The event 'payment_refused' in events tells of it once;
-- it is no change of status and has the version that the order then had.

alter table orders add column payment_refused_at timestamptz;
