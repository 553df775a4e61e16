//! Which thread of a worker takes the next request.
//!
//! The obvious pool (every idle thread waits for requests) wakes a second thread for each request that
//! comes while the first one is in the interpreter; the two then fight over it, and the fight costs more
//! than the requests. So where requests are quick at most one thread *waits* for requests. The others are
//! *parked*. The waiting thread, once it has a request, is *busy*; when it is done and more has come it just
//! goes on.
//!
//! ```text
//!            claims a request              done, nothing more, nobody waits
//!   waiting ------------------> busy ----------------------------------------> waiting
//!      ^                          |  done, nothing more, somebody waits
//!      |        summoned          +----------------------------------------> parked
//!      +---------------------------------------------------------------------- |
//! ```
//!
//! A thread that comes back from blocking finds another one at work. It finishes its own request, then
//! parks too, and leaves what lies in the ring to the other (`steps_back`).
//!
//! That leaves one case: the busy thread blocks (it sleeps, it waits for a database) and requests lie
//! in the ring while nobody waits. Who notices is the *watcher*, a native thread that never touches the
//! interpreter: it is woken by a request that finds nobody waiting, and if nothing has been claimed
//! for [`GRACE`], it summons a parked thread. While there is nobody it could call it is not woken either: the
//! next thread that comes back takes what lies there.
//!
//! Where requests are known to block (they take [`LONG`] on average) the obvious pool is the right one: a
//! thread that would be called, wait, and then be woken by a request, pays for two wake-ups where one would do,
//! and hardly ever meets another in the interpreter. So there every thread with nothing to do waits, each request
//! wakes the one that serves it, and the busy thread summons one of those that are still parked before it calls
//! the application.
//!
//! Threads are made when somebody is summoned and nobody is parked: the worker's main thread, which waits for news,
//! starts them one at a time, up to `threads`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oxicorn_link::roles::{Roles, Summoned};
use oxicorn_link::{Requests, RequestsWaiter, StreamId, Waker};
use oxicorn_os::{futex, time};
use pyo3::prelude::*;

use super::Serving;
use crate::forked::is_forked;

/// How long the watcher lets a request lie before it takes the busy thread to be blocked: several times
/// what a quick application takes, and little beside what a blocking one waits for.
const GRACE: Duration = Duration::from_micros(200);

/// Requests that take longer than this on average are taken to block.
const LONG: Duration = Duration::from_millis(1);

/// How long a wait lasts before signals are looked for, should no wake-up have come through. None is known to get lost;
/// a worker at rest should not be seen.
const WAIT: Duration = Duration::from_secs(20);

/// Weight of the newest request in the average service time: one part in so many.
const AVERAGE_OVER: u64 = 16;

/// The requests of a worker and the threads that serve them.
#[derive(Debug)]
pub(crate) struct Pool {
    requests: Mutex<Requests>,
    waker: Waker,
    threads: usize,
    alive: AtomicBool,
    claimed: AtomicU64,
    /// Requests being served.
    busy: AtomicUsize,
    /// When a request was claimed last, by the monotonic clock, and by which thread.
    last_claim_ns: AtomicU64,
    last_claimer: AtomicUsize,
    /// Average service time in nanoseconds.
    service_ns: AtomicU64,
    roles: Roles,
    /// Changes with everything the main thread waits for.
    news: AtomicU32,
    /// It is to start one more thread.
    thread_wanted: AtomicBool,
    /// How long it waits at most; [`WAIT`], unless it has something to call.
    longest_wait_ns: AtomicU64,
}

/// What the main thread of a worker with several threads has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// A signal may have come.
    LookForSignals,
    StartThread,
}

/// A request that this thread has to serve.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) stream: StreamId,
    pub(crate) flags: u8,
    /// When it was claimed, by the monotonic clock.
    pub(crate) since: Duration,
    /// How long this thread had waited for the interpreter before that.
    pub(crate) waited: Duration,
}

