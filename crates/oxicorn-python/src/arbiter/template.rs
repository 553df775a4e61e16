//! The template: a process that loads the application and forks the workers of its generation.
//!
//! Setting `preload_app`. It is forked from the arbiter, where no application code is loaded, so that each generation
//! gets a fresh interpreter. It takes orders from the arbiter over a channel, one at a time; what it forks become
//! children of the arbiter's (`fork.rs`). It ends when the arbiter closes the channel, and with the arbiter.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use oxicorn_arbiter::messages::template::{LONGEST, Order, Word};
use oxicorn_arbiter::timing;
use oxicorn_link::LinkParts;
use oxicorn_link::scoreboard::Scoreboard;
use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::process::{self, Parent};
use oxicorn_os::signals::Blocked;
use oxicorn_os::time;
use pyo3::prelude::*;

use super::actions::{kind_of, title};
use super::fork::{self, Given};
use super::generation::with_settings;
use super::heartbeat::Heartbeat;
use super::listeners::Listener;
use super::python::PyArbiter;
use super::{WorkerChild, log};
use crate::forked;
use crate::worker::WorkerSetup;

/// What a template process begins with.
pub(crate) struct TemplateChild {
    /// What it enters first of all: its generation.
    pub(crate) value: Py<PyAny>,
    /// Its end of the channel to the arbiter.
    pub(crate) channel: Channel,
    /// The workers' end of the notice channel.
    pub(crate) notices: Channel,
    pub(crate) scoreboard: Scoreboard,
    /// For workers that accept connections themselves.
    pub(crate) listeners: Vec<Listener>,
    /// Where its stacks go when they are asked for.
    pub(crate) stack_dump: OwnedFd,
    /// The arbiter.
    pub(crate) parent: i32,
    pub(crate) signals: Blocked,
}

/// How the life of a template ends in this process.
pub(crate) enum End {
    /// In the template.
    Exit(i32),
    /// In a worker that was forked.
    Worker(Box<WorkerChild>),
}

/// What it ends with if the application cannot be loaded, or it is itself at a loss.
const FAILED: i32 = 1;

/// The arbiter's order to fork a worker, with what that gets.
#[derive(Debug)]
pub(crate) struct WorkerOrder {
    pub(crate) order: Order,
    pub(crate) link: LinkParts,
    pub(crate) stack_dump: OwnedFd,
    /// Rings when it may exit.
    pub(crate) release: OwnedFd,
    /// The worker's end of what it is told besides.
    pub(crate) messages: OwnedFd,
}

impl WorkerOrder {
    /// What goes along with the message.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let others = [&self.stack_dump, &self.release, &self.messages];
        let others = others.map(AsFd::as_fd);
        self.link.descriptors().into_iter().chain(others).collect()
    }

    pub(crate) fn decode(message: &[u8], mut descriptors: Vec<OwnedFd>) -> Option<Self> {
        let order = Order::decode(message)?;
        if descriptors.len() < LinkParts::COUNT {
            return None;
        }
        let others = descriptors.split_off(LinkParts::COUNT);
        let [stack_dump, release, messages] = others.try_into().ok()?;
        let link: [OwnedFd; LinkParts::COUNT] = descriptors.try_into().ok()?;
        Some(Self {
            order,
            link: link.into(),
            stack_dump,
            release,
            messages,
        })
    }
}

/// Sent to a whole group of processes, or to one by mistake, these are meant for the arbiter.
const DISREGARDED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// Not by handlers of Python's: these run on the alternate stack that faulthandler has made, which is too small for
/// several at a time.
fn disregard_signals() {
    for signal in DISREGARDED {
        // Only numbers that name no signal could fail.
        let _ = oxicorn_os::signals::disregard(signal);
    }
}

/// The life of a template.
pub(crate) fn run(server: &PyArbiter<'_>, child: TemplateChild) -> PyResult<End> {
    if process::die_with_parent(child.parent)? == Parent::Gone {
        return Ok(End::Exit(FAILED));
    }
    // What the application forks by itself has no part in the server.
    forked::keep_from_children(&child.channel);
    server.enter_template(&child.value, child.stack_dump.as_raw_fd())?;
    // A title is a help for people: that it cannot be set is no reason not to serve.
    let _ = oxicorn_os::title::set(&title(server, "template"));
    let TemplateChild {
        channel,
        notices,
        scoreboard,
        listeners,
        stack_dump: _stack_dump,
        signals,
        ..
    } = child;
    disregard_signals();
    drop(signals);
    if !server.load_in_template()? {
        return Ok(End::Exit(FAILED));
    }
    // The application may have put handlers of its own in their place.
    disregard_signals();
    let template = Template {
        server,
        channel,
        notices,
        scoreboard,
        listeners,
    };
    template.serve()
}

