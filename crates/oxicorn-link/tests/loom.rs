//! Every interleaving of the ring, of sleeping and waking, and of claim and revoke, by loom.
//!
//! The ring and the bell run here as they are; only the memory is loom's: indices and claim words
//! are its atomics, all other bytes its cells, so that an access without order between the ends is
//! reported as a race. A futex is a mutex and a condition variable, which is what it is in the
//! kernel: comparing the word and falling asleep are one step for who wakes. A wake-up that is lost
//! shows as a deadlock.
//!
//! RUSTFLAGS='--cfg loom' cargo test -p oxicorn-link --release --test loom

#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "tests")]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use oxicorn_link::bell::{Bell, Fenced, SleepFlag};
use oxicorn_link::ring::{Consumer, Memory, Producer, Tag, has_room};
use oxicorn_link::roles::Roles;

/// Ring of four smallest messages.
const CAPACITY: usize = 128;

/// The memory of a ring and of the words around it.
struct Shared {
    tail: AtomicU64,
    head: AtomicU64,
    /// One for each eight bytes; used where a message has its claim word.
    claims: Vec<AtomicU64>,
    /// The bytes, eight each.
    cells: Vec<UnsafeCell<[u8; 8]>>,
    bell: AtomicU64,
    flag: AtomicU32,
    kernel: Kernel,
}

// SAFETY: this is what loom checks: it reports every pair of accesses to a cell without order.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            claims: (0..CAPACITY / 8).map(|_| AtomicU64::new(0)).collect(),
            cells: (0..CAPACITY / 8).map(|_| UnsafeCell::new([0; 8])).collect(),
            bell: AtomicU64::new(0),
            flag: AtomicU32::new(0),
            kernel: Kernel::default(),
        })
    }

    fn bell(&self) -> Bell<'_> {
        Bell::new(&self.bell)
    }

    fn has_unread(&self) -> bool {
        self.tail.load(Ordering::Acquire) != self.head.load(Ordering::Acquire)
    }
}

#[derive(Clone)]
struct Ring(Arc<Shared>);

impl Memory for Ring {
    fn capacity(&self) -> u64 {
        CAPACITY as u64
    }

    fn tail(&self) -> &AtomicU64 {
        &self.0.tail
    }

    fn head(&self) -> &AtomicU64 {
        &self.0.head
    }

    fn claim(&self, offset: usize) -> &AtomicU64 {
        &self.0.claims[offset / 8]
    }

    fn word(&self, offset: usize) -> u64 {
        // SAFETY: loom checks that nobody writes meanwhile.
        self.0.cells[offset / 8].with(|cell| u64::from_ne_bytes(unsafe { *cell }))
    }

    fn set_word(&self, offset: usize, word: u64) {
        self.write(offset, &word.to_ne_bytes());
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let at = offset + i;
            // SAFETY: loom checks that nobody reads or writes meanwhile.
            self.0.cells[at / 8].with_mut(|cell| unsafe { (*cell)[at % 8] = *byte });
        }
    }

    fn read(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
        for at in offset..offset + len {
            // SAFETY: loom checks that nobody writes meanwhile.
            out.push(self.0.cells[at / 8].with(|cell| unsafe { (*cell)[at % 8] }));
        }
    }
}

/// Futexes (all on one word, as there is one bell) and an eventfd.
#[derive(Default)]
struct Kernel {
    lock: Mutex<KernelState>,
    woken: Condvar,
    rung: Condvar,
}

#[derive(Default)]
struct KernelState {
    asleep: u32,
    wake_ups: u32,
    doorbell: bool,
}

impl Kernel {
    /// FUTEX_WAIT: `false` if the word had changed.
    fn wait(&self, word: &AtomicU64, sequence: u32) -> bool {
        let mut state = self.lock.lock().unwrap();
        if word.load(Ordering::SeqCst) as u32 != sequence {
            return false;
        }
        state.asleep += 1;
        while state.wake_ups == 0 {
            state = self.woken.wait(state).unwrap();
        }
        state.wake_ups -= 1;
        true
    }

    /// FUTEX_WAKE: wakes as many as are asleep, at most `count`; how many.
    fn wake(&self, count: u32) -> u32 {
        let mut state = self.lock.lock().unwrap();
        let woken = state.asleep.min(count);
        state.asleep -= woken;
        state.wake_ups += woken;
        drop(state);
        self.woken.notify_all();
        woken
    }

