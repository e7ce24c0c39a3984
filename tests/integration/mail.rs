//! E-mail through a real SMTP server, aiosmtpd, which keeps what it gets in a folder.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::eventually;
use crate::support::shop::Shop;

const PATIENCE: Duration = Duration::from_secs(60);
/// The one of the PATH, and the one for which Debian has the package.
const INTERPRETERS: [&str; 2] = ["python3", "/usr/bin/python3"];
/// Prints the mails of a folder in JSON, with their words decoded.
const READ: &str = "
import email, email.policy, json, pathlib, sys
mails = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
         for path in pathlib.Path(sys.argv[1]).glob('new/*')]
keys = ('From', 'To', 'Subject', 'Message-ID', 'Auto-Submitted')
print(json.dumps([{key: mail[key] for key in keys} | {'text': mail.get_content()} for mail in mails]))
";

/// Killed with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `None`, and a printed reason, where it is not installed.
fn interpreter() -> Option<&'static str> {
    let has_it = |python: &&str| {
        let import = Command::new(python).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    let found = INTERPRETERS.into_iter().find(has_it);
    if found.is_none() {
        eprintln!("skipped: Python's aiosmtpd is not installed; run the tests with `make test`");
    }
    found
}

fn serve(python: &str, port: u16, mailbox: &Path) -> Server {
    let mut command = Command::new(python);
    command.args(["-m", "aiosmtpd", "--nosetuid", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--class", "aiosmtpd.handlers.Mailbox"]).arg(mailbox);
    Server(command.stdin(Stdio::null()).spawn().expect("it runs"))
}

fn mails(python: &str, mailbox: &Path) -> Vec<Value> {
    let output = Command::new(python).args(["-c", READ]).arg(mailbox).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn users_get_mail_in_their_language_from_a_real_server_also_where_it_was_away_at_first() {
    let Some(python) = interpreter() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mailbox = folder.path().join("mail");
    // Nobody listens there until the first attempt has failed.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
    let server_url = format!("smtp://127.0.0.1:{port}");
    let shop =
        Shop::with_settings(&[("LOMS_SMTP_URL", &server_url), ("LOMS_MAIL_FROM", "Shop <no-reply@shop.example>")]);
    for (user, locale) in [("ann", "en"), ("oleg", "ru")] {
        let contact = json!({"email": format!("{user}@mail.example"), "locale": locale});
        assert_eq!(shop.client.put(&format!("/users/{user}/contact"), &contact).await.status, 200);
    }
    let by_mail = async |user: &str| {
        let listed = shop.client.get(&format!("/notifications?user={user}")).await.body;
        let listed = listed["notifications"].as_array().expect("a list").clone();
        listed.into_iter().filter(|one| one["channel"] == "email").collect::<Vec<_>>()
    };

    shop.order("ann", &[("PEN", 2)]).await;
    let waits = || async { by_mail("ann").await.iter().any(|one| one["outcome"] == "waiting") };
    assert!(eventually(PATIENCE, waits).await, "the failed attempt is not recorded");
    let _server = serve(python, port, &mailbox);
    let sent = || async { by_mail("ann").await.iter().any(|one| one["outcome"] == "sent") };
    assert!(eventually(PATIENCE, sent).await, "it is not tried again: {:?}", by_mail("ann").await);
    assert_eq!(by_mail("ann").await[0]["attempts"], 2);
    shop.order("oleg", &[("ящик №4", 1)]).await;
    let sent = || async { by_mail("oleg").await.iter().any(|one| one["outcome"] == "sent") };
    assert!(eventually(PATIENCE, sent).await, "{:?}", by_mail("oleg").await);

    let mut mails = mails(python, &mailbox);
    mails.sort_by_key(|mail| mail["To"].to_string());
    assert_eq!(mails.len(), 2, "{mails:?}");
    let text = |at: usize, key: &str| mails[at][key].as_str().expect("a text").to_owned();
    assert_eq!((text(0, "To"), text(1, "To")), ("ann@mail.example".to_owned(), "oleg@mail.example".to_owned()));
    assert!(text(0, "text").contains("Pen"), "{}", text(0, "text"));
    assert!(text(0, "Subject").is_ascii() && !text(1, "Subject").is_ascii(), "{mails:?}");
    assert!(text(1, "text").contains("Box") && text(1, "text").contains("заказ"), "{}", text(1, "text"));
    assert_ne!(text(0, "Message-ID"), text(1, "Message-ID"));
    assert!((0..2).all(|at| text(at, "From").contains("no-reply@shop.example")));
}
