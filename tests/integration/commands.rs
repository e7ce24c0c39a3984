//! What the commands print, and the examples of the settings: each line of them is taken.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use loms::store::{self, NOBODY};
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::support::client::Client;
use crate::support::postgres::Database;
use crate::support::program::{Settings, without_settings};

/// In the examples, where a secret of one's own is to stand. It is none, so that nobody uses it.
const NO_SECRET: &str = "whsec_…";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CATALOGUE: &str = "sku,name,price_minor_units\nA,Lamp,100\n";
const STOCK: &str = "sku,warehouse_id,on_hand\nA,1,5\n";

/// What a command prints, and what it logs; it must succeed.
fn printed_and_logged(folder: &Path, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    without_settings(&mut command);
    let output = command.args(arguments).current_dir(folder).output().expect("it runs");
    let [printed, logged] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    assert!(output.status.success(), "{printed}{logged}");
    (printed, logged)
}

fn printed(folder: &Path, arguments: &[&str]) -> String {
    printed_and_logged(folder, arguments).0
}

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("the example")
}

/// Every setting in force: what is a comment in the example has only a setting in it.
fn uncommented(text: &str, is_setting: fn(&str) -> bool) -> String {
    let lines = text.lines().map(|line| line.trim_start_matches(['#', ' '])).filter(|line| is_setting(line));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

fn in_the_file() -> String {
    let is_setting = |line: &str| {
        line.split_once(": ").is_some_and(|(key, _)| key.chars().all(|one| one == '_' || one.is_ascii_lowercase()))
    };
    uncommented(&example("config.example.yaml"), is_setting)
}

fn in_the_environment() -> String {
    let is_setting = |line: &str| {
        line.split_once('=').is_some_and(|(key, _)| key.chars().all(|one| one == '_' || one.is_ascii_uppercase()))
    };
    uncommented(&example("example.env"), is_setting)
}

/// A server with the files that the examples name, on a port and a database of its own.
fn server() -> Settings {
    let server = Settings::new().file("catalog.csv", CATALOGUE).file("stock.csv", STOCK).argument("serve");
    server.argument("--listen=127.0.0.1:0").argument("--database-url=sqlite://loms.db")
}

#[test]
fn every_line_of_the_examples_is_taken() {
    for (file, text) in [("config.yaml", in_the_file()), (".env", in_the_environment())] {
        let mut program = server().file(file, &text.replace(NO_SECRET, SECRET)).start();
        assert!(program.terminate().success());
        let refused = server().file(file, &text).try_start().err().expect("a secret must be one's own");
        assert!(refused.contains("LOMS_WEBHOOK_SECRETS"), "{file}: {refused}");
    }
}

#[test]
fn both_examples_have_the_same_settings() {
    let (file, environment) = (in_the_file(), in_the_environment());
    let keys = |text: &str, end: char| -> BTreeSet<String> {
        let keys = text.lines().filter_map(|line| line.split_once(end)).map(|(key, _)| key.to_lowercase());
        keys.map(|key| key.trim_start_matches("loms_").to_owned()).collect()
    };
    assert_eq!(keys(&file, ':'), keys(&environment, '='));
    assert_eq!(file.lines().count(), 16, "{file}");
}

#[test]
fn a_name_of_this_machine_can_be_listened_on() {
    let program = Settings::new().variable("LOMS_LISTEN", "localhost:0").start();
    assert!(program.url().starts_with("http://127.0.0.1:") || program.url().starts_with("http://[::1]:"));
}

#[tokio::test]
async fn the_printed_documents_are_those_that_are_served() {
    let program = Settings::new().start();
    let served = Client::new(program.url()).get("/openapi.json").await.body;
    let document = |command| -> Value { serde_json::from_str(&printed(program.folder(), &[command])).expect("JSON") };
    assert_eq!(document("openapi"), served);
    assert!(document("asyncapi")["asyncapi"].as_str().is_some_and(|version| version.starts_with("3.")));
}

#[test]
fn a_compressed_stock_file_is_imported_by_the_command_and_at_the_first_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("stock.csv.gz");
    let mut packed = GzEncoder::new(vec![], Compression::fast());
    packed.write_all(STOCK.as_bytes()).expect("written");
    std::fs::write(&file, packed.finish().expect("packed")).expect("written");
    assert_eq!(printed(folder.path(), &["stock", "import", "stock.csv.gz"]), "imported 1 rows\n");
    assert_eq!(printed(folder.path(), &["verify"]), "the books are right\n");

    let mut program = Settings::new().variable("LOMS_STOCK", file.to_str().expect("UTF-8")).start();
    assert!(program.terminate().success());
    assert_eq!(printed(program.folder(), &["verify"]), "the books are right\n");
}

