//! Every sequence of events on a small server: two workers, a few requests, whatever may happen next.
//!
//! Unlike the simulation, the answer to a revocation may come late here, with anything in between, and
//! nothing is left to luck: the sequences are counted through. `OXICORN_DISPATCH_DEPTH=<n>` makes them
//! longer than those of every day.

#![expect(clippy::print_stderr, reason = "a failing sequence has to be told")]

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use oxicorn_dispatch::{
    Action, Cancelled, Dispatcher, Generation, Policy, RejectReason, RequestId, WorkerId,
};

const DEPTH: usize = 4;
const MOST_REQUESTS: u64 = 7;
const TICK: Duration = Duration::from_micros(1100);

/// Counts through all sequences of choices, like a number whose digits have different bases that are only
/// known while it is written.
#[derive(Default)]
struct Choices {
    /// What was chosen, and from how many.
    digits: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        if self.at == self.digits.len() {
            self.digits.push((0, of.len()));
        }
        let (digit, base) = self.digits[self.at];
        assert_eq!(base, of.len(), "the same choices lead to the same state");
        self.at += 1;
        of[digit]
    }

    /// Goes to the next sequence; `false` after the last one.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((digit, base)) = self.digits.pop() {
            if digit + 1 < base {
                self.digits.push((digit + 1, base));
                return true;
            }
        }
        false
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Submit,
    /// The worker takes the next request; the driver does not notice.
    Claim(usize),
    /// The driver looks at the claim word of what the worker took last.
    TellClaim(usize),
    Complete(usize),
    CancelOldest,
    CancelNewest,
    Kill(usize),
    Retire(usize),
    /// The driver performs the revocation that was ordered first.
    AnswerRevoke,
    /// The next placement finds the ring full.
    FillRing,
    ServeSecondGeneration,
    Tick,
}

#[derive(Default)]
struct Worker {
    generation: u32,
    capacity: usize,
    alive: bool,
    retired: bool,
    drained: bool,
    ring: VecDeque<u64>,
    running: VecDeque<u64>,
}

struct Model {
    dispatcher: Dispatcher,
    now: Duration,
    workers: [Worker; 3],
    serving: u32,
    submitted: u64,
    queued: BTreeSet<u64>,
    cancelled: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    /// Ordered revocations: request and position of the worker.
    revoking: VecDeque<(u64, usize)>,
    ring_is_full: bool,
    ring_was_full: bool,
}

impl Model {
    /// Two workers of the first generation and one of the second, `submitted` requests under way; `paced`
    /// if the workers are known to be fast.
    fn new(capacity: usize, paced: bool, submitted: u64) -> Self {
        let policy = Policy {
            queue_limit: 2,
            prefetch_limit: 2,
            ..Policy::default()
        };
        let mut model = Self {
            dispatcher: Dispatcher::new(policy),
            now: Duration::ZERO,
            workers: std::array::from_fn(|_| Worker::default()),
            serving: 1,
            submitted: 0,
            queued: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            ended: BTreeSet::new(),
            revoking: VecDeque::new(),
            ring_is_full: false,
            ring_was_full: false,
        };
        model.dispatcher.serve_generation(Generation(1), model.now);
        (0..3).for_each(|worker| model.boot(worker, capacity));
        if paced {
            model.learn_pace();
        }
        for _ in 0..submitted {
            model.happen(Event::Submit);
        }
        model
    }

    fn boot(&mut self, at: usize, capacity: usize) {
        let generation = if at < 2 { 1 } else { 2 };
        self.workers[at] = Worker {
            generation,
            capacity,
            alive: true,
            ..Worker::default()
        };
        let capacity = u32::try_from(capacity).expect("small");
        self.dispatcher
            .add_worker(id(at), Generation(generation), capacity);
        self.dispatcher.worker_ready(id(at), self.now);
    }

    fn learn_pace(&mut self) {
        for event in [Event::Submit, Event::Submit] {
            self.happen(event);
        }
        self.now += Duration::from_micros(10);
        for worker in 0..2 {
            self.happen(Event::Claim(worker));
            self.happen(Event::Complete(worker));
        }
    }

    fn enabled(&self) -> Vec<Event> {
        let mut events = vec![Event::Tick];
        let mut allow = |possible: bool, event| {
            if possible {
                events.push(event);
            }
        };
        allow(self.submitted < MOST_REQUESTS, Event::Submit);
        allow(!self.revoking.is_empty(), Event::AnswerRevoke);
        allow(!self.ring_is_full, Event::FillRing);
        allow(self.serving == 1, Event::ServeSecondGeneration);
        let live = self.live();
        allow(live.first().is_some(), Event::CancelOldest);
        allow(live.len() > 1, Event::CancelNewest);
        for (at, worker) in self.workers.iter().enumerate() {
            let room = worker.running.len() < worker.capacity;
            allow(
                worker.alive && room && !worker.ring.is_empty(),
                Event::Claim(at),
            );
            allow(
                worker.alive && !worker.running.is_empty(),
                Event::TellClaim(at),
            );
            allow(
                worker.alive && !worker.running.is_empty(),
                Event::Complete(at),
            );
            allow(worker.alive && at != 1, Event::Kill(at));
            allow(
                worker.alive && !worker.retired && at != 1,
                Event::Retire(at),
            );
        }
        events
    }

