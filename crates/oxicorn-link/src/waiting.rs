//! How threads and event loops of a worker wait, and how their waits are ended from inside.
//!
//! Every wait is the sleeper's half of the handshake in [`bell`](crate::bell): announce, look once
//! more (at the ring, and at what [`Waker`] says), sleep. The waker of the same process goes the
//! other way round, so an end or an interruption is no more lost than a request is.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use oxicorn_os::eventfd::EventFd;
use oxicorn_os::futex::{self, Wait};

use crate::bell::Fenced;
use crate::layout::{FutexBell, LinkMemory, RingMemory};
use crate::ring::{self, Memory};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// There is something, or was a moment ago (another thread may have been faster).
    Ready,
    /// The time is over.
    TimedOut,
    /// A signal came to this thread, or [`Waker::interrupt`] was called.
    Interrupted,
    /// [`Waker::end`] was called; it will not be different next time.
    Ended,
}

/// What all waits of a worker have in common.
#[derive(Debug)]
pub(crate) struct Waiting {
    memory: LinkMemory,
    doorbell: EventFd,
    gateway_doorbell: Arc<EventFd>,
    ended: AtomicBool,
    /// How often [`Waker::interrupt`] was called.
    interruptions: AtomicU32,
    /// How often [`EventsWaiter::hand_out`] was called.
    handed_out: AtomicU32,
}

impl Waiting {
    pub(crate) fn new(
        memory: LinkMemory,
        doorbell: EventFd,
        gateway_doorbell: Arc<EventFd>,
    ) -> Self {
        Self {
            memory,
            doorbell,
            gateway_doorbell,
            ended: AtomicBool::new(false),
            interruptions: AtomicU32::new(0),
            handed_out: AtomicU32::new(0),
        }
    }

    /// A thread has announced that it is about to sleep: a gateway that naps shall look at what there is.
    fn end_nap(&self) {
        if self.memory.gateway_sleeps().take_nap(Fenced::now()) {
            self.gateway_doorbell.ring();
        }
    }

    /// Ends all waits that are under way. Async-signal-safe.
    fn disturb(&self) {
        let fenced = Fenced::now();
        self.memory.requests_bell().ring_all(fenced);
        self.memory.watch_bell().ring_all(fenced);
        self.memory.events_bell().ring_all(fenced);
        self.memory.room_bell().ring_all(fenced);
        self.doorbell.ring();
    }
}

/// One thread's handle on the waits: it has seen so many interruptions.
#[derive(Debug)]
struct Waiter {
    waiting: Arc<Waiting>,
    seen: Cell<u32>,
}

impl Clone for Waiter {
    /// The new one is not told of what was before it.
    fn clone(&self) -> Self {
        Self::new(&self.waiting)
    }
}

impl Waiter {
    fn new(waiting: &Arc<Waiting>) -> Self {
        let seen = Cell::new(waiting.interruptions.load(Ordering::Acquire));
        Self {
            waiting: Arc::clone(waiting),
            seen,
        }
    }

    /// What [`Waker`] has to say to this thread.
    fn disturbance(&self) -> Option<WaitOutcome> {
        if self.waiting.ended.load(Ordering::Acquire) {
            return Some(WaitOutcome::Ended);
        }
        let interruptions = self.waiting.interruptions.load(Ordering::Acquire);
        (self.seen.replace(interruptions) != interruptions).then_some(WaitOutcome::Interrupted)
    }