    fn ring_doorbell(&self) {
        self.lock.lock().unwrap().doorbell = true;
        self.rung.notify_all();
    }

    fn wait_doorbell(&self) {
        let mut state = self.lock.lock().unwrap();
        while !state.doorbell {
            state = self.rung.wait(state).unwrap();
        }
        state.doorbell = false;
    }
}

fn tag(stream: u64) -> Tag {
    Tag {
        kind: 1,
        flags: 0,
        stream,
    }
}

/// Bounded preemption finds what there is to find in such protocols with two or three switches.
fn check(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// Reads what comes, asleep when there is nothing, until `count` messages were read.
fn read_messages(shared: &Arc<Shared>, ring: &mut Consumer<Ring>, count: u64) {
    let mut payload = Vec::new();
    for expected in 1..=count {
        let message = loop {
            match ring.peek().unwrap() {
                Some(message) => break *message,
                None => sleep_until_rung(shared, || shared.has_unread()),
            }
        };
        assert_eq!(message.tag.stream, expected);
        payload.clear();
        ring.read(0..message.len, &mut payload);
        assert_eq!(payload, expected.to_ne_bytes());
        ring.advance();
    }
}

/// A thread's wait, as the worker does it.
fn sleep_until_rung(shared: &Shared, is_ready: impl Fn() -> bool) {
    let ticket = shared.bell().enlist();
    if is_ready() {
        shared.bell().resign(ticket);
        return;
    }
    shared.kernel.wait(&shared.bell, ticket.sequence());
}

fn push_and_ring(shared: &Shared, ring: &mut Producer<Ring>, stream: u64) {
    ring.push(tag(stream), &stream.to_ne_bytes(), b"").unwrap();
    if shared.bell().ring(Fenced::now()) {
        shared.kernel.wake(1);
    }
}

#[test]
fn sleeping_reader_gets_every_message() {
    check(3, || {
        let shared = Shared::new();
        let mut producer = Producer::resume(Ring(Arc::clone(&shared))).unwrap();
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut consumer = Consumer::resume(Ring(Arc::clone(&shared))).unwrap();
                read_messages(&shared, &mut consumer, 3);
            })
        };
        for stream in 1..=3 {
            push_and_ring(&shared, &mut producer, stream);
        }
        reader.join().unwrap();
    });
}

/// The ring is nearly full and about to wrap: the producer sleeps for room, the consumer wakes it
/// only when it has read everything (as the gateway does).
#[test]
fn sleeping_writer_gets_room_and_the_ring_wraps() {
    check(3, || {
        let shared = Shared::new();
        let mut consumer = Consumer::resume(Ring(Arc::clone(&shared))).unwrap();
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let ring = Ring(Arc::clone(&shared));
                let mut producer = Producer::resume(ring.clone()).unwrap();
                for stream in 1..=4_u64 {
                    // 24 + 16 bytes: three fit, the fourth must go to the beginning.
                    while producer.push(tag(stream), &[7; 16], b"").is_err() {
                        sleep_until_rung(&shared, || has_room(&ring, 16));
                    }
                }
            })
        };
        let mut read = 0;
        let mut payload = Vec::new();
        while read < 4 {
            let mut freed = 0;
            while let Some(message) = consumer.peek().unwrap().copied() {
                read += 1;
                assert_eq!(message.tag.stream, read);
                payload.clear();
                consumer.read(0..message.len, &mut payload);
                assert_eq!(payload, [7; 16]);
                freed += consumer.advance();
            }
            if freed > 0 {
                let fenced = Fenced::now();
                if shared.bell().seems_awaited() {
                    shared.bell().ring_all(fenced);
                    shared.kernel.wake(u32::MAX);
                }
            }
            thread::yield_now();
        }
        writer.join().unwrap();
    });
}

/// The producer goes back to the beginning if it finds everything read, and else to the end and around;
/// it waits for room either way.
#[test]
fn writer_that_goes_back_overwrites_nothing_unread() {
    check(2, || {
        let shared = Shared::new();
        let mut consumer = Consumer::resume(Ring(Arc::clone(&shared))).unwrap();
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let ring = Ring(Arc::clone(&shared));
                let mut producer = Producer::resume(ring.clone()).unwrap();
                for stream in 1..=6_u64 {
                    while producer
                        .push(tag(stream), &stream.to_ne_bytes(), b"")
                        .is_err()
                    {
                        sleep_until_rung(&shared, || has_room(&ring, 8));
                    }
                }
            })
        };
        let mut read = 0_u64;
        let mut payload = Vec::new();
        while read < 6 {
            let before = read;
            while let Some(message) = consumer.peek().unwrap().copied() {
                read += 1;
                assert_eq!(message.tag.stream, read);
                payload.clear();
                consumer.read(0..message.len, &mut payload);
                assert_eq!(payload, read.to_ne_bytes());
                consumer.advance();
            }
            if read > before {
                let fenced = Fenced::now();
                if shared.bell().seems_awaited() {
                    shared.bell().ring_all(fenced);
                    shared.kernel.wake(u32::MAX);
                }
            }
            thread::yield_now();
        }
        writer.join().unwrap();
    });
}