/// A process that is gone and left its place would keep others from remembering carts, for as long as a dead one may.
#[tokio::test]
async fn an_import_that_fails_gives_its_place_among_the_writers_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("stock.csv"), STOCK).expect("written");
    let file = format!("sqlite://{}", folder.path().join("loms.db").display());
    printed(folder.path(), &["migrate", "--database-url", &file]);
    let no_more = "create trigger no_more before insert on stocks begin select raise(abort, 'no more'); end";
    let mut connection = SqliteConnection::connect(&file).await.expect("connected");
    connection.execute(no_more).await.expect("done");
    import_in_vain(folder.path(), &file).await;
    let Some(database) = Database::create() else { return };
    printed(folder.path(), &["migrate", "--database-url", &database.url()]);
    let no_more = "alter table stocks add constraint no_more check (false)";
    let mut connection = PgConnection::connect(&database.url()).await.expect("connected");
    connection.execute(no_more).await.expect("done");
    import_in_vain(folder.path(), &database.url()).await;
}

async fn import_in_vain(folder: &Path, url: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    without_settings(&mut command);
    let import = command.args(["stock", "import", "stock.csv", "--database-url", url]).current_dir(folder).output();
    let import = import.expect("it runs");
    assert!(!import.status.success(), "{}", String::from_utf8_lossy(&import.stdout));
    let store = store::open_existing(url).await.expect("opened");
    assert_eq!(store.other_writers(NOBODY).await.expect("read"), [], "{url}");
    store.close().await;
}

/// A catalogue and a recording of one order.
fn folder_with_a_recording() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("catalog.csv"), CATALOGUE).expect("written");
    let events = "user_id,invoice,kind,sku,count\n1,7,order_line,A,6\n";
    std::fs::write(folder.path().join("events.csv"), events).expect("written");
    folder
}

/// Plays it; gives what is printed and what is logged.
fn replay(folder: &Path, more: &[&str]) -> (String, String) {
    let command = ["replay", "--catalog", "catalog.csv", "--events", "events.csv", "--unpaid", "0"];
    printed_and_logged(folder, &[&command, more].concat())
}

/// A line of the log would tear the bar that shows its progress.
#[test]
fn a_replay_logs_warnings_only_unless_told_otherwise() {
    let folder = folder_with_a_recording();
    for (more, is_told) in [(&["--database-url", "sqlite://one.db"][..], false), (&["--log", "info"], true)] {
        let (printed, logged) = replay(folder.path(), more);
        assert!(printed.contains("units sold") && !printed.contains("REFUSED"), "{printed}");
        assert_eq!(logged.contains("INFO"), is_told, "{logged}");
    }
}

/// Beside the settings of a shop that sells: its subscribers must not hear of orders that were recorded.
#[test]
fn a_replay_in_the_process_calls_neither_broker_nor_webhook() {
    let folder = folder_with_a_recording();
    for name in ["AMQP_URL=amqp", "LOMS_WEBHOOK_URL=http"] {
        // The system takes the connection of whoever calls.
        let others = TcpListener::bind("127.0.0.1:0").expect("a port");
        others.set_nonblocking(true).expect("set");
        let address = others.local_addr().expect("its address");
        let webhook = format!("LOMS_WEBHOOK_SECRETS={SECRET}\nLOMS_WEBHOOK_PRIVATE_ADDRESSES=true\n");
        std::fs::write(folder.path().join(".env"), format!("{name}://{address}\n{webhook}")).expect("written");
        let (printed, _) = replay(folder.path(), &["--database-url", &format!("sqlite://{}.db", address.port())]);
        assert!(printed.contains("units sold"), "{printed}");
        let called = others.accept().map_err(|error| error.kind());
        assert!(matches!(called, Err(ErrorKind::WouldBlock)), "{name} was called: {called:?}");
    }
}

#[test]
fn settings_without_a_flag_are_named_by_the_help() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for command in [&["--help"][..], &["serve", "--help"], &["notifications", "--help"]] {
        let help = printed(folder.path(), command);
        assert!(help.contains("AMQP_URL") && help.contains("PRODUCT_SERVICE_TOKEN"), "{help}");
    }
    let help = printed(folder.path(), &["product-service", "--help"]);
    assert!(help.contains("PRODUCT_SERVICE_TOKEN") && !help.contains("--token"), "{help}");
}
