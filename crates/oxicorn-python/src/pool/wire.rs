//! Frames of an end that Python holds: it waits for them, with a deadline, or takes what is there.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oxicorn_os::poll::{self, Polled};
use oxicorn_os::stream::{Moved, Stream};
use oxicorn_os::time;
use oxicorn_proto::pool::{HEADER_LENGTH, Header, Kind, PAYLOAD_MAX};
use pyo3::prelude::*;

/// Bytes read at once. A longer frame is read into its own place.
const READ: usize = 16 << 10;
/// Bytes of a long frame that are read at once: their place is zeroed for each read.
const LONG_READ: usize = 256 << 10;

/// How long one system call waits where there is no deadline.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// The socket takes microseconds, and 0 for ever.
const LEAST_WAIT: Duration = Duration::from_micros(1);

/// [`Stream::receive`], or the one that waits.
type Receive = fn(&Stream, &mut [u8], &mut VecDeque<OwnedFd>) -> io::Result<Moved>;

/// A frame that arrived.
pub(crate) struct Arrived {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) file: Option<OwnedFd>,
}

/// How a wait ended.
pub(crate) enum Waited<T> {
    Done(T),
    TimedOut,
    Closed,
}

struct Part {
    bytes: Vec<u8>,
    sent: usize,
    file: Option<OwnedFd>,
}

pub(crate) struct Wire {
    stream: Stream,
    /// Where short reads go first.
    scratch: Box<[u8]>,
    input: Vec<u8>,
    files: VecDeque<OwnedFd>,
    output: VecDeque<Part>,
    /// How long a receive waits, as the socket was told.
    patience: Duration,
}

