//! The disk under the database is full, or takes no writes any more: whoever asks is told so, soon
//! and truly, and when there is room again everything goes on by itself.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::buyers::SKUS;
use crate::support::client::{Answer, Client, eventually};
use crate::support::crowd::Crowd;
use crate::support::fragile_shop::{Ground, Shop, order_of, path_of, skus};
use crate::support::postgres::{Database, block_on};
use crate::support::private_server::PrivateServer;
use crate::support::program::Settings;
use crate::support::rounds::Rounds;
use crate::support::small_disk::SmallDisk;

const FAULTS: usize = 2;
const FAULTS_FULL: usize = 50;
const BUYERS: usize = 6;
const SQLITE_DISK_MEGABYTES: usize = 128;
const POSTGRES_DISK_MEGABYTES: usize = 256;
/// Small files for its log: the disk is small too.
const POSTGRES_SETTINGS: [&str; 1] = ["--wal-segsize=1"];
/// The fault is seen as soon as something does not fit.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who is refused is told within this time.
const REFUSED_MAX: Duration = Duration::from_secs(1);
/// But where PostgreSQL itself has ended: who needs a new connection to it tries for three seconds.
const REFUSED_WHERE_IT_ENDED_MAX: Duration = Duration::from_millis(3_500);
/// A commit whose answer was lost is in doubt until the database can be asked, or this time is over.
const DOUBTED_MAX: Duration = Duration::from_secs(6);
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// How many requests are looked at while the fault lasts.
const LOOKS: usize = 20;
const READS_AT_ONCE: usize = 32;

/// A shop on a disk with a fault.
struct Scene {
    shop: Shop,
    crowd: Crowd,
}

async fn place(client: &Client) -> Answer {
    client.post("/orders", &order_of("anybody", "S0", 1)).await
}

impl Scene {
    fn set(url: &str) -> Self {
        let ground = Ground::Behind { address: url.to_owned(), database: url.to_owned() };
        let shop = Shop::open(ground, &skus(SKUS, 1_000_000_000), Settings::new());
        Self { shop, crowd: Crowd::of(BUYERS, "buyer") }
    }

    /// With buyers all the while: the fault comes, everybody is told, it goes, and it is over.
    async fn go_through(&mut self, come: &dyn Fn(), go: impl FnOnce()) -> Duration {
        let client = &self.shop.client();
        self.crowd.start(client).await;
        // What is there still takes some changes, and so does what is given free meanwhile.
        let is_refused = || async {
            come();
            place(client).await.status == 503
        };
        assert!(eventually(PATIENCE, is_refused).await, "it goes on as if there were no fault");
        let is_told = || async {
            let ready = client.get("/readyz").await;
            (ready.status, &ready.body["status"], &ready.body["database"])
                == (503, &json!("unavailable"), &json!("down"))
        };
        assert!(eventually(PATIENCE, is_told).await, "/readyz: {:?}", client.get("/readyz").await);
        for _ in 0..LOOKS {
            let asked = Instant::now();
            let answer = place(client).await;
            assert!(answer.status == 201 || answer.is_refusal(503, "unavailable"), "{answer:?}");
            assert!(asked.elapsed() < REFUSED_MAX, "answered only after {:?}: {answer:?}", asked.elapsed());
        }
        // More reads at once than there are connections: further ones are opened while the fault lasts.
        let reads = join_all((0..READS_AT_ONCE).map(|id| async move { client.get(&format!("/orders/{id}")).await }));
        assert!(reads.await.iter().all(|read| [200, 404, 503].contains(&read.status)), "a read is answered falsely");
        go();
        let gone = Instant::now();
        let serves = || async { place(client).await.status == 201 };
        assert!(eventually(RECOVERY_MAX, serves).await, "it does not serve again");
        let took = gone.elapsed();
        self.crowd.stop().await;
        self.crowd.check(client).await;
        let is_over = || async {
            let ready = client.get("/readyz").await.body;
            ready["status"] == "ready" && ready["events_waiting"] == 0
        };
        assert!(eventually(PATIENCE, is_over).await, "/readyz: {:?}", client.get("/readyz").await);
        self.shop.verify();
        took
    }

