//! The worker's way out: responses, credit, descriptors, shared by all threads of the worker.
//!
//! Threads share it, or the greenlets of one thread: how one waits for the gateway (room in the ring, credit of a
//! slow client, a socket) is [`Wait`]'s. Whoever was woken looks for signals.
//!
//! Events come for all exchanges of the worker on one ring. Whoever looks, takes them all and puts those of others
//! into their place in the inbox.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use oxicorn_link::StreamId;
use oxicorn_link::window::{RESPONSE_HEAD, RESPONSE_PIECE, RESPONSE_WINDOW, SendWindow};
use oxicorn_link::wire::{
    self, AbortReason, CancelReason, EventKind, FilePart, ResponseKind, flags,
};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::calls::Calls;
use super::link::{Message, WorkerLink, refuse_if_forked, too_large};
use super::wait::{Blocking, News, Wait};
use crate::errors::ClientGone;
use crate::forked;
use crate::locks::{lock, lock_detached};

/// Ends a response whose call goes on: `close()`, hooks, whatever the application does next.
pub(crate) const LAST: u8 = flags::END | flags::GOES_ON;

/// One exchange on the link.
#[derive(Debug)]
pub(crate) struct Stream {
    id: StreamId,
    window: SendWindow,
    /// Whether the inbox has a place for it.
    registered: bool,
}

