//! One simulation from its beginning to its end: users buy while everything fails, then everything
//! heals, and in the end the books must be right.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use loms::actors::{NotWritten, cart};
use loms::clock::Clock as _;
use loms::domain::cart::{Cart, Edit, Line};
use loms::domain::order::Status;
use loms::domain::stock::{Shelf, available};
use loms::domain::{Count, Sku, Time, UserId, WarehouseId};
use loms::store::{Change, Refused};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::broker::{Broker, CHANNEL};
use crate::clients::{Client, count, keep_stock};
use crate::ledger::Ledger;
use crate::memory::{Database, Tables};
use crate::process::Ground;
use crate::scheduler::Scheduler;
use crate::shop::Shop;
use crate::weather::Weather;
use crate::world::World;

const GOODS: [&str; 4] = ["MUG", "LAMP", "POST", "BOWL"];
const WAREHOUSES: i32 = 2;
/// After everything has healed, all clients have their answers within this time.
const ANSWERED_MS_MAX: u64 = 600_000;
/// Nothing that is due happens later than this, once everything has healed.
const LATE_MS_MAX: u64 = 30_000;

pub struct Ended {
    pub hash: u64,
    pub failure: Option<String>,
}

/// Runs the simulation of this seed; `told` prints what happens.
pub fn tell(seed: u64, told: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let world = runtime.block_on(async {
        let world = World::new(seed, told);
        let ground = ground(&world);
        let finished = Rc::new(Cell::new(false));
        let script = ground.scheduler.lane("clients");
        let (stage, ends) = (Rc::clone(&ground), Rc::clone(&finished));
        script.spawn(async move {
            play(stage).await;
            ends.set(true);
        });
        ground.scheduler.run(&world, &finished).await;
        // What is drawn next tells whether as much was drawn.
        world.trace.note(world.random.between(0, u64::MAX));
        world
    });
    Ended { hash: world.trace.hash(), failure: world.failure() }
}

fn ground(world: &Arc<World>) -> Rc<Ground> {
    let weather = Arc::new(Weather::draw(Arc::clone(world)));
    let database = Arc::new(Database::default());
    stock(&mut database.tables(), world);
    let payment_timeout = TimeDelta::milliseconds(*world.random.pick(&[50, 3_000, 30_000, 90_000]));
    let ledger = Arc::new(Ledger::new(Arc::clone(world), Arc::clone(&database), payment_timeout));
    let broker = Arc::new(Broker::new(Arc::clone(world), weather, Arc::clone(&database)));
    let world = Arc::clone(world);
    Rc::new(Ground { world, scheduler: Scheduler::default(), database, broker, ledger, payment_timeout })
}

fn stock(tables: &mut Tables, world: &World) {
    let most = *world.random.pick(&[4, 15, 60]);
    for sku in GOODS {
        for warehouse in 1..=WAREHOUSES {
            let on_hand = i64::try_from(world.random.between(0, most)).unwrap_or(0);
            let warehouse = WarehouseId(warehouse);
            let place = (Sku::parse(sku).expect("a valid SKU"), warehouse);
            tables.shelves.insert(place, Shelf { warehouse, on_hand, reserved: 0 });
        }
    }
}

async fn play(ground: Rc<Ground>) {
    let world = Arc::clone(&ground.world);
    let random = &world.random;
    let slots = if random.chance(300) { 2 } else { 1 };
    let shop = Shop::open(Rc::clone(&ground), slots);
    let clients = clients(&shop);
    let troubles = *random.pick(&[0, 2, 6]);
    for _ in 0..troubles {
        sleep(Duration::from_millis(random.between(0, 12_000))).await;
        shop.suffer().await;
    }
    if troubles == 0 || random.chance(500) {
        sleep(Duration::from_secs(random.between(0, 60))).await;
    }
    shop.heal().await;
    let healed_at = world.clock.now();
    let limit = Instant::now() + Duration::from_millis(ANSWERED_MS_MAX);
    for client in clients {
        let lived = tokio::time::timeout_at(limit, client).await;
        world.check(lived.is_ok(), || "clients wait for ever".to_owned());
    }
    // What was on its way when everything healed still comes to its end.
    sleep(Duration::from_secs(8)).await;
    settle(&shop, healed_at).await;
    probe(&shop).await;
    ground.ledger.close();
    for process in shop.running() {
        process.stop().await;
        process.kill(&ground.scheduler);
    }
    check_events(&ground);
}

