//! What keeps the program from starting: each ends it at once, with one line that names the thing.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::private_server::wait_at_most;

const END_TIME_MAX: Duration = Duration::from_secs(20);
const DEAD_POSTGRES: &str = "postgres://loms:secret-word@127.0.0.1:1/loms";

/// Starts the program in the folder with these settings; it must not serve.
///
/// # Panics
/// Where it serves, ends in success or panics, or where its last words do not name all of `names`.
#[track_caller]
fn check(folder: &Path, arguments: &[&str], variables: &[(&str, &str)], names: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    command.args(arguments).current_dir(folder).env_clear().env("LOMS_LISTEN", "127.0.0.1:0");
    command.envs(variables.iter().copied());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let ended = wait_at_most(&mut child, END_TIME_MAX);
    if ended.is_none() {
        child.kill().expect("killed");
    }
    let output = child.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(ended.is_some_and(|status| status.code() == Some(1)), "{ended:?}: {text}");
    assert!(!text.contains("panicked") && !text.contains("listening on"), "{text}");
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("loms: ")).collect();
    assert_eq!((errors.len(), text.lines().last()), (1, errors.first().copied()), "one line says it: {text}");
    for name in names {
        assert!(errors[0].contains(name), "{name} is not named: {}", errors[0]);
    }
    text
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[track_caller]
fn assert_nothing_was_made(folder: &Path) {
    assert_eq!(std::fs::read_dir(folder).expect("read").count(), 0, "something was made before");
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = folder();
    check(folder.path(), &[], &[("LOMS_LISTEN", &address)], &["LOMS_LISTEN", &address, "in use"]);
    assert_nothing_was_made(folder.path());
}

#[test]
fn a_data_folder_that_cannot_be() {
    let folder = folder();
    std::fs::write(folder.path().join("data"), "a file in the way").expect("written");
    check(folder.path(), &[], &[], &["DATABASE_URL", "data"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("data")).expect("read"), "a file in the way");
}

#[test]
fn a_database_file_that_is_a_folder_or_no_database() {
    let folder = folder();
    std::fs::create_dir_all(folder.path().join("data/loms.db")).expect("created");
    check(folder.path(), &[], &[], &["DATABASE_URL", "data/loms.db"]);
    let text = "This is a text, which is certainly longer than the header of a database. ".repeat(20);
    std::fs::write(folder.path().join("notes.txt"), text).expect("written");
    check(folder.path(), &[], &[("DATABASE_URL", "sqlite://notes.txt")], &["DATABASE_URL", "notes.txt"]);
}

#[test]
fn an_unreachable_database() {
    for command in [&[][..], &["migrate"], &["verify"]] {
        let text =
            check(folder().path(), command, &[("DATABASE_URL", DEAD_POSTGRES)], &["DATABASE_URL", "127.0.0.1:1"]);
        assert!(!text.contains("secret-word"), "the password is shown: {text}");
    }
}

#[test]
fn a_database_that_is_not_there_is_not_made_to_be_verified() {
    let folder = folder();
    for place in ["dta/loms.db", "loms.bd"] {
        let url = format!("sqlite://{place}");
        let text = check(folder.path(), &["verify", "--database-url", &url], &[], &["DATABASE_URL", place]);
        assert_eq!(text.matches("unable to open").count(), 1, "its cause is told once: {text}");
    }
    assert_nothing_was_made(folder.path());
}

#[test]
fn a_database_of_an_unknown_kind() {
    check(folder().path(), &[], &[("DATABASE_URL", "mysql://127.0.0.1/loms")], &["DATABASE_URL", "sqlite://"]);
    check(folder().path(), &["--database-url", "loms.db"], &[], &["DATABASE_URL", "sqlite://"]);
}

#[test]
fn an_unknown_key_in_the_settings_file() {
    let folder = folder();
    std::fs::write(folder.path().join("config.yaml"), "listen: 127.0.0.1:0\nlisten_to: everyone\n").expect("written");
    check(folder.path(), &[], &[], &["listen_to"]);
    std::fs::write(folder.path().join("config.yaml"), "listen: [unclosed\n").expect("written");
    check(folder.path(), &[], &[], &["config.yaml"]);
    check(folder.path(), &["--config", "missing.yaml"], &[], &["missing.yaml"]);
    check(folder.path(), &["product-service", "--listen", "127.0.0.1:0"], &[], &["config.yaml"]);
    for root in ["- listen", "listen", "~"] {
        std::fs::write(folder.path().join("config.yaml"), root).expect("written");
        check(folder.path(), &[], &[], &["config.yaml"]);
    }
    std::fs::write(folder.path().join("config.yaml"), "catalog: missing.csv\n").expect("written");
    check(folder.path(), &["product-service", "--listen", "127.0.0.1:0"], &[], &["missing.csv"]);
    std::fs::remove_file(folder.path().join("config.yaml")).expect("removed");
    std::fs::create_dir(folder.path().join("config.yaml")).expect("created");
    check(folder.path(), &[], &[], &["config.yaml"]);
}

#[test]
fn an_unknown_variable() {
    for command in [&[][..], &["product-service", "--listen", "127.0.0.1:0"]] {
        check(folder().path(), command, &[("LOMS_LISTNE", "127.0.0.1:0")], &["LOMS_LISTNE"]);
    }
    let folder = folder();
    std::fs::write(folder.path().join(".env"), "LOMS_LISTNE=127.0.0.1:0\n").expect("written");
    check(folder.path(), &[], &[], &["LOMS_LISTNE"]);
}

