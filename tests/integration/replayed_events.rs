//! Every event of real shop orders arrives: an independent consumer at the same exchange counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use loms::domain::order::Status;
use loms::domain::{EventId, OrderEvent};
use loms::notifications::topology;
use loms::store::Store;
use loms::store::notification_log::Told;

use crate::support::client::{Client, eventually};
use crate::support::notifier::Notifier;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::program::{Program, Settings};
use crate::support::recording::Recording;
use crate::support::witness;

const PATIENCE: Duration = Duration::from_secs(120);
const ORDERS: usize = 300;
/// The same test with more orders; `docs/RELIABILITY.md` has what came of 2,000.
const ORDERS_VARIABLE: &str = "LOMS_TEST_REPLAY_ORDERS";
const CONNECTIONS: &str = "16";
const PAGE_EVENTS: u32 = 1_000;

fn replay(program: &Program, catalogue: &Path, events: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    command.arg("replay").arg("--catalog").arg(catalogue).arg("--events").arg(events);
    command.args(["--url", program.url(), "--connections", CONNECTIONS]);
    let played = command.current_dir(program.folder()).output().expect("it runs");
    let report = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{report}{}", String::from_utf8_lossy(&played.stderr));
    eprintln!("{report}");
}

async fn events_of_the_database(store: &dyn Store) -> Vec<OrderEvent> {
    let mut events = Vec::new();
    for last in store.last_events().await.expect("read") {
        let mut cursor = EventId { seq: 0, ..last };
        while cursor.seq < last.seq {
            let page = store.events_after(cursor, PAGE_EVENTS).await.expect("read");
            cursor = page.last().expect("events up to the last one").id;
            events.extend(page);
        }
    }
    events
}

/// Each event of which users are told was told once, at the first attempt.
async fn assert_told_once(store: &dyn Store, events: &[OrderEvent]) {
    let told: Vec<EventId> = events.iter().filter(|event| event.status != Status::New).map(|event| event.id).collect();
    let mut known = BTreeMap::new();
    for ids in told.chunks(PAGE_EVENTS as usize) {
        for one in store.known(ids).await.expect("read") {
            assert_eq!((one.told, one.attempts), (Told::Sent, 1), "{:?}", one.event);
            assert_eq!(known.insert(one.event, one.channel), None, "{:?} was told twice", one.event);
        }
    }
    assert_eq!(known.len(), told.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_real_orders_arrives_once_and_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let count = std::env::var(ORDERS_VARIABLE).map_or(ORDERS, |text| text.parse().expect("a number"));
    let Some(Recording { catalogue, events: recorded }) = Recording::first(count, folder.path()) else { return };
    let Some(mut broker) = PrivateRabbit::start() else { return };
    witness::call(&mut broker).await;
    let database = format!("sqlite://{}", folder.path().join("loms.db").display());
    let settings = Settings::new()
        .variable("DATABASE_URL", &database)
        .variable("AMQP_URL", &broker.url())
        .variable("LOMS_CATALOG", catalogue.to_str().expect("in UTF-8"))
        .variable("LOMS_PAYMENT_TIMEOUT", "7d");
    let program = settings.start();
    let notifiers = [(); 2].map(|()| Notifier::start(&program, &broker.url(), &[]));
    replay(&program, &catalogue, &recorded);

    let client = Client::new(program.url());
    let published = || async { client.get("/readyz").await.body["events_waiting"] == 0 };
    assert!(eventually(PATIENCE, published).await, "events are not published");
    let taken = || async { witness::waiting_in(&broker, topology::QUEUE).await == 0 };
    assert!(eventually(PATIENCE, taken).await, "events are not taken");
    assert!(notifiers.iter().all(|notifier| notifier.terminate().success()));

    let store = loms::store::open(&database).await.expect("opened");
    let events = events_of_the_database(&*store).await;
    let heard = witness::hear(&broker).await;
    let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    assert_eq!(heard.ids(), ids.iter().map(String::as_str).collect::<BTreeSet<_>>());
    assert_eq!(heard.events.len(), events.len(), "some came twice, though nothing failed");
    let orders = heard.orders_in_order();
    assert!(orders.len() + count / 20 > count, "only {} orders were placed", orders.len());
    assert_told_once(&*store, &events).await;
    assert_eq!(witness::parked(&broker).await, Vec::<String>::new());
    eprintln!("{} orders, {} events, each once and in order", orders.len(), events.len());
    store.close().await;
}
