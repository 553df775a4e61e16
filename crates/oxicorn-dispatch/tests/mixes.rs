//! Slow requests among fast ones: what the fast ones have to wait. In the simulated server of `world`, so
//! that the figures are the dispatcher's alone and the same on every machine.

mod world;

use oxicorn_dispatch::Policy;
use world::{End, MS, Nanos, Random, Record, US, World};

const SLOW: Nanos = 4_000 * MS;

fn hello(random: &mut Random) -> Nanos {
    random.within(8 * US..15 * US)
}

fn one_in_hundred_sleeps(random: &mut Random) -> Nanos {
    if random.one_in(100) {
        10 * MS
    } else {
        hello(random)
    }
}

fn python(random: &mut Random) -> Nanos {
    random.within(300 * US..500 * US)
}

fn ready_world(
    policy: Policy,
    workers: u32,
    capacity: usize,
    service: fn(&mut Random) -> Nanos,
) -> World {
    let mut world = World::new(7, policy);
    world.service = service;
    world.reload(workers, capacity);
    world.run_until(5 * MS);
    world
}

/// Clients that send the next request when the last was answered.
fn add_clients(world: &mut World, clients: u64) {
    world.closed_loop = true;
    (0..clients).for_each(|client| world.arrive_in(client * US));
}

fn fast_ones(world: &World) -> impl Iterator<Item = &Record> {
    world.records.values().filter(|record| record.service < MS)
}

/// Of the fast requests, from submission to claim, in order of length. Those not claimed have waited on.
fn waits(world: &World) -> Vec<Nanos> {
    let wait = |record: &Record| record.claimed.unwrap_or(world.now) - record.submitted;
    let mut waits: Vec<Nanos> = fast_ones(world).map(wait).collect();
    waits.sort_unstable();
    waits
}

fn longest_wait(world: &World) -> Nanos {
    waits(world).last().copied().expect("there were some")
}

#[test]
fn nobody_waits_for_a_four_second_request_beside_a_free_worker() {
    let mut world = ready_world(Policy::default(), 2, 1, hello);
    for request in 0..200 {
        if request == 100 {
            world.arrive(SLOW);
        }
        world.arrive_in(0);
        let pause = world.random.within(50 * US..MS);
        world.run_until(world.now + pause);
    }
    let longest = longest_wait(&world);
    assert!(longest < MS + 200 * US, "{longest} ns");
}

#[test]
fn nobody_waits_for_a_four_second_request_beside_a_busy_worker() {
    for clients in [2, 8, 64] {
        for service in [hello as fn(&mut Random) -> Nanos, python] {
            let mut world = ready_world(Policy::default(), 2, 1, service);
            add_clients(&mut world, clients);
            world.run_until(30 * MS);
            world.arrive(SLOW);
            world.run_until(80 * MS);
            // All that is before it at the other worker, and a few milliseconds.
            let bound = 3 * MS + clients * 500 * US;
            let longest = longest_wait(&world);
            assert!(longest < bound, "{clients} clients: {longest} ns");
        }
    }
}

#[test]
fn a_few_slow_requests_leave_one_worker_to_the_fast() {
    let mut world = ready_world(Policy::default(), 4, 1, hello);
    add_clients(&mut world, 16);
    world.run_until(20 * MS);
    (0..3).for_each(|_| {
        world.arrive(SLOW);
    });
    world.run_until(60 * MS);
    let longest = longest_wait(&world);
    assert!(longest < 4 * MS, "{longest} ns");
    assert!(
        fast_ones(&world)
            .filter(|record| record.end == Some(End::Completed))
            .count()
            > 1000
    );
}

/// How many were served in 200 ms to 64 clients, and the 99th percentile of the waits of the fast ones,
/// where one per cent sleeps ten milliseconds.
fn serve_sleepers(prefetch_limit: u32, workers: u32, capacity: usize) -> (usize, Nanos) {
    let policy = Policy {
        prefetch_limit,
        ..Policy::default()
    };
    let mut world = ready_world(policy, workers, capacity, one_in_hundred_sleeps);
    add_clients(&mut world, 64);
    world.run_until(200 * MS);
    let waits = waits(&world);
    (waits.len(), waits[waits.len() * 99 / 100])
}

#[test]
fn placing_ahead_serves_more_than_strict_dispatch() {
    for (workers, capacity) in [(1, 16), (2, 8), (4, 4)] {
        let (strict, _) = serve_sleepers(0, workers, capacity);
        let (ahead, _) = serve_sleepers(16, workers, capacity);
        assert!(
            ahead * 100 > strict * 105,
            "{workers}x{capacity}: {strict}, {ahead}"
        );
    }
}

/// One worker with all the threads is the ideal: nothing in its ring can lie at the wrong place.
#[test]
fn sixteen_threads_in_several_workers_serve_as_those_of_one() {
    let (ideal, ideal_wait) = serve_sleepers(16, 1, 16);
    for (workers, capacity) in [(2, 8), (4, 4), (16, 1)] {
        let (served, wait) = serve_sleepers(16, workers, capacity);
        assert!(
            served * 10 > ideal * 9,
            "{workers}x{capacity}: {served} of {ideal}"
        );
        assert!(
            wait < ideal_wait * 5 / 4,
            "{workers}x{capacity}: {wait} ns, not {ideal_wait}"
        );
    }
}

#[test]
fn short_requests_cost_no_revocations_where_the_load_is_even() {
    let mut world = ready_world(Policy::default(), 2, 1, hello);
    add_clients(&mut world, 64);
    world.run_until(50 * MS);
    let served = world.records.len() as u64;
    assert!(
        world.revocations * 200 < served,
        "{} of {served}",
        world.revocations
    );
}