impl Pool {
    pub(crate) fn new(requests: Requests, waker: Waker, threads: usize) -> Self {
        Self {
            requests: Mutex::new(requests),
            waker,
            threads,
            alive: AtomicBool::new(true),
            claimed: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            last_claim_ns: AtomicU64::new(0),
            last_claimer: AtomicUsize::new(0),
            service_ns: AtomicU64::new(0),
            roles: Roles::new(threads),
            news: AtomicU32::new(0),
            thread_wanted: AtomicBool::new(false),
            longest_wait_ns: AtomicU64::new(nanos(WAIT)),
        }
    }

    /// How many threads there may be.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Whether requests are still taken.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Waits for an interruption later than the one `seen` counts (which is brought up to date), for a signal, or until a
    /// thread is wanted.
    pub(crate) fn wait_for_news(&self, seen: &mut u32) -> Errand {
        // It cannot fail, and to look again would be right in any case.
        let _ = futex::wait(&self.news, *seen, self.longest_wait());
        // In this order: what is wanted later changes the news again.
        *seen = self.news.load(Ordering::Acquire);
        if self.thread_wanted.swap(false, Ordering::Relaxed) {
            Errand::StartThread
        } else {
            Errand::LookForSignals
        }
    }

    /// The main thread looks up at least so often.
    pub(crate) fn wait_no_longer_than(&self, period: Duration) {
        let period = nanos(period).clamp(1, nanos(WAIT));
        self.longest_wait_ns.store(period, Ordering::Relaxed);
    }

    fn longest_wait(&self) -> Duration {
        Duration::from_nanos(self.longest_wait_ns.load(Ordering::Relaxed))
    }

    fn tell_main_thread(&self) {
        self.news.fetch_add(1, Ordering::Release);
        futex::wake(&self.news, futex::EVERYBODY);
    }

    /// A thread has come.
    pub(crate) fn enter(&self) {
        self.roles.enter();
    }

    /// No thread could be started: it stays with those there are. How many, without the one that will not come.
    pub(crate) fn settle_for_fewer(&self) -> usize {
        self.roles.settle_for_fewer()
    }

    /// Requests claimed so far.
    pub(crate) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// What a thread waits with; each thread has its own, so that it misses no interruption.
    pub(crate) fn waiter(&self) -> RequestsWaiter {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .waiter()
    }

    /// The next request for this thread; `None` once the worker is stopped. An error is raised by a
    /// signal handler, or by `beat`, which is called before each look for requests.
    pub(crate) fn next(
        &self,
        py: Python<'_>,
        waiter: &mut RequestsWaiter,
        payload: &mut Vec<u8>,
        beat: &dyn Fn() -> PyResult<()>,
    ) -> PyResult<Option<Claim>> {
        let mut for_interpreter = Duration::ZERO;
        loop {
            if !self.is_alive() {
                return Ok(None);
            }
            beat()?;
            if self.steps_back(waiter) {
                waiter.call_watcher();
                py.detach(|| self.roles.park(|| self.is_alive()));
            } else if let Some(claim) = self.claim(py, token_of(waiter), payload) {
                return Ok(Some(Claim {
                    waited: for_interpreter,
                    ..claim
                }));
            } else {
                let awake = py.detach(|| {
                    self.wait(waiter);
                    time::monotonic()
                });
                for_interpreter = time::monotonic().saturating_sub(awake);
            }
            py.check_signals()?;
            if is_forked() {
                return Ok(None);
            }
        }
    }

    /// Whether to leave the next request to another thread that has taken one a moment ago. Two busy
    /// threads do not get more done than one, they only take the interpreter from each other; if the
    /// other one blocks after all, the watcher calls this one again.
    fn steps_back(&self, waiter: &RequestsWaiter) -> bool {
        let others_are_busy = self.busy.load(Ordering::Relaxed) > 0;
        let claimed_last = self.last_claimer.load(Ordering::Relaxed) == token_of(waiter);
        if !others_are_busy || claimed_last || self.requests_block() {
            return false;
        }
        let since = time::monotonic_ns().saturating_sub(self.last_claim_ns.load(Ordering::Relaxed));
        since < GRACE_NS && waiter.has_pending()
    }

