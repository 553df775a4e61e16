//! Coalesces wake-ups: waits for several responses at once, where they come one by one.
//!
//! A gateway that has nothing to do sleeps, and the next response wakes it: the worker pays for a system
//! call, the gateway for falling asleep and waking up. Where every worker is busy and has more to do, a
//! response comes every few hundred microseconds, and waking up for each costs more than handling it.
//! So the gateway *naps* then: workers do not ring for what they write, it gathers until the nap is over.
//! A worker that has nothing more to do ends the nap, so none ever waits for the gateway.
//!
//! Decides when, and for how long: never longer than [`LONGEST`]; never longer than a part of the time
//! that all requests need which are there, so that what a client waits in addition is little beside what it
//! waits anyway; never so long that a worker has nothing to do before it is over; and only if several
//! responses are to be expected meanwhile. Sockets wait too: what they bring could not be worked on yet.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::gateway::{Gateway, with};

/// The longest nap: less than what makes the dispatcher believe that a worker has stalled (1 ms).
const LONGEST: Duration = Duration::from_micros(800);

/// Divisor: a nap may take at most 1/4 of the time that all requests at hand will need.
const PART: u32 = 4;

/// A nap must be expected to gather at least this many messages, else it costs more than it saves.
const WORTH: u32 = 2;

/// Where messages come quicker than this the gateway hardly ever sleeps, and naps would make it and the
/// workers take turns instead of working side by side (measured: a hello of 20 microseconds costs 1 more).
const QUICK: Duration = Duration::from_micros(40);

/// How much a new measurement weighs.
const WEIGHT: u64 = 4;

/// When to nap: what is known of how quickly messages come.
#[derive(Debug)]
pub(crate) struct WakeCoalescing {
    /// Messages read since [`Self::measure`].
    pub(crate) messages: u32,
    /// Nanoseconds between two messages of whatever worker, an exponential mean: a number, because every message
    /// is reckoned with.
    interval_ns: u64,
    /// When messages were read last.
    last: Duration,
    /// A nap is over: sockets are looked at before the next.
    over: bool,
    waker: Waker,
}

/// What there is to do.
#[derive(Debug, Clone, Copy)]
struct Work {
    /// Requests that workers have. Each works on one of them, as far as is known.
    placed: usize,
    /// Requests that wait for a worker.
    queued: usize,
    workers: usize,
}

impl WakeCoalescing {
    pub(crate) fn new() -> Self {
        Self {
            messages: 0,
            interval_ns: nanoseconds(LONGEST),
            last: Duration::ZERO,
            over: false,
            waker: Waker::noop().clone(),
        }
    }

    /// Learns from what was read until `now`.
    fn measure(&mut self, now: Duration) {
        let messages = std::mem::take(&mut self.messages);
        if messages == 0 {
            return;
        }
        // Cut, because after a rest it shall take a few messages, not a few hundred.
        let sample = nanoseconds(now.saturating_sub(self.last)) / u64::from(messages);
        let sample = sample.min(nanoseconds(LONGEST));
        self.interval_ns = (self.interval_ns * (WEIGHT - 1) + sample) / WEIGHT;
        self.last = now;
    }

