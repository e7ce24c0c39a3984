//! Mail over real connections, to servers that take it, refuse it, hang and close.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use super::super::Locale;
use super::super::tests::samples;
use super::*;
use crate::domain::order::Status;

/// Far more than a server in the same process needs.
const ENOUGH: Duration = Duration::from_secs(30);
/// For servers that never answer.
const SOON: Duration = Duration::from_millis(50);

/// A mail server for one connection, which gives these answers.
#[derive(Clone, Copy)]
struct Server {
    hello: &'static str,
    recipient: &'static str,
    end_of_mail: &'static str,
}

const WILLING: Server = Server { hello: "250 mail.test", recipient: "250 ok", end_of_mail: "250 taken" };

/// What a server was told: the commands, and the lines of the mail.
#[derive(Debug, Default)]
struct Heard {
    commands: Vec<String>,
    mail: Vec<String>,
}

impl Server {
    /// The address of the server, and what it will have heard when the connection ends.
    async fn start(self) -> (String, JoinHandle<Heard>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("smtp://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let (reader, writer) = stream.into_split();
            self.serve(BufReader::new(reader), writer).await
        });
        (url, serving)
    }

    async fn serve(self, reader: BufReader<OwnedReadHalf>, mut writer: OwnedWriteHalf) -> Heard {
        let mut heard = Heard::default();
        let mut lines = reader.lines();
        answer(&mut writer, "220 mail.test").await;
        while let Ok(Some(line)) = lines.next_line().await {
            let verb = line.split(' ').next().unwrap_or_default().to_owned();
            heard.commands.push(line);
            match verb.as_str() {
                "EHLO" => answer(&mut writer, self.hello).await,
                "MAIL" => answer(&mut writer, "250 ok").await,
                "RCPT" => answer(&mut writer, self.recipient).await,
                "DATA" => {
                    answer(&mut writer, "354 go on").await;
                    while let Ok(Some(line)) = lines.next_line().await {
                        if line == "." {
                            break;
                        }
                        heard.mail.push(line);
                    }
                    answer(&mut writer, self.end_of_mail).await;
                }
                _ => answer(&mut writer, "221 bye").await,
            }
        }
        heard
    }
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        let head = self.mail.iter().take_while(|line| !line.is_empty());
        let found = head.filter_map(|line| line.split_once(": ")).find(|(found, _)| *found == name);
        found.map_or_else(|| panic!("no {name} in {:?}", self.mail), |(_, value)| value)
    }

    /// The text of the mail, which travels in base64 where most of it is not ASCII.
    fn text(&self) -> String {
        let body: String = self.mail.iter().skip_while(|line| !line.is_empty()).map(String::as_str).collect();
        String::from_utf8(STANDARD.decode(body).expect("base64")).expect("UTF-8")
    }
}

async fn answer(writer: &mut OwnedWriteHalf, line: &str) {
    // The other side may have gone already, as after a time limit.
    let _ = writer.write_all(format!("{line}\r\n").as_bytes()).await;
}

fn mailer(url: &str, send_max: Duration) -> Mailer {
    let settings = Settings::parse(&url.into(), "Shop <no-reply@shop.example>").expect("valid settings");
    Mailer::with_limit(settings, Currency::RUB, send_max).expect("valid templates")
}

async fn send(url: &str, send_max: Duration) -> Result<Delivery, ChannelError> {
    mailer(url, send_max).send(&samples::event(Status::Payed), Some(&samples::contact(Locale::Ru))).await
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let (url, serving) = WILLING.start().await;
    assert_eq!(send(&url, ENOUGH).await, Ok(Delivery::Sent));
    let heard = serving.await.expect("the server ends with the connection");
    assert_eq!(
        heard.commands,
        ["EHLO shop.example", "MAIL FROM:<no-reply@shop.example>", "RCPT TO:<ann@shop.example>", "DATA", "QUIT"]
    );
    assert_eq!(heard.header("From"), "Shop <no-reply@shop.example>");
    assert_eq!(heard.header("To"), "ann@shop.example");
    assert_eq!(heard.header("Message-ID"), "<3-42.17.1764000000123456@shop.example>");
    assert_eq!(heard.header("Date"), "Mon, 24 Nov 2025 16:00:00 +0000");
    assert_eq!(heard.header("Auto-Submitted"), "auto-generated");
    assert_eq!(heard.header("Content-Type"), "text/plain; charset=utf-8");
    let (order, payed) = (STANDARD.encode("Заказ"), STANDARD.encode("оплачен"));
    assert_eq!(heard.header("Subject"), format!("=?utf-8?b?{order}?= 17 =?utf-8?b?{payed}?="));
    let text = heard.text();
    assert!(text.starts_with("Здравствуйте!\r\n\r\nСпасибо, мы получили оплату заказа 17.\r\n"), "{text}");
    assert!(text.ends_with("Итого: 1\u{a0}795,00\u{a0}RUB\r\n"), "{text}");
}