#[test]
fn sleeper_in_epoll_is_rung() {
    check(3, || {
        let shared = Shared::new();
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut producer = Producer::resume(Ring(Arc::clone(&shared))).unwrap();
                for stream in 1..=2_u64 {
                    producer.push(tag(stream), b"", b"").unwrap();
                    if SleepFlag::new(&shared.flag).take(Fenced::now()) {
                        shared.kernel.ring_doorbell();
                    }
                }
            })
        };
        let mut consumer = Consumer::resume(Ring(Arc::clone(&shared))).unwrap();
        let flag = SleepFlag::new(&shared.flag);
        let mut read = 0;
        while read < 2 {
            while consumer.peek().unwrap().is_some() {
                consumer.advance();
                read += 1;
            }
            if read < 2 {
                flag.begin();
                if !consumer.has_pending() {
                    shared.kernel.wait_doorbell();
                }
                flag.end();
            }
        }
        writer.join().unwrap();
    });
}

/// Takes one message under a lock, asleep until there is one.
fn take_one(shared: &Shared, consumer: &Mutex<Consumer<Ring>>) {
    loop {
        {
            let mut ring = consumer.lock().unwrap();
            if ring.peek().unwrap().is_some() {
                ring.advance();
                return;
            }
        }
        sleep_until_rung(shared, || shared.has_unread());
    }
}

/// Two threads of a worker that take one message each.
fn two_that_take_one(shared: &Arc<Shared>) -> [thread::JoinHandle<()>; 2] {
    let consumer = Consumer::resume(Ring(Arc::clone(shared))).unwrap();
    let consumer = Arc::new(Mutex::new(consumer));
    std::array::from_fn(|_| {
        let (shared, consumer) = (Arc::clone(shared), Arc::clone(&consumer));
        thread::spawn(move || take_one(&shared, &consumer))
    })
}

/// Two threads of a worker wait; each request wakes one. Each takes one, under a lock, and neither
/// sleeps on while there is one left.
#[test]
fn two_sleepers_get_two_requests() {
    check(2, || {
        let shared = Shared::new();
        let threads = two_that_take_one(&shared);
        let mut producer = Producer::resume(Ring(Arc::clone(&shared))).unwrap();
        push_and_ring(&shared, &mut producer, 1);
        push_and_ring(&shared, &mut producer, 2);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// The gateway places what there is and wakes for all of it at once.
#[test]
fn two_sleepers_get_two_requests_by_one_ring() {
    check(2, || {
        let shared = Shared::new();
        let threads = two_that_take_one(&shared);
        let mut producer = Producer::resume(Ring(Arc::clone(&shared))).unwrap();
        for stream in 1..=2 {
            producer.push(tag(stream), b"", b"").unwrap();
        }
        let count = shared.bell().ring_some(Fenced::now(), 2);
        if count > 0 {
            shared.kernel.wake(count);
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// One thread gives its wait up (time out, signal), perhaps after the first request used up its
/// announcement, while another waits for the second: that one must not be forgotten.
#[test]
fn sleeper_that_gives_up_takes_no_wake_up_from_another() {
    check(4, || {
        let shared = Shared::new();
        let fickle = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let ticket = shared.bell().enlist();
                shared.bell().resign(ticket);
            })
        };
        let patient = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let both_are_there = || shared.tail.load(Ordering::Acquire) == 64;
                while !both_are_there() {
                    sleep_until_rung(&shared, both_are_there);
                }
            })
        };
        let mut producer = Producer::resume(Ring(Arc::clone(&shared))).unwrap();
        push_and_ring(&shared, &mut producer, 1);
        push_and_ring(&shared, &mut producer, 2);
        fickle.join().unwrap();
        patient.join().unwrap();
    });
}

/// The worker takes a request while the gateway takes it back: exactly one of them has it, and the
/// worker reads it whole if it is the worker.
#[test]
fn either_claimed_or_revoked() {
    check(4, || {
        let shared = Shared::new();
        let mut producer = Producer::resume(Ring(Arc::clone(&shared))).unwrap();
        let first = producer
            .push_claimable(tag(1), 7, &1_u64.to_ne_bytes(), b"")
            .unwrap();
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut consumer = Consumer::resume(Ring(shared)).unwrap();
                let mut claimed = Vec::new();
                while let Some(message) = consumer.peek().unwrap().copied() {
                    if consumer.claim(&message, 7) {
                        let mut payload = Vec::new();
                        consumer.read(0..message.len, &mut payload);
                        assert_eq!(payload, message.tag.stream.to_ne_bytes());
                        claimed.push(message.tag.stream);
                    }
                    consumer.advance();
                }
                claimed
            })
        };
        let revoked = producer.revoke(first, 7);
        // Its place may be used again as soon as the worker has passed it.
        let second = producer
            .push_claimable(tag(2), 7, &2_u64.to_ne_bytes(), b"")
            .unwrap();
        let claimed = worker.join().unwrap();
        assert_eq!(revoked, !claimed.contains(&1));
        assert_eq!(producer.is_claimed(second, 7), claimed.contains(&2));
    });
}

