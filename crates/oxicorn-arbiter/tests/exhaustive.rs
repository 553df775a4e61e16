//! All sequences of events up to a length, from a few beginnings.
//!
//! At each point everything that can happen to the living happens (deaths, notices true and false, every command, the
//! next deadline), and notices of the dead besides. States that were seen before are not walked again. What is checked at
//! each step is the world's (`world/mod.rs`); at each state both long runs are checked as well: the server comes to rest
//! with what is wanted if all cooperate, and it ends after TERM if nobody does.

mod world;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use oxicorn_arbiter::{
    BootFailure, Command, Event, Exit, Generation, Plan, ReplacementReason, WorkerId,
};
use world::World;

const GRACEFUL: Duration = Duration::from_secs(30);

fn plan(workers: u32) -> Plan {
    Plan {
        workers,
        graceful_timeout: GRACEFUL,
        boot_timeout: Duration::from_secs(7),
        preload_app: false,
        processors: u32::MAX,
        daemon: true,
    }
}

/// One thing that may happen next.
#[derive(Debug, Clone)]
enum Step {
    Event(Event),
    Wait,
    ForksFail(bool),
}

fn steps(world: &World) -> Vec<Step> {
    let mut steps = vec![Step::Wait, Step::ForksFail(!world.forks_fail)];
    let commands = [
        Command::Terminate,
        Command::Interrupt,
        Command::Reload,
        Command::MoreWorkers,
        Command::FewerWorkers,
        Command::Reopen,
        Command::Upgrade,
        Command::StopWorkers,
    ];
    steps.extend(commands.map(|command| Step::Event(Event::Command(command))));
    steps.extend([Event::GatewayReady, Event::GatewayDrained].map(Step::Event));
    if world.gateway.is_some() {
        steps.push(Step::Event(Event::GatewayExited(Exit::Signal(9))));
    }
    if world.loading {
        let answers = [
            Event::ConfigurationLoaded(plan(1)),
            Event::ConfigurationLoaded(plan(2)),
            Event::ConfigurationLoaded(preloaded(1)),
            Event::ConfigurationRefused,
            Event::ReloadHookFailed,
        ];
        steps.extend(answers.map(Step::Event));
    }
    steps.push(Step::Event(Event::SourceChanged(7)));
    steps.push(Step::Event(Event::SpawnRequested));
    if world.upgrading {
        steps.extend([Event::SuccessorStarted, Event::SuccessorFailed].map(Step::Event));
    }
    if world.has_successor {
        steps.push(Step::Event(Event::SuccessorExited));
    }
    for (&generation, template) in &world.templates {
        // One that was killed answers nothing any more.
        let forking = template.forking.filter(|_| !template.killed);
        steps.extend(events_of_template(generation, forking).map(Step::Event));
    }
    for &worker in world.workers.keys() {
        steps.extend(events_of(worker).map(Step::Event));
    }
    // A notice of one that is gone, or never was.
    steps.push(Step::Event(Event::WorkerReady(WorkerId(0))));
    steps
}

fn preloaded(workers: u32) -> Plan {
    Plan {
        preload_app: true,
        ..plan(workers)
    }
}

fn events_of_template(generation: Generation, forking: Option<WorkerId>) -> [Event; 4] {
    let exit = Exit::Code(1);
    // What was never ordered is not answered; a second word of readiness is as harmless.
    let (spawned, failed) = match forking {
        Some(worker) => (
            Event::WorkerSpawned {
                worker,
                pid: 1000 + worker.0,
            },
            Event::WorkerSpawnFailed(worker),
        ),
        None => (
            Event::TemplateReady(generation),
            Event::TemplateReady(generation),
        ),
    };
    [
        Event::TemplateReady(generation),
        Event::TemplateExited { generation, exit },
        spawned,
        failed,
    ]
}

fn events_of(worker: WorkerId) -> [Event; 11] {
    let failure = BootFailure::Application;
    let reason = ReplacementReason::MaxRequests;
    [
        Event::WorkerReady(worker),
        Event::WorkerBootFailed { worker, failure },
        Event::WorkerMisfit(worker),
        Event::WorkerExited {
            worker,
            exit: Exit::Signal(11),
        },
        Event::WorkerExited {
            worker,
            exit: Exit::Code(3),
        },
        Event::WorkerDrained(worker),
        Event::WorkerWantsReplacement { worker, reason },
        Event::RequestExpired {
            worker,
            in_flight_others: 0,
        },
        Event::RequestExpired {
            worker,
            in_flight_others: 1,
        },
        Event::HeartbeatMissed(worker),
        Event::WorkerFault(worker),
    ]
}

