//! One connection that speaks HTTP/1.1 by hand: cheap enough for thousands of them, and as slow or
//! as rude as a test wants it.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PIECE_BYTES: usize = 4_096;

pub struct RawConnection {
    stream: TcpStream,
    /// What was read behind the last answer.
    rest: Vec<u8>,
}

/// What an answer says, as far as these tests look at it.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl RawConnection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, rest: Vec::new() })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub async fn ask(&mut self, request: &[u8]) -> io::Result<RawAnswer> {
        self.send(request).await?;
        self.receive().await
    }

    /// A whole answer, which names the length of its body.
    pub async fn receive(&mut self) -> io::Result<RawAnswer> {
        loop {
            if let Some((answer, length)) = parse(&self.rest) {
                self.rest.drain(..length);
                return Ok(answer);
            }
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads whatever comes until the other side closes, in whichever way it does.
    pub async fn until_closed(&mut self) {
        while self.read().await.is_ok_and(|read| read > 0) {
            self.rest.clear();
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        let mut piece = [0; PIECE_BYTES];
        let read = self.stream.read(&mut piece).await?;
        self.rest.extend_from_slice(&piece[..read]);
        Ok(read)
    }
}

impl RawAnswer {
    pub fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line.to_ascii_lowercase().starts_with(&format!("{header}:")))
    }
}

/// `None` before all of it is there.
fn parse(bytes: &[u8]) -> Option<(RawAnswer, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let length = end + length.unwrap_or(0);
    let body = String::from_utf8_lossy(bytes.get(end..length)?).into_owned();
    Some((RawAnswer { status, head, body }, length))
}

/// `127.0.0.1:PORT` of `http://127.0.0.1:PORT`.
pub fn address_of(url: &str) -> SocketAddr {
    url.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address")
}

/// A request with a JSON body, and further header lines that end in `\r\n`.
pub fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: loms\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn an_answer_is_whole_when_its_body_is() {
    let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\nRetry-After: 1\r\n\r\nokHTTP/1.1 200";
    assert!((0..text.len() - 12).all(|length| parse(&text[..length]).is_none()));
    let (answer, length) = parse(text).expect("whole");
    assert_eq!((answer.status, answer.body.as_str(), length), (503, "ok", text.len() - 12));
    assert!(answer.has("retry-after") && !answer.has("location"));
}
