//! The proxy in front of a server that keeps what it hears and echoes it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::TcpProxy;
use crate::support::client::eventually;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(50);

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

async fn echo_behind_proxy() -> (TcpProxy, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = TcpProxy::start(listener.local_addr().expect("its address")).await;
    let heard = Heard::default();
    let all_heard = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heard = all_heard.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    heard.0.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..length]);
                    let _ = stream.write_all(&buffer[..length]).await;
                }
            });
        }
    });
    (proxy, heard)
}

async fn connect(proxy: &TcpProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("connected")
}

/// What comes back; `None` where the connection was closed instead.
async fn ask(stream: &mut TcpStream, text: &str) -> Option<String> {
    stream.write_all(text.as_bytes()).await.ok()?;
    read(stream, text.len()).await
}

async fn read(stream: &mut TcpStream, length: usize) -> Option<String> {
    let mut answer = vec![0; length];
    let read =
        tokio::time::timeout(ANSWER_TIME_MAX, stream.read_exact(&mut answer)).await.expect("an answer or an end");
    read.ok().map(|_| String::from_utf8(answer).expect("the echo of a text"))
}

#[tokio::test]
async fn bytes_pass_until_every_connection_is_cut() {
    let (proxy, _) = echo_behind_proxy().await;
    let (mut one, mut other) = (connect(&proxy).await, connect(&proxy).await);
    assert_eq!(ask(&mut one, "hello").await.as_deref(), Some("hello"));
    assert_eq!(ask(&mut other, "world").await.as_deref(), Some("world"));
    proxy.cut_all();
    assert_eq!((read(&mut one, 1).await, read(&mut other, 1).await), (None, None));
    assert_eq!(ask(&mut connect(&proxy).await, "again").await.as_deref(), Some("again"));
}

#[tokio::test]
async fn a_commit_is_cut_before_it_reaches_the_server() {
    let (proxy, heard) = echo_behind_proxy().await;
    proxy.cut_before("COMMIT");
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "insert").await.as_deref(), Some("insert"));
    assert_eq!(ask(&mut stream, "commit").await, None);
    assert_eq!(heard.text(), "insert");
    assert_eq!(ask(&mut connect(&proxy).await, "commit").await.as_deref(), Some("commit"), "cut once only");
}

#[tokio::test]
async fn a_commit_reaches_the_server_and_its_answer_is_cut() {
    let (proxy, heard) = echo_behind_proxy().await;
    proxy.cut_instead_of_answer_to("COMMIT");
    let (mut stream, mut other) = (connect(&proxy).await, connect(&proxy).await);
    assert_eq!(ask(&mut stream, "COMMIT").await, None);
    assert_eq!(heard.text(), "COMMIT");
    assert_eq!(ask(&mut other, "COMMIT").await.as_deref(), Some("COMMIT"), "cut once only");
}

#[tokio::test]
async fn the_nth_answer_is_cut() {
    let (proxy, heard) = echo_behind_proxy().await;
    let mut stream = connect(&proxy).await;
    assert!(ask(&mut stream, "0").await.is_some());
    proxy.cut_instead_of_nth_answer(2);
    assert!(ask(&mut stream, "1").await.is_some());
    assert_eq!(ask(&mut stream, "2").await, None);
    assert_eq!(heard.text(), "012");
    assert!(ask(&mut connect(&proxy).await, "3").await.is_some());
}

#[tokio::test]
async fn a_black_hole_holds_everything_back_and_keeps_the_connection() {
    let (proxy, heard) = echo_behind_proxy().await;
    let mut stream = connect(&proxy).await;
    assert!(ask(&mut stream, "before").await.is_some());
    proxy.black_hole();
    stream.write_all(b" after").await.expect("the socket takes it");
    let answered = tokio::time::timeout(SILENCE, stream.read_u8()).await;
    assert!(answered.is_err(), "something came out of the black hole: {answered:?}");
    assert_eq!(heard.text(), "before");
    proxy.pass();
    assert_eq!(read(&mut stream, " after".len()).await.as_deref(), Some(" after"));
}

#[tokio::test]
async fn a_commit_arrives_late_after_its_client_was_cut_off() {
    let (proxy, heard) = echo_behind_proxy().await;
    proxy.deliver_late("COMMIT");
    assert_eq!(ask(&mut connect(&proxy).await, "COMMIT").await, None);
    assert_eq!(ask(&mut connect(&proxy).await, "again").await.as_deref(), Some("again"));
    assert_eq!(heard.text(), "again");
    proxy.pass();
    assert!(eventually(ANSWER_TIME_MAX, || async { heard.text() == "againCOMMIT" }).await, "{}", heard.text());
}