    fn wait(
        &self,
        bell: FutexBell<'_>,
        timeout: Duration,
        is_ready: impl Fn() -> bool,
    ) -> WaitOutcome {
        let look = || {
            self.disturbance()
                .or(is_ready().then_some(WaitOutcome::Ready))
        };
        if let Some(outcome) = look() {
            return outcome;
        }
        let ticket = bell.bell().enlist();
        if let Some(outcome) = look() {
            bell.bell().resign(ticket);
            return outcome;
        }
        self.waiting.end_nap();
        match futex::wait(bell.futex(), ticket.sequence(), timeout) {
            Ok(Wait::Woken | Wait::Changed) => self.disturbance().unwrap_or(WaitOutcome::Ready),
            Ok(Wait::Interrupted) => {
                bell.bell().resign(ticket);
                WaitOutcome::Interrupted
            }
            // A futex on mapped memory does not fail; if it did, going on as after a timeout would
            // be as good as anything.
            Ok(Wait::TimedOut) | Err(_) => {
                bell.bell().resign(ticket);
                self.disturbance().unwrap_or(WaitOutcome::TimedOut)
            }
        }
    }
}

/// Whether a ring has something unread, by its indices in the memory.
fn has_unread(ring: &RingMemory) -> bool {
    ring.tail().load(Ordering::Acquire) != ring.head().load(Ordering::Acquire)
}

/// Waits for requests; one for each thread (`Clone`).
#[derive(Clone, Debug)]
pub struct RequestsWaiter {
    waiter: Waiter,
    ring: RingMemory,
}

impl RequestsWaiter {
    pub(crate) fn new(waiting: &Arc<Waiting>) -> Self {
        Self {
            waiter: Waiter::new(waiting),
            ring: waiting.memory.requests(),
        }
    }

    /// Blocks until there may be something to claim, at most for `timeout`. Each request placed
    /// wakes one waiting thread. To be called detached from the interpreter and without any lock.
    pub fn wait(&self, timeout: Duration) -> WaitOutcome {
        let bell = self.waiter.waiting.memory.requests_bell();
        self.waiter.wait(bell, timeout, || has_unread(&self.ring))
    }

    /// Whether there may be something to read.
    pub fn has_pending(&self) -> bool {
        has_unread(&self.ring)
    }

    /// Wakes another waiting thread: for a thread that was woken and leaves without having
    /// taken what it was woken for.
    pub fn pass_on(&self) {
        self.waiter
            .waiting
            .memory
            .requests_bell()
            .ring(Fenced::now());
    }

    /// Wakes the thread that [watches](Self::watch): for a thread that leaves a request to others.
    pub fn call_watcher(&self) {
        self.waiter.waiting.memory.watch_bell().ring(Fenced::now());
    }

    /// Blocks until a request was placed for which no thread waited, at most for `timeout`: for a
    /// thread that looks after the others. It is not woken by a request that found one waiting.
    pub fn watch(&self, timeout: Duration) -> WaitOutcome {
        let bell = self.waiter.waiting.memory.watch_bell();
        self.waiter.wait(bell, timeout, || has_unread(&self.ring))
    }
}

/// Waits for events; one for each wait of a thread: it knows what had been handed out when it was made.
#[derive(Debug)]
pub struct EventsWaiter {
    waiter: Waiter,
    ring: RingMemory,
    /// The count of [`Self::hand_out`] that this one has seen.
    seen: Cell<u32>,
}

impl Clone for EventsWaiter {
    fn clone(&self) -> Self {
        Self::new(&self.waiter.waiting)
    }
}

impl EventsWaiter {
    pub(crate) fn new(waiting: &Arc<Waiting>) -> Self {
        Self {
            waiter: Waiter::new(waiting),
            ring: waiting.memory.events(),
            seen: Cell::new(waiting.handed_out.load(Ordering::Acquire)),
        }
    }

    /// Blocks until there may be an event, or until somebody has [handed events out](Self::hand_out) since this
    /// waiter was made or returned last; at most for `timeout`. Each event wakes one waiting thread, which must hand
    /// out what is not its own.
    pub fn wait(&self, timeout: Duration) -> WaitOutcome {
        let bell = self.waiter.waiting.memory.events_bell();
        let is_ready = || has_unread(&self.ring) || self.was_handed_out();
        let outcome = self.waiter.wait(bell, timeout, is_ready);
        self.seen
            .set(self.waiter.waiting.handed_out.load(Ordering::Acquire));
        outcome
    }

