//! A simulated gateway, its workers and their rings around a real dispatcher, on a simulated clock; and the
//! checks that hold whatever happens.
//!
//! The workers are as real ones: they claim from their ring in order, some microseconds after a wake-up,
//! as long as they work on fewer requests than their capacity; they may hang, die and boot. The driver is
//! as the gateway: it hears of everything late and in batches (a *round*), and answers each action at once.
//! The dispatcher sees only what the driver tells it; the checks see the truth.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use oxicorn_dispatch::{
    Action, Cancelled, Dispatcher, Generation, Policy, RejectReason, RequestId, WorkerId,
};

pub(crate) type Nanos = u64;
pub(crate) const US: Nanos = 1_000;
pub(crate) const MS: Nanos = 1_000_000;

/// What the driver adds to every reaction: a round is begun at most so long after its cause.
const ROUND_DELAY: Range<Nanos> = 2 * US..20 * US;
/// From the wake-up of a worker to its claim.
const CLAIM_DELAY: Range<Nanos> = 3 * US..50 * US;
/// How long the dispatcher may prefer others to a worker that hung.
const CONVALESCENCE: Nanos = 10 * MS;
/// See `RING_RETRY` in the dispatcher.
const RING_RETRY: Nanos = MS;

/// `SplitMix64`: small, seeded, the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub(crate) fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % of.len() as u64).expect("fits")]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    Rejected,
    Lost,
    Cancelled,
}

/// The truth about one request.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) submitted: Nanos,
    pub(crate) service: Nanos,
    pub(crate) claimed: Option<Nanos>,
    pub(crate) end: Option<End>,
    placed: Nanos,
    was_placed: bool,
    cancelled: bool,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the driver's knowledge and the truth, side by side"
)]
struct SimWorker {
    generation: u32,
    capacity: usize,
    /// Unclaimed requests, in memory that outlives the worker.
    ring: VecDeque<u64>,
    running: BTreeSet<u64>,
    alive: bool,
    hung_until: Nanos,
    /// What the driver knows: placed there and not ended.
    held: BTreeSet<u64>,
    ready: bool,
    retired: bool,
    drained: bool,
    blocked_until: Nanos,
    /// Since when it has room and is well.
    free_since: Option<Nanos>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Claim(u32),
    Finish(u32, u64),
    Ready(u32),
    Serve(u32),
    Died(u32),
    Round,
    Wake,
}

/// What the driver hears of in its next round.
#[derive(Clone, Copy, Debug)]
enum Mail {
    Submitted(u64),
    Claimed(u64),
    Completed(u32, u64),
    Left(u64),
    Ready(u32),
    Serve(u32),
    Died(u32),
}

pub(crate) struct World {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) random: Random,
    pub(crate) now: Nanos,
    pub(crate) records: BTreeMap<u64, Record>,
    /// How long a new request takes once it is claimed.
    pub(crate) service: fn(&mut Random) -> Nanos,
    /// Whether the driver looks at claim words.
    pub(crate) tells_claims: bool,
    /// Requests that fit into a ring.
    pub(crate) ring_size: usize,
    /// A request that ends makes its client send the next one.
    pub(crate) closed_loop: bool,
    pub(crate) revocations: u64,
    policy: Policy,
    workers: BTreeMap<u32, SimWorker>,
    serving: u32,
    next_worker: u32,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    scheduled: u64,
    mail: Vec<Mail>,
    round_scheduled: bool,
    armed: Option<Nanos>,
    queued: BTreeSet<u64>,
    next_request: u64,
}

impl World {
    pub(crate) fn new(seed: u64, policy: Policy) -> Self {
        Self {
            dispatcher: Dispatcher::new(policy),
            random: Random::new(seed),
            now: 0,
            records: BTreeMap::new(),
            service: |_| 10 * US,
            tells_claims: false,
            ring_size: 1000,
            closed_loop: false,
            revocations: 0,
            policy,
            workers: BTreeMap::new(),
            serving: 0,
            next_worker: 1,
            events: BinaryHeap::new(),
            scheduled: 0,
            mail: Vec::new(),
            round_scheduled: false,
            armed: None,
            queued: BTreeSet::new(),
            next_request: 1,
        }
    }

