//! How many handshakes begin before others have their turn.
//!
//! A handshake costs as much as many requests. Where hundreds of clients begin one at once (a flood, or everybody who
//! comes back after a break), those that are served already must not wait for all of them: [`PER_ROUND`] begin in each
//! round of the event loop, the others in the rounds after it, in the order they came. Where nobody else has anything
//! to do the rounds follow each other at once, and nothing is lost.
//!
//! With more than one thread (`gateway_threads`) there are no rounds: the others make the steps. Where they are behind,
//! the owner makes steps instead of sleeping ([`help`]): one at a time, the sockets are looked at after each, and only
//! when nobody had anything for it at the last look. So what comes from a client or a worker waits for one step at most.
//!
//! Those that were settled are counted here, until the gateway writes them where its figures are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, Waker};

use rustls::server::UnbufferedServerConnection;

use super::threads::{Errand, Threads};

/// Handshakes that begin in a round of the event loop.
const PER_ROUND: u32 = 8;

thread_local! {
    static STATE: RefCell<Handshakes> = RefCell::new(Handshakes::new());
    static THREADS: RefCell<Option<Threads>> = const { RefCell::new(None) };
}

struct Handshakes {
    /// How many may begin in this round.
    left: u32,
    /// Those whose turn has not come.
    waiting: VecDeque<Waker>,
    /// Of [`look_after_handshakes`].
    looking: Waker,
    settled: Settled,
}

/// Handshakes that were completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// With TLS 1.2: from the beginning, and of sessions that were resumed.
    pub(crate) tls12: u64,
    pub(crate) tls12_resumed: u64,
    /// With TLS 1.3.
    pub(crate) tls13: u64,
    pub(crate) tls13_resumed: u64,
}

/// A handshake was completed.
pub(super) fn note(is_tls13: bool, resumed: bool) {
    STATE.with_borrow_mut(|state| {
        let settled = &mut state.settled;
        *match (is_tls13, resumed) {
            (false, false) => &mut settled.tls12,
            (false, true) => &mut settled.tls12_resumed,
            (true, false) => &mut settled.tls13,
            (true, true) => &mut settled.tls13_resumed,
        } += 1;
    });
}

/// Those since the last call.
pub(crate) fn take_settled() -> Settled {
    STATE.with_borrow_mut(|state| std::mem::take(&mut state.settled))
}

impl Handshakes {
    fn new() -> Self {
        Self {
            left: PER_ROUND,
            waiting: VecDeque::new(),
            looking: Waker::noop().clone(),
            settled: Settled::default(),
        }
    }

    fn may_begin(&mut self, waker: &Waker) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return true;
        }
        self.waiting.push_back(waker.clone());
        self.looking.wake_by_ref();
        false
    }

    /// A round begins: gives those their turn that wait for it.
    fn begin_round(&mut self) -> Vec<Waker> {
        self.left = PER_ROUND;
        let count = self.waiting.len().min(PER_ROUND as usize);
        self.waiting.drain(..count).collect()
    }
}

/// Whether a handshake may begin now; else `waker` is called when its turn has come.
pub(super) fn may_begin(waker: &Waker) -> bool {
    STATE.with_borrow_mut(|state| state.may_begin(waker))
}

/// Has `count` threads make steps of handshakes.
///
/// # Errors
///
/// See [`Threads::resize`].
pub(crate) fn set_threads(count: usize) -> io::Result<()> {
    THREADS.with_borrow_mut(|threads| {
        if count == 0 && threads.is_none() {
            return Ok(());
        }
        threads.get_or_insert_with(Threads::new).resize(count)
    })
}

/// Gives a session to the threads; back again where there are none.
pub(super) fn give(
    session: UnbufferedServerConnection,
    bytes: &[u8],
) -> Result<Errand, Box<UnbufferedServerConnection>> {
    THREADS.with_borrow(|threads| match threads {
        Some(threads) => threads.give(session, bytes),
        None => Err(Box::new(session)),
    })
}

