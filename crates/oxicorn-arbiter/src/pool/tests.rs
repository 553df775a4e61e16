//! Stories of a pool.

use super::*;

fn plan(workers: u32, apps: &[(&str, Option<u32>)]) -> PoolPlan {
    PoolPlan {
        workers,
        apps: apps
            .iter()
            .map(|&(path, limit)| PoolApp {
                path: path.to_owned(),
                limit,
            })
            .collect(),
        graceful_timeout: Duration::from_secs(30),
        boot_timeout: Duration::from_mins(5),
    }
}

/// A pool whose orders are followed at once: forks succeed, workers become ready, classes have these numbers.
struct Scene {
    pool: Pool,
    now: Duration,
    limits: Vec<Option<u32>>,
    /// Whether workers become ready by themselves.
    boots: bool,
    /// Who takes calls.
    serving: Vec<WorkerId>,
    retired: Vec<WorkerId>,
    spawned: Vec<(WorkerId, Option<Vec<usize>>)>,
    expected: Vec<(String, bool)>,
    lines: Vec<String>,
}

impl Scene {
    fn new(plan: PoolPlan, limits: &[Option<u32>]) -> Self {
        let mut scene = Self {
            pool: Pool::new(plan, Duration::ZERO),
            now: Duration::ZERO,
            limits: limits.to_vec(),
            boots: true,
            serving: Vec::new(),
            retired: Vec::new(),
            spawned: Vec::new(),
            expected: Vec::new(),
            lines: Vec::new(),
        };
        scene.follow();
        scene
    }

    fn tell(&mut self, event: PoolEvent) {
        self.pool.handle(event, self.now);
        self.follow();
    }

    fn exits(&mut self, worker: u32, exit: Exit) {
        self.serving.retain(|one| one.0 != worker);
        self.tell(PoolEvent::WorkerExited {
            worker: WorkerId(worker),
            exit,
        });
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.pool.handle_timeout(self.now);
        self.follow();
    }

    fn follow(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            let answer = match action {
                PoolAction::SpawnBroker => Some(PoolEvent::BrokerSpawned { pid: 7 }),
                PoolAction::StopBroker => Some(PoolEvent::BrokerExited(Exit::Code(0))),
                PoolAction::SpawnWorker {
                    worker,
                    applications,
                    ..
                } => {
                    self.spawned.push((worker, applications.clone()));
                    let spawned = PoolEvent::WorkerSpawned {
                        worker,
                        pid: 100 + worker.0,
                    };
                    self.pool.handle(spawned, self.now);
                    applications.is_none().then(|| PoolEvent::Limits {
                        worker,
                        limits: self.limits.clone(),
                    })
                }
                PoolAction::AttachWorker(worker) => {
                    self.boots.then_some(PoolEvent::WorkerReady(worker))
                }
                PoolAction::AnnounceReady(worker) => {
                    self.serving.push(worker);
                    None
                }
                PoolAction::RetireWorker(worker) => {
                    self.serving.retain(|one| *one != worker);
                    self.retired.push(worker);
                    None
                }
                PoolAction::Expect(expected) => {
                    self.expected = expected;
                    None
                }
                PoolAction::Log(_, text) => {
                    self.lines.push(text);
                    None
                }
                _ => None,
            };
            if let Some(answer) = answer {
                self.pool.handle(answer, self.now);
            }
        }
    }

    fn serving(&self) -> Vec<u32> {
        self.serving.iter().map(|worker| worker.0).collect()
    }
}

#[test]
fn the_first_worker_tells_what_the_classes_want() {
    let scene = Scene::new(
        plan(3, &[("a:A", None), ("b:B", Some(2))]),
        &[Some(1), None],
    );
    let spawned: Vec<_> = scene.spawned.iter().map(|(_, apps)| apps.clone()).collect();
    assert_eq!(spawned, [None, Some(vec![1]), Some(vec![1])]);
    assert_eq!(scene.serving(), [1, 2, 3]);
    // The first one has a:A, which wants one worker.
    assert_eq!(scene.pool.workers[&WorkerId(1)].applications, Some(vec![0]));
}

#[test]
fn who_dies_is_followed_by_one_with_the_same_applications() {
    let mut scene = Scene::new(plan(2, &[("a:A", Some(1)), ("b:B", Some(1))]), &[]);
    scene.exits(1, Exit::Signal(9));
    assert_eq!(scene.spawned.last(), Some(&(WorkerId(3), Some(vec![0]))));
    assert_eq!(scene.serving(), [2, 3]);
    assert!(scene.lines[0].contains("signal 9"), "{:?}", scene.lines);
}

