//! What a pool worker serves with: the object `oxicorn.dirty.worker.DirtyWorker` drives.
//!
//! Each lane is served by a thread of Python's that waits here, detached. The main thread waits for signals and for what
//! the broker says beside calls.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::memfd;
use oxicorn_os::poll::{self, Polled};
use oxicorn_os::signals::Blocked;
use oxicorn_os::stream::Stream;
use oxicorn_pool::control::ToWorker;
use oxicorn_proto::pool::Kind;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator};

use super::call::{Call, Known, Manner};
use super::decode::Decoder;
use super::encode::{Dialect, Encoder};
use super::limit::Limit;
use super::sealed::{self, SealedAnswer};
use super::wire::{Arrived, Waited, Wire};
use super::{CallFile, error_class};

/// Bytes of the reason for which an application cannot be loaded: it is told in lists and in errors.
const REASON_KEPT: usize = 300;

/// What the arbiter leaves to a new pool worker.
#[derive(Debug)]
pub(crate) struct DirtySetup {
    pub(crate) id: u32,
    pub(crate) lanes: Vec<Stream>,
    /// The broker's words beside calls.
    pub(crate) control: Channel,
    /// To the arbiter.
    pub(crate) notices: Channel,
    /// By which a worker that reports numbers is told its applications.
    pub(crate) assignment: Option<Channel>,
    pub(crate) stack_dump: OwnedFd,
    pub(crate) signals: Blocked,
    /// Whether values may be pickled.
    pub(crate) unpickles: bool,
}

/// A pool worker's word to the arbiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DirtyNotice {
    /// How many workers each application wants.
    Limits(Vec<Option<u32>>),
    /// An application, by its path, is about to be loaded.
    Loading(String),
    /// It could not be: path and reason.
    Failed(String, String),
    /// How many workers the class of one that is loaded wants.
    Limit(String, Option<u32>),
    /// Those applications that can be loaded are.
    Ready,
    /// A successor is wanted.
    WantsReplacement(Replacement),
}

/// Why a worker wants a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// Somebody told it to end.
    Requested,
    /// It has had its calls (setting `dirty_max_calls`).
    MaxCalls,
    /// It holds too much (setting `dirty_memory_limit`).
    Memory,
}

impl Replacement {
    const ALL: [(Self, &'static str, u8); 3] = [
        (Self::Requested, "requested", b'W'),
        (Self::MaxCalls, "max_calls", b'C'),
        (Self::Memory, "memory", b'M'),
    ];

    fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known, _)| *known == name);
        found.map(|(reason, ..)| *reason)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        let found = Self::ALL.iter().find(|(.., known)| *known == byte);
        found.map(|(reason, ..)| *reason)
    }

    fn byte(self) -> u8 {
        let found = Self::ALL.iter().find(|(reason, ..)| *reason == self);
        found.map_or(0, |(.., byte)| *byte)
    }
}

impl DirtyNotice {
    fn encode(&self, worker: u32) -> Vec<u8> {
        let mut packet = worker.to_ne_bytes().to_vec();
        match self {
            Self::Ready => packet.push(b'R'),
            Self::WantsReplacement(reason) => packet.push(reason.byte()),
            Self::Loading(path) => {
                packet.push(b'O');
                packet.extend(path.bytes());
            }
            Self::Failed(path, reason) => {
                packet.push(b'F');
                packet.extend(path.bytes().chain([0]).chain(reason.bytes()));
            }
            Self::Limit(path, limit) => {
                packet.push(b'N');
                packet.extend(limit.unwrap_or(0).to_ne_bytes());
                packet.extend(path.bytes());
            }
            Self::Limits(limits) => {
                packet.push(b'L');
                // 0 is none: an application wants one worker at least.
                let numbers = limits.iter().map(|limit| limit.unwrap_or(0));
                packet.extend(numbers.flat_map(u32::to_ne_bytes));
            }
        }
        packet
    }