    // Orders and disasters.

    /// Boots a generation, lets it serve once all of it is ready, and retires everything older.
    pub(crate) fn reload(&mut self, workers: u32, capacity: usize) {
        let generation = self.serving + 1;
        for _ in 0..workers {
            self.boot(generation, capacity);
        }
        self.schedule(3 * MS, Event::Serve(generation));
    }

    /// Another worker of the generation being served.
    pub(crate) fn boot_another(&mut self, capacity: usize) {
        self.boot(self.serving.max(1), capacity);
    }

    fn boot(&mut self, generation: u32, capacity: usize) {
        let id = self.next_worker;
        self.next_worker += 1;
        self.workers.insert(
            id,
            SimWorker {
                generation,
                capacity,
                ring: VecDeque::new(),
                running: BTreeSet::new(),
                alive: true,
                hung_until: 0,
                held: BTreeSet::new(),
                ready: false,
                retired: false,
                drained: false,
                blocked_until: 0,
                free_since: None,
            },
        );
        let capacity = u32::try_from(capacity).expect("small");
        self.dispatcher
            .add_worker(WorkerId(id), Generation(generation), capacity);
        let boot_time = self.random.within(100 * US..2 * MS);
        self.schedule(boot_time, Event::Ready(id));
    }

    pub(crate) fn alive(&self) -> Vec<u32> {
        let alive = self.workers.iter().filter(|(_, worker)| worker.alive);
        alive.map(|(id, _)| *id).collect()
    }

    pub(crate) fn hang(&mut self, worker: u32, duration: Nanos) {
        let until = self.now + duration;
        self.workers.get_mut(&worker).expect("alive").hung_until = until;
    }

    pub(crate) fn kill(&mut self, worker: u32) {
        self.workers.get_mut(&worker).expect("alive").alive = false;
        let notice = self.random.within(10 * US..500 * US);
        self.schedule(notice, Event::Died(worker));
    }

    pub(crate) fn retire(&mut self, worker: u32) {
        let worker_state = self.workers.get_mut(&worker).expect("alive");
        worker_state.retired = true;
        self.dispatcher
            .retire_worker(WorkerId(worker), Duration::from_nanos(self.now));
        self.want_round();
    }

    /// The client of some live request goes away.
    pub(crate) fn leave_one(&mut self) {
        let live: Vec<u64> = self.live().collect();
        if !live.is_empty() {
            let left = self.random.choose(&live);
            self.post(Mail::Left(left));
        }
    }

    fn live(&self) -> impl Iterator<Item = u64> {
        // Only the latest can be live; looking at all would make long runs quadratic.
        let recent = self.next_request.saturating_sub(2000);
        let recent = self.records.range(recent..);
        recent
            .filter(|(_, record)| record.end.is_none())
            .map(|(id, _)| *id)
    }

    pub(crate) fn arrive_in(&mut self, delay: Nanos) {
        self.schedule(delay, Event::Arrive);
    }