#[test]
fn a_reload_serves_when_all_are_ready_and_only_then_retires() {
    let mut scene = Scene::new(plan(2, &[("a:A", Some(2))]), &[]);
    scene.boots = false;
    scene.tell(PoolEvent::Reload(plan(2, &[("a:A", Some(2))])));
    scene.tell(PoolEvent::WorkerReady(WorkerId(3)));
    assert_eq!((scene.serving(), scene.retired.len()), (vec![1, 2], 0));
    scene.tell(PoolEvent::WorkerReady(WorkerId(4)));
    assert_eq!(scene.serving(), [3, 4]);
    assert_eq!(scene.retired, [WorkerId(1), WorkerId(2)]);
}

#[test]
fn code_that_cannot_be_loaded_leaves_the_old_as_it_is() {
    let mut scene = Scene::new(plan(1, &[("a:A", None)]), &[None]);
    scene.boots = false;
    scene.tell(PoolEvent::Reload(plan(1, &[("a:A", None)])));
    scene.exits(2, Exit::Code(3));
    assert_eq!(scene.serving(), [1]);
    assert!(scene.pool.next.is_none());
    // And whoever dies of the old one is replaced again.
    scene.boots = true;
    scene.exits(1, Exit::Signal(9));
    assert_eq!(scene.serving(), [3]);
}

#[test]
fn where_nobody_can_live_nobody_is_waited_for() {
    let mut scene = Scene::new(plan(1, &[("a:A", Some(1))]), &[]);
    assert_eq!(scene.expected, [("a:A".to_owned(), true)]);
    scene.boots = false;
    scene.exits(1, Exit::Code(1));
    scene.exits(2, Exit::Code(1));
    assert_eq!(scene.expected, [("a:A".to_owned(), false)]);
    scene.wait(Duration::from_millis(100));
    assert_eq!(scene.expected, [("a:A".to_owned(), true)]);
}

#[test]
fn more_and_fewer_workers_but_never_fewer_than_an_application_wants() {
    let mut scene = Scene::new(plan(2, &[("a:A", Some(2)), ("b:B", None)]), &[None, None]);
    scene.tell(PoolEvent::More(1));
    assert_eq!(scene.serving().len(), 3);
    scene.tell(PoolEvent::Fewer(5));
    assert_eq!(scene.pool.wanted(), 2);
    assert_eq!(scene.serving().len(), 2);
    assert!(scene.lines.iter().any(|line| line.contains("below 2")));
}

#[test]
fn who_wants_a_successor_serves_until_it_is_there() {
    let mut scene = Scene::new(plan(1, &[("a:A", Some(1))]), &[]);
    scene.boots = false;
    scene.tell(PoolEvent::WorkerWantsReplacement(WorkerId(1)));
    assert_eq!(scene.serving(), [1]);
    scene.tell(PoolEvent::WorkerReady(WorkerId(2)));
    assert_eq!(scene.serving(), [2]);
}

#[test]
fn a_stop_waits_for_workers_then_for_the_broker() {
    let mut scene = Scene::new(plan(2, &[("a:A", None)]), &[None]);
    scene.tell(PoolEvent::Stop);
    assert_eq!(scene.retired.len(), 2);
    scene.exits(1, Exit::Code(0));
    assert!(!scene.pool.is_over());
    scene.exits(2, Exit::Code(0));
    assert!(scene.pool.is_over());
}

#[test]
fn with_the_broker_go_the_workers_and_both_come_again() {
    let mut scene = Scene::new(plan(1, &[("a:A", Some(1))]), &[]);
    scene.tell(PoolEvent::BrokerExited(Exit::Signal(9)));
    scene.exits(1, Exit::Code(0));
    assert_eq!(scene.serving(), [2]);
    assert_eq!(scene.expected, [("a:A".to_owned(), true)]);
}

#[test]
fn what_does_not_come_back_is_aborted_then_killed() {
    let mut scene = Scene::new(plan(1, &[("a:A", Some(1))]), &[]);
    scene.tell(PoolEvent::WorkerStuck {
        worker: WorkerId(1),
        call: "a:A.sleep, 3.0 s".to_owned(),
    });
    assert!(scene.lines[0].starts_with("DIRTY WORKER TIMEOUT (pid:101)"));
    // Its successor is started at once.
    assert_eq!(scene.spawned.len(), 2);
    let kill_at = scene.pool.next_deadline().expect("it is to be killed");
    scene.now = kill_at;
    scene.pool.handle_timeout(kill_at);
    let killed = PoolAction::SignalWorker {
        worker: WorkerId(1),
        signal: WorkerSignal::Kill,
    };
    assert_eq!(scene.pool.poll_action(), Some(killed));
}
