//! Very many orders whose deadlines pass while nobody is there to mind them: the next start answers
//! at once and cancels them at its leisure, each once, though it is killed in the middle of it.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::support::client::{Client, eventually};
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, skus};
use crate::support::postgres::{Database, slow_batches};
use crate::support::program::Settings;
use crate::support::rounds::Rounds;

const ORDERS: usize = 5_000;
const ORDERS_FULL: usize = 1_000_000;
const SKUS: usize = 10;
const ON_HAND: i64 = 1_000_000;
/// From the start of the program on. A debug build under load is given more.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 2 });
/// The deadlines have passed this many seconds ago, each of a quarter of the orders; those of the last
/// quarter are still to come.
const PASSED_S: [i64; 4] = [0, 5 * 60, 15 * 60, -5];
/// A page of 500 every 50 ms, and a little.
const CANCELS_PER_SECOND_MAX: i64 = 10_500;
const PATIENCE: Duration = Duration::from_secs(30);
/// So many fall due at one moment, so long after they were written. A batch has 512 changes at the most and takes so
/// long: whoever waits behind all of them has no answer within the 5 s that a server waits for one.
const RUSH_ORDERS: usize = 8_000;
const RUSH_AFTER_S: i64 = 10;
const RUSH_BATCH_SECONDS: f64 = 0.5;
/// An order waits for the batch under way, for two of cancels, and for its own; as many again where a machine stands still
/// for so long that what waits is refused, and asked again.
const RUSH_BATCHES_MAX: i64 = 8;
const RUSH_PATIENCE: Duration = Duration::from_secs(120);
/// How many cancels there are at least in a second.
const SLOWEST_PER_SECOND: u64 = 200;

/// The database itself, beside the program.
enum Books {
    Sqlite(String),
    Postgres(String),
}

impl Books {
    fn of(shop: &Shop) -> Self {
        match shop.program.variable("DATABASE_URL") {
            Some(url) => Self::Postgres(url.to_owned()),
            None => Self::Sqlite(format!("sqlite://{}", shop.program.folder().join("data/loms.db").display())),
        }
    }

    /// A time that is given as whole microseconds since 1970.
    fn time(&self, microseconds: &str) -> String {
        match self {
            Self::Sqlite(_) => microseconds.to_owned(),
            Self::Postgres(_) => format!("timestamptz 'epoch' + interval '1 microsecond' * ({microseconds})"),
        }
    }

    async fn run(&self, statements: String) {
        match self {
            Self::Sqlite(url) => {
                let mut connection = SqliteConnection::connect(url).await.expect("connected");
                sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.map(|_| ())
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.expect("connected");
                sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.map(|_| ())
            }
        }
        .expect("done");
    }

