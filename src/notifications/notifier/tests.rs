//! The notifier between channels that take their time and a log that does not take every record.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::SystemClock;
use crate::domain::contact::{Email, Locale};
use crate::domain::{EventKind, Money, OrderId};
use crate::store::notification_log::{Known, Notification, NotificationFilter};

use super::*;

/// Takes its time for each notification.
struct Letters {
    takes: Duration,
    sent: Mutex<Vec<EventId>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

#[derive(Default)]
enum Prolongs {
    #[default]
    All,
    /// It does not answer.
    Silent,
    /// Somebody else has taken over.
    Nothing,
}

/// Refuses the first records, and keeps the others. Lends what no other notifier has.
#[derive(Default)]
struct Log {
    refusals: AtomicUsize,
    kept: Mutex<Vec<(EventId, Told)>>,
    /// In another notifier's hand.
    elsewhere: Mutex<Vec<EventId>>,
    leased_until: Mutex<Option<Instant>>,
    /// What becomes of every attempt to prolong.
    prolongs: Prolongs,
}

#[async_trait::async_trait]
impl Channel for Arc<Letters> {
    fn name(&self) -> &'static str {
        "letters"
    }

    async fn send(&self, event: &OrderEvent, _: Option<&Contact>) -> Result<Delivery, ChannelError> {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.sent.lock().expect("no panic").push(event.id);
        Ok(Delivery::Sent)
    }
}

#[async_trait::async_trait]
impl NotificationLog for Log {
    async fn lease(&self, events: &[EventId], _: i64, time_to_live: Duration) -> Result<Vec<EventId>, StoreError> {
        let elsewhere = self.elsewhere.lock().expect("no panic");
        *self.leased_until.lock().expect("no panic") = Some(Instant::now() + time_to_live);
        Ok(events.iter().filter(|event| !elsewhere.contains(event)).copied().collect())
    }

    async fn prolong(&self, _: &[EventId], _: i64, time_to_live: Duration) -> Result<bool, StoreError> {
        match self.prolongs {
            Prolongs::All => {}
            Prolongs::Silent => return Err(StoreError::TimedOut),
            Prolongs::Nothing => return Ok(false),
        }
        *self.leased_until.lock().expect("no panic") = Some(Instant::now() + time_to_live);
        Ok(true)
    }

    async fn release(&self, _: &[EventId], _: i64) -> Result<(), StoreError> {
        *self.leased_until.lock().expect("no panic") = None;
        Ok(())
    }

    async fn known(&self, _: &[EventId]) -> Result<Vec<Known>, StoreError> {
        let known = |(event, told): &(EventId, Told)| Known {
            event: *event,
            channel: "letters".to_owned(),
            told: *told,
            attempts: ATTEMPTS_MAX - 1,
        };
        Ok(self.kept.lock().expect("no panic").iter().map(known).collect())
    }

    async fn untold(&self, _: EventId, _: i64) -> Result<Vec<EventId>, StoreError> {
        Ok(Vec::new())
    }

    async fn record(&self, attempts: &[Attempt<'_>], _: Offer) -> Result<(), StoreError> {
        if self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(StoreError::TimedOut);
        }
        self.kept.lock().expect("no panic").extend(attempts.iter().map(|attempt| (attempt.event.id, attempt.told)));
        Ok(())
    }

    async fn due(&self, _: Time, _: i32, _: &[&str], _: u32) -> Result<Vec<EventId>, StoreError> {
        Ok(Vec::new())
    }

    async fn notifications(&self, _: &NotificationFilter) -> Result<Vec<Notification>, StoreError> {
        Ok(Vec::new())
    }

    async fn contacts(&self, _: &[UserId]) -> Result<Vec<(UserId, Contact)>, StoreError> {
        Ok(Vec::new())
    }

