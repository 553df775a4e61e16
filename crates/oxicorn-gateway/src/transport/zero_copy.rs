//! Body that is sent straight out of a worker's ring.
//!
//! Decides when: where there is so much of it that it would be sent at once in any case, and the client is not
//! known to take nothing. Then one system call sends what waits, the payload from where it lies, and what follows
//! it, or a stream of HTTP/2 makes its frames of them; an output has a copy of the payload only of what was not taken.
//! That happens before the message's room is given back to the worker, so nothing is lent for longer than a message
//! is being read.

use std::ops::Range;
use std::task::{Context, Waker};

use oxicorn_link::GatewayEnd;

use crate::buffer::output::Output;
use crate::buffer::records::Records;
use crate::transport::Transport;
use crate::transport::socket::Sent;

/// Output that is not held back for what the next message may add.
pub(crate) const SEND_FROM: usize = 64 * 1024;

/// Less than this is copied, so that it may leave together with more; and so is a piece that others follow, until there
/// is [`SEND_FROM`].
const LEND_FROM: usize = 16 * 1024;

/// Appends payload, in records where there are any.
pub(crate) fn append_payload(
    link: &GatewayEnd,
    payload: Range<usize>,
    records: Option<Records>,
    out: &mut Vec<u8>,
) {
    let Some(records) = records else {
        return link.payload_into(payload, out);
    };
    if payload.len() <= records.most() {
        records.write_header(payload.len(), out);
        return link.payload_into(payload, out);
    }
    // At once, or what grows by and by is moved each time.
    out.reserve(records.space(payload.len()));
    for at in payload.clone().step_by(records.most()) {
        let piece = at..payload.end.min(at + records.most());
        records.write_header(piece.len(), out);
        link.payload_into(piece, out);
    }
}

/// A part of the message's payload that belongs into the output at `at` and is not there.
#[derive(Debug)]
pub(crate) struct RingSend {
    at: usize,
    payload: Range<usize>,
}

impl RingSend {
    /// Belongs where the output's buffer ends now, at `at`.
    pub(crate) fn new(at: usize, payload: Range<usize>) -> Self {
        Self { at, payload }
    }
}

/// From an output to its client.
#[derive(Debug)]
pub(crate) struct Road<'c> {
    pub(crate) transport: &'c mut Transport,
    /// What the output consists of.
    pub(crate) records: Option<Records>,
    pub(crate) waker: &'c Waker,
    /// The client is known to take nothing now.
    pub(crate) is_stalled: bool,
    /// Counts what the client is sent.
    pub(crate) sent: &'c mut u64,
}

