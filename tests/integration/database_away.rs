//! The database goes away from the notifier alone: nothing is told twice, and nothing is parked,
//! however often it is tried meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::BasicProperties;
use loms::notifications::topology::{PARKING_QUEUE, QUEUE};

use crate::support::client::eventually;
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::receiver::{Behaviour, Receiver};
use crate::support::shop::Shop;
use crate::support::tcp_proxy::{Action, TcpProxy};
use crate::support::witness;

const PATIENCE: Duration = Duration::from_secs(60);
const ORDERS: usize = 20;
/// Fewer than it really is, so that the outage need not last long.
const DELIVERIES_MAX: &str = r#"{"delivery-limit": 1}"#;
/// More attempts than a message has deliveries.
const ATTEMPTS: usize = 15;

/// While the database is away the message comes, and is tried so often; nothing is parked.
async fn outage(proxy: &TcpProxy, broker: &PrivateRabbit, publish: impl AsyncFn()) {
    let attempts = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&attempts);
    proxy.set_hook(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        Action::Cut
    });
    publish().await;
    let parked = || witness::waiting_in(broker, PARKING_QUEUE);
    // What was parked is tried no more.
    let tried = || async { attempts.load(Ordering::Relaxed) >= ATTEMPTS || parked().await > 0 };
    assert!(eventually(PATIENCE, tried).await, "only {} attempts", attempts.load(Ordering::Relaxed));
    assert_eq!(parked().await, 0, "messages were parked");
    proxy.pass();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_parks_nothing() {
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let Some(shop) = Shop::on_postgres_with_broker(&broker.url()) else { return };
    broker.control(&["set_policy", "few", &format!("^{QUEUE}$"), DELIVERIES_MAX, "--apply-to", "queues"]);
    let receiver = Receiver::start(|_, _| Behaviour::Answer(200)).await;
    let (server, database) = shop.database_url().rsplit_once('/').expect("a database");
    let (user, address) = server.rsplit_once('@').expect("an address");
    let proxy = TcpProxy::start(address.parse().expect("an address")).await;
    let behind = format!("{user}@{}/{database}", proxy.address());
    let settings = receiver.settings();
    let settings = [&[("DATABASE_URL", behind.as_str())], settings.as_slice()].concat();
    let _notifier = Notifier::start(&shop.program, &broker.url(), &settings);
    shop.order_and_pay("first").await;
    let told = |count: usize| {
        let book = receiver.book();
        book.counts.len() == count
    };
    assert!(eventually(PATIENCE, || async { told(2) }).await, "the first order is not told");
    // Only then is nothing in hand, where an outage would be another one.
    let recorded = async |user: &str| {
        let path = format!("/notifications?user={user}");
        let listed =
            || async { shop.client.get(&path).await.body["notifications"].as_array().map(Vec::len) == Some(4) };
        assert!(eventually(PATIENCE, listed).await, "the notifications of {user} are not recorded");
    };
    recorded("first").await;

    outage(&proxy, &broker, async || {
        for number in 0..ORDERS {
            shop.order_and_pay(&format!("user-{number}")).await;
        }
    })
    .await;
    assert!(eventually(PATIENCE, || async { told(2 + 2 * ORDERS) }).await, "told of {}", receiver.book().counts.len());

    for number in 0..ORDERS {
        recorded(&format!("user-{number}")).await;
    }

    // A mark, by which what a lost queue has lost is looked for. What comes behind it waits for it.
    outage(&proxy, &broker, async || {
        let properties = BasicProperties::default().with_type("loms.queue.made".into());
        witness::publish(&broker, QUEUE, b"{}", properties).await;
    })
    .await;
    shop.order_and_pay("last").await;
    assert!(eventually(PATIENCE, || async { told(4 + 2 * ORDERS) }).await, "the last order is not told");

    assert!(receiver.book().counts.values().all(|count| *count == 1), "{:?}", receiver.book().counts);
    assert_eq!(witness::waiting_in(&broker, PARKING_QUEUE).await, 0);
}