fn clients(shop: &Rc<Shop>) -> Vec<tokio::task::JoinHandle<()>> {
    let random = &shop.ground.world.random;
    let goods: Rc<Vec<Sku>> = Rc::new(GOODS.iter().map(|sku| Sku::parse(sku).expect("a valid SKU")).collect());
    let mut handles = Vec::new();
    let client = |user: &str, orders: &crate::clients::Orders, number| Client {
        shop: Rc::clone(shop),
        user: UserId::parse(user).expect("a valid user"),
        goods: Rc::clone(&goods),
        orders: Rc::clone(orders),
        number,
        actions: random.between(3, 25),
    };
    for user in 0..random.between(1, 6) {
        let orders = crate::clients::Orders::default();
        // At times one user sits at two machines.
        for _ in 0..=u64::from(random.chance(400)) {
            let client = client(&format!("user{user}"), &orders, handles.len());
            handles.push(tokio::task::spawn_local(client.live()));
        }
    }
    let keeper = client("keeper", &crate::clients::Orders::default(), handles.len());
    handles.push(tokio::task::spawn_local(keep_stock(keeper, WAREHOUSES)));
    handles
}

/// Waits until everything that is due has happened, and not for ever.
async fn settle(shop: &Shop, healed_at: Time) {
    let Ground { world, database, broker, .. } = &*shop.ground;
    let late = TimeDelta::milliseconds(i64::try_from(LATE_MS_MAX).unwrap_or(0));
    loop {
        let now = world.clock.now();
        let waiting = {
            let tables = database.tables();
            let mut waiting = tables.orders.values().filter(|order| order.status == Status::AwaitingPayment);
            waiting.next().map(|order| (order.id, order.expires_at))
        };
        let Some((id, deadline)) = waiting else { break };
        if now > deadline.max(healed_at) + late {
            return world.fail(format_args!("order {id} still awaits payment at {now}, due was {deadline}"));
        }
        sleep(Duration::from_millis(250)).await;
    }
    let limit = Instant::now() + Duration::from_millis(LATE_MS_MAX);
    while Instant::now() < limit {
        let published = database.tables().events.keys().all(|event| broker.has_taken(*event));
        if published && broker.is_empty() {
            break;
        }
        sleep(Duration::from_millis(250)).await;
    }
    check_events(&shop.ground);
}

/// Every event is with the broker, and with its user where there is something to tell.
fn check_events(ground: &Ground) {
    let tables = ground.database.tables();
    for event in tables.events.values() {
        let taken = ground.broker.has_taken(event.id);
        ground.world.check(taken, || format!("event {} of order {} was never published", event.id, event.order));
        let told = ground.database.notifications().told(event.id, CHANNEL);
        let due = event.status != Status::New;
        ground.world.check(told.is_some() == due, || format!("the notifier knows of event {}: {told:?}", event.id));
    }
}

/// What each process knows of carts and shelves is what the database has.
async fn probe(shop: &Shop) {
    let world = &shop.ground.world;
    for process in shop.running() {
        let Some(core) = process.core() else { continue };
        let carts = shop.ground.database.tables().carts.clone();
        for (user, stored) in carts {
            let (answer, answered) = oneshot::channel();
            let core = Arc::clone(&core);
            process.serve(async move {
                // Whoever asked waits.
                let _ = answer.send(cart::held(&core, &user).await);
            });
            let shown = answered.await;
            let agrees = matches!(&shown, Ok(Ok(shown)) if **shown == stored);
            world.check(agrees, || format!("{stored:?} is shown as {shown:?}"));
        }
        for sku in GOODS {
            let sku = Sku::parse(sku).expect("a valid SKU");
            let shelves = shop.ground.database.tables().shelves_of(std::slice::from_ref(&sku));
            let shelves: Vec<Shelf> = shelves.into_iter().map(|(_, shelf)| shelf).collect();
            let free = available(&shelves);
            // None where it believes that there are so many. An edit of that cart cannot be written.
            let at_most = async |count: Count| {
                let line = Line { sku: sku.clone(), count };
                let (user, cart) = (UserId::parse("probe").expect("a valid user"), Cart::new(2, vec![line.clone()]));
                let change = Change::CartEdited { user, cart, edit: Edit::LineSet(line.clone()), key: None };
                match core.write_covered(line, change).await {
                    Err(NotWritten::Refused { refused: Refused::NotCovered { available }, .. }) => Some(available),
                    _ => None,
                }
            };
            // Where others have written, too much may be believed until it matters.
            let more = at_most(count(u64::try_from(free).unwrap_or(0) + 1)).await;
            let believed = more.is_none() && !shop.has_had_one_process();
            world.check(more == Some(free) || believed, || format!("{sku}: {shelves:?}, but it says {more:?}"));
            let most = at_most(Count::new(i64::from(Count::MAX)).expect("the most")).await;
            world.check(most == Some(free), || format!("{sku}: {shelves:?}, but read again it says {most:?}"));
        }
    }
}