fn take(world: &World, step: &Step) -> World {
    let mut world = world.clone();
    match step {
        Step::Event(event) => {
            world.event(event.clone());
        }
        Step::Wait => {
            world.wait();
        }
        Step::ForksFail(fail) => world.forks_fail = *fail,
    }
    world
}

/// Breadth first, so that a failure is reported by a shortest story.
fn walk(beginning: World, depth: usize) -> usize {
    let hasher = RandomState::new();
    let mut seen = HashSet::from([hasher.hash_one(&beginning)]);
    let mut frontier = vec![(beginning, Vec::new())];
    for _ in 0..depth {
        let mut next = Vec::new();
        for (world, story) in frontier {
            for step in steps(&world) {
                let _teller = Teller {
                    story: &story,
                    step: &step,
                };
                let after = take(&world, &step);
                if after.exited.is_none() && seen.insert(hasher.hash_one(&after)) {
                    check_long_runs(&after);
                    let story = story.iter().cloned().chain([step.clone()]).collect();
                    next.push((after, story));
                }
            }
        }
        frontier = next;
    }
    seen.len()
}

fn check_long_runs(world: &World) {
    world.clone().assert_settles();
    world.clone().assert_terminates(GRACEFUL, true);
    world.clone().assert_terminates(GRACEFUL, false);
}

/// Tells what led to a failed assertion.
struct Teller<'a> {
    story: &'a [Step],
    step: &'a Step,
}

impl Drop for Teller<'_> {
    #[expect(clippy::print_stderr, reason = "a failed test explains itself")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("story: {:#?}\nthen: {:#?}", self.story, self.step);
        }
    }
}

fn started(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.event(Event::Started);
    world
}

fn serving(workers: u32) -> World {
    let mut world = started(plan(workers));
    world.event(Event::GatewayReady);
    for worker in 1..=workers {
        world.event(Event::WorkerReady(WorkerId(worker)));
    }
    world
}

fn serving_from_template(workers: u32) -> World {
    let generation = Generation(1);
    let mut world = started(preloaded(workers));
    world.event(Event::GatewayReady);
    world.event(Event::TemplateReady(generation));
    for worker in 1..=workers {
        world.answer_order(generation);
        world.event(Event::WorkerReady(WorkerId(worker)));
    }
    world
}

fn reloading(workers: u32) -> World {
    let mut world = serving(workers);
    world.event(Event::Command(Command::Reload));
    world.event(Event::ConfigurationLoaded(plan(workers)));
    world
}

#[test]
fn from_the_start_with_one_worker() {
    walk(started(plan(1)), 4);
}

#[test]
fn from_the_start_with_three_workers_and_a_processor() {
    let crowded = Plan {
        processors: 1,
        ..plan(3)
    };
    walk(started(crowded), 3);
}

#[test]
fn from_the_start_with_a_template() {
    walk(started(preloaded(1)), 4);
}

#[test]
fn from_two_workers_of_a_template() {
    walk(serving_from_template(2), 3);
}

#[test]
fn from_the_middle_of_a_reload_with_templates() {
    let mut world = serving_from_template(1);
    world.event(Event::Command(Command::Reload));
    world.event(Event::ConfigurationLoaded(preloaded(1)));
    walk(world, 3);
}

#[test]
fn from_a_worker_that_its_template_is_forking() {
    let mut world = serving_from_template(1);
    world.event(Event::WorkerExited {
        worker: WorkerId(1),
        exit: Exit::Signal(9),
    });
    walk(world, 3);
}

#[test]
fn from_the_start_without_workers() {
    walk(started(plan(0)), 4);
}

#[test]
fn from_a_serving_worker() {
    walk(serving(1), 4);
}

#[test]
fn from_two_serving_workers() {
    walk(serving(2), 3);
}

#[test]
fn from_the_middle_of_a_reload() {
    walk(reloading(1), 4);
}

#[test]
fn from_a_replacement() {
    let mut world = serving(1);
    let reason = ReplacementReason::Memory;
    world.event(Event::WorkerWantsReplacement {
        worker: WorkerId(1),
        reason,
    });
    walk(world, 4);
}

#[test]
fn from_a_shutdown_in_the_middle_of_a_reload() {
    let mut world = reloading(2);
    world.event(Event::Command(Command::Terminate));
    walk(world, 4);
}