    async fn set_contact(&self, _: &UserId, _: &Contact, _: Time) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Three events of each of these orders, one order after another.
fn events(orders: i64) -> Vec<OrderEvent> {
    let event = |seq: i64| OrderEvent {
        id: EventId { writer: 1, seq },
        order: OrderId(seq / 3),
        user: UserId::parse("ann").expect("a user"),
        kind: EventKind::StatusChanged,
        status: Status::Payed,
        reason: None,
        at: Time::UNIX_EPOCH,
        version: 1,
        items: Arc::new([]),
        total: Money(0),
    };
    (0..3 * orders).map(event).collect()
}

fn notifier(refusals: usize) -> (Notifier, Arc<Letters>, Arc<Log>) {
    sending_for(Duration::from_millis(100), Log { refusals: refusals.into(), ..Log::default() })
}

fn sending_for(takes: Duration, log: Log) -> (Notifier, Arc<Letters>, Arc<Log>) {
    let (sent, under_way, most_under_way) = Default::default();
    let (letters, log) = (Arc::new(Letters { takes, sent, under_way, most_under_way }), Arc::new(log));
    let notifier = Notifier::new(vec![Box::new(Arc::clone(&letters))], log.clone(), Arc::new(SystemClock));
    (notifier, letters, log)
}

#[tokio::test(start_paused = true)]
async fn many_are_notified_at_once_and_of_an_order_one_after_another() {
    let (notifier, letters, log) = notifier(0);
    let events = events(64);
    let verdicts = notifier.notify(&events, Source::Broker).await.expect("told");
    assert_eq!(verdicts, vec![Verdict::Done; events.len()]);
    assert_eq!(letters.most_under_way.load(Ordering::Relaxed), LANES);
    let sent = letters.sent.lock().expect("no panic");
    for order in events.chunks(3) {
        let places: Vec<_> = order.iter().map(|event| sent.iter().position(|id| *id == event.id)).collect();
        assert!(places.is_sorted() && places[0].is_some(), "{places:?}");
    }
    let kept = log.kept.lock().expect("no panic");
    assert!(kept.iter().map(|(event, _)| event.seq).eq(0..192), "recorded in the order of the events");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_notified_again_because_the_record_was_refused() {
    let (notifier, letters, log) = notifier(5);
    let events = events(40);
    notifier.notify(&events, Source::Relay(Offer::First)).await.expect("told");
    assert_eq!(letters.sent.lock().expect("no panic").len(), events.len());
    assert_eq!(log.kept.lock().expect("no panic").len(), events.len());
}

#[tokio::test(start_paused = true)]
async fn what_has_given_up_is_tried_again_for_an_operator_only() {
    let (notifier, letters, log) = notifier(0);
    let events = events(2);
    log.kept.lock().expect("no panic").extend(events.iter().map(|event| (event.id, Told::Failed)));
    let verdicts = notifier.notify(&events, Source::Broker).await.expect("told");
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::GivenUp { .. })), "{verdicts:?}");
    assert_eq!(*letters.sent.lock().expect("no panic"), []);
    let verdicts = notifier.notify(&events, Source::Operator).await.expect("told");
    assert_eq!(verdicts, vec![Verdict::Done; events.len()]);
    assert_eq!(letters.sent.lock().expect("no panic").len(), events.len());
}