#[test]
fn a_line_in_the_env_file_that_cannot_be_read() {
    let folder = folder();
    std::fs::write(folder.path().join(".env"), "LOMS_CURRENCY=EUR\nPRODUCT_SERVICE_TOKEN secret-word\n")
        .expect("written");
    let text = check(folder.path(), &[], &[], &[".env", "line 2"]);
    assert!(!text.contains("secret-word"), "{text}");
    let help = Command::new(env!("CARGO_BIN_EXE_loms")).arg("--help").current_dir(folder.path()).output();
    assert!(help.expect("it runs").status.success(), "help is given all the same");
}

#[test]
fn what_is_said_of_broker_webhook_and_mail_before_anything_is_made() {
    let folder = folder();
    let bad: [&[(&str, &str)]; 5] = [
        &[("AMQP_URL", "amqp:loms:secret-word@host")],
        &[("LOMS_WEBHOOK_URL", "https://shop.example/secret-word")],
        &[("LOMS_SMTP_URL", "smtp://ann:secret-word@mail"), ("LOMS_MAIL_FROM", "no-reply@shop.example")],
        &[("LOMS_SMTP_URL", "smtps://ann:secret-word@mail")],
        &[("LOMS_MAIL_FROM", "nobody")],
    ];
    for variables in bad {
        let text = check(folder.path(), &[], variables, &[variables[0].0]);
        assert!(!text.contains("secret-word"), "a secret is shown: {text}");
    }
    assert_nothing_was_made(folder.path());
}

#[test]
fn a_replay_of_what_cannot_be_read_or_nowhere() {
    let files = folder();
    let file = |name: &str, text: &str| {
        std::fs::write(files.path().join(name), text).expect("written");
        files.path().join(name).display().to_string()
    };
    let (catalog, bare) = (file("c.csv", "sku,name,price_minor_units\nA,Mug,1\n"), file("bare.csv", "sku\nA\n"));
    let events = file("e.csv", "user_id,invoice,kind,sku,count\n1,7,order_line,A,6\n");
    let folder = folder();
    let replay = |catalog: &str, events: &str, more: &[&str], names: &[&str]| {
        let arguments = [&["replay", "--catalog", catalog, "--events", events], more].concat();
        check(folder.path(), &arguments, &[], names);
        assert_nothing_was_made(folder.path());
    };
    replay("missing.csv", &events, &[], &["missing.csv"]);
    replay(&catalog, "missing.csv.gz", &[], &["missing.csv.gz"]);
    replay(&bare, &events, &[], &["bare.csv", "header"]);
    replay(&catalog, &events, &["--url", "http://127.0.0.1:1"], &["http://127.0.0.1:1"]);
    replay(&catalog, &events, &["--config", "missing.yaml"], &["missing.yaml"]);
    replay(&catalog, &events, &["--log", "nonsense"], &["LOMS_LOG"]);
}

#[test]
fn a_bad_value() {
    let bad = [
        ("LOMS_LISTEN", "localhost"),
        ("LOMS_LISTEN", "127.0.0.1:65536"),
        ("LOMS_PAYMENT_TIMEOUT", "soon"),
        ("LOMS_PAYMENT_TIMEOUT", "0s"),
        ("LOMS_PAYMENT_TIMEOUT", "-1s"),
        ("LOMS_PAYMENT_TIMEOUT", "366d"),
        ("LOMS_CURRENCY", "XQQ"),
        ("LOMS_LOG", "loms=shout"),
        ("LOMS_LOG", "nonsense"),
        ("AMQP_URL", "foo"),
        ("LOMS_CATALOG", "missing.csv"),
        ("LOMS_STOCK", "missing.csv"),
        ("PRODUCT_SERVICE_URL", "no url"),
    ];
    for (name, value) in bad {
        check(folder().path(), &[], &[(name, value)], &[name]);
    }
    let folder = folder();
    std::fs::write(folder.path().join("config.yaml"), "payment_timeout: soon\n").expect("written");
    check(folder.path(), &[], &[], &["LOMS_PAYMENT_TIMEOUT"]);
}

#[test]
fn a_bad_line_in_a_catalogue_or_a_stock_file() {
    let folder = folder();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    file("catalog.csv", "sku,name,price_minor_units\nA,Lamp,100\nB,Sofa,much\n");
    check(folder.path(), &[], &[("LOMS_CATALOG", "catalog.csv")], &["LOMS_CATALOG", "catalog.csv", "line 3", "much"]);
    file("stock.csv", "sku,warehouse_id,on_hand\nA,1,5\nA,one,5\n");
    check(folder.path(), &[], &[("LOMS_STOCK", "stock.csv")], &["LOMS_STOCK", "line 3", "warehouse_id"]);
    let text = check(folder.path(), &["stock", "import", "stock.csv"], &[], &["nothing was imported"]);
    assert!(text.contains("stock.csv: line 3: warehouse_id"), "every bad line is named before that: {text}");
    check(folder.path(), &["stock", "import", "missing.csv"], &[], &["missing.csv"]);
}

#[test]
fn an_address_that_others_can_reach() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        check(folder().path(), &[], &[("LOMS_LISTEN", address)], &["LOMS_LISTEN", address, "loopback"]);
    }
    check(folder().path(), &["--listen", "0.0.0.0:0"], &[], &["LOMS_LISTEN", "0.0.0.0:0"]);
}
