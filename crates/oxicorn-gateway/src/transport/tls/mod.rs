//! TLS between a socket and a connection: records in, plain bytes out, and back.
//!
//! Decides how much is encrypted ahead of the socket, and what a handshake may cost. The protocol is rustls', without
//! its buffers: ciphertext is read into memory that all connections share, decrypted there, and given to the
//! connection at once; what is written is encrypted into memory that all share, too. Of its own a connection has only
//! what is left over: the beginning of a record that has not come whole, plain bytes for which there was no room
//! (fewer than a record has), ciphertext that the socket has not taken. One that rests has nothing.
//!
//! What the kernel has not taken of a piece of plain bytes counts as not sent at all ([`Tls::poll_send`]), so that
//! whoever writes need not know that there is a buffer below: the same bytes come again, and are said to be sent when
//! the last of their ciphertext is gone.
//!
//! ```text
//!   socket -> scratch (shared) -> rustls -> buffer of the connection     what is left: `incoming`, `plain`
//!   output of the connection -> rustls -> scratch (shared) -> socket     what is left: `outgoing`
//! ```

mod handshakes;
mod relay;
mod step;
mod threads;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use oxicorn_tls::ClientCertificate;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};

use crate::buffer::input::READ_SIZE;
use crate::transport::socket::{Received, Sent, Socket};

pub(crate) use handshakes::{
    Settled, are_behind, help, look_after_handshakes, renew, set_threads, take_settled,
};
pub(crate) use relay::relay;

use step::{Sinks, Step};
use threads::{Errand, Made};

/// The first byte of every record of a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// What HTTP/2 is called in a handshake (RFC 9113 section 3.2).
const HTTP2: &[u8] = b"h2";

/// A record and what it costs, at most (RFC 8446 section 5.2), rounded up.
const RECORD: usize = 17 * 1024;

/// Ciphertext read at once where the client sends in bulk.
const BULK: usize = 64 * 1024;

/// Plain bytes encrypted at once. A record has 16 KiB of them. Few long sends cost far less than many short ones.
const SEALED_AT_ONCE: usize = 128 * 1024;

/// The same, while the socket does not take all of them at once: what it leaves is kept.
const SEALED_FOR_SLOW: usize = 64 * 1024;

/// Bytes that are encrypted so that they can be sent together with what other clients get; more is worth a system call.
const SEALED_ASIDE: usize = 16 * 1024;

/// Plain bytes that are not sent before others that follow at once: a head, and the file behind it.
const HELD_BACK: usize = 4 * 1024;

/// Bytes that it is encrypted to, with what the protocol itself may have had to say meanwhile.
const HELD_BACK_ROOM: usize = HELD_BACK + 4 * 1024;

/// Room for what was held back, for records, and for what the protocol itself has to say.
const SEAL_ROOM: usize = HELD_BACK_ROOM + SEALED_AT_ONCE + 8 * 1024;

/// Bytes of handshake messages that are not complete, at most: a certificate of a client with all that leads to its
/// authority.
const HANDSHAKE_LIMIT: usize = 64 * 1024;

/// Room for a read behind what is left of others.
const LEAST_READ: usize = 4 * 1024;

/// Reads without a plain byte before others have their turn.
const READS_PER_TURN: u32 = 4;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Memory that is in use within a call only.
#[derive(Default)]
struct Scratch {
    /// For a read, with the memory for a record; or for one in bulk.
    single: Vec<u8>,
    bulk: Vec<u8>,
    /// As long as it is ever needed, so that it is not filled anew.
    sealed: Vec<u8>,
}

/// A socket on which TLS is spoken.
pub(crate) struct Tls {
    socket: Socket,
    /// `None` while a thread has it.
    session: Option<UnbufferedServerConnection>,
    stage: Stage,
    errand: Option<Errand>,
    /// Ciphertext of records that are not complete, or that wait for their turn.
    incoming: Vec<u8>,
    /// Decrypted bytes, of which so many are taken.
    plain: Vec<u8>,
    taken: usize,
    /// Ciphertext for the socket, of which so many bytes are gone.
    outgoing: Vec<u8>,
    gone: usize,
    /// Bytes of it that are held back for what follows them.
    held_back: usize,
    /// Plain bytes that are encrypted next, at most.
    piece: usize,
    /// Plain bytes whose ciphertext is on its way,
    sealed: usize,
    /// and how much of that the kernel has.
    handed_over: u64,
    /// An end without the protocol's goodbye is an error.
    wants_goodbye: bool,
    end: End,
    /// Whether the peer is told of the end.
    says_goodbye: bool,
    failure: Option<String>,
    /// Certificates of clients are asked for.
    asks_clients: bool,
    about: Option<Rc<About>>,
}

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing has come.
    New,
    /// It waits for its turn, with what has come.
    Waiting,
    /// It is under way.
    Opening,
    /// The same, and a thread has the session.
    Away,
    /// It is done.
    Open,
    /// It has failed.
    Failed,
}

