//! Threads that make the steps of handshakes (`gateway_threads`).
//!
//! Nearly all that a handshake costs is arithmetic with keys, as much as a dozen requests. With more than one thread
//! it is done beside the one that owns sockets, queue and workers: a session is given away together with the records
//! that have come, and comes back with what it has to say. Meanwhile nothing is read from its socket. Nothing else of
//! a connection leaves its thread, so that limits, counters and logs need not know of others.
//!
//! ```text
//!   owner:  give() ------------> queue --> thread: step()
//!           take() <-- errand.done, waker <-----+
//!           help() <---- queue, where it is long: step()
//! ```
//!
//! The owner is not idle while threads are behind: where more than [`BEHIND`] steps wait for each of them it takes the
//! oldest one itself. When, is its own affair ([`super::handshakes`]): whom it serves comes first.
//!
//! An errand has at most one waker and one result, both behind its lock: whoever comes second sees what the first has
//! left, so neither can miss the other. Whose connection has ended meanwhile is passed over.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::thread;

use rustls::server::UnbufferedServerConnection;

use super::step::{Sinks, Step, step};

/// What the arithmetic needs is far below it.
const STACK: usize = 256 * 1024;

/// Steps that wait for each thread before the owner makes any. Fewer are begun sooner than the owner would be through
/// with one, and a thread that has made its step finds the next one there.
const BEHIND: usize = 2;

/// A session that has been to a thread.
pub(super) struct Made {
    pub(super) session: UnbufferedServerConnection,
    /// What had come, and was not all looked at.
    pub(super) bytes: Vec<u8>,
    pub(super) plain: Vec<u8>,
    pub(super) outgoing: Vec<u8>,
    pub(super) step: Result<Step, String>,
}

/// The owner's end of a step that is made elsewhere.
pub(super) struct Errand(Arc<Mutex<Outcome>>);

#[derive(Default)]
enum Outcome {
    #[default]
    Open,
    Awaited(Waker),
    Made(Box<Made>),
    /// The thread could not go on.
    Lost,
}

struct Job {
    session: UnbufferedServerConnection,
    bytes: Vec<u8>,
    /// Nobody waits for it any more where it is gone.
    outcome: Weak<Mutex<Outcome>>,
}

/// The threads of one owner, which end with it.
pub(super) struct Threads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    running: usize,
    wanted: usize,
}

/// A panic with the lock held leaves plain data behind; there is nothing to distrust.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Has `count` threads from now on. One that is too many ends when it has made its step.
    ///
    /// # Errors
    ///
    /// Of a thread that cannot be made; there are as many as could be then.
    pub(super) fn resize(&self, count: usize) -> io::Result<()> {
        let mut state = lock(&self.0.state);
        state.wanted = count;
        while state.running < count {
            let shared = Arc::clone(&self.0);
            thread::Builder::new()
                .name("tls-handshakes".into())
                .stack_size(STACK)
                .spawn(move || shared.make_steps())?;
            state.running += 1;
        }
        drop(state);
        self.0.work.notify_all();
        Ok(())
    }

    /// Gives a session with what has come to the threads; back again where there are none.
    pub(super) fn give(
        &self,
        session: UnbufferedServerConnection,
        bytes: &[u8],
    ) -> Result<Errand, Box<UnbufferedServerConnection>> {
        let mut state = lock(&self.0.state);
        if state.running == 0 || state.wanted == 0 {
            return Err(Box::new(session));
        }
        let outcome = Arc::new(Mutex::new(Outcome::Open));
        state.jobs.push_back(Job {
            session,
            bytes: bytes.to_vec(),
            outcome: Arc::downgrade(&outcome),
        });
        drop(state);
        self.0.work.notify_one();
        Ok(Errand(outcome))
    }

    /// Whether so many steps wait that the owner should make one.
    pub(super) fn are_behind(&self) -> bool {
        lock(&self.0.state).is_behind()
    }

    /// Makes the oldest step that nobody has begun; `false`: the threads keep up.
    pub(super) fn help(&self) -> bool {
        let mut state = lock(&self.0.state);
        let job = if state.is_behind() {
            state.jobs.pop_front()
        } else {
            None
        };
        drop(state);
        job.map(Job::run).is_some()
    }
}

impl State {
    fn is_behind(&self) -> bool {
        self.jobs.len() > BEHIND * self.running
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.wanted = 0;
        state.jobs.clear();
        drop(state);
        self.0.work.notify_all();
    }
}

impl Shared {
    fn make_steps(&self) {
        while let Some(job) = self.next() {
            job.run();
        }
    }