impl Road<'_> {
    /// Whether `len` bytes of payload are to be lent; `last`: nothing of the response follows them.
    pub(crate) fn is_worth_it(&self, output: &Output, len: usize, last: bool) -> bool {
        len >= LEND_FROM
            && self.is_short()
            && !self.is_stalled
            && output.files() == 0
            && (last || output.held() + len >= SEND_FROM)
    }

    /// Whether a copy is spared: on the bare socket, and where frames are made of records.
    fn is_short(&self) -> bool {
        matches!(
            (&*self.transport, self.records),
            (Transport::Plain(_), None) | (Transport::Stream(_), Some(Records::Http2))
        )
    }

    /// Sends the output with the payload in its place; afterwards the output has what is left.
    pub(crate) fn send(&mut self, lent: RingSend, output: &mut Output, link: &GatewayEnd) {
        let RingSend { at, payload } = lent;
        let (before, after) = output.around(at);
        let (first, most) = (before.len(), before.len() + payload.len() + after.len());
        let cx = &mut Context::from_waker(self.waker);
        let sent = self
            .transport
            .poll_send_payload(cx, link, before, payload.clone(), after);
        let count = match sent {
            Ok(Sent::Bytes(count)) => count.min(most),
            // An error is found again by who sends the rest.
            Ok(Sent::Blocked) | Err(_) => 0,
        };
        let gone = count.saturating_sub(first).min(payload.len());
        let rest = payload.start + gone..payload.end;
        if !rest.is_empty() {
            output.insert(at, |out| append_payload(link, rest, self.records, out));
        }
        output.bytes_sent(count - gone);
        *self.sent += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use oxicorn_link::wire::ResponseKind;
    use oxicorn_link::{LinkParts, Sizes, StreamId, WaitMode, WorkerEnd};
    use rustix::net::sockopt::set_socket_send_buffer_size;

    use super::*;
    use crate::buffer::output::Next;
    use crate::transport::socket::Socket;

    /// Fits into the socket's buffer, and does not.
    const SHORT: usize = 64 * 1024;
    const LONG: usize = 1000 * 1024;
    const BUFFER: usize = 128 * 1024;

    /// A link whose next message has this payload.
    fn link(payload: &[u8]) -> GatewayEnd {
        let parts = LinkParts::create(Sizes::default()).expect("memory");
        let [memory, here, there, side] = parts.for_gateway().expect("descriptors");
        let mut gateway = GatewayEnd::attach(memory, here, there, side).expect("a link");
        let [memory, here, there, _] = parts.for_gateway().expect("descriptors");
        let worker = WorkerEnd::attach(memory, here, there, parts.worker_side, WaitMode::Futex);
        let mut worker = worker.expect("a link").split();
        let (kind, stream) = (ResponseKind::BodyChunk, StreamId(1));
        let sent = worker.responses.try_send(kind, stream, 0, b"skip", payload);
        sent.expect("room");
        gateway
            .next_response()
            .expect("no fault")
            .expect("a message");
        gateway
    }

    fn body(len: usize) -> Vec<u8> {
        (0..=250).cycle().take(len).collect()
    }

    fn whole(len: usize) -> Vec<u8> {
        [b"head".as_slice(), &body(len), b"tail"].concat()
    }

    fn pair() -> (Transport, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("a socket");
        set_socket_send_buffer_size(&ours, BUFFER).expect("a socket");
        (Transport::Plain(Socket::new(ours.into())), theirs)
    }

    fn road<'c>(transport: &'c mut Transport, sent: &'c mut u64) -> Road<'c> {
        Road {
            transport,
            records: None,
            waker: Waker::noop(),
            is_stalled: false,
            sent,
        }
    }

    /// Sends "head", a body, "tail" and returns what arrived of them, and what the output has left.
    fn send(mut socket: Transport, mut peer: UnixStream, len: usize) -> (Vec<u8>, Output) {
        let link = link(&body(len));
        let mut output = Output::default();
        output.bytes().extend_from_slice(b"head");
        let lent = RingSend::new(4, 4..4 + len);
        output.bytes().extend_from_slice(b"tail");
        let mut sent = 0;
        road(&mut socket, &mut sent).send(lent, &mut output, &link);
        let mut arrived = vec![0; usize::try_from(sent).expect("as much as there is")];
        peer.read_exact(&mut arrived).expect("what was sent");
        (arrived, output)
    }

    fn left(output: &Output) -> &[u8] {
        match output.next() {
            Next::Bytes { bytes, .. } => bytes,
            other => panic!("bytes expected, not {other:?}"),
        }
    }

    #[test]
    fn the_last_piece_is_lent_earlier_than_one_that_others_follow() {
        let (mut socket, _peer) = pair();
        let mut sent = 0;
        let road = road(&mut socket, &mut sent);
        let lends = |len, last| road.is_worth_it(&Output::default(), len, last);
        assert!(lends(LEND_FROM, true) && !lends(LEND_FROM - 1, true));
        assert!(lends(SEND_FROM, false) && !lends(SEND_FROM - 1, false));
    }

    #[test]
    fn what_the_socket_takes_is_never_copied() {
        let (socket, peer) = pair();
        let (arrived, output) = send(socket, peer, SHORT);
        assert_eq!(arrived, whole(SHORT));
        assert!(output.is_empty() && output.capacity() < 64);
    }

    #[test]
    fn what_a_full_socket_leaves_is_kept_in_order() {
        let (socket, peer) = pair();
        let (arrived, output) = send(socket, peer, LONG);
        assert!((4..LONG).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!([&arrived, left(&output)].concat(), whole(LONG));
    }

    #[test]
    fn a_socket_that_takes_nothing_leaves_everything() {
        let (mut socket, peer) = pair();
        let cx = &mut Context::from_waker(Waker::noop());
        while socket.poll_send(cx, &[0; 4096], false).expect("open") != Sent::Blocked {}
        let (arrived, output) = send(socket, peer, LONG);
        assert_eq!((arrived.len(), left(&output)), (0, whole(LONG).as_slice()));
    }

    #[test]
    fn a_client_that_is_gone_is_found_by_the_next_write() {
        let (socket, peer) = pair();
        peer.shutdown(Shutdown::Both).expect("open");
        let (arrived, output) = send(socket, peer, SHORT);
        assert_eq!((arrived.len(), left(&output)), (0, whole(SHORT).as_slice()));
    }
}