#[tokio::test(start_paused = true)]
async fn what_another_notifier_has_in_hand_comes_again_with_what_follows_it() {
    let (notifier, letters, log) = notifier(0);
    let events = events(3);
    log.elsewhere.lock().expect("no panic").push(events[4].id);
    let verdicts = notifier.notify(&events, Source::Broker).await.expect("told");
    let of_second_order = vec![Verdict::InHand; 3];
    assert_eq!(verdicts, [vec![Verdict::Done; 3], of_second_order, vec![Verdict::Done; 3]].concat());
    log.elsewhere.lock().expect("no panic").clear();
    let verdicts = notifier.notify(&events, Source::Broker).await.expect("told");
    assert_eq!(verdicts, vec![Verdict::Done; events.len()]);
    let mut sent = letters.sent.lock().expect("no panic").clone();
    sent.sort_unstable();
    assert!(sent.iter().map(|event| event.seq).eq(0..9), "each once: {sent:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_for_long_stays_in_hand_until_it_is_recorded() {
    let (notifier, _, log) = sending_for(Duration::from_secs(20), Log { refusals: 9.into(), ..Log::default() });
    let (events, begun) = (events(1), Instant::now());
    let mut telling = std::pin::pin!(notifier.notify(&events, Source::Broker));
    loop {
        tokio::select! {
            told = &mut telling => break assert_eq!(told.expect("told"), vec![Verdict::Done; 3]),
            () = tokio::time::sleep(Duration::from_millis(700)) => {}
        }
        let is_held = log.leased_until.lock().expect("no panic").is_some_and(|until| until > Instant::now());
        assert!(is_held, "let go after {:?}", begun.elapsed());
    }
    assert!(begun.elapsed() > Duration::from_secs(65), "three letters, and some time for the record");
    assert_eq!(*log.leased_until.lock().expect("no panic"), None, "it is still in hand");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_in_hand_is_not_told() {
    let log = Log { prolongs: Prolongs::Silent, ..Log::default() };
    let (notifier, letters, log) = sending_for(Duration::from_secs(10), log);
    let events = events(1);
    let verdicts = notifier.notify(&events, Source::Broker).await.expect("told");
    assert_eq!(verdicts, [Verdict::Done, Verdict::Done, Verdict::InHand], "the third one would begin after 20 s");
    assert_eq!(*letters.sent.lock().expect("no panic"), [events[0].id, events[1].id]);
    assert_eq!(log.kept.lock().expect("no panic").len(), 2, "what was sent is recorded");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_taken_over_is_not_told() {
    let log = Log { prolongs: Prolongs::Nothing, ..Log::default() };
    let (notifier, letters, _) = sending_for(Duration::from_secs(5), log);
    let verdicts = notifier.notify(&events(1), Source::Broker).await.expect("told");
    assert_eq!(verdicts, [Verdict::Done, Verdict::InHand, Verdict::InHand], "it was known after 3 s");
    assert_eq!(letters.sent.lock().expect("no panic").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_stop_ends_what_is_being_sent_and_begins_nothing() {
    let (notifier, letters, log) = sending_for(Duration::from_secs(5), Log::default());
    let events = events(1);
    for source in [Source::Broker, Source::Relay(Offer::First)] {
        let (told, ()) = tokio::join!(notifier.notify(&events, source), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            notifier.stop();
        });
        assert_eq!(told.expect("told"), [Verdict::Done, Verdict::InHand, Verdict::InHand]);
        assert_eq!(*letters.sent.lock().expect("no panic"), [events[0].id]);
        assert_eq!(*log.kept.lock().expect("no panic"), [(events[0].id, Told::Sent)]);
    }
}

/// Tells at once.
struct Notes;

#[async_trait::async_trait]
impl Channel for Notes {
    fn name(&self) -> &'static str {
        "notes"
    }

    fn is_local(&self) -> bool {
        true
    }

    async fn send(&self, _: &OrderEvent, _: Option<&Contact>) -> Result<Delivery, ChannelError> {
        Ok(Delivery::Sent)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_leaves_told_on_some_channels_only_does_not_pass_for_told() {
    let (mut notifier, _, log) = sending_for(Duration::from_secs(5), Log::default());
    notifier.channels.insert(0, CircuitBreaker::around(Box::new(Notes)));
    let events = events(1);
    let (told, ()) = tokio::join!(notifier.notify(&events, Source::Broker), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        notifier.stop();
    });
    assert_eq!(told.expect("told"), [Verdict::Done, Verdict::InHand, Verdict::InHand]);
    let kept: Vec<_> = log.kept.lock().expect("no panic").iter().map(|(event, told)| (event.seq, *told)).collect();
    let (sent, waiting) = (Told::Sent, Told::Waiting);
    assert_eq!(kept, [(0, sent), (0, sent), (1, sent), (1, waiting), (2, sent), (2, waiting)]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_time_is_not_hurried_by_the_relay() {
    let (notifier, letters, log) = notifier(0);
    let events = events(1);
    log.kept.lock().expect("no panic").extend(events.iter().map(|event| (event.id, Told::Waiting)));
    let verdicts = notifier.notify(&events, Source::Relay(Offer::Again)).await.expect("told");
    assert_eq!(verdicts, vec![Verdict::Done; 3]);
    assert_eq!(*letters.sent.lock().expect("no panic"), []);
    notifier.notify(&events, Source::Retry).await.expect("told");
    assert_eq!(letters.sent.lock().expect("no panic").len(), 3);
}

/// Does not answer.
#[derive(Default)]
struct Silent(AtomicUsize);

#[async_trait::async_trait]
impl Channel for Arc<Silent> {
    fn name(&self) -> &'static str {
        "letters"
    }

    async fn send(&self, _: &OrderEvent, _: Option<&Contact>) -> Result<Delivery, ChannelError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(10)).await;
        Err(ChannelError::Later("no answer".to_owned()))
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_left_alone_and_nothing_is_given_up_untried() {
    let (silent, log) = (Arc::<Silent>::default(), Arc::<Log>::default());
    let notifier = Notifier::new(vec![Box::new(Arc::clone(&silent))], log.clone(), Arc::new(SystemClock));
    let events = events(8);
    let tell = async || notifier.notify(&events, Source::Broker).await.expect("told");
    let began = Instant::now();
    let first = tell().await;
    let asked = silent.0.load(Ordering::Relaxed);
    assert!(asked < 12, "{asked} calls: the first of three in each lane, and what was begun before four were silent");
    assert!(began.elapsed() < Duration::from_secs(21), "the others were waited for");
    assert_eq!(first, vec![Verdict::Again { attempts: 1 }; 24]);

    // All of them are known to wait for the last of their attempts.
    log.kept.lock().expect("no panic").extend(events.iter().map(|event| (event.id, Told::Waiting)));
    assert_eq!(tell().await, vec![Verdict::Again { attempts: ATTEMPTS_MAX - 1 }; 24]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let given_up = tell().await.into_iter().filter(|verdict| matches!(verdict, Verdict::GivenUp { .. })).count();
    assert_eq!((silent.0.load(Ordering::Relaxed), given_up), (asked + 1, 1), "one is tried, to see");
}

/// Does not answer, either; but is asked of those only who have an address, and of no order that failed.
struct Mail(Arc<Silent>);

#[async_trait::async_trait]
impl Channel for Mail {
    fn name(&self) -> &'static str {
        "mail"
    }

    fn needs_contact(&self) -> bool {
        true
    }

    async fn send(&self, event: &OrderEvent, contact: Option<&Contact>) -> Result<Delivery, ChannelError> {
        match contact {
            Some(_) if event.status != Status::Failed => self.0.send(event, contact).await,
            _ => Ok(Delivery::Skipped("nobody")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_nobody_to_ask_is_not_the_one_to_be_tried() {
    let breaker = CircuitBreaker::around(Box::new(Mail(Arc::default())));
    let event = events(1).remove(0);
    let unmailed = OrderEvent { status: Status::Failed, ..event.clone() };
    let ann = Contact { email: Email::parse("ann@example.org").expect("an address"), locale: Locale::default() };
    let (skipped, left_alone) = (Some(Ok(Delivery::Skipped("nobody"))), None);
    for _ in 0..4 {
        assert!(matches!(breaker.send(&event, Some(&ann)).await, Some(Err(ChannelError::Later(_)))));
        assert_eq!(breaker.send(&event, None).await, skipped, "it is no answer");
    }
    assert_eq!(breaker.send(&event, Some(&ann)).await, left_alone);
    assert_eq!(breaker.send(&event, None).await, skipped, "nobody is to be waited for");
    assert_eq!(breaker.send(&event, Some(&ann)).await, left_alone);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(breaker.send(&event, None).await, skipped);
    assert_eq!(breaker.send(&unmailed, Some(&ann)).await, skipped);
    assert!(breaker.send(&event, Some(&ann)).await.is_some(), "it is tried again");
    assert_eq!(breaker.send(&event, Some(&ann)).await, left_alone);
}

/// The relay was halted with them in hand, so that another process has taken its place.
#[tokio::test(start_paused = true)]
async fn what_an_heir_has_told_meanwhile_is_not_told_again() {
    let (notifier, letters, log) = notifier(0);
    let events = events(1);
    log.kept.lock().expect("no panic").extend(events.iter().map(|event| (event.id, Told::Sent)));
    let verdicts = notifier.notify(&events, Source::Relay(Offer::First)).await.expect("told");
    assert_eq!(verdicts, vec![Verdict::Done; 3]);
    assert_eq!(*letters.sent.lock().expect("no panic"), []);
}

#[test]
fn an_event_comes_again_as_long_as_one_channel_is_to_try_again() {
    let (again, given_up) = (|attempts| Verdict::Again { attempts }, Verdict::GivenUp { reason: "gone".to_owned() });
    assert_eq!(Verdict::Done.and(given_up.clone()).and(Verdict::Done), given_up);
    assert_eq!(given_up.clone().and(again(2)), again(2));
    assert_eq!(again(3).and(given_up).and(again(2)).and(Verdict::Done), again(2));
}
