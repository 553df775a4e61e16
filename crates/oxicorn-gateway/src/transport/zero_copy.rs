//! Body that is sent straight out of a worker's ring.
//!
//! Decides when: where there is so much of it that it would be sent at once in any case, and the socket is not
//! known to be full. Then one system call sends what waits, the payload from where it lies, and what follows
//! it; a copy of the payload is made only of what the socket did not take. That happens before the message's
//! room is given back to the worker, so nothing is lent for longer than a message is being read.

use std::ops::Range;
use std::task::{Context, Waker};

use oxicorn_link::GatewayEnd;

use crate::buffer::output::Output;
use crate::transport::socket::{Sent, Socket};

/// Output that is not held back for what the next message may add.
pub(crate) const SEND_FROM: usize = 64 * 1024;

/// Less than this is copied, so that it may leave together with more; and so is a piece that others follow, until there
/// is [`SEND_FROM`].
const LEND_FROM: usize = 16 * 1024;

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

    /// Sends the output with the payload in its place; afterwards the output has what is left. Says how
    /// many bytes are gone.
    fn send_with(
        self,
        cx: &mut Context<'_>,
        socket: &Socket,
        output: &mut Output,
        link: &GatewayEnd,
    ) -> usize {
        let Self { at, payload } = self;
        let (before, after) = output.around(at);
        let (first, most) = (before.len(), before.len() + payload.len() + after.len());
        let count = match socket.poll_send_payload(cx, link, before, payload.clone(), after) {
            Ok(Sent::Bytes(count)) => count.min(most),
            // An error is found again by who sends the rest.
            Ok(Sent::Blocked) | Err(_) => 0,
        };
        let gone = count.saturating_sub(first).min(payload.len());
        let rest = payload.start + gone..payload.end;
        if !rest.is_empty() {
            output.insert(at, |out| link.payload_into(rest, out));
        }
        output.bytes_sent(count - gone);
        count
    }
}

/// From an output to its client.
#[derive(Debug)]
pub(crate) struct Road<'c> {
    /// What it goes through, if that is the bare socket.
    pub(crate) socket: Option<&'c Socket>,
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
            && self.socket.is_some()
            && !self.is_stalled
            && output.files() == 0
            && (last || output.held() + len >= SEND_FROM)
    }

    pub(crate) fn send(&mut self, lent: RingSend, output: &mut Output, link: &GatewayEnd) {
        let Some(socket) = self.socket else {
            // None was lent for it.
            return output.insert(lent.at, |out| link.payload_into(lent.payload, out));
        };
        let cx = &mut Context::from_waker(self.waker);
        *self.sent += lent.send_with(cx, socket, output, link) as u64;
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

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("a socket");
        set_socket_send_buffer_size(&ours, BUFFER).expect("a socket");
        (Socket::new(ours.into()), theirs)
    }

    /// Sends "head", a body, "tail" and returns what arrived of them, and what the output has left.
    fn send(socket: &Socket, mut peer: UnixStream, len: usize) -> (Vec<u8>, Output) {
        let link = link(&body(len));
        let mut output = Output::default();
        output.bytes().extend_from_slice(b"head");
        let lent = RingSend::new(4, 4..4 + len);
        output.bytes().extend_from_slice(b"tail");
        let cx = &mut Context::from_waker(Waker::noop());
        let count = lent.send_with(cx, socket, &mut output, &link);
        let mut arrived = vec![0; count];
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
        let (socket, _peer) = pair();
        let road = Road {
            socket: Some(&socket),
            waker: Waker::noop(),
            is_stalled: false,
            sent: &mut 0,
        };
        let lends = |len, last| road.is_worth_it(&Output::default(), len, last);
        assert!(lends(LEND_FROM, true) && !lends(LEND_FROM - 1, true));
        assert!(lends(SEND_FROM, false) && !lends(SEND_FROM - 1, false));
    }

    #[test]
    fn what_the_socket_takes_is_never_copied() {
        let (socket, peer) = pair();
        let (arrived, output) = send(&socket, peer, SHORT);
        assert_eq!(arrived, whole(SHORT));
        assert!(output.is_empty() && output.capacity() < 64);
    }

    #[test]
    fn what_a_full_socket_leaves_is_kept_in_order() {
        let (socket, peer) = pair();
        let (arrived, output) = send(&socket, peer, LONG);
        assert!((4..LONG).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!([&arrived, left(&output)].concat(), whole(LONG));
    }

    #[test]
    fn a_socket_that_takes_nothing_leaves_everything() {
        let (socket, peer) = pair();
        let cx = &mut Context::from_waker(Waker::noop());
        while socket.poll_send(cx, &[0; 4096], false).expect("open") != Sent::Blocked {}
        let (arrived, output) = send(&socket, peer, LONG);
        assert_eq!((arrived.len(), left(&output)), (0, whole(LONG).as_slice()));
    }

    #[test]
    fn a_client_that_is_gone_is_found_by_the_next_write() {
        let (socket, peer) = pair();
        peer.shutdown(Shutdown::Both).expect("open");
        let (arrived, output) = send(&socket, peer, SHORT);
        assert_eq!((arrived.len(), left(&output)), (0, whole(SHORT).as_slice()));
    }
}
