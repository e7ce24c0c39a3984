//! A client's connection. actix limits how long the head of the first request on it may take to come, and lets those of
//! later ones come for ever: here they have a limit, too.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_http::Protocol;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long a client may take from one answer to the end of its next request's head: 5 seconds in which nothing needs
/// to come, after which actix closes the connection, and 3 for the head. As with a body, its client is gone after ten.
const NEXT_HEAD_WITHIN: Duration = Duration::from_secs(8);

/// A socket that is read no more when a head takes too long.
pub struct Connection {
    socket: TcpStream,
    turn: Rc<Turn>,
    /// Some of an answer waits until its client takes more: however long that is, no head is due.
    sending: bool,
    /// Set once for many heads, it may go off too early.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Since when it is the client's turn to send a head; `None` while it is the server's to answer.
pub struct Turn(Cell<Option<Instant>>);

/// It is the server's turn as long as this lives.
pub struct Answering(Rc<Turn>);

impl Connection {
    /// What actix serves a client with.
    pub fn accept(socket: TcpStream) -> (Self, Protocol, Option<SocketAddr>) {
        let client = socket.peer_addr().ok();
        let turn = Rc::new(Turn(Cell::new(Some(Instant::now()))));
        (Self { socket, turn, sending: false, alarm: None }, Protocol::Http1, client)
    }

    pub fn turn(&self) -> Rc<Turn> {
        Rc::clone(&self.turn)
    }

    /// An error once the head had its time; until then whoever reads is woken at its end.
    fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(since) = self.turn.0.get().filter(|_| !self.sending) else { return Poll::Pending };
        let end = since + NEXT_HEAD_WITHIN;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end.into())));
        while alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            alarm.as_mut().reset(end.into());
        }
        Poll::Pending
    }
}

impl Turn {
    /// The head of a request is there.
    pub fn answer(self: &Rc<Self>) -> Answering {
        self.0.set(None);
        Answering(Rc::clone(self))
    }

    /// Some of the answer was on its way until now.
    fn sent(&self) {
        if self.0.get().is_some() {
            self.0.set(Some(Instant::now()));
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.set(Some(Instant::now()));
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_read(context, bytes) {
            Poll::Pending => self.poll_time(context),
            read @ Poll::Ready(_) => read,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.sending = written.is_pending();
        self.turn.sent();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn no_head_is_due_while_an_answer_is_on_its_way() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut client = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("connected");
        let (mut server, ..) = Connection::accept(listener.accept().await.expect("accepted").0);
        while poll_immediate(server.write(&[0; 65_536])).await.is_some() {}
        server.turn.0.set(Instant::now().checked_sub(2 * NEXT_HEAD_WITHIN));
        assert!(poll_immediate(server.read_u8()).await.is_none(), "a slow reader is cut off");

        let reader =
            tokio::spawn(async move { while client.read(&mut [0; 65_536]).await.is_ok_and(|read| read > 0) {} });
        server.write_all(&[0; 65_536]).await.expect("sent");
        assert!(poll_immediate(server.read_u8()).await.is_none(), "its time begins when the answer is sent");
        drop(server);
        reader.await.expect("read to the end");
    }
}