    /// Who says what.
    pub(crate) fn decode(packet: &[u8]) -> Option<(u32, Self)> {
        let (worker, rest) = packet.split_first_chunk()?;
        let (word, numbers) = rest.split_first()?;
        let notice = match word {
            b'R' => Self::Ready,
            b'O' => Self::Loading(text_of(numbers)),
            b'F' => {
                let end = numbers.iter().position(|byte| *byte == 0)?;
                Self::Failed(text_of(&numbers[..end]), text_of(&numbers[end + 1..]))
            }
            b'N' => {
                let (number, path) = numbers.split_first_chunk()?;
                let number = u32::from_ne_bytes(*number);
                Self::Limit(text_of(path), (number > 0).then_some(number))
            }
            b'L' => {
                let (numbers, []) = numbers.as_chunks() else {
                    return None;
                };
                let number = |bytes: &[u8; 4]| {
                    let number = u32::from_ne_bytes(*bytes);
                    (number > 0).then_some(number)
                };
                Self::Limits(numbers.iter().map(number).collect())
            }
            other => Self::WantsReplacement(Replacement::from_byte(*other)?),
        };
        Some((u32::from_ne_bytes(*worker), notice))
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The call of a lane.
#[derive(Clone, Copy, Debug)]
struct Current {
    call: u64,
    thread: std::ffi::c_ulong,
    cancelled: bool,
}

/// What a lane is at; looked at by its own thread and, when a call is not wanted any more, by the main thread.
#[derive(Debug, Default)]
pub(super) struct LaneState {
    current: Mutex<Option<Current>>,
}

impl LaneState {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody wants the call any more that runs here.
    pub(super) fn is_cancelled(&self) -> bool {
        self.lock().is_some_and(|current| current.cancelled)
    }

    /// Nobody wants this call any more; whether it runs here.
    fn cancel(&self, call: u64) -> bool {
        let mut current = self.lock();
        match current.as_mut().filter(|current| current.call == call) {
            Some(current) => {
                current.cancelled = true;
                true
            }
            None => false,
        }
    }
}

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct DirtyContext {
    id: u32,
    lanes: Vec<Mutex<Option<Stream>>>,
    /// Duplicates, by which the lanes are shut down while threads wait there.
    ends: Vec<OwnedFd>,
    states: Vec<Arc<LaneState>>,
    control: Channel,
    notices: Channel,
    assignment: Mutex<Option<Channel>>,
    stack_dump: OwnedFd,
    signals: Mutex<Option<Blocked>>,
    unpickles: bool,
    released: AtomicBool,
    /// Python's C-level signal handler writes to one, the main thread waits at the other.
    wakeup: (UnixStream, UnixStream),
}

impl DirtyContext {
    pub(crate) fn new(setup: DirtySetup) -> PyResult<Self> {
        let ends = setup
            .lanes
            .iter()
            .map(|lane| lane.as_fd().try_clone_to_owned());
        let ends = ends.collect::<Result<_, _>>()?;
        let wakeup = UnixStream::pair()?;
        wakeup.0.set_nonblocking(true)?;
        wakeup.1.set_nonblocking(true)?;
        for lane in &setup.lanes {
            crate::forked::keep_from_children(lane);
        }
        for channel in [&setup.control, &setup.notices] {
            crate::forked::keep_from_children(channel);
        }
        Ok(Self {
            id: setup.id,
            ends,
            states: setup.lanes.iter().map(|_| Arc::default()).collect(),
            lanes: setup
                .lanes
                .into_iter()
                .map(|lane| Mutex::new(Some(lane)))
                .collect(),
            control: setup.control,
            notices: setup.notices,
            assignment: Mutex::new(setup.assignment),
            stack_dump: setup.stack_dump,
            signals: Mutex::new(Some(setup.signals)),
            unpickles: setup.unpickles,
            released: AtomicBool::new(false),
            wakeup,
        })
    }

    /// What the broker says next; `None`: nothing yet, but a signal may have come. A call that is not wanted any more is marked
    /// at once, without the interpreter: whoever writes or reads its values may have that for long.
    fn next_word(&self) -> std::io::Result<Option<ToWorker>> {
        let watched = [self.control.as_fd(), self.wakeup.1.as_fd()];
        if poll::wait_readable(&watched, None)? == Polled::Interrupted {
            return Ok(None);
        }
        let mut packet = Vec::new();
        let received = (self.control).recv(&mut packet, &mut Vec::new(), Blocking::No)?;
        let word = match received {
            Received::Nothing => None,
            Received::Closed => Some(ToWorker::Release),
            Received::Message(_) => ToWorker::decode(&packet),
        };
        if let Some(ToWorker::Cancel(call)) = word {
            let _ = self.states.iter().any(|state| state.cancel(call));
        }
        Ok(word)
    }

    fn notify(&self, py: Python<'_>, notice: &DirtyNotice) -> PyResult<()> {
        let packet = notice.encode(self.id);
        // An arbiter that is gone is noticed elsewhere.
        let sent = py.detach(|| self.notices.send(&packet, &[], Blocking::Yes));
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[pymethods]
impl DirtyContext {
    /// Where stacks are written to when they are asked for.
    fn stack_dump_fileno(&self) -> i32 {
        self.stack_dump.as_raw_fd()
    }

    /// What `signal.set_wakeup_fd` is to be given.
    fn wakeup_fileno(&self) -> i32 {
        self.wakeup.0.as_raw_fd()
    }

    /// Signals may come: the handlers stand.
    fn unblock_signals(&self) {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        drop(signals.take());
    }

    /// Reports how many workers each application wants; gives those that this worker is to have.
    fn report_limits(&self, py: Python<'_>, limits: Vec<Option<u32>>) -> PyResult<Vec<usize>> {
        let assignment = {
            let mut assignment = self
                .assignment
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            assignment.take()
        };
        let Some(assignment) = assignment else {
            return Err(PyRuntimeError::new_err("it has its applications"));
        };
        self.notify(py, &DirtyNotice::Limits(limits))?;
        loop {
            let mut packet = Vec::new();
            let received = py.detach(|| {
                let until = Some(Duration::from_millis(200));
                match poll::wait_readable(&[assignment.as_fd()], until)? {
                    Polled::Ready(_) => assignment.recv(&mut packet, &mut Vec::new(), Blocking::No),
                    _ => Ok(Received::Nothing),
                }
            })?;
            match received {
                Received::Message(_) => {
                    let (numbers, _) = packet[1..].as_chunks();
                    let numbers = numbers
                        .iter()
                        .map(|bytes| u32::from_ne_bytes(*bytes) as usize);
                    return Ok(numbers.collect());
                }
                Received::Closed => return Err(PyRuntimeError::new_err("the arbiter is gone")),
                Received::Nothing => py.check_signals()?,
            }
        }
    }

    /// The application at this path is about to be loaded: the arbiter lays a death meanwhile to it.
    fn app_loading(&self, py: Python<'_>, path: String) -> PyResult<()> {
        self.notify(py, &DirtyNotice::Loading(path))
    }

    /// It could not be loaded; `reason` is one line, of which a bounded part is kept.
    fn app_failed(&self, py: Python<'_>, path: String, mut reason: String) -> PyResult<()> {
        reason.truncate(reason.floor_char_boundary(REASON_KEPT));
        self.notify(py, &DirtyNotice::Failed(path, reason))
    }

    /// How many workers its class wants.
    fn app_limit(&self, py: Python<'_>, path: String, limit: Option<u32>) -> PyResult<()> {
        self.notify(py, &DirtyNotice::Limit(path, limit))
    }

    /// Those applications that can be loaded are.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.notify(py, &DirtyNotice::Ready)
    }

    /// A successor is wanted, because of `max_calls` or `memory` or because it was `requested`; until it is there this
    /// worker serves.
    fn want_replacement(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let reason = Replacement::from_name(reason)
            .ok_or_else(|| PyValueError::new_err(format!("no reason: {reason}")))?;
        self.notify(py, &DirtyNotice::WantsReplacement(reason))
    }

    /// How many calls it runs at once.
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Waits for the broker's next word: the id of a call that is not wanted any more; 0: this worker may exit. None: look
    /// at what signals have done.
    fn wait(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let word = py.detach(|| self.next_word())?;
        py.check_signals()?;
        let mut noise = [0; 64];
        while matches!(
            std::io::Read::read(&mut &self.wakeup.1, &mut noise),
            Ok(1..)
        ) {}
        Ok(match word {
            Some(ToWorker::Cancel(call)) => Some(call),
            Some(ToWorker::Release) => {
                self.released.store(true, Ordering::Relaxed);
                Some(0)
            }
            None => None,
        })
    }

    /// Raises `CallCancelled` in the thread that runs this call, at its next bytecode. Whether it runs.
    fn interrupt(&self, py: Python<'_>, call: u64) -> PyResult<bool> {
        // Not under the lock: to find it may let other threads run.
        let class = error_class(py, "CallCancelled")?;
        for state in &self.states {
            let mut current = state.lock();
            let Some(current) = current.as_mut().filter(|current| current.call == call) else {
                continue;
            };
            current.cancelled = true;
            #[expect(clippy::cast_possible_wrap, reason = "the interface has both signs")]
            let thread = current.thread as std::ffi::c_long;
            // SAFETY: attached, with a live class; a thread that is gone is not found. The call is still current, because
            // its end takes this lock.
            unsafe { ffi::PyThreadState_SetAsyncExc(thread, class.as_ptr()) };
            return Ok(true);
        }
        Ok(false)
    }

    /// Ends the lanes: whoever waits there comes back.
    fn stop(&self) {
        for end in &self.ends {
            let _ = oxicorn_os::stream::shut_down(end);
        }
    }

    /// Serves a lane until it ends. `server` has `call(app_path, action, args, kwargs, call)`, which gives the result or an
    /// iterator of a stream wrapped in `Streamed`; `failure(error, app_path, action)`, which gives the fields of an error;
    /// and `ended()`, called after each call.
    ///
    /// `relays`: it passes calls on, so it has `relay(app_path, action, sealed, call)` instead of `call`. `sealed` is the pair
    /// that `pool_open` takes, and results, also those of an iterator, what `pool_seal` gives.
    fn serve_lane(
        &self,
        py: Python<'_>,
        lane: usize,
        server: &Bound<'_, PyAny>,
        relays: bool,
    ) -> PyResult<()> {
        let stream = self.lanes.get(lane).and_then(|lane| {
            let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            lane.take()
        });
        let Some(stream) = stream else {
            return Err(PyRuntimeError::new_err("the lane is served"));
        };
        let mut lane = Lane {
            wire: Wire::new(stream),
            state: &self.states[lane],
            server,
            relays,
            unpickles: self.unpickles,
            streamed: py.import("oxicorn.dirty.worker")?.getattr("Streamed")?,
        };
        while let Waited::Done(frame) = lane.wire.receive(py, None)? {
            if !lane.serve(py, &frame)? {
                break;
            }
            server.call_method0(intern!(py, "ended"))?;
        }
        Ok(())
    }
}

/// A lane in service.
struct Lane<'a, 'py> {
    wire: Wire,
    state: &'a Arc<LaneState>,
    server: &'a Bound<'py, PyAny>,
    relays: bool,
    unpickles: bool,
    streamed: Bound<'py, PyAny>,
}

/// What is sent of a result, or of a piece of a stream.
enum Answer<'py> {
    Encoded(Encoder<'py>),
    Sealed(SealedAnswer<'py>, Limit),
}

impl Answer<'_> {
    fn payload(&self) -> &[u8] {
        match self {
            Self::Encoded(encoder) => &encoder.payload,
            Self::Sealed(answer, _) => answer.payload.as_bytes(),
        }
    }

    fn has_external(&self) -> bool {
        match self {
            Self::Encoded(encoder) => encoder.has_external(),
            Self::Sealed(answer, _) => answer.has_external(),
        }
    }

    fn write_external(&self, py: Python<'_>, file: &CallFile) -> PyResult<()> {
        match self {
            Self::Encoded(encoder) => encoder.write_external(file),
            Self::Sealed(answer, limit) => answer.write_external(py, file, limit),
        }
    }

    /// A memory file with what does not lie in the payload.
    fn filled(&self, py: Python<'_>) -> PyResult<CallFile> {
        let file = memfd::empty_file("oxicorn-call")?;
        self.write_external(py, &file)?;
        Ok(file)
    }
}

impl<'py> Lane<'_, 'py> {
    /// Runs one call; `false`: nobody is at the other end any more.
    fn serve(&mut self, py: Python<'py>, frame: &Arrived) -> PyResult<bool> {
        let id = frame.header.id;
        if frame.header.kind != Kind::Request {
            return Ok(false);
        }
        // SAFETY: asks for the number of this thread.
        let thread = unsafe { ffi::PyThread_get_thread_ident() };
        *self.state.lock() = Some(Current {
            call: id,
            thread,
            cancelled: false,
        });
        let mut known = Known::default();
        let served = self.run(py, frame, &mut known);
        self.end_call();
        match served {
            Ok(alive) => Ok(alive),
            Err(error) => self.send_failure(py, id, error, &known),
        }
    }

    /// From here on nobody interrupts this thread for the call's sake.
    fn end_call(&self) {
        let current = self.state.lock().take();
        if let Some(current) = current.filter(|current| current.cancelled) {
            #[expect(clippy::cast_possible_wrap, reason = "the interface has both signs")]
            let thread = current.thread as std::ffi::c_long;
            // SAFETY: attached; takes back what has not been raised yet, in this very thread.
            unsafe { ffi::PyThreadState_SetAsyncExc(thread, std::ptr::null_mut()) };
        }
    }

    fn run(&mut self, py: Python<'py>, frame: &Arrived, known: &mut Known) -> PyResult<bool> {
        let id = frame.header.id;
        let result = if self.relays {
            self.relay(py, frame, known)?
        } else {
            self.call(py, frame, known)?
        };
        if result.is_instance(&self.streamed)? {
            let iterator = result.getattr(intern!(py, "iterator"))?;
            return self.stream(py, id, &iterator, known.manner);
        }
        self.respond(py, id, &result, frame.file.as_ref(), known.manner)
    }

    /// Has a call run here.
    fn call(
        &self,
        py: Python<'py>,
        frame: &Arrived,
        known: &mut Known,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut decoder = Decoder::new(
            py,
            &frame.payload,
            frame.file.as_ref().into(),
            self.unpickles,
            Limit::of_call(self.state),
        );
        let call = Call::read(py, &mut decoder, known)?;
        let id = frame.header.id;
        let arguments = (&known.app_path, &known.action, call.args, call.kwargs, id);
        self.server.call_method1(intern!(py, "call"), arguments)
    }

    /// Has it passed on.
    fn relay(
        &self,
        py: Python<'py>,
        frame: &Arrived,
        known: &mut Known,
    ) -> PyResult<Bound<'py, PyAny>> {
        let limit = Limit::of_call(self.state);
        let call = sealed::read(py, frame, known, &limit)?;
        let arguments = (&known.app_path, &known.action, call, frame.header.id);
        self.server.call_method1(intern!(py, "relay"), arguments)
    }

    fn answer(
        &self,
        py: Python<'py>,
        name: &str,
        value: &Bound<'py, PyAny>,
        manner: Manner,
    ) -> PyResult<Answer<'py>> {
        let limit = Limit::of_call(self.state);
        if self.relays {
            return Ok(Answer::Sealed(SealedAnswer::of(value)?, limit));
        }
        let mut encoder = Encoder::new(py, manner.dialect, limit);
        encoder.map(1);
        manner.put(&mut encoder, name, value)?;
        Ok(Answer::Encoded(encoder))
    }

