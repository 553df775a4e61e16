//! The broker of the pool of heavy applications: a process in which no Python runs, between those who call (the workers of
//! HTTP, or any process that finds the socket) and the pool's workers.
//!
//! It decides who gets which call, when a call has taken too long, and what its caller is told when something goes wrong;
//! and it holds the stash. It refuses to know what is called: values are passed on as the bytes they came as. It starts and
//! ends no process: that is the arbiter's, whom it tells what it sees.
//!
//! # Theory of operation
//!
//! ```text
//!   callers ==connections==>  [ broker: a queue for each application ]  ==lanes==>  workers
//!                                  ^  |                                    ^
//!                          settings|  |stuck workers, signals              | cancellations, release
//!                                  |  v                                    |
//!                                arbiter                               (a channel for each worker)
//! ```
//!
//! A worker has as many *lanes* as it may run calls at once (setting `dirty_threads`): a lane is a stream of frames with one
//! call at a time, served by a thread of the worker. So there is nothing to be told apart within a lane, and to place a call
//! is to write it to a free one. One loop, no threads, no locks; it sleeps in epoll, without a tick, until something comes
//! or a deadline is due.
//!
//! * `control`: what arbiter, broker and workers tell each other
//! * `queue`: who gets which call (pure)
//! * `stash`: the tables (pure)
//! * `connection`: frames in, frames out, without blocking
//! * `answer`: what the broker itself answers
//! * `figures`: what it counts, on the scoreboard; `running`: the calls that run, there
//! * `broker`: the loop; `calls`, `workers`, `callers` and `tables` (requests to the stash) are parts of it
//!
//! What callers and workers send is not trusted: a frame that is none ends the connection, a lane that speaks out of turn
//! is given up with its worker. Every queue and buffer has a bound, a caller that does not read makes its worker wait.

#![forbid(unsafe_code)]

mod answer;
mod broker;
mod callers;
mod calls;
mod connection;
pub mod control;
mod figures;
mod queue;
mod running;
mod stash;
mod tables;
mod workers;

use std::io;
use std::os::fd::OwnedFd;

use oxicorn_os::memfd;
use oxicorn_os::privileges::Identity;
use oxicorn_os::signals::{self, SignalPipe};

use crate::broker::Broker;
use crate::control::FromBroker;
use crate::figures::Figures;
pub use crate::stash::shared as shared_stash;

/// What a broker begins with.
#[derive(Debug)]
pub struct Setup {
    /// Whom it becomes; `None`: who it is.
    pub identity: Option<Identity>,
    /// Where callers connect: a Unix socket that listens and does not block.
    pub listener: OwnedFd,
    /// Its end of the channel to the arbiter.
    pub control: OwnedFd,
    /// In which the stash outlives the broker.
    pub stash: StashFiles,
    /// The scoreboard's file.
    pub scoreboard: OwnedFd,
}

/// The memory files of the stash, which are the arbiter's.
#[derive(Debug)]
pub struct StashFiles {
    /// The book of changes.
    pub journal: [OwnedFd; 2],
    /// What callers see of it, and put; `None`: they ask for everything.
    pub shared: Option<OwnedFd>,
}

impl StashFiles {
    /// Makes them.
    pub fn create() -> io::Result<Self> {
        Ok(Self {
            journal: [
                memfd::empty_file("oxicorn-stash")?,
                memfd::empty_file("oxicorn-stash")?,
            ],
            // A process may be forbidden to have a file of that size.
            shared: shared_stash::create_file().ok(),
        })
    }

    /// The same files, for another process.
    pub fn try_clone(&self) -> io::Result<Self> {
        let [one, two] = &self.journal;
        let shared = self.shared.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(Self {
            journal: [one.try_clone()?, two.try_clone()?],
            shared,
        })
    }
}

/// Signals that are orders: they are passed on to the arbiter.
const ORDERS: [i32; 5] = [sig::HUP, sig::USR1, sig::TTIN, sig::TTOU, sig::TERM];
/// What a terminal or a service manager sends to all processes, and is the arbiter's to answer.
const IGNORED: [i32; 4] = [sig::INT, sig::QUIT, sig::USR2, sig::WINCH];

/// The numbers of Linux on all processors this runs on.
mod sig {
    pub(super) const HUP: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const USR1: i32 = 10;
    pub(super) const USR2: i32 = 12;
    pub(super) const TERM: i32 = 15;
    pub(super) const TTIN: i32 = 21;
    pub(super) const TTOU: i32 = 22;
    pub(super) const WINCH: i32 = 28;
}

/// Exit code of a broker that cannot run: it may not become its user, or the system has no more of something.
const FAILED: i32 = 1;

/// Serves until told to stop, or until the arbiter and all callers are gone; the process's exit code. `ready` is called when
/// handlers of signals stand.
pub fn run(setup: Setup, ready: impl FnOnce()) -> i32 {
    match start(setup, ready) {
        Ok(broker) => broker.run(),
        Err(_) => FAILED,
    }
}

fn start(setup: Setup, ready: impl FnOnce()) -> io::Result<Broker> {
    if let Some(identity) = &setup.identity {
        identity.assume()?;
    }
    // Each caller is a descriptor.
    let _ = oxicorn_os::rlimit::raise_nofile();
    for signal in IGNORED {
        signals::ignore(signal)?;
    }
    let signals = SignalPipe::new()?;
    for signal in ORDERS {
        signals.catch(signal)?;
    }
    ready();
    let figures = Figures::attach(&setup.scoreboard)?;
    let control = setup.control.into();
    let broker = Broker::new(setup.listener, control, signals, setup.stash, figures)?;
    broker.tell(&FromBroker::Ready);
    Ok(broker)
}