/// What the peer still sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// It said that nothing more comes.
    Said,
    /// It has just stopped.
    Cut,
}

/// What a handshake has settled.
#[derive(Debug)]
pub(crate) struct About {
    /// The version's number in the protocol.
    pub(crate) version: u16,
    /// The cipher suite's number in the registry.
    pub(crate) suite: u16,
    /// Who the client is, where it was asked.
    pub(crate) client: Option<ClientCertificate>,
    /// Whether it was asked.
    pub(crate) asked: bool,
    /// HTTP/2 was agreed on (ALPN).
    pub(crate) http2: bool,
}

impl Tls {
    /// `early`: what was received before TLS began, behind a PROXY header.
    pub(crate) fn new(
        socket: Socket,
        config: Arc<ServerConfig>,
        early: Vec<u8>,
        terms: Terms,
    ) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self {
            socket,
            session: Some(session),
            errand: None,
            stage: Stage::New,
            incoming: early,
            plain: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            gone: 0,
            held_back: 0,
            piece: SEALED_AT_ONCE,
            sealed: 0,
            handed_over: 0,
            wants_goodbye: terms.wants_goodbye,
            end: End::Open,
            says_goodbye: true,
            failure: None,
            asks_clients: terms.asks_clients,
            about: None,
        })
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn watch(&mut self) -> io::Result<()> {
        self.socket.watch()
    }

    /// What the handshake has settled, once it has.
    pub(crate) fn about(&self) -> Option<&Rc<About>> {
        self.about.as_ref()
    }

    /// Whether a client that has sent something is not through with the handshake.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Waiting | Stage::Away)
    }

    /// Why it failed, once.
    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Bytes of memory beside the session's own.
    pub(crate) fn memory(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    /// How many of `sent` plain bytes (and of those whose ciphertext is on its way) the client has taken.
    pub(crate) fn taken(&self, sent: u64) -> u64 {
        (sent + self.handed_over).saturating_sub(self.socket.unsent())
    }

    /// The socket without TLS: for a client that does not speak it.
    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Appends decrypted bytes to the free room of `buffer` (which must have some).
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<Received>> {
        for _ in 0..READS_PER_TURN {
            let count = self.deliver(buffer);
            if count > 0 {
                return Poll::Ready(Ok(Received::Bytes(count)));
            }
            if self.end != End::Open {
                return Poll::Ready(Ok(Received::End));
            }
            if self.sealed == 0 {
                self.flush(cx, false)?;
            }
            let received = SCRATCH.with_borrow_mut(|scratch| {
                let room = buffer.capacity() - buffer.len();
                self.receive_records(cx, buffer, scratch.for_read(room))
            });
            match received {
                Poll::Ready(Ok(Received::Bytes(0))) => {}
                other => return other,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read of ciphertext. `Bytes(0)`: nothing for the connection was in it.
    fn receive_records(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) -> Poll<io::Result<Received>> {
        if self.stage == Stage::Away {
            return self.poll_errand(cx);
        }
        scratch.extend_from_slice(&self.incoming);
        scratch.reserve(LEAST_READ);
        let must_read = match self.stage {
            Stage::New => scratch.is_empty(),
            Stage::Waiting => false,
            _ => true,
        };
        if must_read {
            match self.socket.poll_receive(cx, scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(Received::End)) => return Poll::Ready(self.handle_cut()),
                Poll::Ready(Ok(_)) => {}
            }
        }
        if self.stage == Stage::New && scratch[0] != HANDSHAKE {
            return Poll::Ready(self.refuse_stranger(scratch, buffer));
        }
        if self.is_arithmetic() && self.give_away(scratch)? {
            return self.poll_errand(cx);
        }
        if matches!(self.stage, Stage::New | Stage::Waiting) {
            if !handshakes::may_begin(cx.waker()) {
                self.stage = Stage::Waiting;
                keep(&mut self.incoming, scratch);
                return Poll::Pending;
            }
            self.stage = Stage::Opening;
        }
        let step = self.step(scratch, buffer)?;
        self.keep_incomplete(&scratch[step.consumed..])?;
        if self.sealed == 0 {
            self.flush(cx, false)?;
        }
        Poll::Ready(Ok(match self.end {
            End::Open => Received::Bytes(step.delivered),
            _ if step.delivered > 0 || self.taken < self.plain.len() => {
                Received::Bytes(step.delivered)
            }
            _ => Received::End,
        }))
    }

    /// Keeps what a record lacks the rest of.
    fn keep_incomplete(&mut self, left: &[u8]) -> io::Result<()> {
        if left.len() > HANDSHAKE_LIMIT {
            return Err(self.fail("a handshake message is too long".into()));
        }
        keep(&mut self.incoming, left);
        Ok(())
    }

    /// The peer has stopped without a goodbye.
    fn handle_cut(&mut self) -> io::Result<Received> {
        self.end = End::Cut;
        self.says_goodbye = false;
        if self.wants_goodbye && self.stage == Stage::Open {
            return Err(self.fail("the connection ended without close_notify".into()));
        }
        Ok(Received::End)
    }

    /// A client that does not begin with a handshake: one that speaks plain HTTP can be told so.
    fn refuse_stranger(&mut self, bytes: &[u8], buffer: &mut Vec<u8>) -> io::Result<Received> {
        if !bytes[0].is_ascii_alphabetic() {
            return Err(self.fail(format!(
                "it began with the byte {:#04x}, which is no handshake",
                bytes[0]
            )));
        }
        buffer.extend_from_slice(bytes);
        Ok(Received::Unencrypted(bytes.len()))
    }

    /// Whether what has come costs arithmetic with keys: the first message does, and later ones of a handshake in which
    /// the client proves who it is, or of TLS 1.2.
    fn is_arithmetic(&self) -> bool {
        let version = self.session.as_ref().and_then(|one| one.protocol_version());
        match self.stage {
            Stage::New | Stage::Waiting => true,
            Stage::Opening => self.asks_clients || version == Some(ProtocolVersion::TLSv1_2),
            _ => false,
        }
    }

    /// Has a thread make the next step, if there are any.
    fn give_away(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let session = self.session.take().ok_or(io::ErrorKind::NotConnected)?;
        match handshakes::give(session, bytes) {
            Ok(errand) => {
                self.errand = Some(errand);
                self.stage = Stage::Away;
                self.incoming = Vec::new();
                Ok(true)
            }
            Err(session) => {
                self.session = Some(*session);
                Ok(false)
            }
        }
    }

    /// Goes on with the session when it has come back. `Bytes(0)`: nothing for the connection was in it.
    fn poll_errand(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        let made = match self.errand.as_ref().map(|errand| errand.take(cx.waker())) {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(made)) => made,
            None => None,
        };
        self.errand = None;
        self.stage = Stage::Opening;
        let Some(made) = made else {
            return Poll::Ready(Err(
                self.fail("a handshake could not be gone on with".into())
            ));
        };
        let Made {
            session,
            bytes,
            plain,
            outgoing,
            step,
        } = *made;
        self.session = Some(session);
        self.plain.extend_from_slice(&plain);
        self.outgoing.extend_from_slice(&outgoing);
        let step = step.map_err(|reason| self.fail(reason))?;
        self.keep_incomplete(&bytes[step.consumed..])?;
        self.note(&step);
        self.flush(cx, false)?;
        Poll::Ready(Ok(Received::Bytes(0)))
    }

    /// Lets the protocol see what has come.
    fn step(&mut self, bytes: &mut [u8], buffer: &mut Vec<u8>) -> io::Result<Step> {
        let session = self.session.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut sinks = Sinks {
            buffer,
            plain: &mut self.plain,
            outgoing: &mut self.outgoing,
        };
        let step = step::step(session, bytes, &mut sinks).map_err(|reason| self.fail(reason))?;
        self.note(&step);
        Ok(step)
    }

    /// What a step has changed.
    fn note(&mut self, step: &Step) {
        if step.is_closed {
            self.end = End::Said;
        }
        if step.is_settled && self.stage == Stage::Opening {
            self.stage = Stage::Open;
        }
        if self.stage == Stage::Open && self.about.is_none() {
            self.note_settled();
        }
    }

    fn fail(&mut self, reason: String) -> io::Error {
        self.stage = Stage::Failed;
        self.says_goodbye = false;
        let error = io::Error::new(io::ErrorKind::InvalidData, reason.clone());
        self.failure = Some(reason);
        let _ = self.flush(&mut Context::from_waker(Waker::noop()), false);
        error
    }

    fn note_settled(&mut self) {
        let Some(session) = &self.session else {
            return;
        };
        let suite = session.negotiated_cipher_suite();
        let chain = session.peer_certificates();
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        handshakes::note(suite.is_some_and(|suite| suite.tls13().is_some()), resumed);
        self.about = Some(Rc::new(About {
            version: session.protocol_version().map_or(0, u16::from),
            suite: suite.map_or(0, |suite| u16::from(suite.suite())),
            client: chain.and_then(ClientCertificate::of),
            asked: self.asks_clients,
            http2: session.alpn_protocol() == Some(HTTP2),
        }));
    }

    fn deliver(&mut self, buffer: &mut Vec<u8>) -> usize {
        let waiting = &self.plain[self.taken..];
        let count = waiting.len().min(buffer.capacity() - buffer.len());
        buffer.extend_from_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.plain.len() {
            self.plain = Vec::new();
            self.taken = 0;
        }
        count
    }

    /// Sends from the front of `bytes`, as [`Socket::poll_send`] does; what is not sent must be at the front again.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        more: bool,
    ) -> io::Result<Sent> {
        if let Some(sent) = self.poll_sealed(cx, more)? {
            return Ok(sent);
        }
        let now = &bytes[..bytes.len().min(self.piece)];
        let holds_back = more && now.len() <= HELD_BACK && self.held_back == 0;
        SCRATCH.with_borrow_mut(|scratch| {
            let room = scratch.for_sealing();
            let start = self.take_held_back(room);
            let length = start + self.seal(now, &mut room[start..])?;
            if holds_back {
                self.outgoing.extend_from_slice(&room[..length]);
                self.held_back = length;
                return Ok(());
            }
            let more = more || now.len() < bytes.len();
            self.hand_over(cx, &room[..length], more)
        })?;
        if holds_back {
            return Ok(Sent::Bytes(now.len()));
        }
        self.sealed = now.len();
        Ok(self.poll_sealed(cx, more)?.unwrap_or(Sent::Blocked))
    }

    /// Encrypts `bytes` for a caller who sends [`sealed_aside`](Self::sealed_aside) himself. Nothing is done where
    /// they are more than one piece, or something waits before them.
    pub(crate) fn seal_aside(&mut self, bytes: &[u8]) {
        let waits = self.sealed > 0 || self.gone < self.outgoing.len();
        if waits || self.stage != Stage::Open || bytes.len() > SEALED_ASIDE {
            return;
        }
        let sealed = SCRATCH.with_borrow_mut(|scratch| {
            let room = scratch.for_sealing();
            let length = self.seal(bytes, room)?;
            self.outgoing = room[..length].to_vec();
            self.gone = 0;
            io::Result::Ok(())
        });
        // An error is met again by who sends in the ordinary way.
        if sealed.is_ok() {
            self.sealed = bytes.len();
        }
    }

    /// Ciphertext that waits for the socket, where that is all there is for it.
    pub(crate) fn sealed_aside(&self) -> Option<&[u8]> {
        let waiting = &self.outgoing[self.gone..];
        (self.sealed > 0 && !waiting.is_empty()).then_some(waiting)
    }

    /// So many bytes of [`sealed_aside`](Self::sealed_aside) were sent.
    pub(crate) fn note_sent(&mut self, count: usize) {
        self.gone += count;
        self.handed_over += count as u64;
    }

    /// Bytes that are sent at once, at most.
    pub(crate) fn piece(&self) -> usize {
        self.piece
    }

    /// Puts what was held back before what follows it; says how long it is.
    fn take_held_back(&mut self, room: &mut [u8]) -> usize {
        if std::mem::take(&mut self.held_back) == 0 {
            return 0;
        }
        let held = std::mem::take(&mut self.outgoing);
        room[..held.len()].copy_from_slice(&held);
        held.len()
    }

    /// Goes on with what is encrypted; `None`: nothing is.
    pub(crate) fn poll_sealed(
        &mut self,
        cx: &mut Context<'_>,
        more: bool,
    ) -> io::Result<Option<Sent>> {
        let waits = self.held_back > 0 && self.outgoing.len() <= HELD_BACK_ROOM;
        if !waits && self.flush(cx, more)? == Sent::Blocked {
            return Ok(Some(Sent::Blocked));
        }
        let sealed = std::mem::take(&mut self.sealed);
        self.handed_over = 0;
        Ok((sealed > 0).then_some(Sent::Bytes(sealed)))
    }

    /// Encrypts `bytes` (with what the protocol itself has to say before them) and says how long that is.
    ///
    /// The session is shown what has come of a record, here too: of a message in several records it remembers places.
    fn seal(&mut self, bytes: &[u8], room: &mut [u8]) -> io::Result<usize> {
        let session = self.session.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut length = 0;
        loop {
            match session.process_tls_records(&mut self.incoming).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let sealed = traffic.encrypt(bytes, &mut room[length..]);
                    return Ok(length + sealed.map_err(io::Error::other)?);
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    length += data.encode(&mut room[length..]).map_err(io::Error::other)?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.end = End::Said,
                Ok(_) => return Err(io::ErrorKind::NotConnected.into()),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Gives ciphertext to the socket; what it does not take is kept. Nothing may wait before it.
    fn hand_over(&mut self, cx: &mut Context<'_>, bytes: &[u8], more: bool) -> io::Result<()> {
        let count = match self.socket.poll_send(cx, bytes, more)? {
            Sent::Bytes(count) => count,
            Sent::Blocked => 0,
        };
        self.handed_over = count as u64;
        self.piece = if count < bytes.len() {
            SEALED_FOR_SLOW
        } else {
            SEALED_AT_ONCE
        };
        self.outgoing.extend_from_slice(&bytes[count..]);
        Ok(())
    }

    /// Sends the ciphertext that waits. `Blocked`: not all of it.
    fn flush(&mut self, cx: &mut Context<'_>, more: bool) -> io::Result<Sent> {
        self.held_back = 0;
        while self.gone < self.outgoing.len() {
            match self
                .socket
                .poll_send(cx, &self.outgoing[self.gone..], more)?
            {
                Sent::Bytes(count) => {
                    self.gone += count;
                    self.handed_over += count as u64;
                }
                Sent::Blocked => return Ok(Sent::Blocked),
            }
        }
        if self.gone > 0 {
            self.outgoing = Vec::new();
            self.gone = 0;
        }
        Ok(Sent::Bytes(0))
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn finish_sending(&mut self) {
        self.say_goodbye();
        self.socket.finish_sending();
    }

    /// The protocol's goodbye, once: without it the peer cannot tell an end from a cut.
    pub(crate) fn say_goodbye(&mut self) {
        if self.stage != Stage::Open || !std::mem::take(&mut self.says_goodbye) {
            return;
        }
        let Some(session) = &mut self.session else {
            return;
        };
        let mut room = [0; 256];
        let length = match session.process_tls_records(&mut self.incoming).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                traffic.queue_close_notify(&mut room).unwrap_or(0)
            }
            _ => 0,
        };
        self.outgoing.extend_from_slice(&room[..length]);
        // A peer that takes nothing is not waited for.
        let _ = self.flush(&mut Context::from_waker(Waker::noop()), false);
    }

    /// Makes the close that follows a failure for the peer.
    pub(crate) fn reset_on_close(&mut self) {
        self.says_goodbye = false;
        self.socket.reset_on_close();
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Tls");
        shown
            .field("socket", &self.socket)
            .field("stage", &self.stage);
        shown.finish_non_exhaustive()
    }
}

/// What a listener demands of its connections beyond the protocol.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms {
    /// `suppress_ragged_eofs` is off.
    pub(crate) wants_goodbye: bool,
    /// Certificates of clients are asked for.
    pub(crate) asks_clients: bool,
}

impl Scratch {
    /// Empty memory for a read whose plain bytes have `room`.
    fn for_read(&mut self, room: usize) -> &mut Vec<u8> {
        let (memory, size) = if room > READ_SIZE {
            (&mut self.bulk, BULK)
        } else {
            (&mut self.single, RECORD)
        };
        memory.clear();
        memory.reserve(size);
        memory
    }

    fn for_sealing(&mut self) -> &mut [u8] {
        self.sealed.resize(SEAL_ROOM, 0);
        &mut self.sealed
    }
}

/// Replaces what is kept; nothing keeps no memory.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        *kept = Vec::new();
    } else {
        kept.clear();
        kept.extend_from_slice(bytes);
        kept.shrink_to(bytes.len());
    }
}