/// A claim word whose place was written over is not asked any more.
#[test]
fn revoking_after_the_place_was_used_again_is_refused() {
    check(3, || {
        let shared = Shared::new();
        let mut producer = Producer::resume(Ring(Arc::clone(&shared))).unwrap();
        let first = producer.push_claimable(tag(1), 7, b"", b"").unwrap();
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut consumer = Consumer::resume(Ring(shared)).unwrap();
                if let Some(message) = consumer.peek().unwrap().copied() {
                    assert!(consumer.claim(&message, 7));
                    consumer.advance();
                }
            })
        };
        // 4 x 24 = 96 bytes; the fifth and sixth go over the first if that was passed.
        for stream in 2..=6 {
            let _ = producer.push_claimable(tag(stream), 7, b"", b"");
        }
        worker.join().unwrap();
        assert!(!producer.revoke(first, 7));
        assert!(producer.is_claimed(first, 7));
    });
}

/// A nap without a timer: what is published is found because its writer has nothing more to do, or because
/// the nap does not begin while the writer rests.
#[test]
fn napper_is_rung_when_the_writer_rests() {
    check(3, || {
        let shared = Shared::new();
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut producer = Producer::resume(Ring(Arc::clone(&shared))).unwrap();
                for stream in 1..=2_u64 {
                    producer.push(tag(stream), b"", b"").unwrap();
                    if SleepFlag::new(&shared.flag).take(Fenced::now()) {
                        shared.kernel.ring_doorbell();
                    }
                }
                let _ticket = shared.bell().enlist();
                if SleepFlag::new(&shared.flag).take_nap(Fenced::now()) {
                    shared.kernel.ring_doorbell();
                }
            })
        };
        let mut consumer = Consumer::resume(Ring(Arc::clone(&shared))).unwrap();
        let flag = SleepFlag::new(&shared.flag);
        let mut read = 0;
        while read < 2 {
            while consumer.peek().unwrap().is_some() {
                consumer.advance();
                read += 1;
            }
            if read < 2 {
                flag.begin_nap();
                if !consumer.has_pending() && !shared.bell().seems_awaited() {
                    shared.kernel.wait_doorbell();
                }
                flag.end();
            }
        }
        writer.join().unwrap();
    });
}

/// The threads of a worker: the ring and the bell of the requests, the watcher's bell, the roles.
struct Workers {
    requests: Arc<Shared>,
    consumer: Mutex<Consumer<Ring>>,
    watch: Arc<Shared>,
    roles: Roles,
    served: AtomicU32,
    /// So many requests come.
    all: u32,
}

impl Workers {
    /// Of `threads` threads, which have all come.
    fn new(threads: usize, all: u32) -> Arc<Self> {
        let requests = Shared::new();
        let consumer = Consumer::resume(Ring(Arc::clone(&requests))).unwrap();
        let roles = Roles::new(threads);
        roles.enter();
        for _ in 1..threads {
            let _ = roles.summon();
            roles.enter();
        }
        Arc::new(Self {
            requests,
            consumer: Mutex::new(consumer),
            watch: Shared::new(),
            roles,
            served: AtomicU32::new(0),
            all,
        })
    }