#[tokio::test]
async fn a_mail_that_is_sent_again_is_the_same_mail() {
    let mut mails = Vec::new();
    for _ in 0..2 {
        let (url, serving) = WILLING.start().await;
        assert_eq!(send(&url, ENOUGH).await, Ok(Delivery::Sent));
        mails.push(serving.await.expect("the server ends with the connection").mail);
    }
    assert_eq!(mails[0], mails[1]);
}

#[tokio::test]
async fn what_the_server_answers_decides_whether_it_is_tried_again() {
    let refused_for_good =
        [Server { recipient: "550 no such user", ..WILLING }, Server { end_of_mail: "554 not wanted", ..WILLING }];
    for server in refused_for_good {
        let (url, _) = server.start().await;
        let outcome = send(&url, ENOUGH).await;
        assert!(matches!(outcome, Err(ChannelError::Never(_))), "{outcome:?}");
    }
    let refused_for_now = [
        Server { recipient: "451 try again later", ..WILLING },
        Server { end_of_mail: "452 no space left", ..WILLING },
        Server { hello: "421 too busy", ..WILLING },
        // Of us, not of the mail: an operator can set it right.
        Server { recipient: "530 authentication required", ..WILLING },
    ];
    for server in refused_for_now {
        let (url, _) = server.start().await;
        let outcome = send(&url, ENOUGH).await;
        assert!(matches!(outcome, Err(ChannelError::Later(_))), "{outcome:?}");
    }
    let (url, _) = Server { recipient: "550 no such user", ..WILLING }.start().await;
    let text = "the mail server: permanent error (550): no such user";
    assert_eq!(send(&url, ENOUGH).await, Err(ChannelError::Never(text.to_owned())));
}

#[tokio::test]
async fn a_server_that_hangs_is_left_in_time() {
    // Connections are taken by the system and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("smtp://{}", listener.local_addr().expect("an address"));
    let outcome = send(&url, SOON).await;
    assert_eq!(outcome, Err(ChannelError::Later("the mail server did not answer in time".to_owned())));
}

#[tokio::test]
async fn a_server_that_closes_or_is_away_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("smtp://{}", listener.local_addr().expect("an address"));
    let closing = tokio::spawn(async move {
        drop(listener.accept().await.expect("a connection"));
    });
    let closed = send(&url, ENOUGH).await;
    closing.await.expect("the connection was closed");
    // Nobody listens any more.
    let away = send(&url, ENOUGH).await;
    for outcome in [closed, away] {
        assert!(matches!(outcome, Err(ChannelError::Later(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn nobody_is_written_to_without_an_address_or_for_a_new_order() {
    // Nobody listens there, so whatever is sent fails.
    let mailer = mailer("smtp://127.0.0.1:1", ENOUGH);
    let without_contact = mailer.send(&samples::event(Status::Payed), None).await;
    assert_eq!(without_contact, Ok(Delivery::Skipped("no contact")));
    let contact = samples::contact(Locale::En);
    let of_a_new_order = mailer.send(&samples::event(Status::New), Some(&contact)).await;
    assert_eq!(of_a_new_order, Ok(Delivery::Skipped("no mail for this status")));
}

#[test]
fn the_name_of_an_item_adds_no_header() {
    let mailer = mailer("smtp://mail", ENOUGH);
    let mut event = samples::event(Status::Payed);
    event.items = [samples::item("Lamp\r\nBcc: bob@shop.example\r\n\r\n.\r\n", 100, 1)].into();
    let contact = samples::contact(Locale::En);
    let letter = mailer.letters.write(&event, contact.locale).expect("a letter").expect("not a new order");
    let message = mailer.message(&event, &contact.email, letter).expect("a mail");
    assert_eq!(message.headers().get_raw("Bcc"), None);
    assert_eq!(message.envelope().to().iter().map(ToString::to_string).collect::<Vec<_>>(), ["ann@shop.example"]);
    let written = String::from_utf8(message.formatted()).expect("ASCII");
    assert!(!written.contains("\r\nBcc:") && !written.contains("\r\n.\r\n"), "{written}");
}
