//! Which threads of a worker wait for requests, and which rest until they are called.
//!
//! Decides who may wait at the bell of the requests, whom a call reaches, and when there is anybody the
//! worker's watcher could call. Knows nothing of requests, of the interpreter, or of why one thread or
//! many should wait: who asks says so.
//!
//! ```text
//!             take_turn                    a request
//!   (working) ---------> waiting ------------------------> (working)
//!      |                                                      ^
//!      | park                  summon                         |
//!      +-------> parked ----------------> (summoned) ---------+
//! ```
//!
//! A wait is bound to what is waited for: a parked thread sleeps until it is meant, and the watcher
//! ([`wait_for_callable`](Roles::wait_for_callable)) as long as there is nobody to call, whatever comes
//! meanwhile. Both look under the lock under which the others speak, so no word is lost between look and
//! sleep. What lies between this and the link's bells runs in `tests/loom.rs`.

use std::sync::PoisonError;

use crate::sync::{Condvar, Mutex, MutexGuard};

/// The roles of the threads of one worker.
#[derive(Debug)]
pub struct Roles {
    state: Mutex<State>,
    /// Parked threads wait here.
    summons: Condvar,
    /// The watcher waits here.
    callable: Condvar,
    /// So many threads there may be.
    threads: usize,
}

#[derive(Debug)]
struct State {
    waiting: usize,
    parked: usize,
    /// Of the parked, those that were called and have not come yet.
    summoned: usize,
    /// Threads there are, one that is being started included.
    started: usize,
    /// One of them has not come yet.
    starting: bool,
    /// The watcher waits for somebody it could call.
    watcher_waits: bool,
}

impl State {
    fn can_start(&self, threads: usize) -> bool {
        self.started < threads && !self.starting
    }

    fn can_call(&self, threads: usize) -> bool {
        self.parked > self.summoned || self.can_start(threads)
    }
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summoned {
    /// Somebody waits anyway, or nobody is left to call.
    Nobody,
    /// A parked thread comes.
    Parked,
    /// Nobody is parked: the caller is to have one more thread started.
    StartThread,
}

impl Roles {
    /// Of at most `threads` threads, the first of which is started unasked.
    pub fn new(threads: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: 0,
                parked: 0,
                summoned: 0,
                started: 1,
                starting: true,
                watcher_waits: false,
            }),
            summons: Condvar::new(),
            callable: Condvar::new(),
            threads,
        }
    }

    /// Makes this thread one that waits for requests, until the turn is dropped. `None`: somebody waits, and
    /// one is enough unless `many` may wait.
    pub fn take_turn(&self, many: bool) -> Option<Turn<'_>> {
        let mut state = self.lock();
        if state.waiting > 0 && !many {
            return None;
        }
        state.waiting += 1;
        Some(Turn(self))
    }

    /// Waits until this thread is called, or is not to park any more and [`disturb`](Self::disturb) was called.
    pub fn park(&self, may_park: impl Fn() -> bool) {
        let mut state = self.lock();
        state.parked += 1;
        self.call_watcher(&state);
        while state.summoned == 0 && may_park() {
            state = self
                .summons
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.parked -= 1;
        state.summoned = state.summoned.saturating_sub(1);
    }

    /// Calls a parked thread, or asks for one more, unless one waits anyway.
    #[must_use]
    pub fn summon(&self) -> Summoned {
        let mut state = self.lock();
        if state.waiting > 0 {
            Summoned::Nobody
        } else if state.parked > state.summoned {
            state.summoned += 1;
            self.summons.notify_one();
            Summoned::Parked
        } else if state.can_start(self.threads) {
            state.started += 1;
            state.starting = true;
            Summoned::StartThread
        } else {
            Summoned::Nobody
        }
    }

    /// A thread that was started has come.
    pub fn enter(&self) {
        let mut state = self.lock();
        state.starting = false;
        self.call_watcher(&state);
    }

    /// No thread could be started: it stays with those there are. How many, without the one that will not come.
    pub fn settle_for_fewer(&self) -> usize {
        let mut state = self.lock();
        state.starting = false;
        std::mem::replace(&mut state.started, self.threads).saturating_sub(1)
    }

    /// Whether there is anybody to call, should nobody wait.
    pub fn can_call(&self) -> bool {
        self.lock().can_call(self.threads)
    }

    /// Waits until there is somebody to call, or `goes_on` is false and [`disturb`](Self::disturb) was called:
    /// for the watcher.
    pub fn wait_for_callable(&self, goes_on: impl Fn() -> bool) {
        let mut state = self.lock();
        while !state.can_call(self.threads) && goes_on() {
            state.watcher_waits = true;
            state = self
                .callable
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.watcher_waits = false;
    }

    /// Has everybody look once more whether to wait on.
    pub fn disturb(&self) {
        // Under the lock: who is about to wait has either seen what changed or hears this.
        let _state = self.lock();
        self.summons.notify_all();
        self.callable.notify_all();
    }

    fn call_watcher(&self, state: &State) {
        if state.watcher_waits && state.can_call(self.threads) {
            self.callable.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; plain numbers would be as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This thread is one that waits for requests.
#[derive(Debug)]
pub struct Turn<'a>(&'a Roles);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// All of its threads have come.
    fn full(threads: usize) -> Roles {
        let roles = Roles::new(threads);
        roles.enter();
        while roles.summon() == Summoned::StartThread {
            roles.enter();
        }
        roles
    }

    #[test]
    fn one_waits_unless_many_may() {
        let roles = full(3);
        let first = roles.take_turn(false).unwrap();
        assert!(roles.take_turn(false).is_none());
        let second = roles.take_turn(true).unwrap();
        drop(first);
        assert!(roles.take_turn(false).is_none(), "the second waits still");
        drop(second);
        assert!(roles.take_turn(false).is_some());
    }

    #[test]
    fn threads_are_started_one_at_a_time_where_nobody_waits() {
        let roles = Roles::new(2);
        assert_eq!(roles.summon(), Summoned::Nobody, "the first has not come");
        roles.enter();
        let turn = roles.take_turn(false);
        assert_eq!(roles.summon(), Summoned::Nobody, "it waits");
        drop(turn);
        assert_eq!(roles.summon(), Summoned::StartThread);
        assert!(!roles.can_call());
        roles.enter();
        assert_eq!(roles.summon(), Summoned::Nobody, "there are all");
    }

    #[test]
    fn where_no_thread_can_be_started_nobody_asks_again() {
        let roles = Roles::new(4);
        roles.enter();
        assert_eq!(roles.summon(), Summoned::StartThread);
        assert_eq!(roles.settle_for_fewer(), 1);
        assert_eq!(roles.summon(), Summoned::Nobody);
        assert!(!roles.can_call());
    }

    #[test]
    fn each_call_reaches_one_parked_thread() {
        let roles = full(3);
        std::thread::scope(|scope| {
            let parked: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| roles.park(|| true)))
                .collect();
            for _ in 0..2 {
                while roles.summon() != Summoned::Parked {
                    std::thread::yield_now();
                }
            }
            for thread in parked {
                thread.join().unwrap();
            }
        });
        assert_eq!(roles.summon(), Summoned::Nobody);
    }

    #[test]
    fn the_watcher_waits_until_somebody_parks() {
        let roles = full(1);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| roles.wait_for_callable(|| true));
            while !roles.lock().watcher_waits {
                std::thread::yield_now();
            }
            let parked = scope.spawn(|| roles.park(|| true));
            watcher.join().unwrap();
            assert_eq!(roles.summon(), Summoned::Parked);
            parked.join().unwrap();
        });
    }
}