    async fn number(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(url) => {
                let mut connection = SqliteConnection::connect(url).await.expect("connected");
                sqlx::query_scalar(query).fetch_one(&mut connection).await
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.expect("connected");
                sqlx::query_scalar(query).fetch_one(&mut connection).await
            }
        }
        .expect("a number")
    }

    /// Orders of one line, as a writer of its own would have left them, of which the deadline of each quarter passed
    /// so many seconds ago.
    async fn add_waiting_orders(&self, orders: usize, passed_s: [i64; 4]) {
        let now = now_us();
        let passed = passed_s.map(|passed| (now - passed * 1_000_000).to_string());
        let deadline = format!(
            "case number % 4 when 0 then {} when 1 then {} when 2 then {} else {} end",
            passed[0], passed[1], passed[2], passed[3]
        );
        let (deadline, past) = (self.time(&deadline), self.time(&(now - 3_600_000_000).to_string()));
        let numbers = format!(
            "with recursive numbers (number) as (select 0 union all select number + 1 from numbers where number + 1 < {orders})"
        );
        self.run(format!(
            "begin;
            insert into writers (writer_id, owner, epoch, last_batch, last_event, published, seen_at)
            values (1000, 0, 1, 1, {events}, {events}, {past});
            {numbers} insert into orders
            (order_id, user_id, status, total_price, created_at, updated_at, expires_at, version)
            select 1 + number, 'user-' || number, 'awaiting_payment', 100, {past}, {past}, {deadline}, 2 from numbers;
            {numbers} insert into order_lines (order_id, line, sku, name, price, count, warehouse_id)
            select 1 + number, 1, 'S' || (number % {SKUS}), 'Product', 100, 1, 1 from numbers;
            {numbers} insert into events (writer_id, seq, order_id, version, status, occurred_at)
            select 1000, 1 + 2 * number, 1 + number, 1, 'new', {past} from numbers;
            {numbers} insert into events (writer_id, seq, order_id, version, status, occurred_at)
            select 1000, 2 + 2 * number, 1 + number, 2, 'awaiting_payment', {past} from numbers;
            update stocks set reserved = {reserved};
            update order_ids set next_id = next_id + {orders};
            commit;",
            events = 2 * orders,
            reserved = orders / SKUS,
        ))
        .await;
    }

    async fn still_waiting(&self) -> i64 {
        self.number("select count(*) from orders where status = 'awaiting_payment' and user_id <> 'ann'").await
    }

    /// Each was cancelled once, at its deadline or later, for want of payment.
    async fn assert_cancelled_once(&self, orders: usize) {
        let orders = i64::try_from(orders).expect("a million");
        let cancelled = "where status = 'cancelled' and reason = 'payment_timeout' and updated_at >= expires_at";
        assert_eq!(self.number(&format!("select count(*) from orders {cancelled}")).await, orders);
        let events = "from events where status = 'cancelled'";
        assert_eq!(self.number(&format!("select count(*) {events}")).await, orders);
        assert_eq!(self.number(&format!("select count(distinct order_id) {events}")).await, orders);
    }

    /// How many batches were written.
    async fn batches(&self) -> i64 {
        self.number("select max(last_batch) from writers").await
    }

    /// The most cancels in any second.
    async fn cancels_per_second(&self) -> i64 {
        let second = match self {
            Self::Sqlite(_) => "updated_at / 1000000",
            Self::Postgres(_) => "floor(extract(epoch from updated_at))",
        };
        let each = format!("select count(*) as cancels from orders where status = 'cancelled' group by {second}");
        self.number(&format!("select max(cancels) from ({each}) as seconds")).await
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of another process, which nobody can move")]
fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// Gives how long it took until the first order was placed.
async fn first_answer(shop: &mut Shop) -> Duration {
    let began = Instant::now();
    shop.program.restart();
    place(&shop.client()).await;
    let took = began.elapsed();
    assert!(took < FIRST_ANSWER_MAX, "the first answer came after {took:?}");
    took
}

async fn place(client: &Client) -> Value {
    let placed = client.post("/orders", &order_of("ann", "S0", 1)).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    placed.body
}

async fn overdue_orders_are_cancelled_once_over_a_kill(ground: Ground) {
    let bar = format!("E3 waiting orders, overdue at the start, {}", ground.name());
    let mut orders = Rounds::of(&bar, ORDERS, ORDERS_FULL);
    let total = std::iter::from_fn(|| orders.next_round()).count();
    let mut shop = Shop::open(ground, &skus(SKUS, ON_HAND), Settings::new());
    let books = Books::of(&shop);
    assert!(shop.program.terminate().success());
    books.add_waiting_orders(total, PASSED_S).await;
    shop.verify();

    let first = first_answer(&mut shop).await;
    let half = i64::try_from(total * 5 / 8).expect("a million");
    let patience = PATIENCE + Duration::from_secs(u64::try_from(total).expect("a million") / SLOWEST_PER_SECOND);
    assert!(eventually(patience, || async { books.still_waiting().await < half }).await, "they are not cancelled");
    shop.program.kill();
    let left = books.still_waiting().await;
    assert!(left > 0, "all were cancelled before the blow");

    let again = first_answer(&mut shop).await;
    let client = shop.client();
    let mut placed = 2;
    let none_waits = async || {
        // Customers are served meanwhile.
        place(&client).await;
        placed += 1;
        books.still_waiting().await == 0
    };
    let ended = wait(patience, none_waits).await;
    assert!(ended, "{} orders still wait", books.still_waiting().await);
    books.assert_cancelled_once(total).await;
    let rate = books.cancels_per_second().await;
    assert!(rate <= CANCELS_PER_SECOND_MAX, "{rate} were cancelled in a second");
    assert_eq!(available(&client, "S1").await, ON_HAND, "the stock is not back");
    assert_eq!(available(&client, "S0").await, ON_HAND - placed, "the stock is not back");
    shop.verify();
    orders.held(format_args!(
        "killed with {left} left; each cancelled once, at most {rate}/s; first answers after {first:.1?} and {again:.1?}"
    ));
}

async fn wait(limit: Duration, mut look: impl AsyncFnMut() -> bool) -> bool {
    let began = Instant::now();
    while !look().await {
        if began.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_are_served_while_thousands_of_orders_fall_due_at_once() {
    let Some(database) = Database::create() else { return };
    let url = database.url();
    let mut shop = Shop::open(Ground::Postgres(database), &skus(SKUS, ON_HAND), Settings::new());
    let books = Books::of(&shop);
    assert!(shop.program.terminate().success());
    books.add_waiting_orders(RUSH_ORDERS, [-RUSH_AFTER_S; 4]).await;
    slow_batches(&url, RUSH_BATCH_SECONDS);
    shop.program.restart();
    let (client, mut placed, mut most) = (shop.client(), 0, 0);
    let none_waits = async || {
        let before = books.batches().await;
        place_surely(&client, &format!("order-{placed}")).await;
        most = most.max(books.batches().await - before);
        placed += 1;
        books.still_waiting().await == 0
    };
    assert!(wait(RUSH_PATIENCE, none_waits).await, "{} orders still wait", books.still_waiting().await);
    books.assert_cancelled_once(RUSH_ORDERS).await;
    assert!(most <= RUSH_BATCHES_MAX, "an order waited for {most} batches");
    eprintln!("{placed} orders placed meanwhile, none of which waited for more than {most} batches");
    assert_eq!(available(&client, "S0").await, ON_HAND - placed, "the stock is not back");
    shop.verify();
}

/// Until it is done: a machine that stands still for two seconds is a database that is away.
async fn place_surely(client: &Client, key: &str) {
    let placed = async || {
        let placed = client.post_with_key("/orders", key, &order_of("ann", "S0", 1)).await;
        assert!(matches!(placed.status, 201 | 409 | 503), "{placed:?}");
        placed.status == 201
    };
    assert!(wait(RUSH_PATIENCE, placed).await, "an order is not placed");
}

on_each_store!(overdue_orders_are_cancelled_once_over_a_kill);