/// One step of a wait; no Python.
enum Step<T> {
    Done(T),
    Interrupted,
    TimedOut,
    Closed,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            scratch: vec![0; READ].into(),
            input: Vec::new(),
            files: VecDeque::new(),
            output: VecDeque::new(),
            patience: Duration::ZERO,
        }
    }

    /// Whether the other end is gone and has left nothing to read.
    pub(crate) fn is_over(&self) -> bool {
        self.stream.is_over()
    }

    /// Puts a frame behind those that are to be sent.
    pub(crate) fn put(
        &mut self,
        kind: Kind,
        id: u64,
        payload: &[u8],
        file: Option<OwnedFd>,
    ) -> io::Result<()> {
        let header = Header {
            kind,
            length: payload.len(),
            id,
            descriptor: file.is_some(),
        };
        debug_assert!(payload.len() <= PAYLOAD_MAX, "the encoder has looked");
        let head = header
            .encode()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + payload.len());
        bytes.extend(head);
        bytes.extend_from_slice(payload);
        self.output.push_back(Part {
            bytes,
            sent: 0,
            file,
        });
        Ok(())
    }

    /// Sends what there is room for; whether that is all.
    pub(crate) fn flush(&mut self) -> io::Result<Moved> {
        while let Some(part) = self.output.front_mut() {
            let rest = [IoSlice::new(&part.bytes[part.sent..])];
            let file = part.file.as_ref().map(AsFd::as_fd);
            match self.stream.send(&rest, file)? {
                Moved::Bytes(sent) => {
                    part.sent += sent;
                    part.file = None;
                    if part.sent == part.bytes.len() {
                        self.output.pop_front();
                    }
                }
                stopped => return Ok(stopped),
            }
        }
        Ok(Moved::Bytes(0))
    }

    /// Sends everything, detached from the interpreter.
    pub(crate) fn send_all(
        &mut self,
        py: Python<'_>,
        deadline: Option<Duration>,
    ) -> PyResult<Waited<()>> {
        // Most are sent at once: what that takes is not worth to detach for.
        match self.flush()? {
            Moved::Bytes(_) => return Ok(Waited::Done(())),
            Moved::Closed | Moved::Reset => return Ok(Waited::Closed),
            Moved::WouldBlock => {}
        }
        self.wait(py, |wire| {
            match wire.flush()? {
                Moved::Bytes(_) => return Ok(Step::Done(())),
                Moved::Closed | Moved::Reset => return Ok(Step::Closed),
                Moved::WouldBlock => {}
            }
            let Some(left) = left(deadline) else {
                return Ok(Step::TimedOut);
            };
            Ok(match poll::wait_writable(wire.stream.as_fd(), left)? {
                Polled::TimedOut => Step::TimedOut,
                _ => Step::Interrupted,
            })
        })
    }

    /// The next frame, detached from the interpreter.
    pub(crate) fn receive(
        &mut self,
        py: Python<'_>,
        deadline: Option<Duration>,
    ) -> PyResult<Waited<Arrived>> {
        self.wait(py, |wire| {
            if let Some(frame) = wire.cut()? {
                return Ok(Step::Done(frame));
            }
            let Some(left) = left(deadline) else {
                return Ok(Step::TimedOut);
            };
            wire.set_patience(left.unwrap_or(LONGEST_WAIT))?;
            // Nearly always there is nothing yet: to look first, or to poll, would be a system call more.
            Ok(match wire.receive_once(Stream::wait_and_receive)? {
                Moved::Bytes(_) => match wire.take()? {
                    Waited::Done(frame) => Step::Done(frame),
                    Waited::Closed => Step::Closed,
                    Waited::TimedOut => Step::Interrupted,
                },
                // A signal, or the time is over: the deadline says which.
                Moved::WouldBlock => Step::Interrupted,
                Moved::Closed | Moved::Reset => Step::Closed,
            })
        })
    }

    /// The socket is told anew only where what it was told is too short, or longer by more than a hundredth.
    fn set_patience(&mut self, left: Duration) -> io::Result<()> {
        if self.patience < left || self.patience > left + left / 100 {
            // Less is left the next time, by a little; or more.
            self.patience = left + left / 200;
            self.stream.set_patience(self.patience.max(LEAST_WAIT))?;
        }
        Ok(())
    }

    /// Steps until one is the last; between them signal handlers run.
    fn wait<T: Send>(
        &mut self,
        py: Python<'_>,
        mut step: impl FnMut(&mut Self) -> io::Result<Step<T>> + Send,
    ) -> PyResult<Waited<T>> {
        loop {
            match py.detach(|| step(self))? {
                Step::Done(value) => return Ok(Waited::Done(value)),
                Step::TimedOut => return Ok(Waited::TimedOut),
                Step::Closed => return Ok(Waited::Closed),
                Step::Interrupted => py.check_signals()?,
            }
        }
    }

    /// A frame that is there already; [`Waited::TimedOut`]: none is.
    pub(crate) fn take(&mut self) -> io::Result<Waited<Arrived>> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Waited::Done(frame));
            }
            match self.receive_once(Stream::receive)? {
                Moved::Bytes(_) => {}
                Moved::WouldBlock => return Ok(Waited::TimedOut),
                Moved::Closed | Moved::Reset => return Ok(Waited::Closed),
            }
        }
    }

    /// Appends what one system call gives to the input; a signal is nothing.
    fn receive_once(&mut self, receive: Receive) -> io::Result<Moved> {
        let missing = self.missing();
        let moved = if missing > self.scratch.len() {
            let before = self.input.len();
            self.input.resize(before + missing.min(LONG_READ), 0);
            let moved = receive(&self.stream, &mut self.input[before..], &mut self.files);
            self.input.truncate(before + count_of(&moved));
            moved
        } else {
            let moved = receive(&self.stream, &mut self.scratch, &mut self.files);
            self.input
                .extend_from_slice(&self.scratch[..count_of(&moved)]);
            moved
        };
        match moved {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Moved::WouldBlock),
            moved => moved,
        }
    }

    fn missing(&self) -> usize {
        match Header::parse(&self.input) {
            Ok(Some(header)) => (HEADER_LENGTH + header.length).saturating_sub(self.input.len()),
            _ => 0,
        }
    }

    fn cut(&mut self) -> io::Result<Option<Arrived>> {
        let nonsense = || io::Error::from(io::ErrorKind::InvalidData);
        let header = Header::parse(&self.input).map_err(|_| nonsense())?;
        let Some(header) = header else {
            return Ok(None);
        };
        let end = HEADER_LENGTH + header.length;
        if self.input.len() < end {
            return Ok(None);
        }
        let file = if header.descriptor {
            Some(self.files.pop_front().ok_or_else(nonsense)?)
        } else {
            None
        };
        let payload = self.input[HEADER_LENGTH..end].to_vec();
        self.input.drain(..end);
        Ok(Some(Arrived {
            header,
            payload,
            file,
        }))
    }
}

fn count_of(moved: &io::Result<Moved>) -> usize {
    match moved {
        Ok(Moved::Bytes(count)) => *count,
        _ => 0,
    }
}

/// How long may be waited: `None`: not at all any more; `Some(None)`: for ever.
#[expect(clippy::option_option, reason = "both kinds of none are said above")]
fn left(deadline: Option<Duration>) -> Option<Option<Duration>> {
    let Some(deadline) = deadline else {
        return Some(None);
    };
    let left = deadline.saturating_sub(time::monotonic());
    (!left.is_zero()).then_some(Some(left))
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The moment `seconds` from now; `None`: never.
pub(crate) fn deadline(seconds: Option<f64>) -> Option<Duration> {
    let seconds = Duration::try_from_secs_f64(seconds?.max(0.0)).ok()?;
    time::monotonic().checked_add(seconds)
}
