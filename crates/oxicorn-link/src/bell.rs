//! Sleeping and waking without lost wake-ups, and without system calls while nobody sleeps.
//!
//! Both forms rest on the same handshake. The sleeper: announce, fence, look once more, sleep. The
//! waker: publish, fence, look for an announcement, wake. The fences are sequentially consistent,
//! so of the two looks at least one sees what the other end did before its fence. The system calls
//! themselves are made by the callers; what is here runs under loom.
//!
//! # The bell
//! A [`Bell`] is for threads that block in a futex. Its word has two halves:
//!
//! ```text
//!   63            32 31             0
//!   |   sleepers    |    sequence   |   <- the futex is the sequence's half
//! ```
//!
//! A thread enlists (one more sleeper) and learns the sequence in the same step, then waits for the
//! sequence to change. Who wakes threads takes as many sleepers off and moves the sequence in one
//! step, so a further message does not pay a system call for a thread that is already waking up.
//!
//! The number of sleepers may be too high for a while, never too low: a thread whose wait ended by
//! itself takes itself off only if nobody was woken since it enlisted, because otherwise it cannot
//! know whether it was its own announcement that was used up. Too high costs one idle system call,
//! after which it is right again; too low would lose a wake-up.
//!
//! # The flag
//! A [`SleepFlag`] is for one thread that waits for an eventfd. It sleeps until something is published, or
//! it naps: then single messages may gather, and it is rung for when who writes them has nothing more to
//! do (or its own timer ends the nap).

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Proof that whatever this thread published before is ordered before its look for sleepers.
#[derive(Clone, Copy, Debug)]
pub struct Fenced(());

impl Fenced {
    /// Issues the fence.
    #[inline]
    pub fn now() -> Self {
        fence(Ordering::SeqCst);
        Self(())
    }
}

/// What a thread got when it enlisted.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    sequence: u32,
}

impl Ticket {
    /// The value at which the futex must still be for the thread to sleep.
    pub fn sequence(self) -> u32 {
        self.sequence
    }
}

/// View of a bell's word.
#[derive(Clone, Copy, Debug)]
pub struct Bell<'a> {
    word: &'a AtomicU64,
}

const ONE_SLEEPER: u64 = 1 << 32;

/// How often a ring tries to keep the count exact against interference. Honest threads interfere a
/// few times at most; one that does nothing else must not hold up the ringer for ever.
const EXACT_ATTEMPTS: u32 = 16;

