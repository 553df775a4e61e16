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
        one_process: false,
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
    signals: Vec<(WorkerId, WorkerSignal)>,
    /// Of the last one spawned.
    indexes: Vec<(usize, u32)>,
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
            signals: Vec::new(),
            indexes: Vec::new(),
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
            out_of_memory: exit == OUT_OF_MEMORY_HERE,
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
                    indexes,
                    ..
                } => {
                    self.spawned.push((worker, applications.clone()));
                    self.indexes = indexes;
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
                    let of = |one: Outlook| (one.path, one.expected);
                    self.expected = expected.into_iter().map(of).collect();
                    None
                }
                PoolAction::SignalWorker { worker, signal } => {
                    self.signals.push((worker, signal));
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

    /// The application in this place of the plan cannot be loaded by the worker; is it ready then?
    fn fails(&mut self, worker: u32, app: usize, is_ready: bool) {
        let worker = WorkerId(worker);
        self.tell(PoolEvent::AppLoading { worker, app });
        self.tell(PoolEvent::AppFailed {
            worker,
            app,
            reason: "no".to_owned(),
        });
        if is_ready {
            self.tell(PoolEvent::WorkerReady(worker));
        }
    }

    fn expects(&self, path: &str) -> bool {
        self.expected.contains(&(path.to_owned(), true))
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
fn one_process_has_all_and_is_followed_by_one_with_other_numbers() {
    let one_process = PoolPlan {
        one_process: true,
        ..plan(2, &[("a:A", None), ("b:B", None)])
    };
    let mut scene = Scene::new(one_process, &[None, Some(1)]);
    assert_eq!(scene.spawned, [(WorkerId(1), None)]);
    let has = |scene: &Scene, worker| scene.pool.applications(WorkerId(worker));
    assert_eq!(has(&scene, 1), [0, 0, 1]);
    scene.tell(PoolEvent::More(1));
    assert_eq!(
        (scene.serving(), has(&scene, 2)),
        (vec![2], vec![0, 0, 0, 1])
    );
    assert_eq!(scene.retired, [WorkerId(1)]);
    scene.exits(2, Exit::Signal(9));
    assert_eq!(
        (scene.serving(), has(&scene, 3)),
        (vec![3], vec![0, 0, 0, 1])
    );
}

#[test]
fn one_process_is_not_joined_by_a_second_for_what_cannot_be_loaded() {
    let one_process = PoolPlan {
        one_process: true,
        ..plan(1, &[("a:A", None), ("b:B", None)])
    };
    let mut scene = Scene::new(one_process, &[None, None]);
    scene.boots = false;
    scene.tell(PoolEvent::More(1));
    scene.tell(PoolEvent::AppFailed {
        worker: WorkerId(2),
        app: 1,
        reason: "no".into(),
    });
    scene.tell(PoolEvent::WorkerReady(WorkerId(2)));
    let spawned = scene.spawned.len();
    scene.wait(Duration::from_hours(1));
    assert_eq!(scene.spawned.len(), spawned);
    assert_eq!(
        scene.expected,
        [("a:A".to_owned(), true), ("b:B".to_owned(), false)]
    );
}

#[test]
fn one_process_rests_with_all_and_comes_again_for_any() {
    let one_process = PoolPlan {
        one_process: true,
        ..plan(2, &[("a:A", Some(1)), ("b:B", Some(1))])
    };
    let mut scene = Scene::new(one_process, &[]);
    scene.tell(PoolEvent::WorkerIdle(WorkerId(1)));
    assert_eq!(scene.retired, [WorkerId(1)]);
    scene.exits(1, Exit::Code(0));
    assert_eq!((scene.serving(), scene.pool.resting()), (vec![], 1));
    scene.tell(PoolEvent::Wanted { path: "b:B".into() });
    assert_eq!(scene.serving(), [2]);
    assert_eq!(scene.pool.applications(WorkerId(2)), [0, 1]);
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

const ONE_AND_TWO: &[(&str, Option<u32>)] = &[("one:A", Some(1)), ("two:B", Some(1))];

#[test]
fn an_application_that_cannot_be_loaded_takes_nobody_with_it() {
    let mut scene = Scene::new(plan(1, ONE_AND_TWO), &[]);
    scene.boots = false;
    scene.exits(1, Exit::Signal(9));
    scene.fails(2, 0, true);
    assert_eq!(scene.serving(), [2]);
    assert_eq!(scene.pool.applications(WorkerId(2)), [1]);
    // It is tried again at once, in a second worker that begins with it.
    assert_eq!(scene.spawned.last(), Some(&(WorkerId(3), Some(vec![0, 1]))));
    assert!(scene.expects("one:A"));
    scene.fails(3, 0, false);
    assert_eq!(scene.signals, [(WorkerId(3), WorkerSignal::Quick)]);
    scene.exits(3, Exit::Code(0));
    assert_eq!((scene.serving(), scene.spawned.len()), (vec![2], 3));
    assert!(!scene.expects("one:A") && scene.expects("two:B"));
    let (path, failure) = scene.pool.failures().next().expect("it is known");
    assert_eq!((path, failure.count), ("one:A", 2));
    // Later again; and when it can be loaded, that worker takes the place.
    let due = scene.pool.next_deadline().expect("it is tried again");
    scene.wait(due);
    assert!(scene.expects("one:A"));
    scene.tell(PoolEvent::WorkerReady(WorkerId(4)));
    assert_eq!(
        (scene.serving(), scene.retired.clone()),
        (vec![4], vec![WorkerId(2)])
    );
    assert_eq!(scene.pool.failures().count(), 0);
}

#[test]
fn whoever_dies_beside_a_broken_application_is_followed_at_once() {
    let mut scene = Scene::new(plan(2, ONE_AND_TWO), &[]);
    scene.boots = false;
    scene.exits(1, Exit::Signal(9));
    for worker in 3..6 {
        scene.fails(worker, 0, false);
        scene.exits(worker, Exit::Code(3));
        scene.wait(Duration::from_secs(2));
    }
    scene.exits(2, Exit::Signal(9));
    assert_eq!(
        scene.spawned.last().map(|(_, apps)| apps.clone()),
        Some(Some(vec![1]))
    );
}

#[test]
fn workers_that_fail_together_count_once_and_one_of_them_tries_again() {
    let mut scene = Scene::new(plan(3, &[("one:A", None), ("two:B", None)]), &[None, None]);
    scene.boots = false;
    for worker in 1..=3 {
        scene.exits(worker, Exit::Signal(9));
    }
    let first = scene.spawned.len() - 2;
    let workers = u32::try_from(first).expect("few")..=u32::try_from(first).expect("few") + 2;
    for worker in workers.clone() {
        scene.tell(PoolEvent::AppFailed {
            worker: WorkerId(worker),
            app: 0,
            reason: "no".to_owned(),
        });
    }
    for worker in workers {
        scene.tell(PoolEvent::WorkerReady(WorkerId(worker)));
    }
    let (_, failure) = scene.pool.failures().next().expect("it is known");
    assert_eq!((failure.count, scene.spawned.len()), (1, first + 3));
    // Where it succeeds the others follow.
    let attempt = scene.spawned.last().expect("it was tried").0;
    scene.tell(PoolEvent::WorkerReady(attempt));
    assert_eq!(scene.spawned.len(), first + 5);
}

#[test]
fn who_dies_while_it_loads_leaves_that_out_the_next_time() {
    let mut scene = Scene::new(plan(1, ONE_AND_TWO), &[]);
    scene.boots = false;
    scene.exits(1, Exit::Signal(9));
    for worker in [2, 3] {
        scene.tell(PoolEvent::AppLoading {
            worker: WorkerId(worker),
            app: 0,
        });
        scene.exits(worker, Exit::Signal(11));
    }
    assert_eq!(scene.spawned.last(), Some(&(WorkerId(4), Some(vec![1]))));
    let (_, failure) = scene.pool.failures().next().expect("it is known");
    assert_eq!(
        failure.reason,
        "its worker was ended by signal 11 while it was loaded"
    );
}

#[test]
fn a_reload_is_refused_for_what_it_would_take_away_and_for_nothing_else() {
    let mut scene = Scene::new(plan(1, ONE_AND_TWO), &[]);
    scene.boots = false;
    scene.tell(PoolEvent::Reload(plan(1, ONE_AND_TWO)));
    assert_eq!(scene.pool.loading(), Some(Generation(2)));
    scene.fails(2, 0, false);
    assert_eq!(scene.pool.loading(), None);
    assert_eq!(scene.pool.refused(), (1, "one:A cannot be loaded: no"));
    assert_eq!(scene.pool.serving(), Generation(1));
    // What fails where it serves is no reason.
    scene.exits(1, Exit::Signal(9));
    scene.fails(3, 0, true);
    scene.tell(PoolEvent::Reload(plan(1, ONE_AND_TWO)));
    let worker = scene.spawned.last().expect("it is loaded").0;
    scene.fails(worker.0, 0, true);
    assert_eq!(scene.pool.serving(), Generation(3));
    assert_eq!(scene.serving(), [worker.0]);
}

#[test]
fn a_class_that_could_not_be_looked_at_says_its_number_when_it_can() {
    let mut scene = Scene::new(plan(2, &[("a:A", None), ("b:B", None)]), &[None, None]);
    scene.boots = false;
    scene.tell(PoolEvent::Reload(plan(2, &[("a:A", None), ("b:B", None)])));
    let worker = WorkerId(3);
    // Not so in a reload.
    assert_eq!(scene.pool.loading(), Some(Generation(2)));
    scene.fails(worker.0, 0, false);
    assert_eq!(scene.pool.loading(), None);

    let mut scene = Scene {
        limits: Vec::new(),
        ..Scene::new(plan(2, &[("a:A", None), ("b:B", None)]), &[])
    };
    scene.boots = false;
    let worker = WorkerId(1);
    scene.fails(worker.0, 0, false);
    scene.tell(PoolEvent::Limits {
        worker,
        limits: vec![None, None],
    });
    scene.tell(PoolEvent::WorkerReady(worker));
    assert_eq!(scene.pool.most(), None);
    let attempt = scene.spawned.last().expect("it is tried").0;
    scene.tell(PoolEvent::Limit {
        worker: attempt,
        app: 0,
        limit: Some(2),
    });
    let limits = scene.pool.serving.limits.clone();
    assert_eq!(limits, Some(vec![Some(2), None]));
}

#[test]
fn nobody_is_added_who_would_have_nothing() {
    let mut scene = Scene::new(plan(1, ONE_AND_TWO), &[]);
    scene.tell(PoolEvent::More(5));
    assert_eq!((scene.pool.wanted(), scene.pool.most()), (2, Some(2)));
    assert_eq!(scene.serving().len(), 2);
    assert!(
        scene
            .lines
            .iter()
            .any(|line| line.starts_with("More than 2 dirty workers"))
    );
}

#[test]
fn a_worker_without_any_application_ends_by_itself() {
    let mut scene = Scene::new(plan(1, &[("a:A", None)]), &[None]);
    scene.boots = false;
    scene.exits(1, Exit::Signal(9));
    scene.fails(2, 0, false);
    assert!(scene.signals.is_empty());
    assert_eq!(scene.spawned.len(), 2);
    scene.exits(2, Exit::Code(3));
    assert!(
        scene
            .lines
            .iter()
            .any(|line| line == "Dirty worker failed to boot (pid:102)")
    );
    assert_eq!(scene.spawned.len(), 3);
}

/// Stands for a worker whom the kernel ended.
const OUT_OF_MEMORY_HERE: Exit = Exit::Signal(99);

#[test]
fn who_took_the_last_memory_is_named() {
    let mut scene = Scene::new(plan(1, &[("a:A", Some(1))]), &[]);
    scene.exits(1, OUT_OF_MEMORY_HERE);
    let expected = "Dirty worker (pid:101) was ended by the kernel: the memory of its control group was used up";
    assert_eq!(scene.lines, [expected]);
}

#[test]
fn each_worker_of_an_application_is_another_of_its_workers() {
    let mut scene = Scene::new(plan(3, &[("a:A", Some(2)), ("b:B", Some(2))]), &[]);
    let of = |scene: &Scene, app: usize| {
        let workers = scene.pool.workers.values();
        let active = workers.filter(|record| record.is_active());
        let mut all: Vec<u32> = active
            .filter_map(|record| record.indexes.get(&app).copied())
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!((of(&scene, 0), of(&scene, 1)), (vec![0, 1], vec![0, 1]));
    // Who dies is followed by one with the same.
    let before = scene.pool.workers[&WorkerId(2)].indexes.clone();
    scene.exits(2, Exit::Signal(9));
    assert_eq!(scene.indexes, before.into_iter().collect::<Vec<_>>());
    // Also where applications have moved.
    scene.tell(PoolEvent::More(1));
    assert_eq!((of(&scene, 0), of(&scene, 1)), (vec![0, 1], vec![0, 1]));
    // And a successor is what its predecessor is.
    let last = *scene.serving.last().expect("they serve");
    let before = scene.pool.workers[&last].indexes.clone();
    scene.tell(PoolEvent::WorkerWantsReplacement(last));
    assert_eq!(scene.indexes, before.into_iter().collect::<Vec<_>>());
}

#[test]
fn who_is_not_called_rests_until_somebody_calls() {
    let mut scene = Scene::new(plan(2, ONE_AND_TWO), &[]);
    scene.tell(PoolEvent::WorkerIdle(WorkerId(1)));
    assert_eq!(scene.retired, [WorkerId(1)]);
    scene.exits(1, Exit::Code(0));
    assert_eq!(
        (scene.serving(), scene.spawned.len(), scene.pool.resting()),
        (vec![2], 2, 1)
    );
    // Whoever calls it waits for it, instead of being told that there is none.
    assert!(scene.expects("one:A"));
    assert_eq!(scene.pool.next_deadline(), None);
    let wanted = |path: &str| PoolEvent::Wanted {
        path: path.to_owned(),
    };
    scene.tell(wanted("two:B"));
    assert_eq!(scene.spawned.len(), 2);
    scene.tell(wanted("one:A"));
    assert_eq!((scene.serving(), scene.pool.resting()), (vec![2, 3], 0));
    assert_eq!(scene.pool.applications(WorkerId(3)), [0]);
}

#[test]
fn a_reload_wakes_all_and_waits_for_all() {
    let mut scene = Scene::new(plan(2, ONE_AND_TWO), &[]);
    for worker in [1, 2] {
        scene.tell(PoolEvent::WorkerIdle(WorkerId(worker)));
        scene.exits(worker, Exit::Code(0));
    }
    scene.boots = false;
    scene.tell(PoolEvent::Reload(plan(2, ONE_AND_TWO)));
    scene.tell(PoolEvent::WorkerReady(WorkerId(3)));
    assert_eq!(scene.pool.serving(), Generation(1));
    // A call meanwhile is not forgotten if the reload is given up.
    scene.tell(PoolEvent::Wanted {
        path: "two:B".to_owned(),
    });
    scene.fails(4, 1, false);
    assert_eq!(scene.pool.refused().0, 1);
    assert_eq!(scene.spawned.last(), Some(&(WorkerId(5), Some(vec![1]))));
    scene.tell(PoolEvent::Reload(plan(2, ONE_AND_TWO)));
    for worker in [6, 7] {
        scene.tell(PoolEvent::WorkerReady(WorkerId(worker)));
    }
    assert_eq!(
        (scene.pool.serving(), scene.pool.resting()),
        (Generation(3), 0)
    );
}
