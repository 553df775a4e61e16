//! The worker's native thread: alive even while the application holds the interpreter.
//!
//! It beats the heartbeat (so that a busy interpreter is not taken for a dead worker; an event loop must
//! have turned in between, because one that stands still serves nobody), turns the bytes
//! that Python's signal handlers write into wake-ups of whoever waits (so that handlers run at once and
//! none is lost between looking and sleeping), names the calls in hand to a new gateway, hears when the
//! arbiter releases this worker (nothing is in flight any more: it takes no more requests), and notices the
//! arbiter's death. An orphan is told as by TERM and goes on as long as its gateway lives, for what is in
//! flight there, but no longer than `graceful_timeout`.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxicorn_link::scoreboard::{Slot, WaitKind, WorkerState};
use oxicorn_os::channel::Channel;
use oxicorn_os::eventfd::EventFd;
use oxicorn_os::poll::{self, Polled};
use oxicorn_os::{process, signals, time};

use super::Serving;
use super::responder::Responder;

/// How often an orphan looks whether its gateway lives.
const ORPHAN_LOOK: Duration = Duration::from_millis(100);

/// Tells the log that the arbiter is gone.
pub(crate) type OnOrphaned = Box<dyn FnOnce() + Send>;

/// Where the heartbeat is to be seen, and how often it comes.
pub(crate) struct Beats {
    pub(crate) slot: Option<Slot>,
    pub(crate) interval: Duration,
}

/// See the head of this file.
pub(crate) struct Sentinel {
    serving: Arc<dyn Serving>,
    beats: Beats,
    signalled: UnixStream,
    notices: Arc<Channel>,
    release: EventFd,
    /// Whose calls in hand a new gateway is told of.
    responder: Option<Arc<Responder>>,
    /// What the new gateway rings, where nobody else waits for it.
    doorbell: Option<EventFd>,
    /// The gateway's other end is held by the gateway and the arbiter only.
    gateway: OwnedFd,
    graceful_timeout: Duration,
    orphan_until: Option<Instant>,
    tell_orphaned: Option<OnOrphaned>,
}

impl Sentinel {
    pub(crate) fn new(
        serving: Arc<dyn Serving>,
        beats: Beats,
        signalled: UnixStream,
        notices: Arc<Channel>,
        release: EventFd,
        gateway: OwnedFd,
        graceful_timeout: Duration,
    ) -> Self {
        Self {
            serving,
            beats,
            signalled,
            notices,
            release,
            responder: None,
            doorbell: None,
            gateway,
            graceful_timeout,
            orphan_until: None,
            tell_orphaned: None,
        }
    }

    /// Has it name the calls of a responder to a new gateway, at each beat, and at once where that rings `doorbell`.
    ///
    /// Only of threads, which wait elsewhere: what a hub or a loop waits for would wake both, and a beat asks the
    /// hub for a turn, which rings.
    pub(crate) fn naming_calls(
        mut self,
        responder: Option<Arc<Responder>>,
        doorbell: Option<EventFd>,
    ) -> Self {
        self.responder = responder;
        self.doorbell = doorbell;
        self
    }

    /// Starts the thread; `tell_orphaned` may wait for the interpreter.
    pub(crate) fn start(mut self, tell_orphaned: OnOrphaned) -> std::io::Result<()> {
        self.tell_orphaned = Some(tell_orphaned);
        signals::spawn_without_signals("oxicorn-sentinel", move || self.run())
    }

    fn run(&mut self) {
        loop {
            self.beat();
            match self.orphan_until {
                None => self.wait_with_arbiter(),
                Some(until) => self.wait_as_orphan(until),
            }
        }
    }

    fn wait_with_arbiter(&mut self) {
        let mut watched = vec![
            self.signalled.as_fd(),
            self.notices.as_fd(),
            self.release.as_fd(),
        ];
        watched.extend(self.doorbell.as_ref().map(EventFd::as_fd));
        match poll::wait_readable(&watched, Some(self.beats.interval)) {
            Ok(Polled::Ready(ready)) => {
                if ready.contains(0) {
                    self.pass_signals_on();
                }
                // Nothing is ever sent to this end: it can only be the arbiter's death.
                if ready.contains(1) {
                    self.orphan_until = Some(Instant::now() + self.graceful_timeout);
                    self.drain();
                    self.tell_orphan();
                }
                if ready.contains(2) && self.release.silence() {
                    self.serving.stop();
                }
                // With the beat that follows.
                if ready.contains(3)
                    && let Some(doorbell) = &self.doorbell
                {
                    doorbell.silence();
                }
            }
            Ok(Polled::TimedOut | Polled::Interrupted) => {}
            // Nothing can be watched any more, which would be a bug: go on beating.
            Err(_) => std::thread::sleep(self.beats.interval),
        }
    }

    /// Says why, then tells the worker as TERM does: the application can end what would not end by itself. In this
    /// order, because a worker with nothing to do is gone at once.
    fn tell_orphan(&mut self) {
        let Some(tell) = self.tell_orphaned.take() else {
            return;
        };
        let tell = move || {
            tell();
            let _ = process::kill(process::id(), libc::SIGTERM);
        };
        // A thread of its own: the heartbeat does not wait for the interpreter. That none can be had costs a line
        // in the log.
        if signals::spawn_without_signals("oxicorn-orphaned", tell).is_err() {
            let _ = process::kill(process::id(), libc::SIGTERM);
        }
    }

    fn wait_as_orphan(&mut self, until: Instant) {
        if let Ok(Polled::Ready(_)) =
            poll::wait_readable(&[self.signalled.as_fd()], Some(ORPHAN_LOOK))
        {
            self.pass_signals_on();
        }
        if Instant::now() >= until || poll::has_hung_up(self.gateway.as_fd()).unwrap_or(true) {
            self.serving.stop();
        }
    }

    fn beat(&self) {
        if let Some(slot) = &self.beats.slot
            && let Some(lag) = self.serving.take_lag()
        {
            slot.record_wait(WaitKind::Loop, lag);
        }
        if let Some(slot) = &self.beats.slot
            && self.serving.is_responsive()
        {
            slot.beat(time::monotonic());
        }
        if let Some(responder) = &self.responder {
            responder.introduce_calls();
        }
    }

    fn drain(&self) {
        if let Some(slot) = &self.beats.slot {
            slot.set_state(WorkerState::Draining);
        }
    }

    fn pass_signals_on(&mut self) {
        let mut numbers = [0; 64];
        while matches!(self.signalled.read(&mut numbers), Ok(count) if count > 0) {}
        self.serving.interrupt();
    }
}