/// Whether more steps wait for the threads than they should.
pub(crate) fn are_behind() -> bool {
    THREADS.with_borrow(|threads| threads.as_ref().is_some_and(Threads::are_behind))
}

/// The owner is about to sleep, everything else is done. Where the threads are behind it is kept from that, and the
/// sockets are looked at first: `true`. It has made a step then, unless somebody needed it since it looked at them last
/// (`is_needed`): who comes often would otherwise wait for a step each time.
pub(crate) fn help(is_needed: bool) -> bool {
    let helps = THREADS.with_borrow(|threads| {
        threads.as_ref().is_some_and(|threads| {
            if is_needed {
                threads.are_behind()
            } else {
                threads.help()
            }
        })
    });
    if helps {
        // A runtime that has something to run only looks at its sockets instead of sleeping.
        STATE.with_borrow(|state| state.looking.wake_by_ref());
    }
    helps
}

/// A round of the event loop begins, after it has slept.
pub(crate) fn renew() {
    STATE.with_borrow_mut(|state| {
        if state.waiting.is_empty() {
            state.left = PER_ROUND;
        }
    });
}

/// The task that begins rounds while handshakes wait.
pub(crate) async fn look_after_handshakes() {
    loop {
        poll_fn(|cx| {
            STATE.with_borrow_mut(|state| {
                state.looking.clone_from(cx.waker());
                if state.waiting.is_empty() {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
        })
        .await;
        // Whoever else can run does so first, and the sockets are looked at.
        tokio::task::yield_now().await;
        for waker in STATE.with_borrow_mut(Handshakes::begin_round) {
            waker.wake();
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU8, Ordering};

    use tokio::io::AsyncReadExt as _;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::spawn_local;

    use super::*;
    use crate::transport::tls::threads::tests::stuck;

    #[test]
    fn a_round_has_so_many_and_the_others_follow_in_their_order() {
        let mut state = Handshakes::new();
        let waker = Waker::noop();
        let begun = (0..30).filter(|_| state.may_begin(waker)).count();
        assert_eq!(begun, PER_ROUND as usize);
        let mut rounds = Vec::new();
        while !state.waiting.is_empty() {
            rounds.push(state.begin_round().len());
        }
        assert_eq!(rounds, [8, 8, 6]);
        assert!(state.may_begin(waker), "the round has room again");
    }

    #[test]
    fn who_is_served_waits_for_one_step_of_the_owner_at_most() {
        let (threads, errands) = stuck(10);
        THREADS.set(Some(threads));
        let (near, far) = UnixStream::pair().expect("a pair");
        far.set_nonblocking(true).expect("a socket");
        let steps = Arc::new(AtomicU8::new(0));
        let made = Arc::clone(&steps);
        let runtime = Builder::new_current_thread()
            .enable_io()
            // A client sends something while each step is made.
            .on_thread_park(move || {
                if help(false) {
                    let number = made.fetch_add(1, Ordering::Relaxed) + 1;
                    (&near).write_all(&[number]).expect("there is room");
                }
            })
            .build_local(LocalOptions::default())
            .expect("a runtime");
        runtime.block_on(async {
            spawn_local(look_after_handshakes());
            let mut far = tokio::net::UnixStream::from_std(far).expect("a socket");
            for number in 1..=8 {
                assert_eq!(far.read_u8().await.expect("a byte"), number);
                assert_eq!(steps.load(Ordering::Relaxed), number);
            }
        });
        assert_eq!(errands.len(), 10);
    }

    #[test]
    fn the_owner_makes_no_step_while_it_is_needed_and_does_not_sleep() {
        let (threads, errands) = stuck(3);
        THREADS.set(Some(threads));
        let is_made = |errand: &Errand| errand.take(Waker::noop()).is_ready();
        assert!(help(true));
        assert!(!errands.iter().any(is_made));
        assert!(help(false));
        assert!(is_made(&errands[0]));
        assert!(!help(false), "the threads keep up");
        assert!(!help(true), "the owner sleeps");
    }
}
