//! Seeded runs of a whole server's life: load of every kind, hangs, deaths, reloads, departing clients, full
//! rings. The checks are in `world`.
//!
//! A failing run prints its seed; `OXICORN_DISPATCH_SEED=<seed>` replays it alone, and
//! `OXICORN_DISPATCH_RUNS=<n>` makes more runs than the few hundred of every day.

#![expect(clippy::print_stderr, reason = "a failing run has to say its seed")]

mod world;

use std::time::Duration;

use oxicorn_dispatch::Policy;
use world::{MS, Nanos, Random, US, World};

const RUNS: u64 = 200;
const REQUESTS: u64 = 1000;

/// Says the seed when the run it watches panics.
struct SeedSayer(u64);

impl Drop for SeedSayer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with OXICORN_DISPATCH_SEED={}", self.0);
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

#[test]
fn keeps_its_promises_whatever_happens() {
    if let Some(seed) = from_environment("OXICORN_DISPATCH_SEED") {
        run(seed);
        return;
    }
    let runs = from_environment("OXICORN_DISPATCH_RUNS").unwrap_or(RUNS);
    (1..=runs).for_each(run);
}

fn run(seed: u64) {
    let _sayer = SeedSayer(seed);
    let mut random = Random::new(seed);
    let capacity = random.choose(&[1, 1, 2, 16]);
    let workers = random.within(1..5);
    let mut world = World::new(random.next(), policy(&mut random));
    world.tells_claims = random.one_in(2);
    world.ring_size = random.choose(&[3, 20, 1000]);
    world.service =
        random.choose::<fn(&mut Random) -> Nanos>(&[hello, mixed, python, sleeping, wild]);
    world.reload(u32::try_from(workers).expect("small"), capacity);
    let disasters = random.choose(&[0, 0, 10, 100]);
    let gap = random.choose(&[3 * US, 30 * US, 300 * US]);
    live_through(&mut world, &mut random, capacity, disasters, gap);
    settle(&mut world, capacity);
}

fn policy(random: &mut Random) -> Policy {
    Policy {
        queue_limit: usize::try_from(random.choose(&[0, 5, 2048])).expect("small"),
        queue_timeout: Duration::from_millis(random.choose(&[2, 50, 30_000])),
        prefetch_limit: u32::try_from(random.choose(&[0, 2, 16, 64])).expect("small"),
        prefetch_budget: Duration::from_micros(random.choose(&[100, 500, 5000])),
        stall_after: Duration::from_micros(random.choose(&[300, 1000, 1000, 5000])),
    }
}

fn hello(random: &mut Random) -> Nanos {
    random.within(8 * US..15 * US)
}

fn mixed(random: &mut Random) -> Nanos {
    if random.one_in(100) {
        10 * MS
    } else {
        hello(random)
    }
}

fn python(random: &mut Random) -> Nanos {
    random.within(60 * US..200 * US)
}

fn sleeping(random: &mut Random) -> Nanos {
    random.within(2 * MS..10 * MS)
}

fn wild(random: &mut Random) -> Nanos {
    let scale = random.choose(&[US, 10 * US, 100 * US, MS, 10 * MS]);
    random.within(1..10) * scale
}

/// Arrivals with random gaps and, on average, `disasters` per thousand of them.
fn live_through(
    world: &mut World,
    random: &mut Random,
    capacity: usize,
    disasters: u64,
    gap: Nanos,
) {
    for _ in 0..REQUESTS {
        world.arrive_in(0);
        if random.within(0..1000) < disasters {
            strike(world, random, capacity);
        }
        // Bursts: several at one time, then a pause.
        if !random.one_in(4) {
            let pause = random.within(0..2 * gap * 4 / 3);
            world.run_until(world.now + pause);
        }
    }
}

fn strike(world: &mut World, random: &mut Random, capacity: usize) {
    let alive = world.alive();
    match random.within(0..6) {
        0 if !alive.is_empty() => {
            let duration = random.within(100 * US..20 * MS);
            world.hang(random.choose(&alive), duration);
        }
        1 if !alive.is_empty() => {
            world.kill(random.choose(&alive));
            world.boot_another(capacity);
        }
        2 if !alive.is_empty() => {
            world.boot_another(capacity);
            world.retire(random.choose(&alive));
        }
        3 => {
            let workers = u32::try_from(random.within(1..4)).expect("small");
            world.reload(workers, capacity);
        }
        _ => world.leave_one(),
    }
}

/// A last generation that nothing happens to, and time enough for all there is.
fn settle(world: &mut World, capacity: usize) {
    world.reload(2, capacity);
    world.run_until(world.now + 60_000 * MS);
    world.check_all_ended();
}
