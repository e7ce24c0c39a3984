//! Two notifiers, and a broker that takes one of them for dead while it is telling a user: what it has in hand is given
//! to the other one, which leaves it alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loms::notifications::topology::QUEUE;

use crate::support::client::eventually;
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::receiver::{Behaviour, Receiver};
use crate::support::shop::Shop;
use crate::support::tcp_proxy::{Action, Direction, TcpProxy};
use crate::support::witness;

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the broker needs to give a message to the other notifier.
const IN_HAND: Duration = Duration::from_secs(8);
const EVENT: &[u8] = b"loms.order.awaiting_payment";

/// A notifier, and its way to the broker, on which an event is seen.
struct Watched {
    network: TcpProxy,
    given: Arc<AtomicBool>,
    notifier: Notifier,
}

impl Watched {
    async fn start(shop: &Shop, broker: &PrivateRabbit, receiver: &Receiver) -> Self {
        let network = TcpProxy::start(broker.address()).await;
        let given = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&given);
        network.set_hook(move |chunk| {
            let is_event = chunk.bytes.windows(EVENT.len()).any(|window| window == EVENT);
            seen.fetch_or(chunk.direction == Direction::ToClient && is_event, Ordering::SeqCst);
            Action::Pass
        });
        let url = format!("amqp://guest:guest@{}/%2f", network.address());
        let notifier = Notifier::start(&shop.program, &url, &receiver.settings());
        Self { network, given, notifier }
    }

    fn has_event(&self) -> bool {
        self.given.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_notifier_has_in_hand_is_told_by_no_other() {
    let Some(broker) = PrivateRabbit::start() else { return };
    let Some(shop) = Shop::on_postgres_with_broker(&broker.url()) else { return };
    let receiver = Receiver::start(|_, _| Behaviour::AnswerLate(IN_HAND)).await;
    let one = Watched::start(&shop, &broker, &receiver).await;
    let other = Watched::start(&shop, &broker, &receiver).await;
    let listed = |column: &str| broker.control(&["list_queues", "name", column]);
    let both = format!("{QUEUE}\t2");
    assert!(eventually(PATIENCE, async || listed("consumers").contains(&both)).await, "they do not start");

    shop.order("ann", &[("PEN", 1)]).await;
    let is_told = async || receiver.book().calls.len() == 1;
    assert!(eventually(PATIENCE, is_told).await, "nobody is told");
    let (first, second) = if one.has_event() { (&one, &other) } else { (&other, &one) };
    assert!(first.has_event() && !second.has_event());
    first.network.cut_all();
    assert!(eventually(PATIENCE, async || second.has_event()).await, "it was given to nobody else");

    let recorded = async || {
        let listed = shop.client.get("/notifications?user=ann").await.body;
        let by_webhook = |one: &serde_json::Value| one["channel"] == "webhook" && one["outcome"] == "sent";
        listed["notifications"].as_array().is_some_and(|all| all.iter().any(by_webhook))
    };
    assert!(eventually(PATIENCE, recorded).await, "it is not recorded");
    let nothing_waits = async || listed("messages").lines().all(|queue| queue.ends_with("\t0"));
    assert!(eventually(PATIENCE, nothing_waits).await, "it waits for ever: {}", listed("messages"));
    assert_eq!(receiver.book().calls.len(), 1, "told twice");
    assert!(one.notifier.terminate().success() && other.notifier.terminate().success());
    assert_eq!(witness::parked(&broker).await, Vec::<String>::new());
}
