//! A webhook's receiver that writes down who called, and behaves as it is told: it takes the event,
//! refuses it, redirects, closes the connection or says nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers with this status; a redirect leads to another path of this receiver.
    Answer(u16),
    /// Takes the event, but says so only after this time.
    AnswerLate(Duration),
    Close,
    Hang,
}

/// A request that came whole.
#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
    pub came: Instant,
}

type Decide = dyn Fn(&Call, usize) -> Behaviour + Send + Sync;

/// Listens until it is dropped.
pub struct Receiver {
    url: String,
    book: Arc<Mutex<Book>>,
    acceptor: JoinHandle<()>,
}

/// Who called, and how often each event was told, by its id.
#[derive(Default)]
pub struct Book {
    pub calls: Vec<Call>,
    pub counts: HashMap<String, usize>,
}

impl Receiver {
    /// `decide` is asked about each call and how many there were before with the same id.
    pub async fn start(decide: impl Fn(&Call, usize) -> Behaviour + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("its address"));
        let book = Arc::<Mutex<Book>>::default();
        let decide: Arc<Decide> = Arc::new(decide);
        let written = Arc::clone(&book);
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&written), Arc::clone(&decide)));
            }
        });
        Self { url, book, acceptor }
    }

    /// What a notifier needs to call it.
    pub fn settings(&self) -> [(&str, &str); 3] {
        [("LOMS_WEBHOOK_URL", &self.url), ("LOMS_WEBHOOK_SECRETS", SECRET), ("LOMS_WEBHOOK_PRIVATE_ADDRESSES", "true")]
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

impl Call {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// By the crate of those who made the standard.
    pub fn is_signed(&self) -> bool {
        let verifier = standardwebhooks::Webhook::new(SECRET).expect("a secret");
        verifier.verify(self.body.as_bytes(), &self.header_map()).is_ok()
    }

    fn header_map(&self) -> reqwest::header::HeaderMap {
        let header = |(name, value): (&String, &String)| {
            let name: reqwest::header::HeaderName = name.parse().expect("a name");
            (name, value.parse().expect("a value"))
        };
        self.headers.iter().map(header).collect()
    }
}

/// One request after the other, until the client closes.
async fn serve(mut stream: TcpStream, book: Arc<Mutex<Book>>, decide: Arc<Decide>) {
    let mut bytes = Vec::new();
    while let Some(call) = request(&mut stream, &mut bytes).await {
        let behaviour = {
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            let before = book.counts.entry(call.id().to_owned()).or_default();
            let behaviour = decide(&call, *before);
            *before += 1;
            book.calls.push(call);
            behaviour
        };
        let answer = match behaviour {
            Behaviour::AnswerLate(time) => {
                tokio::time::sleep(time).await;
                "HTTP/1.1 200 At last\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            Behaviour::Answer(status) => {
                let location = if (300..400).contains(&status) { "location: /elsewhere\r\n" } else { "" };
                format!("HTTP/1.1 {status} As told\r\n{location}content-length: 0\r\n\r\n")
            }
            Behaviour::Close => return,
            Behaviour::Hang => {
                // Until the client has had enough.
                while stream.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {}
                return;
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Call> {
    loop {
        if let Some((call, length)) = parse(bytes) {
            bytes.drain(..length);
            return Some(call);
        }
        stream.read_buf(bytes).await.ok().filter(|length| *length > 0)?;
    }
}

/// The request and its length in bytes, where it is whole.
fn parse(bytes: &[u8]) -> Option<(Call, usize)> {
    let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_length]).expect("a head in ASCII");
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let headers: HashMap<String, String> = lines.filter_map(header).collect();
    let length = head_length + headers.get("content-length").map_or(0, |text| text.parse().expect("a length"));
    let body = String::from_utf8(bytes.get(head_length..length)?.to_vec()).expect("a body in UTF-8");
    Some((Call { path, headers, body, came: Instant::now() }, length))
}
