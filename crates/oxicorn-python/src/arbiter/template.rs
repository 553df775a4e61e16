//! The template: a process that loads the application and forks the workers of its generation.
//!
//! Setting `preload_app`. It is forked from the arbiter, where no application code is loaded, so that each generation
//! gets a fresh interpreter. It takes orders from the arbiter over a channel, one at a time; what it forks become
//! children of the arbiter's (`fork.rs`). It ends when the arbiter closes the channel, and with the arbiter.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use oxicorn_arbiter::timing;
use oxicorn_link::LinkParts;
use oxicorn_link::scoreboard::Scoreboard;
use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::process::{self, Parent};
use oxicorn_os::signals::Blocked;
use oxicorn_os::time;
use pyo3::prelude::*;

use super::fork::{self, Given};
use super::generation::with_settings;
use super::heartbeat::Heartbeat;
use super::listeners::Listener;
use super::performer::{kind_of, title};
use super::{WorkerChild, log};
use crate::forked;
use crate::worker::WorkerSetup;

/// What a template process begins with.
pub(crate) struct TemplateChild {
    /// The settings of its generation.
    pub(crate) cfg: Py<PyAny>,
    pub(crate) generation: u32,
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

/// A template's word to the arbiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// The application is loaded.
    Loaded,
    /// The worker that was ordered is there. What the hook `pre_fork` left follows.
    Forked { pid: i32 },
    /// It could not be forked; the log says why.
    NotForked,
    /// The hook `pre_fork` raised; the log says what.
    PreForkFailed,
}

/// The longest message either way: what hooks keep in `server` and `worker` is not without end.
pub(crate) const LONGEST: usize = 64 << 10;

impl Word {
    pub(crate) fn encode(self, rest: &[u8]) -> Vec<u8> {
        let (letter, number) = match self {
            Self::Loaded => (b'L', 0),
            Self::Forked { pid } => (b'F', pid),
            Self::NotForked => (b'N', 0),
            Self::PreForkFailed => (b'P', 0),
        };
        let mut message = vec![letter];
        message.extend(number.to_ne_bytes());
        message.extend(rest);
        message
    }

    /// The word and what follows; `None` for what is none.
    pub(crate) fn decode(message: &[u8]) -> Option<(Self, &[u8])> {
        let (letter, rest) = message.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let word = match letter {
            b'L' => Self::Loaded,
            b'F' => Self::Forked {
                pid: i32::from_ne_bytes(*number),
            },
            b'N' => Self::NotForked,
            b'P' => Self::PreForkFailed,
            _ => return None,
        };
        Some((word, rest))
    }
}

/// The arbiter's order to fork a worker.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) worker: u32,
    pub(crate) age: u64,
    /// Its place on the scoreboard.
    pub(crate) slot: Option<usize>,
    pub(crate) link: LinkParts,
    pub(crate) stack_dump: OwnedFd,
    /// Rings when it may exit.
    pub(crate) release: OwnedFd,
    /// The worker's end of what it is told besides.
    pub(crate) messages: OwnedFd,
    /// What hooks keep in `server` and in workers, as Python packed it.
    pub(crate) state: Vec<u8>,
}

/// Bytes of an order before the state.
const ORDER: usize = 20;

/// Stands for no place on the scoreboard.
const NO_SLOT: u64 = u64::MAX;

