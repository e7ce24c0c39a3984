//! How a batch of the PostgreSQL store looks on the wire: to break the network just there.
//!
//! A batch is one statement, prepared once: afterwards it is a Bind message with many parameters,
//! and commits by itself. Nothing else that the program sends has as many.

use super::tcp_proxy::{Action, Chunk, Direction, TcpProxy};

const PARAMETERS_MIN: u16 = 40;

/// A server that dies says so, if it can. It may have made the batch durable just before.
const PANIC: &[u8] = b"E\0\0\0\x4cSPANIC\0VPANIC\0C53100\0Mcould not write to file: No space left on device\0\0";

/// What happens to a batch under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// It is lost, with its connection.
    BeforeItArrives,
    /// It is written, and its connection lost.
    BeforeItsAnswer,
    /// It is written, and the answer is that the server panics.
    AnsweredWithAPanic,
    /// Its connection is lost; it arrives when [`TcpProxy::pass`] is called.
    DeliveredLate,
}

/// Where a batch is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It was sent, and has not arrived.
    OnItsWay,
    /// It is written, and its answer under way.
    ItsAnswer,
}

/// Whether a batch with changes begins in these bytes.
pub fn is_batch(chunk: &Chunk<'_>) -> bool {
    chunk.direction == Direction::ToServer && parameters_bound(chunk.bytes).is_some_and(|count| count >= PARAMETERS_MIN)
}

/// Of a Bind message: type, length, portal, statement, formats, number of parameters.
fn parameters_bound(bytes: &[u8]) -> Option<u16> {
    let rest = bytes.strip_prefix(b"B")?.get(4..)?;
    let rest = after_name(after_name(rest)?)?;
    let (formats, rest) = number(rest)?;
    Some(number(rest.get(2 * usize::from(formats)..)?)?.0)
}

fn after_name(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(end + 1..)
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// Breaks the first batch from now on, once, and then tells.
pub fn break_next_batch(proxy: &TcpProxy, how: Break) -> tokio::sync::oneshot::Receiver<()> {
    let (broken, breaks) = tokio::sync::oneshot::channel();
    let mut broken = Some(broken);
    let mut sent_on = None;
    proxy.set_hook(move |chunk| {
        if broken.is_none() {
            return Action::Pass;
        }
        let is_answer = sent_on == Some(chunk.connection) && chunk.direction == Direction::ToClient;
        let action = match how {
            Break::BeforeItArrives if is_batch(&chunk) => Action::Cut,
            Break::DeliveredLate if is_batch(&chunk) => Action::DeliverLate,
            Break::BeforeItsAnswer if is_answer => Action::Cut,
            Break::AnsweredWithAPanic if is_answer => Action::Instead(PANIC),
            Break::BeforeItsAnswer | Break::AnsweredWithAPanic => {
                if is_batch(&chunk) {
                    sent_on = Some(chunk.connection);
                }
                Action::Pass
            }
            Break::BeforeItArrives | Break::DeliveredLate => Action::Pass,
        };
        if action != Action::Pass {
            // The test may have stopped waiting.
            broken.take().map(|broken| broken.send(()));
        }
        action
    });
    breaks
}

/// Holds up the first batch from now on, or its answer, until there is another hook; tells when it does.
pub fn hold_next_batch(proxy: &TcpProxy, what: Hold) -> tokio::sync::oneshot::Receiver<()> {
    let (held, holds) = tokio::sync::oneshot::channel();
    let mut held = Some(held);
    let mut sent_on = None;
    proxy.set_hook(move |chunk| {
        if held.is_none() {
            return Action::Pass;
        }
        let is_batch = is_batch(&chunk);
        let is_answer = sent_on == Some(chunk.connection) && chunk.direction == Direction::ToClient;
        if is_batch {
            sent_on = Some(chunk.connection);
        }
        match what {
            Hold::OnItsWay if is_batch => {}
            Hold::ItsAnswer if is_answer => {}
            Hold::OnItsWay | Hold::ItsAnswer => return Action::Pass,
        }
        // The test may have stopped waiting.
        held.take().map(|held| held.send(()));
        Action::Stall
    });
    holds
}

#[test]
fn a_bind_message_tells_how_many_parameters_it_has() {
    let bind = b"B\0\0\0\x20\0sqlx_s_1\0\0\x01\0\x01\0\x2f\0\0\0\x04";
    assert_eq!(parameters_bound(bind), Some(47));
    assert_eq!(parameters_bound(b"Q\0\0\0\x0bcommit\0"), None);
    assert_eq!(parameters_bound(b"B\0\0"), None);
}

#[test]
fn a_panic_is_as_long_as_it_says() {
    let (_, rest) = PANIC.split_first().expect("a type");
    let (length, _) = rest.split_first_chunk().expect("a length");
    assert_eq!(usize::try_from(u32::from_be_bytes(*length)).expect("a small one"), rest.len());
}