struct Template<'a, 'py> {
    server: &'a PyArbiter<'py>,
    channel: Channel,
    notices: Channel,
    scoreboard: Scoreboard,
    listeners: Vec<Listener>,
}

impl Template<'_, '_> {
    /// Does what it is ordered until there is nobody to order.
    fn serve(self) -> PyResult<End> {
        if !self.say(Word::Loaded, &[]) {
            return Ok(End::Exit(0));
        }
        while let Some(order) = self.next_order()? {
            if let Some(worker) = self.obey(order)? {
                return Ok(End::Worker(Box::new(worker)));
            }
        }
        Ok(End::Exit(0))
    }

    /// `false`: the arbiter does not listen any more.
    fn say(&self, word: Word, rest: &[u8]) -> bool {
        say(&self.channel, word, rest)
    }

    fn next_order(&self) -> PyResult<Option<WorkerOrder>> {
        let py = self.server.py();
        let mut message = vec![0; LONGEST];
        loop {
            let mut descriptors = Vec::new();
            let channel = &self.channel;
            let received =
                py.detach(|| channel.recv_into(&mut message, &mut descriptors, Blocking::Yes));
            match received {
                Ok(Received::Message(length)) => {
                    return Ok(WorkerOrder::decode(&message[..length], descriptors));
                }
                Ok(Received::Closed) => return Ok(None),
                Ok(Received::Nothing) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                    let handled = py.check_signals();
                    forked::end_if_forked(self.server, handled.as_ref().err());
                    handled?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Forks a worker; gives what it begins with, in that worker. The hook `pre_fork` runs here, where the application
    /// is.
    fn obey(&self, ordered: WorkerOrder) -> PyResult<Option<WorkerChild>> {
        let prepared = self
            .server
            .prepare_fork(ordered.order.age, &ordered.order.state);
        let (py_worker, left) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                log::write_exception(self.server, "Exception in hook pre_fork", &error);
                self.say(Word::PreForkFailed, &[]);
                return Ok(None);
            }
        };
        let announce = |pid| say(&self.channel, Word::Forked { pid }, &left);
        match fork::fork_for_parent(self.server, announce) {
            Ok(Given::Child(signals)) => self.begin_worker(py_worker, ordered, signals).map(Some),
            Ok(Given::Done(true)) => Ok(None),
            Ok(Given::Done(false)) => {
                let text = "Cannot start a worker: the fork failed";
                log::write(self.server, oxicorn_arbiter::Level::Error, text);
                self.say(Word::NotForked, &[]);
                Ok(None)
            }
            Err(error) => {
                log::write_exception(self.server, "Cannot start a worker", &error);
                self.say(Word::NotForked, &[]);
                Ok(None)
            }
        }
    }

    fn begin_worker(
        &self,
        py_worker: Py<PyAny>,
        ordered: WorkerOrder,
        signals: Blocked,
    ) -> PyResult<WorkerChild> {
        self.server.left_template()?;
        let cfg = self.server.cfg()?;
        let (kind, graceful_timeout, beat) = with_settings(&cfg, |settings| {
            let inner = &settings.inner;
            let beat = timing::heartbeat_interval(inner.timeout());
            (kind_of(settings), inner.graceful_timeout(), beat)
        })?;
        let slot = ordered
            .order
            .slot
            .and_then(|slot| self.scoreboard.slot(slot));
        if let Some(slot) = &slot {
            slot.set_pid(process::id());
            slot.beat(time::monotonic());
            let heartbeat = Heartbeat::of(slot.clone());
            self.server.show_heartbeat(&py_worker, heartbeat)?;
        }
        let listeners = self.listeners.iter().map(Listener::share);
        Ok(WorkerChild {
            py_worker,
            listeners: listeners.collect::<std::io::Result<_>>()?,
            generation: None,
            setup: WorkerSetup {
                id: ordered.order.worker,
                link: ordered.link,
                notices: self.notices.as_fd().try_clone_to_owned()?.into(),
                stack_dump: ordered.stack_dump,
                release: ordered.release.into(),
                messages: ordered.messages.into(),
                slot,
                kind,
                graceful_timeout,
                beat,
                signals,
            },
        })
    }
}

fn say(channel: &Channel, word: Word, rest: &[u8]) -> bool {
    let message = word.encode(rest);
    channel.send(&message, &[], Blocking::Yes).unwrap_or(false)
}