impl Order {
    pub(crate) fn encode(&self) -> (Vec<u8>, [BorrowedFd<'_>; 8]) {
        let mut message = Vec::with_capacity(ORDER + self.state.len());
        message.extend(self.worker.to_ne_bytes());
        message.extend(self.age.to_ne_bytes());
        let slot = self.slot.map_or(NO_SLOT, |slot| slot as u64);
        message.extend(slot.to_ne_bytes());
        message.extend(&self.state);
        let link = &self.link;
        let descriptors = [
            link.memory.as_fd(),
            link.gateway_doorbell.as_fd(),
            link.worker_doorbell.as_fd(),
            link.gateway_side.as_fd(),
            link.worker_side.as_fd(),
            self.stack_dump.as_fd(),
            self.release.as_fd(),
            self.messages.as_fd(),
        ];
        (message, descriptors)
    }

    pub(crate) fn decode(message: &[u8], descriptors: Vec<OwnedFd>) -> Option<Self> {
        let (worker, rest) = message.split_first_chunk()?;
        let (age, rest) = rest.split_first_chunk()?;
        let (slot, state) = rest.split_first_chunk()?;
        let slot = u64::from_ne_bytes(*slot);
        let [
            memory,
            gateway_doorbell,
            worker_doorbell,
            gateway_side,
            worker_side,
            stack_dump,
            release,
            messages,
        ] = descriptors.try_into().ok()?;
        Some(Self {
            worker: u32::from_ne_bytes(*worker),
            age: u64::from_ne_bytes(*age),
            slot: usize::try_from(slot).ok().filter(|_| slot != NO_SLOT),
            link: LinkParts {
                memory,
                gateway_doorbell,
                worker_doorbell,
                gateway_side,
                worker_side,
            },
            stack_dump,
            release,
            messages,
            state: state.to_vec(),
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
pub(crate) fn run(server: &Bound<'_, PyAny>, child: TemplateChild) -> PyResult<End> {
    if process::die_with_parent(child.parent)? == Parent::Gone {
        return Ok(End::Exit(FAILED));
    }
    let arguments = (&child.cfg, child.stack_dump.as_raw_fd());
    // What the application forks by itself has no part in the server.
    forked::keep_from_children(&child.channel);
    server.call_method1("enter_template", arguments)?;
    // A title is a help for people: that it cannot be set is no reason not to serve.
    let _ = oxicorn_os::title::set(&title(server, "template"));
    let TemplateChild {
        generation,
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
    if !server.call_method0("load_in_template")?.extract()? {
        return Ok(End::Exit(FAILED));
    }
    // The application may have put handlers of its own in their place.
    disregard_signals();
    let template = Template {
        server,
        generation,
        channel,
        notices,
        scoreboard,
        listeners,
    };
    template.serve()
}

struct Template<'a, 'py> {
    server: &'a Bound<'py, PyAny>,
    generation: u32,
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

    fn next_order(&self) -> PyResult<Option<Order>> {
        let py = self.server.py();
        let mut message = vec![0; LONGEST];
        loop {
            let mut descriptors = Vec::new();
            let channel = &self.channel;
            let received =
                py.detach(|| channel.recv_into(&mut message, &mut descriptors, Blocking::Yes));
            match received {
                Ok(Received::Message(length)) => {
                    match Order::decode(&message[..length], descriptors) {
                        Some(order) => return Ok(Some(order)),
                        None => return Ok(None),
                    }
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
    fn obey(&self, order: Order) -> PyResult<Option<WorkerChild>> {
        let prepared = self
            .server
            .call_method1("prepare_fork", (order.age, &order.state[..]))
            .and_then(|prepared| prepared.extract::<(Py<PyAny>, Vec<u8>)>());
        let (face, left) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                log::write_exception(self.server, "Exception in hook pre_fork", &error);
                self.say(Word::PreForkFailed, &[]);
                return Ok(None);
            }
        };
        let announce = |pid| say(&self.channel, Word::Forked { pid }, &left);
        match fork::fork_for_parent(self.server, announce) {
            Ok(Given::Child(signals)) => self.begin_worker(face, order, signals).map(Some),
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
        face: Py<PyAny>,
        order: Order,
        signals: Blocked,
    ) -> PyResult<WorkerChild> {
        self.server.call_method0("left_template")?;
        let cfg = self.server.getattr("cfg")?;
        let (kind, graceful_timeout, beat) = with_settings(&cfg, |settings| {
            let inner = &settings.inner;
            let beat = timing::heartbeat_interval(inner.timeout());
            (kind_of(settings), inner.graceful_timeout(), beat)
        })?;
        let slot = order.slot.and_then(|slot| self.scoreboard.slot(slot));
        if let Some(slot) = &slot {
            slot.assign(process::id(), order.age, self.generation, time::monotonic());
            let heartbeat = Heartbeat::of(slot.clone());
            self.server
                .call_method1("show_heartbeat", (&face, heartbeat))?;
        }
        let listeners = self.listeners.iter().map(Listener::share);
        Ok(WorkerChild {
            face,
            listeners: listeners.collect::<std::io::Result<_>>()?,
            title: title(self.server, "worker"),
            setup: WorkerSetup {
                id: order.worker,
                link: order.link,
                notices: self.notices.as_fd().try_clone_to_owned()?.into(),
                stack_dump: order.stack_dump,
                release: order.release.into(),
                messages: order.messages.into(),
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

#[cfg(test)]
mod tests {
    use oxicorn_link::Sizes;
    use oxicorn_os::eventfd::EventFd;

    use super::*;

    #[test]
    fn words_arrive_as_they_were_said() {
        for word in [
            Word::Loaded,
            Word::Forked { pid: 4711 },
            Word::NotForked,
            Word::PreForkFailed,
        ] {
            let message = word.encode(b"rest");
            assert_eq!(Word::decode(&message), Some((word, &b"rest"[..])));
            assert_eq!(Word::decode(&message[..4]), None);
        }
        assert_eq!(Word::decode(b"?1234"), None);
    }

    #[test]
    fn an_order_arrives_as_it_was_given() {
        for slot in [None, Some(7)] {
            let order = Order {
                worker: 3,
                age: 5,
                slot,
                link: LinkParts::create(Sizes::default()).expect("it works"),
                stack_dump: oxicorn_os::memfd::with_content("stacks", &[]).expect("it works"),
                release: EventFd::new().expect("it works").into(),
                messages: Channel::pair().expect("it works").0.into(),
                state: b"state".to_vec(),
            };
            let (message, descriptors) = order.encode();
            let copies = || descriptors.map(|fd| fd.try_clone_to_owned().expect("it works"));
            let arrived = Order::decode(&message, copies().into()).expect("it works");
            assert_eq!((arrived.worker, arrived.age, arrived.slot), (3, 5, slot));
            assert_eq!(arrived.state, b"state");
            assert!(Order::decode(&message[..ORDER - 1], copies().into()).is_none());
            assert!(Order::decode(&message, Vec::new()).is_none());
        }
    }
}
