//! What dispatch costs per request in steady state: nanoseconds for submit + place + complete, together
//! with the driver's share of polls and deadline look-ups. Wants nothing but `cargo bench`.
//!
//! * *one at a time*: a request arrives at idle workers, is placed, and completes; the driver polls and
//!   asks for its deadline after each event, as with one client.
//! * *batches*: 64 clients in a closed loop; each round of the driver reads a batch of completions, submits
//!   as many requests, polls until nothing is left and asks for the deadline once.
//! * *spread*: 128 clients over workers of 16 threads each, one completion at a time, out of order.

#![expect(clippy::print_stdout, reason = "a benchmark reports by printing")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use oxicorn_dispatch::{Action, Dispatcher, Generation, Policy, RequestId, WorkerId};

const REQUESTS: u64 = 2_000_000;
const SERVICE: Duration = Duration::from_micros(10);

struct Driver {
    dispatcher: Dispatcher,
    /// Placed at each worker, oldest first.
    rings: Vec<VecDeque<RequestId>>,
    now: Duration,
    next_id: u64,
    placed: u64,
}

impl Driver {
    fn new(workers: u32, capacity: u32) -> Self {
        let mut dispatcher = Dispatcher::new(Policy::default());
        dispatcher.serve_generation(Generation(1), Duration::ZERO);
        for worker in 0..workers {
            dispatcher.add_worker(WorkerId(worker), Generation(1), capacity);
            dispatcher.worker_ready(WorkerId(worker), Duration::ZERO);
        }
        let rings = (0..workers).map(|_| VecDeque::with_capacity(256)).collect();
        Self {
            dispatcher,
            rings,
            now: Duration::ZERO,
            next_id: 0,
            placed: 0,
        }
    }

    fn submit(&mut self) {
        self.next_id += 1;
        // As the gateway's stream ids: a slab key below, a generation above.
        let id = (self.next_id % 64) | (self.next_id / 64) << 24;
        self.dispatcher.submit(RequestId(id), self.now);
    }

    fn settle(&mut self) {
        while let Some(action) = self.dispatcher.poll_action() {
            match action {
                Action::Place { request, worker } => {
                    self.rings[worker.0 as usize].push_back(request);
                    self.placed += 1;
                }
                Action::Revoke { request, worker } => self.revoke(request, worker),
                Action::Reject { .. } | Action::Drained(_) => {}
            }
        }
        black_box(self.dispatcher.next_deadline());
    }

    fn revoke(&mut self, request: RequestId, worker: WorkerId) {
        self.rings[worker.0 as usize].retain(|held| *held != request);
        self.dispatcher.handle_revoked(request, self.now);
    }

    /// Up to `most` requests of this worker.
    fn complete(&mut self, worker: usize, most: usize, newest: bool) -> usize {
        let ring = &mut self.rings[worker];
        let count = most.min(ring.len());
        for _ in 0..count {
            let done = if newest {
                ring.pop_back()
            } else {
                ring.pop_front()
            };
            self.dispatcher
                .handle_completed(done.expect("counted"), self.now);
        }
        count
    }
}

fn one_at_a_time(workers: u32) -> Driver {
    let mut driver = Driver::new(workers, 1);
    while driver.placed < REQUESTS {
        driver.submit();
        driver.settle();
        driver.now += SERVICE;
        (0..driver.rings.len()).for_each(|worker| {
            driver.complete(worker, 1, false);
        });
        driver.settle();
    }
    driver
}

fn batches(workers: u32) -> Driver {
    let mut driver = Driver::new(workers, 1);
    (0..64).for_each(|_| driver.submit());
    driver.settle();
    let mut round = 0;
    while driver.placed < REQUESTS {
        let worker = round % driver.rings.len();
        round += 1;
        driver.now += SERVICE * 8 / workers;
        for _ in 0..driver.complete(worker, 8, false) {
            driver.submit();
        }
        driver.settle();
    }
    driver
}

fn spread(workers: u32) -> Driver {
    let mut driver = Driver::new(workers, 16);
    (0..128).for_each(|_| driver.submit());
    driver.settle();
    let mut round = 0;
    while driver.placed < REQUESTS {
        let worker = round % driver.rings.len();
        round += 1;
        driver.now += SERVICE;
        for _ in 0..driver.complete(worker, 1, round % 3 == 0) {
            driver.submit();
        }
        driver.settle();
    }
    driver
}

fn measure(name: &str, workers: u32, run: fn(u32) -> Driver) {
    let best = (0..5)
        .map(|_| {
            let begin = Instant::now();
            let driver = run(workers);
            begin.elapsed().as_nanos() / u128::from(driver.placed)
        })
        .min();
    println!(
        "{name:>14} {workers:>3} workers {:>5} ns/request",
        best.unwrap_or(0)
    );
}

fn main() {
    for workers in [1, 2, 4, 8, 64] {
        measure("one at a time", workers, one_at_a_time);
        measure("batches", workers, batches);
        measure("spread", workers, spread);
    }
}