    fn producer(&self) -> Producer<Ring> {
        Producer::resume(Ring(Arc::clone(&self.requests))).unwrap()
    }

    fn is_over(&self) -> bool {
        self.served.load(Ordering::SeqCst) == self.all
    }

    fn has_pending(&self) -> bool {
        self.requests.has_unread()
    }

    /// The gateway: who waits is woken, else the watcher.
    fn place(&self, ring: &mut Producer<Ring>, stream: u64) {
        ring.push(tag(stream), b"", b"").unwrap();
        let fenced = Fenced::now();
        if !(self.requests.bell().ring(fenced) && self.requests.kernel.wake(1) > 0) {
            self.call_watcher(fenced);
        }
    }

    fn call_watcher(&self, fenced: Fenced) {
        if self.watch.bell().ring(fenced) {
            self.watch.kernel.wake(1);
        }
    }

    /// Serves one request if there is one.
    fn serve_one(&self) -> bool {
        let mut ring = self.consumer.lock().unwrap();
        if ring.peek().unwrap().is_none() {
            return false;
        }
        ring.advance();
        drop(ring);
        if self.served.fetch_add(1, Ordering::SeqCst) + 1 == self.all {
            self.roles.disturb();
            self.watch.bell().ring_all(Fenced::now());
            self.watch.kernel.wake(u32::MAX);
        }
        true
    }

    /// A thread that serves one request, on which it blocks for ever; `known`: as requests are known to do.
    fn serve(&self, known: bool) {
        while !self.serve_one() {
            if let Some(turn) = self.roles.take_turn(known) {
                sleep_until_rung(&self.requests, || self.has_pending());
                drop(turn);
            } else {
                self.roles.park(|| true);
            }
        }
        if known {
            let _ = self.roles.summon();
        }
    }

    /// The watcher, to whom any request is one that lies for too long.
    fn watch(&self) {
        while !self.is_over() {
            self.roles.wait_for_callable(|| !self.is_over());
            sleep_until_rung(&self.watch, || self.has_pending() || self.is_over());
            while self.has_pending() && self.roles.can_call() {
                let _ = self.roles.summon();
                thread::yield_now();
            }
        }
    }
}

/// Starts `work` on a thread with these workers.
fn run(
    workers: &Arc<Workers>,
    work: impl FnOnce(&Workers) + Send + 'static,
) -> thread::JoinHandle<()> {
    let workers = Arc::clone(workers);
    thread::spawn(move || work(&workers))
}

/// A thread leaves a request to another one, which blocks: the watcher, which may be waiting for somebody
/// it could call, calls the thread back.
#[test]
fn thread_that_stepped_back_is_called() {
    check(3, || {
        let workers = Workers::new(1, 1);
        let mut producer = workers.producer();
        producer.push(tag(1), b"", b"").unwrap();
        let watcher = run(&workers, Workers::watch);
        workers.call_watcher(Fenced::now());
        workers.roles.park(|| true);
        assert!(workers.serve_one());
        watcher.join().unwrap();
    });
}

/// One thread waits, the other parks. The first blocks on what it takes: the watcher calls the other.
#[test]
fn parked_thread_is_called_when_the_other_blocks() {
    check(2, || {
        let workers = Workers::new(2, 2);
        let mut producer = workers.producer();
        let threads = [
            run(&workers, |workers| workers.serve(false)),
            run(&workers, |workers| workers.serve(false)),
            run(&workers, Workers::watch),
        ];
        workers.place(&mut producer, 1);
        workers.place(&mut producer, 2);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Where requests block all threads wait, and each request wakes one: no watcher is needed.
#[test]
fn threads_that_all_wait_need_no_watcher() {
    check(2, || {
        let workers = Workers::new(2, 2);
        let mut producer = workers.producer();
        let threads = [
            run(&workers, |workers| workers.serve(true)),
            run(&workers, |workers| workers.serve(true)),
        ];
        workers.place(&mut producer, 1);
        workers.place(&mut producer, 2);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Requests turn out to block: one thread still goes by the old rule, the other by the new one.
#[test]
fn the_rule_may_change_meanwhile() {
    check(2, || {
        let workers = Workers::new(2, 2);
        let mut producer = workers.producer();
        let threads = [
            run(&workers, |workers| workers.serve(false)),
            run(&workers, |workers| workers.serve(true)),
            run(&workers, Workers::watch),
        ];
        workers.place(&mut producer, 1);
        workers.place(&mut producer, 2);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
