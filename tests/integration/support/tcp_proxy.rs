//! A network that breaks on request: a TCP proxy that asks a hook about every chunk of bytes.
//!
//! A chunk is what one read gave. Small messages, a COMMIT or its answer, are one chunk each, for
//! the other side waits for them; a text that two chunks share is not found.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const CHUNK_BYTES_MAX: usize = 64 * 1024;
const BETWEEN_BYTES: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// Bytes under way.
pub struct Chunk<'bytes> {
    /// From 1, in the order of the connections' starts.
    pub connection: usize,
    pub direction: Direction,
    pub bytes: &'bytes [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Pass,
    /// The bytes are lost and both sides of the connection are closed.
    Cut,
    /// The bytes wait until there is another hook, which is asked about them again. The connection
    /// stays open, as in a network that lost its way.
    Stall,
    /// The bytes arrive so much later.
    Delay(Duration),
    /// One byte a second goes on its way, until there is another hook, which is asked about the others.
    Trickle,
    /// The client's side is closed at once; the bytes reach the server when there is another hook.
    DeliverLate,
    /// These bytes arrive in place of the others, then both sides of the connection are closed.
    Instead(&'static [u8]),
}

type Hook = dyn FnMut(Chunk<'_>) -> Action + Send;

/// Runs until it is dropped, which cuts all its connections.
pub struct TcpProxy {
    address: SocketAddr,
    network: Arc<Network>,
    acceptor: JoinHandle<()>,
}

struct Network {
    hook: Mutex<Box<Hook>>,
    /// Changes with the hook.
    hooks: watch::Sender<usize>,
    /// Changes when all connections are to be cut.
    cuts: watch::Sender<usize>,
}

impl TcpProxy {
    /// Listens on a free port of 127.0.0.1 and passes everything to the server and back.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let hook: Box<Hook> = Box::new(|_| Action::Pass);
        let network =
            Arc::new(Network { hook: Mutex::new(hook), hooks: watch::channel(0).0, cuts: watch::channel(0).0 });
        let acceptor = tokio::spawn(accept(listener, server, network.clone()));
        Self { address, network, acceptor }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this hook is asked, also about the bytes that are held back.
    pub fn set_hook(&self, hook: impl FnMut(Chunk<'_>) -> Action + Send + 'static) {
        *self.network.hook.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(hook);
        self.network.hooks.send_modify(|version| *version += 1);
    }

    /// All is well again; what was held back goes on its way.
    pub fn pass(&self) {
        self.set_hook(|_| Action::Pass);
    }

    /// Nothing arrives any more, and nobody is told.
    pub fn black_hole(&self) {
        self.set_hook(|_| Action::Stall);
    }

    /// Closes every connection of this moment; new ones are taken.
    pub fn cut_all(&self) {
        self.network.cuts.send_modify(|number| *number += 1);
    }

    /// Once: the first connection whose client sends this text (in any case, `COMMIT` for one) is cut
    /// before the text reaches the server.
    pub fn cut_before(&self, text: &'static str) {
        let mut done = false;
        self.set_hook(move |chunk| {
            let cut = !done && chunk.is_sent_with(text);
            done |= cut;
            if cut { Action::Cut } else { Action::Pass }
        });
    }

    /// Once: the text reaches the server, and the connection is cut instead of its answer.
    pub fn cut_instead_of_answer_to(&self, text: &'static str) {
        let mut asked_on = None;
        let mut done = false;
        self.set_hook(move |chunk| {
            if !done && asked_on.is_none() && chunk.is_sent_with(text) {
                asked_on = Some(chunk.connection);
            }
            let cut = !done && chunk.direction == Direction::ToClient && asked_on == Some(chunk.connection);
            done |= cut;
            if cut { Action::Cut } else { Action::Pass }
        });
    }

    /// Once: the connection is cut on which the n-th answer from now, over all connections, would come.
    pub fn cut_instead_of_nth_answer(&self, n: usize) {
        let mut answers = 0;
        self.set_hook(move |chunk| {
            answers += usize::from(chunk.direction == Direction::ToClient);
            if answers == n && chunk.direction == Direction::ToClient { Action::Cut } else { Action::Pass }
        });
    }

    /// Once: the client of the first connection that sends this text is cut off; the text reaches the
    /// server when there is another hook, for example after [`TcpProxy::pass`].
    pub fn deliver_late(&self, text: &'static str) {
        let mut done = false;
        self.set_hook(move |chunk| {
            let late = !done && chunk.is_sent_with(text);
            done |= late;
            if late { Action::DeliverLate } else { Action::Pass }
        });
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut_all();
    }
}

impl Chunk<'_> {
    /// Whether a client sends it and the text is in it, in upper or lower case.
    pub fn is_sent_with(&self, text: &str) -> bool {
        let mut windows = self.bytes.windows(text.len());
        self.direction == Direction::ToServer && windows.any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, network: Arc<Network>) {
    let mut connection = 0;
    while let Ok((client, _)) = listener.accept().await {
        connection += 1;
        let network = network.clone();
        // A server that is away closes the client's connection too.
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(server).await {
                network.relay(connection, client, server).await;
            }
        });
    }
}

impl Network {
    async fn relay(&self, connection: usize, client: TcpStream, server: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let late = tokio::select! {
            late = self.forward(connection, Direction::ToServer, &mut from_client, &mut to_server) => late,
            late = self.forward(connection, Direction::ToClient, &mut from_server, &mut to_client) => late,
            _ = cuts.changed() => None,
        };
        let Some((bytes, mut hooks)) = late else { return };
        drop((from_client, to_client));
        // The server's own connection stays until then, as where the network still holds the bytes.
        tokio::select! {
            _ = hooks.changed() => {
                let _ = to_server.write_all(&bytes).await;
                // Read on, so that the server can answer and sees an orderly end.
                let _ = to_server.shutdown().await;
                let _ = tokio::io::copy(&mut from_server, &mut tokio::io::sink()).await;
            }
            _ = cuts.changed() => {}
        }
    }

    /// Until either side ends or the hook cuts; the bytes that are to be delivered late, if any.
    async fn forward(
        &self,
        connection: usize,
        direction: Direction,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
    ) -> Option<(Vec<u8>, watch::Receiver<usize>)> {
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        loop {
            let length = from.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
            let mut bytes = &buffer[..length];
            while let Some((first, others)) = bytes.split_at_checked(1) {
                // Subscribed before the hook is asked: a change in between is not missed.
                let mut hooks = self.hooks.subscribe();
                match self.ask(Chunk { connection, direction, bytes }) {
                    Action::Pass => {
                        to.write_all(bytes).await.ok()?;
                        break;
                    }
                    Action::Cut => return None,
                    Action::Stall => hooks.changed().await.ok()?,
                    Action::Delay(time) => {
                        sleep(time).await;
                        to.write_all(bytes).await.ok()?;
                        break;
                    }
                    Action::Trickle => {
                        to.write_all(first).await.ok()?;
                        bytes = others;
                        // It ends with the time, or sooner.
                        let _ = timeout(BETWEEN_BYTES, hooks.changed()).await;
                    }
                    Action::DeliverLate => return Some((bytes.to_vec(), hooks)),
                    Action::Instead(others) => {
                        to.write_all(others).await.ok()?;
                        return None;
                    }
                }
            }
        }
    }

    fn ask(&self, chunk: Chunk<'_>) -> Action {
        let mut hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        hook(chunk)
    }
}

#[cfg(test)]
mod tests;