    /// How long to nap, if at all.
    fn length(&self, now: Duration, work: Work) -> Option<Duration> {
        // No worker has a request ahead: it would wait for us before the nap is over.
        if work.placed <= work.workers {
            return None;
        }
        // Nothing for longer than usual: what comes next takes at least so long.
        let usual = Duration::from_nanos(self.interval_ns);
        let interval = usual.max(now.saturating_sub(self.last));
        let time_for =
            |requests| interval.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX));
        let patience = time_for(work.placed + work.queued) / PART;
        let supply = time_for(work.placed.saturating_sub(work.workers));
        let length = patience.min(supply).min(LONGEST);
        let is_worth_it = interval >= QUICK && length >= interval.saturating_mul(WORTH);
        is_worth_it.then_some(length)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Gateway {
    /// Naps, if that is worth it, and reads what has come. `true`: the sockets are to be looked at, and
    /// are going to be.
    pub(crate) fn nap(&mut self) -> bool {
        let now = self.clock.now();
        self.coalescing.measure(now);
        let work = Work {
            placed: self.dispatcher.total_in_flight(),
            queued: self.dispatcher.queued(),
            workers: self.pool.len(),
        };
        let Some(length) = self.coalescing.length(now, work) else {
            return false;
        };
        if !self.pool.nap(length) {
            return false;
        }
        self.clock.tick();
        self.read_links();
        self.settle();
        self.coalescing.over = true;
        self.coalescing.waker.wake_by_ref();
        true
    }

    fn poll_nap_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.coalescing.waker.clone_from(cx.waker());
        if std::mem::take(&mut self.coalescing.over) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// The task that keeps the runtime from sleeping after a nap, and has it look at its sockets.
pub(crate) async fn look_after_coalescing() {
    loop {
        std::future::poll_fn(|cx| {
            with(|gateway| gateway.poll_nap_over(cx)).unwrap_or(Poll::Pending)
        })
        .await;
        // A task that yields is resumed when the sockets have been looked at.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1);

    /// As if messages had come one by one, every `interval`.
    fn after(interval: Duration) -> (WakeCoalescing, Duration) {
        let mut coalescing = WakeCoalescing::new();
        let mut now = START;
        for _ in 0..64 {
            now += interval;
            coalescing.messages = 1;
            coalescing.measure(now);
        }
        (coalescing, now)
    }

    /// One worker that takes all there is.
    fn placed(placed: usize) -> Work {
        Work {
            placed,
            queued: 0,
            workers: 1,
        }
    }

    #[test]
    fn naps_where_a_worker_has_much_to_do() {
        let (coalescing, now) = after(Duration::from_micros(150));
        assert_eq!(coalescing.length(now, placed(64)), Some(LONGEST));
        let short = coalescing.length(now, placed(9)).expect("worth it");
        assert!(short < LONGEST, "{short:?}");
    }

    #[test]
    fn stays_awake_for_few_requests_and_for_slow_ones() {
        let (coalescing, now) = after(Duration::from_micros(150));
        assert_eq!(coalescing.length(now, placed(1)), None);
        assert_eq!(coalescing.length(now, placed(7)), None);
        let (coalescing, now) = after(Duration::from_millis(10));
        assert_eq!(coalescing.length(now, placed(10_000)), None);
    }

    #[test]
    fn naps_no_longer_than_what_lies_ahead_of_the_workers_lasts() {
        let (coalescing, now) = after(Duration::from_micros(150));
        let ahead = |workers, placed| Work {
            placed,
            queued: 60,
            workers,
        };
        let length = coalescing.length(now, ahead(1, 3)).expect("worth it");
        assert!(length <= Duration::from_micros(2 * 151), "{length:?}");
        assert_eq!(coalescing.length(now, ahead(1, 2)), None);
        assert_eq!(coalescing.length(now, ahead(2, 3)), None);
    }

    #[test]
    fn stays_awake_where_responses_come_quickly() {
        let (coalescing, now) = after(Duration::from_micros(15));
        assert_eq!(coalescing.length(now, placed(64)), None);
    }

    #[test]
    fn one_slow_request_ends_the_naps_at_once() {
        let (coalescing, now) = after(Duration::from_micros(100));
        assert!(coalescing.length(now, placed(64)).is_some());
        assert_eq!(
            coalescing.length(now + Duration::from_millis(1), placed(64)),
            None
        );
    }

    #[test]
    fn batches_count_by_their_messages() {
        let mut coalescing = WakeCoalescing::new();
        let mut now = START;
        for _ in 0..64 {
            now += LONGEST;
            coalescing.messages = 10;
            coalescing.measure(now);
        }
        let interval = Duration::from_nanos(coalescing.interval_ns);
        assert!(interval < LONGEST / 8, "{interval:?}");
    }
}
