//! The worker's native threads that answer the arbiter: what is each call doing?
//!
//! Two answers to one question. What can be known without the interpreter (which thread has which request) leaves at
//! once. The stacks take the interpreter for a moment, between two of the switches that busy threads make anyhow: no
//! thread is stopped for it. Where the interpreter does not come, because C code keeps it or too many threads fight
//! over it, the arbiter has the first answer, and asks for a dump by signal, which needs none.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::{memfd, signals};
use pyo3::intern;
use pyo3::prelude::*;

use super::leaving::Leaving;
use super::responder::Responder;
use oxicorn_arbiter::messages::Notice;
use oxicorn_arbiter::messages::to_worker::{PACKET, ToWorker};

/// The thread that takes the arbiter's messages. It never waits for the interpreter: the other one does.
pub(crate) struct Observer {
    /// The arbiter's messages to this worker.
    messages: Channel,
    speaker: Speaker,
    /// Whose calls in hand are named; an event loop keeps a table of its own in Python.
    responder: Option<Arc<Responder>>,
    /// How a class with a server of its own goes, until it has been told to.
    leaving: Option<Leaving>,
}

/// How answers leave.
#[derive(Clone)]
struct Speaker {
    notices: Arc<Channel>,
    id: u32,
}

impl Observer {
    pub(crate) fn new(
        messages: Channel,
        notices: Arc<Channel>,
        id: u32,
        responder: Option<Arc<Responder>>,
        leaving: Option<Leaving>,
    ) -> Self {
        Self {
            messages,
            speaker: Speaker { notices, id },
            responder,
            leaving,
        }
    }

    /// Starts the threads; they end when the arbiter is gone.
    pub(crate) fn start(mut self, worker: Py<PyAny>) -> io::Result<()> {
        let (to_interpreter, messages) = channel();
        let speaker = self.speaker.clone();
        signals::spawn_without_signals("oxicorn-asker", move || {
            serve_with_interpreter(&worker, &speaker, &messages);
        })?;
        signals::spawn_without_signals("oxicorn-observer", move || self.observe(&to_interpreter))
    }

    fn observe(&mut self, to_interpreter: &Sender<ToWorker>) {
        while let Some(message) = self.next_message() {
            if message == ToWorker::LeaveListeners {
                if let Some(leaving) = self.leaving.take() {
                    leaving.begin();
                }
                continue;
            }
            if let ToWorker::Stacks(number) = message {
                let responder = self.responder.as_ref();
                let calls =
                    responder.map_or_else(|| "[]".into(), |responder| responder.calls().as_json());
                self.speaker.answer(Notice::Calls(number), calls.as_bytes());
            }
            if to_interpreter.send(message).is_err() {
                return;
            }
        }
    }

    fn next_message(&self) -> Option<ToWorker> {
        let mut packet = [0; PACKET];
        let mut none = Vec::new();
        loop {
            match self
                .messages
                .recv_into(&mut packet, &mut none, Blocking::Yes)
            {
                Ok(Received::Message(length)) => {
                    if let Some(message) = ToWorker::decode(&packet[..length]) {
                        return Some(message);
                    }
                }
                Ok(Received::Nothing) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Received::Closed) | Err(_) => return None,
            }
        }
    }
}

impl Speaker {
    /// It fails if the arbiter is gone: then nobody wants to know.
    fn answer(&self, notice: Notice, text: &[u8]) {
        let file = memfd::with_content("oxicorn-answer", text);
        let _ = file.and_then(|file: OwnedFd| {
            let packet = notice.encode(self.id);
            self.notices.send(&packet, &[file.as_fd()], Blocking::Yes)
        });
    }
}

/// Does what takes the interpreter. Questions that came while it was waited for have the same answer.
fn serve_with_interpreter(worker: &Py<PyAny>, speaker: &Speaker, messages: &Receiver<ToWorker>) {
    while let Ok(first) = messages.recv() {
        let (questions, stacks) = Python::attach(|py| {
            let worker = worker.bind(py);
            let mut questions = Vec::new();
            for message in std::iter::once(first).chain(messages.try_iter()) {
                match message {
                    ToWorker::Stacks(number) => questions.push(number),
                    ToWorker::LogLevel(level) => set_log_level(worker, level),
                    // The other thread sees to it.
                    ToWorker::LeaveListeners => {}
                }
            }
            // What could not be found out the arbiter finds out by a signal.
            let found = (!questions.is_empty())
                .then(|| worker.call_method0(intern!(py, "stacks")).ok())
                .flatten();
            let stacks = found.and_then(|found| found.extract::<Vec<u8>>().ok());
            (questions, stacks)
        });
        for number in questions {
            if let Some(stacks) = &stacks {
                speaker.answer(Notice::Stacks(number), stacks);
            }
        }
    }
}

fn set_log_level(worker: &Bound<'_, PyAny>, level: u32) {
    let py = worker.py();
    if let Err(error) = worker.call_method1(intern!(py, "set_log_level"), (level,)) {
        error.write_unraisable(py, Some(worker));
    }
}