    fn was_handed_out(&self) -> bool {
        self.waiter.waiting.handed_out.load(Ordering::Acquire) != self.seen.get()
    }

    /// Whether there may be something to read.
    pub fn has_pending(&self) -> bool {
        has_unread(&self.ring)
    }

    /// Events of other threads were taken out of the ring and put where these look: wakes all of them.
    pub fn hand_out(&self) {
        let waiting = &self.waiter.waiting;
        waiting.handed_out.fetch_add(1, Ordering::AcqRel);
        waiting.memory.events_bell().ring_all(Fenced::now());
    }
}

/// Waits for room for responses; one for each thread (`Clone`).
#[derive(Clone, Debug)]
pub struct RoomWaiter {
    waiter: Waiter,
    ring: RingMemory,
}

impl RoomWaiter {
    pub(crate) fn new(waiting: &Arc<Waiting>) -> Self {
        Self {
            waiter: Waiter::new(waiting),
            ring: waiting.memory.responses(),
        }
    }

    /// Blocks until a payload of `len` bytes finds room (if no other thread is faster), at most for
    /// `timeout`. All waiting threads are woken together, some time before or when the gateway has
    /// read everything.
    pub fn wait(&self, len: usize, timeout: Duration) -> WaitOutcome {
        let bell = self.waiter.waiting.memory.room_bell();
        self.waiter
            .wait(bell, timeout, || ring::has_room(&self.ring, len))
    }
}

/// Sleeping in an event loop: wait for [`fd`](Self::fd) to be readable.
#[derive(Clone, Debug)]
pub struct Doorbell {
    waiter: Waiter,
    requests: RingMemory,
    events: RingMemory,
}

impl Doorbell {
    pub(crate) fn new(waiting: &Arc<Waiting>) -> Self {
        let (requests, events) = (waiting.memory.requests(), waiting.memory.events());
        Self {
            waiter: Waiter::new(waiting),
            requests,
            events,
        }
    }

    /// Descriptor to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.waiter.waiting.doorbell.as_fd()
    }

    /// Says that the loop is about to sleep: from now on the gateway rings. `false`: there is
    /// something to read, or [`Waker`] was used; do not sleep.
    pub fn sleep_begin(&self) -> bool {
        let flag = self.waiter.waiting.memory.worker_sleeps();
        flag.begin();
        let disturbed = self.waiter.disturbance().is_some();
        let may_sleep = !disturbed && !has_unread(&self.requests) && !has_unread(&self.events);
        if may_sleep {
            self.waiter.waiting.end_nap();
        } else {
            flag.end();
        }
        may_sleep
    }

    /// Says that the loop is awake, and makes the descriptor unreadable.
    pub fn sleep_end(&self) {
        self.waiter.waiting.memory.worker_sleeps().end();
        self.waiter.waiting.doorbell.silence();
    }
}

/// Ends the waits of this process, from any of its threads or from a signal handler.
#[derive(Clone, Debug)]
pub struct Waker {
    waiting: Arc<Waiting>,
}

impl Waker {
    pub(crate) fn new(waiting: &Arc<Waiting>) -> Self {
        Self {
            waiting: Arc::clone(waiting),
        }
    }

    /// Every wait from now on ends at once with [`WaitOutcome::Ended`]. Async-signal-safe.
    pub fn end(&self) {
        self.waiting.ended.store(true, Ordering::Release);
        self.waiting.disturb();
    }

    /// The current or else the next wait of every waiter ends with [`WaitOutcome::Interrupted`].
    /// Async-signal-safe.
    pub fn interrupt(&self) {
        self.waiting.interruptions.fetch_add(1, Ordering::AcqRel);
        self.waiting.disturb();
    }

    /// Whether [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        self.waiting.ended.load(Ordering::Acquire)
    }
}