    /// `None`: this thread is one too many, and nothing waits.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            let is_needed = state.running <= state.wanted;
            // The last one to go leaves nothing behind: what it would leave nobody would come for.
            if (is_needed || state.running == 1)
                && let Some(job) = state.jobs.pop_front()
            {
                return Some(job);
            }
            if !is_needed {
                state.running -= 1;
                return None;
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Job {
    fn run(self) {
        let Self {
            session,
            bytes,
            outcome,
        } = self;
        if outcome.strong_count() == 0 {
            return;
        }
        // A session is not looked at again after a panic.
        let made = catch_unwind(AssertUnwindSafe(|| make(session, bytes)));
        let Some(outcome) = outcome.upgrade() else {
            return;
        };
        let result = made.map_or(Outcome::Lost, |made| Outcome::Made(Box::new(made)));
        let before = std::mem::replace(&mut *lock(&outcome), result);
        if let Outcome::Awaited(waker) = before {
            waker.wake();
        }
    }
}

fn make(mut session: UnbufferedServerConnection, mut bytes: Vec<u8>) -> Made {
    let (mut plain, mut outgoing) = (Vec::new(), Vec::new());
    let mut sinks = Sinks {
        buffer: &mut Vec::new(),
        plain: &mut plain,
        outgoing: &mut outgoing,
    };
    let step = step(&mut session, &mut bytes, &mut sinks);
    Made {
        session,
        bytes,
        plain,
        outgoing,
        step,
    }
}

impl Errand {
    /// What came of it, once; `None`: the thread could not go on. Until it is made, `waker` is kept.
    pub(super) fn take(&self, waker: &Waker) -> Poll<Option<Box<Made>>> {
        let mut outcome = lock(&self.0);
        match std::mem::take(&mut *outcome) {
            Outcome::Made(made) => Poll::Ready(Some(made)),
            Outcome::Lost => Poll::Ready(None),
            Outcome::Open | Outcome::Awaited(_) => {
                *outcome = Outcome::Awaited(waker.clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use rustls::crypto::ring::default_provider;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize, Mutex<Option<thread::Thread>>);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            if let Some(thread) = &*lock(&self.1) {
                thread.unpark();
            }
        }
    }

    /// What is no message of a handshake.
    const NONSENSE: &[u8] = b"\x16\x03\x01\x00\x04\xff\x00\x00\x00";

    /// One thread that never comes to its work, and so many steps for it.
    pub(in crate::transport::tls) fn stuck(steps: usize) -> (Threads, Vec<Errand>) {
        let threads = Threads::new();
        let mut state = lock(&threads.0.state);
        (state.running, state.wanted) = (1, 1);
        drop(state);
        let errands = (0..steps).filter_map(|_| threads.give(session(), NONSENSE).ok());
        let errands = errands.collect();
        (threads, errands)
    }

    fn session() -> UnbufferedServerConnection {
        let key = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a key");
        let (chain, key) = (vec![key.cert.into()], key.signing_key.into());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        UnbufferedServerConnection::new(Arc::new(config)).expect("a server")
    }

    /// Waits as a task does: polls, sleeps until it is woken, polls again.
    fn wait(errand: &Errand) -> Option<Box<Made>> {
        let count = Arc::new(Count::default());
        *lock(&count.1) = Some(thread::current());
        let waker = Waker::from(Arc::clone(&count));
        loop {
            match errand.take(&waker) {
                Poll::Ready(made) => return made,
                Poll::Pending => thread::park_timeout(std::time::Duration::from_secs(20)),
            }
        }
    }

    #[test]
    fn a_session_comes_back_with_what_it_has_to_say() {
        let threads = Threads::new();
        threads.resize(2).expect("threads");
        for _ in 0..200 {
            let errand = threads.give(session(), NONSENSE).ok();
            let made = wait(&errand.expect("there are threads")).expect("made");
            // An alert: what came is no message of a handshake.
            assert!(made.step.is_err());
            assert_eq!(made.outgoing[0], 21);
        }
    }

    #[test]
    fn without_threads_a_session_is_given_back() {
        let threads = Threads::new();
        assert!(threads.give(session(), b"").is_err());
        threads.resize(1).expect("a thread");
        assert!(threads.give(session(), b"").is_ok());
        threads.resize(0).expect("none");
        assert!(threads.give(session(), b"").is_err());
    }

    #[test]
    fn what_was_given_before_the_last_thread_goes_is_made() {
        let threads = Threads::new();
        threads.resize(1).expect("a thread");
        let errands: Vec<_> = (0..50)
            .filter_map(|_| threads.give(session(), NONSENSE).ok())
            .collect();
        threads.resize(0).expect("none");
        assert_eq!(errands.len(), 50);
        for errand in &errands {
            assert!(wait(errand).is_some());
        }
    }

    #[test]
    fn the_owner_makes_the_oldest_steps_until_the_threads_keep_up() {
        let (threads, errands) = stuck(BEHIND + 3);
        let waker = Waker::noop();
        let made = |errand: &Errand| match errand.take(waker) {
            Poll::Ready(made) => made.is_some_and(|made| made.outgoing[0] == 21),
            Poll::Pending => false,
        };
        for errand in &errands[..3] {
            assert!(threads.are_behind());
            assert!(threads.help());
            assert!(made(errand));
        }
        assert!(!threads.are_behind());
        assert!(!threads.help());
        assert!(!errands[3..].iter().any(made));
    }

    #[test]
    fn the_owner_helps_beside_threads_and_nothing_is_lost_or_made_twice() {
        let threads = Threads::new();
        threads.resize(2).expect("threads");
        for _ in 0..20 {
            let errands: Vec<_> = (0..30)
                .filter_map(|_| threads.give(session(), NONSENSE).ok())
                .collect();
            assert_eq!(errands.len(), 30);
            while threads.help() {}
            for errand in &errands {
                assert_eq!(wait(errand).expect("made").outgoing[0], 21);
            }
        }
    }

    #[test]
    fn threads_end_with_their_owner() {
        let threads = Threads::new();
        threads.resize(3).expect("threads");
        let shared = Arc::downgrade(&threads.0);
        drop(threads);
        for _ in 0..2000 {
            if shared.strong_count() == 0 {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("a thread goes on");
    }
}
