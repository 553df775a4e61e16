//! Years of trouble in seconds: a simulated kernel (`kernel/mod.rs`), a seed for each run.
//!
//! A failure names its seed and tells the last events. To see it again:
//! `OXICORN_ARBITER_SEED=17 cargo nextest run -p oxicorn-arbiter --test simulation`; for more than the usual number of
//! seeds set `OXICORN_ARBITER_SEEDS`.

mod kernel;
mod world;

use std::time::Duration;

use kernel::{Habits, Kernel, Random, plan};
use oxicorn_arbiter::{Command, Plan, timing};

/// How many seeds each test takes.
const SEEDS: u64 = 400;

fn seeds() -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match number("OXICORN_ARBITER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OXICORN_ARBITER_SEEDS").unwrap_or(SEEDS),
    }
}

/// Tells which seed failed, and how.
struct Run {
    seed: u64,
    kernel: Kernel,
}

impl Run {
    fn new(seed: u64, plan: Plan, habits: Habits) -> Self {
        Self {
            seed,
            kernel: Kernel::boot(plan, habits, Random::new(seed)),
        }
    }
}

impl Drop for Run {
    #[expect(clippy::print_stderr, reason = "a failed test explains itself")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, kernel } = self;
            eprintln!("{}OXICORN_ARBITER_SEED={seed}", kernel.last_lines());
        }
    }
}

fn any_command(random: &mut Random) -> Command {
    match random.below(14) {
        0..=4 => Command::Reload,
        5..=7 => Command::MoreWorkers,
        8..=10 => Command::FewerWorkers,
        11 => Command::StopWorkers,
        12 => Command::Upgrade,
        _ => Command::Reopen,
    }
}

fn any_plan(random: &mut Random) -> Plan {
    let workers = u32::try_from(random.below(6)).expect("small");
    Plan {
        workers,
        preload_app: random.percent(50),
        daemon: random.percent(50),
        processors: u32::try_from(random.below(6)).expect("small"),
        ..plan()
    }
}

/// The running server, with whatever comes to it; at many moments it is asked what would become of it if everybody
/// cooperated from now on, and what if it were told to stop and nobody did.
#[test]
fn whatever_happens_it_comes_to_rest_and_ends_in_time() {
    for seed in seeds() {
        let mut random = Random::new(seed ^ 0x5EED);
        let mut run = Run::new(seed, any_plan(&mut random), Habits::any(&mut random));
        for _ in 0..40 {
            run.kernel.run(random.within_ms(20_000));
            if run.kernel.world.exited.is_some() {
                break;
            }
            if random.percent(60) {
                run.kernel.command(any_command(&mut random));
            }
            check_long_runs(&run.kernel);
        }
    }
}

fn check_long_runs(kernel: &Kernel) {
    let graceful_timeout = plan().graceful_timeout;
    kernel.world.clone().assert_settles();
    kernel
        .world
        .clone()
        .assert_terminates(graceful_timeout, true);
    kernel
        .world
        .clone()
        .assert_terminates(graceful_timeout, false);
}

/// The shutdown itself, while the trouble goes on: over in time, with nobody left (the world checks that).
#[test]
fn a_shutdown_in_the_middle_of_trouble_ends_in_time() {
    for seed in seeds() {
        let mut random = Random::new(seed ^ 0x7E43);
        let habits = Habits {
            late_ms: 0,
            clock_jumps: 0,
            ..Habits::any(&mut random)
        };
        let mut run = Run::new(seed, any_plan(&mut random), habits);
        for _ in 0..random.below(10) {
            run.kernel.run(random.within_ms(20_000));
            run.kernel.command(any_command(&mut random));
        }
        let quick = random.percent(30);
        run.kernel.command(if quick {
            Command::Interrupt
        } else {
            Command::Terminate
        });
        let graceful = if quick {
            Duration::ZERO
        } else {
            plan().graceful_timeout
        };
        let reaping = Duration::from_millis(20);
        run.kernel.run(graceful + 2 * timing::STOP_GRACE + reaping);
        assert!(run.kernel.world.exited.is_some(), "too late");
    }
}

/// Reloads one after the other under mild conditions: none goes below the floor (checked by the world), and in the end
/// the last one serves, alone.
#[test]
fn the_last_of_many_reloads_serves() {
    for seed in seeds() {
        let mut random = Random::new(seed ^ 0x4E10);
        let habits = Habits {
            boot_ms: 3_000,
            never_drains: 30,
            ..Habits::default()
        };
        let mut run = Run::new(
            seed,
            Plan {
                workers: 3,
                ..plan()
            },
            habits,
        );
        run.kernel.run(Duration::from_secs(5));
        for _ in 0..10 {
            run.kernel.command(Command::Reload);
            run.kernel.run(random.within_ms(10_000));
        }
        run.kernel.run(Duration::from_mins(5));
        let world = &run.kernel.world;
        assert_eq!(world.arbiter.serving(), world.last_generation);
        assert_eq!(
            world.ready_of(world.arbiter.serving()),
            world.arbiter.wanted() as usize
        );
        assert_eq!(world.workers.len(), world.arbiter.wanted() as usize);
    }
}

/// Workers that die at once cost a fork every ten seconds each, after nine quick ones.
#[test]
fn back_off_holds_for_workers_that_die_at_once() {
    for seed in seeds() {
        let habits = Habits {
            boot_ms: 50,
            boot_dies: 100,
            ..Habits::default()
        };
        let mut run = Run::new(
            seed,
            Plan {
                workers: 4,
                ..plan()
            },
            habits,
        );
        run.kernel.run(Duration::from_mins(10));
        let rounds = run.kernel.starts.len().div_ceil(4);
        assert!(rounds <= 9 + 60, "{rounds} rounds");
    }
}

/// Workers that live a random while: the worst they can do is to start over every twenty seconds (nine quick rounds of
/// back-off, then ten healthy seconds).
#[test]
fn back_off_holds_for_workers_that_die_young() {
    for seed in seeds() {
        let trouble_ms = 1 + Random::new(seed).below(20_000);
        let habits = Habits {
            trouble: 100,
            trouble_ms,
            only_dies: true,
            ..Habits::default()
        };
        let mut run = Run::new(
            seed,
            Plan {
                workers: 2,
                ..plan()
            },
            habits,
        );
        run.kernel.run(Duration::from_mins(10));
        let starts = &run.kernel.starts;
        for (index, first) in starts.iter().enumerate() {
            let window = starts[index..]
                .iter()
                .take_while(|&at| *at < *first + Duration::from_secs(10));
            let in_window = window.count();
            assert!(in_window <= 2 * 9, "{in_window} forks in ten seconds");
        }
    }
}