    pub(crate) fn arrive(&mut self, service: Nanos) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let record = Record {
            submitted: self.now,
            service,
            claimed: None,
            end: None,
            placed: 0,
            was_placed: false,
            cancelled: false,
        };
        self.records.insert(id, record);
        self.post(Mail::Submitted(id));
        id
    }

    // The clock.

    fn schedule(&mut self, delay: Nanos, event: Event) {
        self.scheduled += 1;
        self.events
            .push(Reverse((self.now + delay, self.scheduled, event)));
    }

    pub(crate) fn run_until(&mut self, end: Nanos) {
        while self
            .events
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= end)
        {
            let Reverse((at, _, event)) = self.events.pop().expect("peeked");
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => {
                let service = (self.service)(&mut self.random);
                self.arrive(service);
            }
            Event::Claim(worker) => self.claim(worker),
            Event::Finish(worker, request) => self.finish(worker, request),
            Event::Ready(worker) if self.workers.contains_key(&worker) => {
                self.post(Mail::Ready(worker));
            }
            Event::Ready(_) => {}
            Event::Serve(generation) => self.post(Mail::Serve(generation)),
            Event::Died(worker) => self.post(Mail::Died(worker)),
            Event::Round => self.round(),
            Event::Wake => {
                self.armed = None;
                self.round();
            }
        }
    }

    // The workers.

    /// Runs an event of a worker later if the worker hangs; tells whether it may go on now.
    fn awake(&mut self, worker: u32, event: Event) -> bool {
        let Some(state) = self.workers.get(&worker).filter(|state| state.alive) else {
            return false;
        };
        if state.hung_until > self.now {
            let delay = state.hung_until - self.now;
            self.schedule(delay, event);
            return false;
        }
        true
    }

    fn claim(&mut self, worker: u32) {
        if !self.awake(worker, Event::Claim(worker)) {
            return;
        }
        let state = self.workers.get_mut(&worker).expect("awake");
        if state.running.len() >= state.capacity {
            return;
        }
        let Some(request) = state.ring.pop_front() else {
            return;
        };
        state.running.insert(request);
        let record = self.records.get_mut(&request).expect("placed");
        assert_eq!(record.claimed, None, "request {request} is served twice");
        assert_eq!(
            record.end, None,
            "request {request} is served after its end"
        );
        record.claimed = Some(self.now);
        let service = record.service;
        self.schedule(service, Event::Finish(worker, request));
        self.schedule(US, Event::Claim(worker));
        if self.tells_claims {
            self.post(Mail::Claimed(request));
        }
    }

    fn finish(&mut self, worker: u32, request: u64) {
        if self.awake(worker, Event::Finish(worker, request)) {
            let state = self.workers.get_mut(&worker).expect("awake");
            assert!(state.running.remove(&request), "finishes what runs");
            self.post(Mail::Completed(worker, request));
            self.schedule(0, Event::Claim(worker));
        }
    }

    // The driver.

    fn post(&mut self, mail: Mail) {
        self.mail.push(mail);
        self.want_round();
    }

    fn want_round(&mut self) {
        if !self.round_scheduled {
            self.round_scheduled = true;
            let delay = self.random.within(ROUND_DELAY);
            self.schedule(delay, Event::Round);
        }
    }

    fn round(&mut self) {
        self.round_scheduled = false;
        self.dispatcher.handle_timeout(self.clock());
        for mail in std::mem::take(&mut self.mail) {
            self.read(mail);
        }
        while let Some(action) = self.dispatcher.poll_action() {
            self.perform(action);
        }
        self.check();
        self.arm();
    }

    fn clock(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    fn read(&mut self, mail: Mail) {
        let now = self.clock();
        match mail {
            Mail::Submitted(id) => {
                self.dispatcher.submit(RequestId(id), now);
                self.queued.insert(id);
            }
            Mail::Claimed(id) => self.dispatcher.handle_claimed(RequestId(id), now),
            Mail::Completed(worker, id) => {
                self.dispatcher.handle_completed(RequestId(id), now);
                let state = self
                    .workers
                    .get_mut(&worker)
                    .expect("its death is told later");
                state.held.remove(&id);
                state.blocked_until = 0;
                self.end(id, End::Completed);
            }
            Mail::Left(id) => self.left(id),
            Mail::Ready(worker) => {
                if let Some(state) = self.workers.get_mut(&worker) {
                    state.ready = !state.retired;
                    self.dispatcher.worker_ready(WorkerId(worker), now);
                }
            }
            Mail::Serve(generation) => self.serve(generation),
            Mail::Died(worker) => self.died(worker),
        }
    }

    fn left(&mut self, id: u64) {
        let before = self.records[&id].end;
        let cancelled = self.dispatcher.cancel(RequestId(id), self.clock());
        if before.is_some() {
            assert_eq!(cancelled, Cancelled::Forgotten);
            return;
        }
        if let Cancelled::Placed(WorkerId(worker)) = cancelled {
            assert!(self.workers[&worker].held.contains(&id));
            self.records.get_mut(&id).expect("known").cancelled = true;
            self.take_back(id, worker);
        } else {
            assert!(self.queued.remove(&id), "neither placed nor queued");
            self.end(id, End::Cancelled);
        }
    }

    fn serve(&mut self, generation: u32) {
        self.serving = self.serving.max(generation);
        self.dispatcher
            .serve_generation(Generation(self.serving), self.clock());
        let old = self
            .workers
            .iter()
            .filter(|(_, state)| state.generation < self.serving);
        let old: Vec<u32> = old.map(|(id, _)| *id).collect();
        for worker in old {
            self.retire(worker);
        }
    }

    fn died(&mut self, worker: u32) {
        let orphans = self
            .dispatcher
            .remove_worker(WorkerId(worker), self.clock());
        let Some(mut state) = self.workers.remove(&worker) else {
            assert!(orphans.is_empty());
            return;
        };
        assert_eq!(orphans.len(), state.held.len());
        for RequestId(id) in orphans {
            assert!(state.held.remove(&id));
            if state.ring.contains(&id) {
                self.dispatcher.handle_revoked(RequestId(id), self.clock());
                self.came_back(id);
            } else {
                self.dispatcher.handle_lost(RequestId(id));
                self.end(id, End::Lost);
            }
        }
    }

    fn came_back(&mut self, id: u64) {
        if self.records[&id].cancelled {
            self.end(id, End::Cancelled);
        } else {
            assert!(self.queued.insert(id));
        }
    }

    fn end(&mut self, id: u64, end: End) {
        let record = self.records.get_mut(&id).expect("known");
        assert_eq!(record.end, None, "request {id} ends twice");
        record.end = Some(end);
        if self.closed_loop {
            self.schedule(5 * US, Event::Arrive);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Place { request, worker } => self.place(request.0, worker.0),
            Action::Revoke { request, worker } => self.revoke(request.0, worker.0),
            Action::Reject {
                request,
                reason,
                retry_after,
            } => {
                self.reject(request.0, reason, retry_after);
            }
            Action::Drained(WorkerId(worker)) => {
                let state = self.workers.get_mut(&worker).expect("known");
                assert!(
                    state.retired && state.held.is_empty(),
                    "drained while it has work"
                );
                assert!(!state.drained, "drained twice");
                state.drained = true;
                state.alive = false;
                self.schedule(MS, Event::Died(worker));
            }
        }
    }

    fn place(&mut self, id: u64, worker: u32) {
        assert_eq!(self.queued.pop_first(), Some(id), "not in order of arrival");
        let state = self
            .workers
            .get_mut(&worker)
            .expect("placed at a removed worker");
        assert!(state.ready && !state.retired && state.generation == self.serving);
        assert!(state.held.len() < state.capacity + self.policy.prefetch_limit as usize);
        let record = self.records.get_mut(&id).expect("queued");
        record.was_placed = true;
        if state.ring.len() >= self.ring_size {
            state.blocked_until = self.now + RING_RETRY;
            self.queued.insert(id);
            let now = Duration::from_nanos(self.now);
            self.dispatcher.handle_placement_refused(RequestId(id), now);
            return;
        }
        state.held.insert(id);
        state.ring.push_back(id);
        record.placed = self.now;
        let delay = self.random.within(CLAIM_DELAY);
        self.schedule(delay, Event::Claim(worker));
    }

    fn revoke(&mut self, id: u64, worker: u32) {
        self.revocations += 1;
        self.take_back(id, worker);
    }

    fn take_back(&mut self, id: u64, worker: u32) {
        let now = self.clock();
        let state = self
            .workers
            .get_mut(&worker)
            .expect("revoked from a removed worker");
        assert!(state.held.contains(&id));
        if let Some(at) = state.ring.iter().position(|held| *held == id) {
            state.ring.remove(at);
            state.held.remove(&id);
            self.dispatcher.handle_revoked(RequestId(id), now);
            self.came_back(id);
        } else {
            self.dispatcher.handle_revoke_refused(RequestId(id), now);
        }
    }

    fn reject(&mut self, id: u64, reason: RejectReason, retry_after: Duration) {
        let waiting = self.queued.len();
        assert!(self.queued.remove(&id));
        assert!((1..=60).contains(&retry_after.as_secs()));
        let record = &self.records[&id];
        match reason {
            RejectReason::QueueFull => {
                assert!(waiting > self.policy.queue_limit);
                assert!(!record.was_placed, "it had been admitted");
                assert!(self.queued.range(id..).next().is_none(), "not the newest");
            }
            RejectReason::WaitedTooLong => {
                assert!(
                    Duration::from_nanos(self.now - record.submitted) >= self.policy.queue_timeout
                );
            }
        }
        self.end(id, End::Rejected);
    }

    fn arm(&mut self) {
        let Some(deadline) = self.dispatcher.next_deadline() else {
            return;
        };
        let deadline = u64::try_from(deadline.as_nanos()).expect("small");
        assert!(deadline > self.now, "the timer would spin");
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            self.schedule(deadline - self.now, Event::Wake);
        }
    }

    // The checks after each round.

    fn check(&mut self) {
        self.check_books();
        self.check_queue_bound();
        self.note_room();
        self.check_nobody_waits_beside_room();
        self.check_nobody_lies_badly();
    }

    fn check_books(&self) {
        assert_eq!(self.dispatcher.queued(), self.queued.len());
        let held: usize = self.workers.values().map(|state| state.held.len()).sum();
        assert_eq!(self.dispatcher.total_in_flight(), held);
        for (id, state) in &self.workers {
            assert_eq!(
                self.dispatcher.in_flight(WorkerId(*id)) as usize,
                state.held.len()
            );
        }
    }

    fn check_queue_bound(&self) {
        if self.queued.len() > self.policy.queue_limit {
            let admitted = self.queued.iter().all(|id| self.records[id].was_placed);
            assert!(admitted, "{} are queued", self.queued.len());
        }
        // The dispatcher counts from when it was told.
        let late = Duration::from_nanos(ROUND_DELAY.end);
        let oldest = self
            .queued
            .first()
            .map(|id| Duration::from_nanos(self.now - self.records[id].submitted));
        assert!(oldest.is_none_or(|waited| waited < self.policy.queue_timeout + late));
    }

    fn note_room(&mut self) {
        let (now, serving) = (self.now, self.serving);
        for state in self.workers.values_mut() {
            let room = state.ready
                && !state.retired
                && state.generation == serving
                && state.held.len() < state.capacity
                && state.blocked_until <= now;
            state.free_since = room.then(|| state.free_since.unwrap_or(now));
        }
    }

    fn check_nobody_waits_beside_room(&self) {
        let mut states = self.workers.iter();
        let free = states.find(|(_, state)| state.free_since.is_some());
        if let (Some(waiting), Some((worker, _))) = (self.queued.first(), free) {
            panic!("request {waiting} waits while worker {worker} is free");
        }
    }

    /// The promise: an unclaimed request is not left where it is while another worker is free, beyond
    /// `stall_after` (twice, where it moved up from ahead in between) and the driver's own delay.
    fn check_nobody_lies_badly(&self) {
        let stall = u64::try_from(self.policy.stall_after.as_nanos()).expect("small");
        let patience = 2 * stall + 2 * ROUND_DELAY.end;
        for (id, state) in &self.workers {
            let Some(free_since) = self.free_since_elsewhere(*id) else {
                continue;
            };
            for request in &state.ring {
                let placed = self.records[request].placed;
                let badly_since = placed.max(free_since);
                assert!(
                    self.now - badly_since <= patience,
                    "request {request} lies at worker {id} since {placed}, another is free since {free_since}",
                );
            }
        }
    }

    fn free_since_elsewhere(&self, worker: u32) -> Option<Nanos> {
        let others = self.workers.iter().filter(|(id, state)| {
            **id != worker && state.alive && state.hung_until + CONVALESCENCE < self.now
        });
        others.filter_map(|(_, state)| state.free_since).min()
    }

    /// After the last arrival and disaster: everything has ended.
    pub(crate) fn check_all_ended(&self) {
        let open: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| record.end.is_none())
            .collect();
        assert!(
            open.is_empty(),
            "{} never ended: {:?}",
            open.len(),
            open.first()
        );
        for (id, state) in &self.workers {
            assert!(
                !state.retired || state.drained || !state.alive,
                "worker {id} never drained"
            );
        }
    }
}