    fn live(&self) -> BTreeSet<u64> {
        let all = 1..=self.submitted;
        all.filter(|id| !self.ended.contains(id) && !self.cancelled.contains(id))
            .collect()
    }

    fn happen(&mut self, event: Event) {
        self.tell(event);
        self.settle();
        self.check();
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Submit => self.submit(),
            Event::Claim(at) => self.claim(at),
            Event::TellClaim(at) => {
                let last = *self.workers[at].running.back().expect("enabled");
                self.dispatcher.handle_claimed(RequestId(last), self.now);
            }
            Event::Complete(at) => {
                let done = self.workers[at].running.pop_front().expect("enabled");
                self.dispatcher.handle_completed(RequestId(done), self.now);
                self.ended.insert(done);
            }
            Event::CancelOldest => self.cancel(*self.live().first().expect("enabled")),
            Event::CancelNewest => self.cancel(*self.live().last().expect("enabled")),
            Event::Kill(at) => self.kill(at),
            Event::Retire(at) => {
                self.workers[at].retired = true;
                self.dispatcher.retire_worker(id(at), self.now);
            }
            Event::AnswerRevoke => self.answer(),
            Event::FillRing => self.ring_is_full = true,
            Event::ServeSecondGeneration => {
                self.serving = 2;
                self.dispatcher.serve_generation(Generation(2), self.now);
            }
            Event::Tick => {
                self.now += TICK;
                self.ring_was_full = false;
                self.dispatcher.handle_timeout(self.now);
            }
        }
    }

    fn submit(&mut self) {
        self.submitted += 1;
        self.queued.insert(self.submitted);
        self.dispatcher.submit(RequestId(self.submitted), self.now);
    }

    fn claim(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let taken = worker.ring.pop_front().expect("enabled");
        assert!(
            !self.ended.contains(&taken),
            "{taken} is served after its end"
        );
        worker.running.push_back(taken);
    }

    fn cancel(&mut self, request: u64) {
        match self.dispatcher.cancel(RequestId(request), self.now) {
            Cancelled::Forgotten => {
                assert!(self.queued.remove(&request));
                self.ended.insert(request);
            }
            Cancelled::Placed(worker) => {
                assert!(self.held(worker.0 as usize).contains(&request));
                self.cancelled.insert(request);
                self.take_back(request, worker.0 as usize);
            }
        }
    }

    fn kill(&mut self, at: usize) {
        let orphans = self.dispatcher.remove_worker(id(at), self.now);
        let orphans: BTreeSet<u64> = orphans.into_iter().map(|request| request.0).collect();
        assert_eq!(orphans, self.held(at));
        let worker = std::mem::take(&mut self.workers[at]);
        // What follows for each orphan is the answer to these as well.
        self.revoking.retain(|(_, holder)| *holder != at);
        for request in worker.ring {
            self.dispatcher.handle_revoked(RequestId(request), self.now);
            self.came_back(request);
        }
        for request in worker.running {
            self.dispatcher.handle_lost(RequestId(request));
            self.ended.insert(request);
        }
    }

    fn came_back(&mut self, request: u64) {
        if self.cancelled.contains(&request) {
            self.ended.insert(request);
        } else {
            assert!(self.queued.insert(request), "{request} is in two places");
        }
    }

    fn answer(&mut self) {
        let (request, at) = self.revoking.pop_front().expect("enabled");
        self.take_back(request, at);
    }

    fn take_back(&mut self, request: u64, at: usize) {
        // A revocation that was ordered before is answered by this.
        self.revoking.retain(|(ordered, _)| *ordered != request);
        let ring = &mut self.workers[at].ring;
        if let Some(position) = ring.iter().position(|held| *held == request) {
            ring.remove(position);
            self.dispatcher.handle_revoked(RequestId(request), self.now);
            self.came_back(request);
        } else {
            self.dispatcher
                .handle_revoke_refused(RequestId(request), self.now);
        }
    }

    fn held(&self, at: usize) -> BTreeSet<u64> {
        let worker = &self.workers[at];
        worker.ring.iter().chain(&worker.running).copied().collect()
    }

    fn settle(&mut self) {
        while let Some(action) = self.dispatcher.poll_action() {
            match action {
                Action::Place { request, worker } => self.place(request.0, worker.0 as usize),
                Action::Revoke { request, worker } => {
                    let at = worker.0 as usize;
                    assert!(self.held(at).contains(&request.0));
                    self.revoking.push_back((request.0, at));
                }
                Action::Reject {
                    request, reason, ..
                } => {
                    assert_eq!(reason, RejectReason::QueueFull);
                    assert_eq!(self.queued.pop_last(), Some(request.0), "not the newest");
                    self.ended.insert(request.0);
                }
                Action::Drained(worker) => {
                    let at = worker.0 as usize;
                    assert!(self.workers[at].retired && self.held(at).is_empty());
                    assert!(!std::mem::replace(&mut self.workers[at].drained, true));
                }
            }
        }
    }

    fn place(&mut self, request: u64, at: usize) {
        assert!(
            self.open_revocations() == 0,
            "the answer decides who is first"
        );
        assert_eq!(
            self.queued.first(),
            Some(&request),
            "not in order of arrival"
        );
        let held = self.held(at).len();
        let worker = &mut self.workers[at];
        assert!(worker.alive && !worker.retired && worker.generation == self.serving);
        assert!(held < worker.capacity + 2);
        if std::mem::take(&mut self.ring_is_full) {
            self.ring_was_full = true;
            self.dispatcher
                .handle_placement_refused(RequestId(request), self.now);
        } else {
            worker.ring.push_back(request);
            self.queued.remove(&request);
        }
    }

    /// Those that the dispatcher waits for: not those that a completion or a death has answered.
    fn open_revocations(&self) -> usize {
        let open = |(request, at): &&(u64, usize)| self.held(*at).contains(request);
        self.revoking.iter().filter(open).count()
    }

    fn check(&self) {
        assert_eq!(self.dispatcher.queued(), self.queued.len());
        for at in 0..self.workers.len() {
            assert_eq!(
                self.dispatcher.in_flight(id(at)) as usize,
                self.held(at).len()
            );
            let worker = &self.workers[at];
            let idle = worker.retired && self.held(at).is_empty();
            assert_eq!(worker.drained, idle, "worker {at}");
        }
        assert!(
            self.dispatcher
                .next_deadline()
                .is_none_or(|at| at > self.now),
            "would spin"
        );
        if !self.queued.is_empty() && self.open_revocations() == 0 && !self.ring_was_full {
            assert!(
                !(0..3).any(|at| self.has_room(at)),
                "waits beside a free worker"
            );
        }
    }

    fn has_room(&self, at: usize) -> bool {
        let worker = &self.workers[at];
        worker.alive
            && !worker.retired
            && worker.generation == self.serving
            && self.held(at).len() < worker.capacity
    }

    /// Lets everything come to its end.
    fn finish(&mut self) {
        self.ring_is_full = false;
        for _ in 0..100 {
            let wanted = self.enabled().into_iter().find(|event| {
                matches!(
                    event,
                    Event::AnswerRevoke | Event::Claim(_) | Event::Complete(_)
                )
            });
            match wanted {
                Some(event) => self.happen(event),
                None if self.ended.len() as u64 == self.submitted => return,
                None => self.rescue(),
            }
        }
        panic!("{:?} never end", self.live());
    }

    /// Time for a full ring, and a worker if there is none left.
    fn rescue(&mut self) {
        self.happen(Event::Tick);
        if !(0..3).any(|at| self.has_room(at)) && !self.workers[2].alive {
            self.boot(2, 1);
        }
        if self.serving == 1 {
            self.happen(Event::ServeSecondGeneration);
        } else if self.workers[2].retired {
            self.happen(Event::Kill(2));
        }
    }
}