fn sleepers(word: u64) -> u32 {
    (word >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn sequence(word: u64) -> u32 {
    word as u32
}

fn word(sleepers: u32, sequence: u32) -> u64 {
    u64::from(sleepers) << 32 | u64::from(sequence)
}

impl<'a> Bell<'a> {
    /// The bell with this word.
    #[inline]
    pub fn new(word: &'a AtomicU64) -> Self {
        Self { word }
    }

    /// Announces that this thread is about to sleep. After this it must look once more whether
    /// there is really nothing to do; and then wait, or [`resign`](Self::resign).
    pub fn enlist(self) -> Ticket {
        let before = self.word.fetch_add(ONE_SLEEPER, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Ticket {
            sequence: sequence(before),
        }
    }

    /// Takes the announcement back, after a wait that ended by itself or did not begin. (One that
    /// was woken, or found the sequence changed, has been taken off by who rang.)
    pub fn resign(self, ticket: Ticket) {
        let mut seen = self.word.load(Ordering::Relaxed);
        while sequence(seen) == ticket.sequence && sleepers(seen) > 0 {
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            let less = seen - ONE_SLEEPER;
            match self
                .word
                .compare_exchange_weak(seen, less, success, failure)
            {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether somebody had announced itself, without a fence: a late answer is possible.
    #[inline]
    pub fn seems_awaited(self) -> bool {
        sleepers(self.word.load(Ordering::Relaxed)) > 0
    }

    /// Takes one sleeper off. `true`: the caller must now wake one thread.
    #[inline]
    pub fn ring(self, fenced: Fenced) -> bool {
        self.ring_some(fenced, 1) > 0
    }

    /// Takes at most `most` sleepers off; how many. The caller must now wake as many threads.
    #[inline]
    pub fn ring_some(self, _: Fenced, most: u32) -> u32 {
        let seen = self.word.load(Ordering::Relaxed);
        if sleepers(seen) == 0 {
            return 0;
        }
        self.take_off(seen, most)
    }

    #[cold]
    fn take_off(self, mut seen: u64, most: u32) -> u32 {
        for _ in 0..EXACT_ATTEMPTS {
            let count = sleepers(seen).min(most);
            if count == 0 {
                return 0;
            }
            let next = word(sleepers(seen) - count, sequence(seen).wrapping_add(1));
            match self
                .word
                .compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return count,
                Err(now) => seen = now,
            }
        }
        // Leaves the sleepers counted: too high. (A carry out of the sequence does the same.)
        self.word.fetch_add(1, Ordering::Relaxed);
        most
    }

    /// Takes all sleepers off. The caller must now wake all threads: whoever has enlisted is woken
    /// or finds the sequence changed.
    pub fn ring_all(self, _: Fenced) {
        let mut seen = self.word.load(Ordering::Relaxed);
        for _ in 0..EXACT_ATTEMPTS {
            let next = word(0, sequence(seen).wrapping_add(1));
            match self
                .word
                .compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
        self.word.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a [`SleepFlag`] says.
const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const NAPPING: u32 = 2;

/// View of a sleeping flag's word.
#[derive(Clone, Copy, Debug)]
pub struct SleepFlag<'a> {
    word: &'a AtomicU32,
}

impl<'a> SleepFlag<'a> {
    /// The flag with this word.
    #[inline]
    pub fn new(word: &'a AtomicU32) -> Self {
        Self { word }
    }

    /// Announces that this thread is about to sleep. After this it must look once more whether
    /// there is really nothing to do.
    #[inline]
    pub fn begin(self) {
        self.announce(ASLEEP);
    }

    /// Announces that this thread is about to nap. After this it must look once more whether there is
    /// nothing to do, and whether the other end still works.
    #[inline]
    pub fn begin_nap(self) {
        self.announce(NAPPING);
    }

    #[inline]
    fn announce(self, state: u32) {
        self.word.store(state, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether a thread is announced, without a fence: a late answer is possible.
    #[inline]
    pub fn is_announced(self) -> bool {
        self.word.load(Ordering::Relaxed) != AWAKE
    }

    /// Takes the announcement back.
    #[inline]
    pub fn end(self) {
        self.word.store(AWAKE, Ordering::Relaxed);
    }

    /// Something was published: uses the announcement of a sleep up. `true`: the caller must now ring
    /// the doorbell (once for each announcement, however much is published).
    #[inline]
    pub fn take(self, _: Fenced) -> bool {
        self.word.load(Ordering::Relaxed) == ASLEEP && self.use_up()
    }

    /// Nothing more will be published for now: uses the announcement of a nap up. `true`: the caller
    /// must now ring the doorbell.
    #[inline]
    pub fn take_nap(self, _: Fenced) -> bool {
        self.word.load(Ordering::Relaxed) == NAPPING && self.use_up()
    }

    /// A sleep may have become a nap since it was looked at, or the other way round: a ring too many.
    fn use_up(self) -> bool {
        self.word.swap(AWAKE, Ordering::Relaxed) != AWAKE
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_ring_takes_one_sleeper_off() {
        let word = AtomicU64::new(0);
        let bell = Bell::new(&word);
        assert!(!bell.ring(Fenced::now()));
        let _ = (bell.enlist(), bell.enlist());
        assert!(bell.ring(Fenced::now()));
        assert!(bell.ring(Fenced::now()));
        assert!(!bell.ring(Fenced::now()));
    }

    #[test]
    fn sleeper_that_resigns_is_not_rung_for() {
        let word = AtomicU64::new(0);
        let bell = Bell::new(&word);
        let ticket = bell.enlist();
        assert!(bell.seems_awaited());
        bell.resign(ticket);
        assert!(!bell.ring(Fenced::now()));
    }

    #[test]
    fn resigning_after_a_ring_takes_nobody_else_off() {
        let word = AtomicU64::new(0);
        let bell = Bell::new(&word);
        let first = bell.enlist();
        assert!(bell.ring(Fenced::now()));
        let _second = bell.enlist();
        bell.resign(first);
        assert!(
            bell.ring(Fenced::now()),
            "the second one is still announced"
        );
    }

    #[test]
    fn one_ring_takes_several_sleepers_off_and_no_more_than_there_are() {
        let word = AtomicU64::new(0);
        let bell = Bell::new(&word);
        let _ = (bell.enlist(), bell.enlist(), bell.enlist());
        assert_eq!(bell.ring_some(Fenced::now(), 2), 2);
        assert_eq!(bell.ring_some(Fenced::now(), 2), 1);
        assert_eq!(bell.ring_some(Fenced::now(), 2), 0);
    }

    #[test]
    fn sequence_wraps_without_inventing_sleepers() {
        let word = AtomicU64::new(u64::from(u32::MAX));
        let bell = Bell::new(&word);
        let ticket = bell.enlist();
        assert_eq!(ticket.sequence(), u32::MAX);
        assert!(bell.ring(Fenced::now()));
        assert_eq!(word.load(Ordering::Relaxed), 0);
        bell.ring_all(Fenced::now());
        assert_eq!(bell.enlist().sequence(), 1);
    }

    #[test]
    fn flag_is_taken_once() {
        let word = AtomicU32::new(0);
        let flag = SleepFlag::new(&word);
        assert!(!flag.take(Fenced::now()));
        flag.begin();
        assert!(flag.take(Fenced::now()));
        assert!(!flag.take(Fenced::now()));
        flag.begin();
        flag.end();
        assert!(!flag.take(Fenced::now()));
    }

    #[test]
    fn nap_is_not_disturbed_by_what_is_published() {
        let word = AtomicU32::new(0);
        let flag = SleepFlag::new(&word);
        assert!(!flag.take_nap(Fenced::now()));
        flag.begin_nap();
        assert!(!flag.take(Fenced::now()));
        assert!(flag.take_nap(Fenced::now()));
        assert!(!flag.take_nap(Fenced::now()));
        flag.begin();
        assert!(!flag.take_nap(Fenced::now()));
        assert!(flag.take(Fenced::now()));
    }
}