    fn hold(self, rounds: Rounds, longest: Duration, refused_max: Duration) {
        let (told, refused, doubted) =
            (self.crowd.told(), self.crowd.refused_after_max(), self.crowd.doubted_after_max());
        assert!(refused < refused_max, "somebody was refused only after {refused:?}");
        assert!(doubted < DOUBTED_MAX, "somebody was left in doubt for {doubted:?}");
        rounds.held(format_args!(
            "{told} acknowledged requests; refused after {refused:?}, in doubt for {doubted:?}, served again after \
             {longest:?} at most"
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_sqlite_misleads_nobody() {
    let mut rounds = Rounds::of("C4 disk full, SQLite", FAULTS, FAULTS_FULL);
    let Some(disk) = SmallDisk::mount(SQLITE_DISK_MEGABYTES) else { return };
    let mut scene = Scene::set(&format!("sqlite://{}", disk.path().join("loms.db").display()));
    let mut longest = Duration::ZERO;
    while rounds.next_round().is_some() {
        longest = longest.max(scene.go_through(&|| disk.fill(), || disk.free()).await);
    }
    scene.hold(rounds, longest, REFUSED_MAX);
}

/// PostgreSQL ends where its log finds no room: it is started again, the shop is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_postgres_misleads_nobody() {
    let mut rounds = Rounds::of("C4 disk full, PostgreSQL", FAULTS, FAULTS_FULL);
    let Some(disk) = SmallDisk::mount(POSTGRES_DISK_MEGABYTES) else { return };
    let Some(mut server) = PrivateServer::start_in(disk.path(), &POSTGRES_SETTINGS) else { return };
    let database = Database::create_on(&server.url());
    let mut scene = Scene::set(&database.url());
    let (mut longest, mut ends) = (Duration::ZERO, 0);
    while let Some(round) = rounds.next_round() {
        let come = || {
            disk.fill();
            // Every other time it is the log that finds no room, and not the tables.
            if !round.is_multiple_of(2) {
                begin_another_file_of_the_log(&database);
            }
        };
        let go = || {
            disk.free();
            if server.has_ended() {
                ends += 1;
                server.restart();
            }
        };
        longest = longest.max(scene.go_through(&come, go).await);
    }
    eprintln!("PostgreSQL ended {ends} times");
    scene.hold(rounds, longest, if ends == 0 { REFUSED_MAX } else { REFUSED_WHERE_IT_ENDED_MAX });
}

fn begin_another_file_of_the_log(database: &Database) {
    let url = database.url();
    // The server may have ended already.
    let _: sqlx::Result<String> = block_on(async move {
        let mut connection = PgConnection::connect(&url).await?;
        sqlx::query_scalar("select pg_switch_wal()::text").fetch_one(&mut connection).await
    });
}

/// Files that nobody may write any more, though they are open: as on a disk that was made read-only
/// after an error. (Linux refuses to remount one read-only while files on it are open for writing.) Not
/// the index of the log: SQLite maps it into memory, and Linux kills who writes there.
struct Frozen(Vec<PathBuf>);

impl Frozen {
    /// `None`, and a printed reason, where that is not allowed or the file system does not know it.
    fn try_on(folder: &Path) -> Option<()> {
        let probe = folder.join("probe");
        std::fs::write(&probe, "").expect("written");
        let changed = ["+i", "-i"].map(|flag| change_flag(flag, std::slice::from_ref(&probe)));
        if changed != [true, true] {
            eprintln!("skipped: only root may make files immutable, and not on every file system");
            return None;
        }
        Some(())
    }

    fn freeze(folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let is_kept = |path: &PathBuf| ["loms.db", "loms.db-wal"].iter().any(|name| path.ends_with(name));
        let files: Vec<_> = entries.filter(is_kept).collect();
        assert!(change_flag("+i", &files), "{files:?} cannot be made immutable");
        Self(files)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        change_flag("-i", &self.0);
    }
}

fn change_flag(flag: &str, files: &[PathBuf]) -> bool {
    Command::new("chattr").arg(flag).args(files).output().is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_writes_under_sqlite_misleads_nobody() {
    let mut rounds = Rounds::of("C4 disk takes no writes, SQLite", FAULTS, FAULTS_FULL);
    let folder = tempfile::Builder::new().prefix("loms-frozen.").tempdir().expect("a temporary folder");
    if Frozen::try_on(folder.path()).is_none() {
        return;
    }
    let mut scene = Scene::set(&format!("sqlite://{}", folder.path().join("loms.db").display()));
    let (mut longest, frozen) = (Duration::ZERO, RefCell::new(None));
    while rounds.next_round().is_some() {
        let come = || {
            frozen.borrow_mut().get_or_insert_with(|| Frozen::freeze(folder.path()));
        };
        longest = longest.max(scene.go_through(&come, || drop(frozen.take())).await);
    }
    scene.hold(rounds, longest, REFUSED_MAX);
}

/// What is known without writing can still be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_sqlite_can_be_read() {
    let Some(disk) = SmallDisk::mount(SQLITE_DISK_MEGABYTES) else { return };
    let scene = Scene::set(&format!("sqlite://{}", disk.path().join("loms.db").display()));
    let client = scene.shop.client();
    let order = place(&client).await.body;
    disk.fill();
    let is_refused = || async { place(&client).await.status == 503 };
    assert!(eventually(PATIENCE, is_refused).await, "it goes on as if there were room");
    let read = client.get(&path_of(&order)).await;
    assert_eq!((read.status, read.body), (200, order.clone()));
    let payed = client.post(&format!("{}/pay", path_of(&order)), &Value::Null).await;
    assert!(payed.is_refusal(503, "unavailable"), "{payed:?}");
    disk.free();
    let payed = || async { client.post(&format!("{}/pay", path_of(&order)), &Value::Null).await.status == 200 };
    assert!(eventually(RECOVERY_MAX, payed).await, "it does not recover");
    scene.shop.verify();
}