fn id(at: usize) -> WorkerId {
    WorkerId(u32::try_from(at).expect("small"))
}

fn depth() -> usize {
    let given = std::env::var("OXICORN_DISPATCH_DEPTH").ok();
    given.map_or(DEPTH, |depth| depth.parse().expect("a number"))
}

fn count_through(capacity: usize, paced: bool, submitted: u64) {
    let mut choices = Choices::default();
    loop {
        let mut model = Model::new(capacity, paced, submitted);
        let mut story = Vec::with_capacity(depth());
        let tell = std::panic::AssertUnwindSafe(|| {
            for _ in 0..depth() {
                let event = choices.choose(&model.enabled());
                story.push(event);
                model.happen(event);
            }
            model.finish();
        });
        if let Err(fault) = std::panic::catch_unwind(tell) {
            eprintln!("capacity {capacity}, paced {paced}, {submitted} submitted, then {story:?}");
            std::panic::resume_unwind(fault);
        }
        if !choices.advance() {
            return;
        }
    }
}

#[test]
fn every_sequence_from_idle_holds() {
    count_through(1, false, 0);
}

#[test]
fn every_sequence_from_workers_at_capacity_holds() {
    count_through(1, false, 3);
}

#[test]
fn every_sequence_from_requests_placed_ahead_holds() {
    count_through(1, true, 4);
}

#[test]
fn every_sequence_with_two_threads_each_holds() {
    count_through(2, true, 3);
}