    /// Whether requests usually take so long that they are taken to block.
    fn requests_block(&self) -> bool {
        self.service_ns.load(Ordering::Relaxed) > LONG_NS
    }

    /// A request has been served.
    pub(crate) fn done(&self, claim: &Claim, now: Duration) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
        let took = nanos(now.saturating_sub(claim.since));
        // Threads may overwrite each other's update: it is an average, none of them matters.
        let average = self.service_ns.load(Ordering::Relaxed);
        let next = average - average / AVERAGE_OVER + took / AVERAGE_OVER;
        self.service_ns.store(next, Ordering::Relaxed);
    }

    /// The watcher's life (native thread of a worker with several threads).
    pub(crate) fn watch(&self) {
        let waiter = self.waiter();
        while self.is_alive() {
            self.roles.wait_for_callable(|| self.is_alive());
            waiter.watch(WAIT);
            self.attend(&waiter);
        }
    }

    /// Stays awake while requests lie in the ring and somebody could be called.
    fn attend(&self, waiter: &RequestsWaiter) {
        while self.is_alive() && waiter.has_pending() && self.roles.can_call() {
            let before = self.claimed();
            std::thread::sleep(GRACE);
            if self.claimed() == before && waiter.has_pending() {
                self.summon();
            }
        }
    }

    fn claim(&self, py: Python<'_>, thread: usize, payload: &mut Vec<u8>) -> Option<Claim> {
        let claimed = match self.requests.try_lock() {
            Ok(mut requests) => requests.try_claim(payload),
            // Another thread is claiming: it is quick, but it must not be waited for attached.
            Err(_) => py.detach(|| {
                self.requests
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .try_claim(payload)
            }),
        }?;
        let since = time::monotonic();
        self.claimed.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.last_claim_ns.store(nanos(since), Ordering::Relaxed);
        self.last_claimer.store(thread, Ordering::Relaxed);
        if self.threads > 1 && self.requests_block() {
            self.summon();
        }
        Some(Claim {
            stream: claimed.stream,
            flags: claimed.flags,
            since,
            waited: Duration::ZERO,
        })
    }

    fn wait(&self, waiter: &mut RequestsWaiter) {
        if self.threads == 1 {
            waiter.wait(self.longest_wait());
            return;
        }
        // A summoned thread that finds nothing yet waits on, without a look at the interpreter.
        while self.is_alive() && !waiter.has_pending() {
            if let Some(turn) = self.roles.take_turn(self.requests_block()) {
                waiter.wait(WAIT);
                drop(turn);
                return;
            }
            self.roles.park(|| self.is_alive());
        }
    }

    /// Calls a parked thread, or has one started, unless one waits anyway.
    fn summon(&self) {
        if self.roles.summon() == Summoned::StartThread {
            self.thread_wanted.store(true, Ordering::Relaxed);
            self.tell_main_thread();
        }
    }
}

impl Serving for Pool {
    fn interrupt(&self) {
        self.waker.interrupt();
        self.roles.disturb();
        self.tell_main_thread();
    }

    /// Those being served are not touched.
    fn stop(&self) {
        self.alive.store(false, Ordering::Relaxed);
        self.interrupt();
    }
}

/// Tells threads apart: each has a waiter of its own, which stays where it is.
fn token_of(waiter: &RequestsWaiter) -> usize {
    std::ptr::from_ref(waiter).addr()
}

const LONG_NS: u64 = nanos(LONG);
const GRACE_NS: u64 = nanos(GRACE);

#[expect(clippy::cast_possible_truncation, reason = "five hundred years fit")]
const fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