impl Stream {
    pub(crate) fn new(id: StreamId) -> Self {
        Self {
            id,
            window: SendWindow::new(RESPONSE_WINDOW),
            registered: false,
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Responder {
    link: Arc<WorkerLink>,
    /// How its users wait; unless they say otherwise, as threads do.
    wait: OnceLock<Arc<dyn Wait>>,
    inbox: Mutex<Inbox>,
    calls: Calls,
    /// The gateway has been told of calls of its predecessors.
    introduced: AtomicBool,
    /// The worker ends, and so do its calls.
    is_stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Inbox {
    scratch: Vec<u8>,
    streams: HashMap<StreamId, Arrived>,
}

/// What came for one exchange and has not been looked at.
#[derive(Debug, Default)]
struct Arrived {
    credit: u32,
    cancelled: bool,
    /// It was cancelled because it took too long.
    expired: bool,
    /// The client's socket is there; what had been read from it.
    hijacked: Option<Vec<u8>>,
}

impl Responder {
    pub(crate) fn new(link: Arc<WorkerLink>) -> Self {
        Self {
            link,
            wait: OnceLock::new(),
            inbox: Mutex::default(),
            calls: Calls::default(),
            introduced: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// From now on its users wait like this. To be said before the first request is taken.
    pub(crate) fn wait_by(&self, wait: Arc<dyn Wait>) {
        let _ = self.wait.set(wait);
    }

    fn wait(&self) -> &dyn Wait {
        self.wait.get().map_or(&Blocking, AsRef::as_ref)
    }

    /// The calls this worker has in hand.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Names the calls of earlier gateways to the present one, until there are none. For a native thread:
    /// it never waits, what cannot be sent now is sent when this is called next.
    pub(crate) fn introduce_calls(&self) {
        let Some(mut responses) = self.link.try_responses() else {
            return;
        };
        let mut payload = Vec::new();
        let any = self
            .calls
            .encode(&mut payload, |stream| responses.is_current(stream));
        if any || self.introduced.load(Ordering::Relaxed) {
            let stream = StreamId::new(0, 0, 0);
            let sent = responses.try_send(ResponseKind::InHand, stream, 0, &[], &payload);
            self.introduced
                .store(any || sent.is_err(), Ordering::Relaxed);
        }
    }

    /// A call begins. Events about `stream` are kept from now on, until its response is over, where somebody
    /// `listens` or is told of its expiry.
    pub(crate) fn begin(&self, stream: &mut Stream, listens: bool) {
        self.register_unless(stream, !listens && !self.wait().tells_of_expiry());
    }

    /// From now on calls are ended from outside.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether `error` is how the call was ended from outside: it took too long, or the worker ends.
    pub(crate) fn was_ended(
        &self,
        py: Python<'_>,
        stream: &Stream,
        error: &PyErr,
    ) -> PyResult<bool> {
        if !self.wait().is_exit(py, error) {
            return Ok(false);
        }
        Ok(self.is_stopping.load(Ordering::Relaxed) || self.is_expired(py, stream)?)
    }

    /// Whether the gateway has said that the request took too long; only known of streams that are
    /// listened for.
    pub(crate) fn is_expired(&self, py: Python<'_>, stream: &Stream) -> PyResult<bool> {
        if !stream.registered || forked::is_forked() {
            return Ok(false);
        }
        let mut inbox = lock_detached(py, &self.inbox);
        let news = inbox.empty_ring(&self.link);
        let arrived = inbox.streams.get(&stream.id);
        let expired = arrived.is_some_and(|arrived| arrived.expired);
        drop(inbox);
        self.hand_out(py, stream, news)?;
        Ok(expired)
    }

    /// Hands out what has come; whether anything had. For a loop, which looks for everybody.
    pub(crate) fn take_events(&self, py: Python<'_>) -> PyResult<bool> {
        let news = lock_detached(py, &self.inbox).empty_ring(&self.link);
        if !news.is_empty() {
            self.wait().hand_out(py, &self.link, &news)?;
        }
        Ok(!news.is_empty())
    }

    /// Who looked for `own` has found news of others too.
    fn hand_out(&self, py: Python<'_>, own: &Stream, mut news: Vec<News>) -> PyResult<()> {
        news.retain(|one| one.stream != own.id);
        if news.is_empty() {
            return Ok(());
        }
        self.wait().hand_out(py, &self.link, &news)
    }

    /// Sends the head with the first piece of the body; `bits` are [`flags::LOGGED`], and [`LAST`] for
    /// what ends the response with this piece.
    pub(crate) fn send_head(
        &self,
        py: Python<'_>,
        stream: &mut Stream,
        head: &[u8],
        body: &[u8],
        bits: u8,
    ) -> PyResult<()> {
        refuse_if_forked()?;
        let last = bits & LAST;
        self.check_head(py, stream, head)?;
        let (first, rest) = body.split_at(body.len().min(RESPONSE_PIECE));
        let over = last != 0 && rest.is_empty();
        let bits = if over { bits } else { bits & !LAST };
        self.register_unless(stream, over);
        stream.window.spend(first.len());
        self.send(py, ResponseKind::Head, stream.id, bits, head, first)?;
        if over {
            self.forget(stream);
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.send_body(py, stream, rest, last)
    }

    /// Sends more of the body, waiting for the client where it is slow.
    pub(crate) fn send_body(
        &self,
        py: Python<'_>,
        stream: &mut Stream,
        mut body: &[u8],
        last: u8,
    ) -> PyResult<()> {
        refuse_if_forked()?;
        self.look(py, stream)?;
        while body.len() > RESPONSE_PIECE || body.len() as u64 > stream.window.available() {
            let allowed = self.allowance(py, stream)?;
            let (piece, rest) = body.split_at(body.len().min(RESPONSE_PIECE).min(allowed));
            stream.window.spend(piece.len());
            self.send(py, ResponseKind::BodyChunk, stream.id, 0, &[], piece)?;
            body = rest;
        }
        stream.window.spend(body.len());
        self.send(py, ResponseKind::BodyChunk, stream.id, last, &[], body)?;
        if last != 0 {
            self.forget(stream);
        }
        Ok(())
    }

    /// Gives a response up whose head is longer than one may be.
    fn check_head(&self, py: Python<'_>, stream: &mut Stream, head: &[u8]) -> PyResult<()> {
        if head.len() <= RESPONSE_HEAD {
            return Ok(());
        }
        self.send_abort(py, stream, AbortReason::TooLarge, flags::GOES_ON)?;
        let text = too_large("the response head is", head.len());
        Err(PyOSError::new_err(text))
    }

    /// Hands over the file that [`send_file`](Self::send_file) sends a piece of; `head` is what is to leave with it.
    pub(crate) fn hand_over_file(
        &self,
        py: Python<'_>,
        stream: &mut Stream,
        head: &[u8],
        file: BorrowedFd<'_>,
    ) -> PyResult<()> {
        refuse_if_forked()?;
        self.check_head(py, stream, head)?;
        self.link.send_descriptor(py, self.wait(), stream.id, file)
    }

    /// Sends the rest of the body as a piece of a file that was handed over, and ends the response. `head`, with its
    /// bits, is sent before it where it has not left.
    pub(crate) fn send_file(
        &self,
        py: Python<'_>,
        stream: &mut Stream,
        head: Option<(&[u8], u8)>,
        part: FilePart,
    ) -> PyResult<()> {
        let part = part.encode();
        let file = Message {
            kind: ResponseKind::File,
            stream: stream.id,
            flags: LAST | flags::HAS_DESCRIPTOR,
            head: &part,
            body: &[],
        };
        match head {
            None => self.link.send(py, self.wait(), file)?,
            Some((head, bits)) => {
                let head = Message {
                    kind: ResponseKind::Head,
                    flags: bits,
                    head,
                    ..file
                };
                self.link.send_both(py, self.wait(), [head, file])?;
            }
        }
        self.forget(stream);
        Ok(())
    }

    /// Sends a 1xx head.
    pub(crate) fn send_informational(
        &self,
        py: Python<'_>,
        stream: &Stream,
        head: &[u8],
    ) -> PyResult<()> {
        refuse_if_forked()?;
        self.send(py, ResponseKind::Informational, stream.id, 0, head, &[])
    }

    /// Ends a response with trailers.
    pub(crate) fn send_trailers(
        &self,
        py: Python<'_>,
        stream: &mut Stream,
        trailers: &[u8],
    ) -> PyResult<()> {
        refuse_if_forked()?;
        if trailers.len() > RESPONSE_HEAD {
            self.send_abort(py, stream, AbortReason::TooLarge, flags::GOES_ON)?;
            return Err(PyOSError::new_err(too_large(
                "the trailers are",
                trailers.len(),
            )));
        }
        self.forget(stream);
        self.send(
            py,
            ResponseKind::Trailers,
            stream.id,
            flags::GOES_ON,
            &[],
            trailers,
        )
    }

    /// Says that there will be no (more) response; `bits` are [`flags::GOES_ON`] or nothing.
    pub(crate) fn send_abort(
        &self,
        py: Python<'_>,
        stream: &mut Stream,
        reason: AbortReason,
        bits: u8,
    ) -> PyResult<()> {
        refuse_if_forked()?;
        self.forget(stream);
        self.send(
            py,
            ResponseKind::Abort,
            stream.id,
            bits,
            &wire::encode_abort(reason),
            &[],
        )
    }

    /// Says that the call is over whose response ended with [`flags::GOES_ON`].
    pub(crate) fn send_call_end(&self, py: Python<'_>, stream: &Stream) -> PyResult<()> {
        self.send(py, ResponseKind::CallEnd, stream.id, 0, &[], &[])
    }

    /// Takes the client's socket over; with it comes what the gateway had read already.
    pub(crate) fn hijack(
        &self,
        py: Python<'_>,
        stream: &mut Stream,
    ) -> PyResult<(OwnedFd, Vec<u8>)> {
        refuse_if_forked()?;
        self.register_unless(stream, false);
        self.send(py, ResponseKind::Hijack, stream.id, 0, &[], &[])?;
        let unread = self.wait_for(py, stream, |arrived| arrived.hijacked.take())?;
        self.calls.strike_out(stream.id);
        self.forget(stream);
        Ok((self.take_descriptor(stream.id)?, unread))
    }

    /// The descriptor that a message about `stream` spoke of.
    pub(crate) fn take_descriptor(&self, stream: StreamId) -> PyResult<OwnedFd> {
        self.link.take_descriptor(stream)
    }

    /// The payload of a request that was too large for the ring.
    pub(crate) fn read_spilled(&self, py: Python<'_>, stream: StreamId) -> PyResult<Vec<u8>> {
        self.link.read_spilled(py, stream)
    }

    /// How much may be sent now; waits until it is more than nothing.
    fn allowance(&self, py: Python<'_>, stream: &mut Stream) -> PyResult<usize> {
        if stream.window.available() == 0 {
            let credit = |arrived: &mut Arrived| match std::mem::take(&mut arrived.credit) {
                0 => None,
                credit => Some(credit),
            };
            let credit = self.wait_for(py, stream, credit)?;
            stream.window.credit(credit);
        }
        Ok(usize::try_from(stream.window.available()).unwrap_or(usize::MAX))
    }

    /// Takes what has arrived into account, unless another thread is just doing so.
    fn look(&self, py: Python<'_>, stream: &mut Stream) -> PyResult<()> {
        let Ok(mut inbox) = self.inbox.try_lock() else {
            return Ok(());
        };
        let news = if self.link.has_events() {
            inbox.empty_ring(&self.link)
        } else {
            Vec::new()
        };
        let (credit, cancelled) = match inbox.streams.get_mut(&stream.id) {
            Some(arrived) => (std::mem::take(&mut arrived.credit), arrived.cancelled),
            None => (0, false),
        };
        drop(inbox);
        stream.window.credit(credit);
        self.hand_out(py, stream, news)?;
        if cancelled {
            Err(ClientGone::new_err("the client is gone"))
        } else {
            Ok(())
        }
    }

    /// Waits until `wanted` finds what it looks for in the arrivals of `stream`.
    fn wait_for<T>(
        &self,
        py: Python<'_>,
        stream: &Stream,
        mut wanted: impl FnMut(&mut Arrived) -> Option<T>,
    ) -> PyResult<T> {
        let mut waiter = self.wait().for_events(py, &self.link, stream.id);
        loop {
            {
                let mut inbox = lock_detached(py, &self.inbox);
                let news = inbox.empty_ring(&self.link);
                let arrived = inbox.streams.entry(stream.id).or_default();
                let (found, cancelled) = (wanted(arrived), arrived.cancelled);
                drop(inbox);
                self.hand_out(py, stream, news)?;
                if let Some(found) = found {
                    return Ok(found);
                }
                if cancelled {
                    return Err(ClientGone::new_err("the client is gone"));
                }
            }
            waiter.wait(py)?;
            py.check_signals()?;
            refuse_if_forked()?;
            self.check_gateway(py, stream)?;
        }
    }

    /// The gateway that placed this request may have died and been replaced.
    fn check_gateway(&self, py: Python<'_>, stream: &Stream) -> PyResult<()> {
        if self.link.is_current(py, stream.id) {
            return Ok(());
        }
        Err(ClientGone::new_err(
            "the client's connection died with its gateway",
        ))
    }

    /// Makes a place for events about `stream`, unless its response is already `over`.
    fn register_unless(&self, stream: &mut Stream, over: bool) {
        if !over && !stream.registered {
            stream.registered = true;
            // Short and never held across a wait for the interpreter.
            self.inbox().streams.entry(stream.id).or_default();
        }
    }

    fn forget(&self, stream: &mut Stream) {
        if std::mem::take(&mut stream.registered) {
            self.inbox().streams.remove(&stream.id);
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }

    fn send(
        &self,
        py: Python<'_>,
        kind: ResponseKind,
        stream: StreamId,
        flags: u8,
        head: &[u8],
        body: &[u8],
    ) -> PyResult<()> {
        let message = Message {
            kind,
            stream,
            flags,
            head,
            body,
        };
        self.link.send(py, self.wait(), message)
    }
}

impl Inbox {
    /// Moves all events to their streams; for which there were any.
    fn empty_ring(&mut self, link: &WorkerLink) -> Vec<News> {
        let mut news = Vec::new();
        while let Some(event) = link.next_event(&mut self.scratch) {
            // Of a request that is over: nobody wants to know.
            let Some(arrived) = self.streams.get_mut(&event.stream) else {
                continue;
            };
            match event.kind {
                EventKind::Credit => {
                    let credit = wire::decode_credit(&self.scratch).unwrap_or(0);
                    arrived.credit = arrived.credit.saturating_add(credit);
                }
                EventKind::Cancel => {
                    arrived.cancelled = true;
                    let reason = wire::decode_cancel(&self.scratch);
                    arrived.expired = reason == Ok(CancelReason::Expired);
                }
                EventKind::Hijacked => arrived.hijacked = Some(std::mem::take(&mut self.scratch)),
                // Nothing of WSGI has these.
                EventKind::BodyChunk
                | EventKind::BodyEnd
                | EventKind::WebSocketMessage
                | EventKind::WebSocketClose => {}
            }
            news.push(News {
                stream: event.stream,
                expired: event.kind == EventKind::Cancel && arrived.expired,
            });
        }
        news
    }
}