    fn respond(
        &mut self,
        py: Python<'py>,
        id: u64,
        result: &Bound<'py, PyAny>,
        file: Option<&CallFile>,
        manner: Manner,
    ) -> PyResult<bool> {
        let answer = self.answer(py, "result", result, manner)?;
        let mut sent = None;
        if answer.has_external() {
            // What came in it was read, so what goes can lie there.
            match file {
                Some(file) => answer.write_external(py, file)?,
                None => sent = Some(answer.filled(py)?),
            }
        }
        self.wire.put(Kind::Response, id, answer.payload(), sent)?;
        self.send(py)
    }

    fn send(&mut self, py: Python<'py>) -> PyResult<bool> {
        Ok(matches!(self.wire.send_all(py, None)?, Waited::Done(())))
    }

    /// Sends what the iterator gives. It is advanced when the other end has room, and closed when nobody listens.
    fn stream(
        &mut self,
        py: Python<'py>,
        id: u64,
        iterator: &Bound<'py, PyAny>,
        manner: Manner,
    ) -> PyResult<bool> {
        let streamed = self.send_chunks(py, id, iterator, manner);
        let closed = match iterator.getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        };
        let alive = streamed?;
        closed?;
        if !alive {
            return Ok(false);
        }
        self.wire.put(Kind::End, id, &[], None)?;
        self.send(py)
    }

    fn send_chunks(
        &mut self,
        py: Python<'py>,
        id: u64,
        iterator: &Bound<'py, PyAny>,
        manner: Manner,
    ) -> PyResult<bool> {
        for chunk in PyIterator::from_object(iterator)? {
            let chunk = chunk?;
            if self.state.is_cancelled() {
                break;
            }
            let answer = self.answer(py, "data", &chunk, manner)?;
            // Those before may not have been read yet.
            let file = if answer.has_external() {
                Some(answer.filled(py)?)
            } else {
                None
            };
            self.wire.put(Kind::Chunk, id, answer.payload(), file)?;
            if !self.send(py)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn send_failure(
        &mut self,
        py: Python<'py>,
        id: u64,
        error: PyErr,
        known: &Known,
    ) -> PyResult<bool> {
        let arguments = (error.into_value(py), &known.app_path, &known.action);
        let fields = self
            .server
            .call_method1(intern!(py, "failure"), arguments)?;
        let dialect = known.manner.dialect;
        let mut encoder = Encoder::new(py, dialect, Limit::default());
        encoder.map(1);
        if encoder.field("error", &fields).is_err() || encoder.has_external() {
            encoder = Encoder::new(py, Dialect::Gunicorn, Limit::default());
            encoder.map(1);
            let plain = PyDict::new(py);
            plain.set_item("error_type", "DirtyAppError")?;
            plain.set_item("message", "The error cannot be sent")?;
            plain.set_item("details", PyDict::new(py))?;
            encoder.field("error", &plain)?;
        }
        self.wire.put(Kind::Error, id, &encoder.payload, None)?;
        self.send(py)
    }
}
