//! Stories about templates: the processes that load a generation's application and fork its workers.

mod scenario;

use std::time::Duration;

use oxicorn_arbiter::{Command, Event, Exit, Generation, Plan, WorkerId};
use scenario::{Scenario, plan};

fn preloaded(workers: u32) -> Plan {
    Plan {
        preload_app: true,
        ..plan(workers)
    }
}

/// What templates do in a story.
impl Scenario {
    fn loads(&mut self, generation: u32) {
        self.event(Event::TemplateReady(Generation(generation)));
    }

    fn forks(&mut self, worker: u32) {
        self.event(Event::WorkerSpawned {
            worker: WorkerId(worker),
            pid: 100 + worker,
        });
    }

    fn template_exits(&mut self, generation: u32, exit: Exit) {
        let generation = Generation(generation);
        self.event(Event::TemplateExited { generation, exit });
    }

    fn serving_from_template(workers: u32) -> Self {
        Self::serving_from(preloaded(workers))
    }

    fn serving_from(plan: Plan) -> Self {
        let workers = plan.workers;
        let mut s = Self::booting(plan);
        s.event(Event::GatewayReady);
        s.loads(1);
        for worker in 1..=workers {
            s.forks(worker);
            s.ready(worker);
        }
        s.forget();
        s
    }
}

#[test]
fn one_loads_the_application_and_forks_the_workers_one_by_one() {
    let mut s = Scenario::new(preloaded(2));
    s.event(Event::Started);
    s.expect(["workers 2", "spawn gateway", "spawn template g1"]);
    s.event(Event::GatewayReady);
    s.expect(["serve g1"]);
    s.loads(1);
    s.expect(["spawn w1 g1"]);
    s.forks(1);
    s.expect(["attach w1", "spawn w2 g1"]);
    s.forks(2);
    s.expect(["attach w2"]);
    s.ready(1);
    s.ready(2);
    s.expect(["announce w1", "announce w2", "booted"]);
}

#[test]
fn without_workers_the_server_is_up_when_the_application_is_loaded() {
    let mut s = Scenario::booting(preloaded(0));
    s.event(Event::GatewayReady);
    s.expect(["serve g1"]);
    s.loads(1);
    s.expect(["booted"]);
}

#[test]
fn one_that_cannot_load_it_ends_the_first_boot_with_1() {
    let mut s = Scenario::booting(preloaded(1));
    s.template_exits(1, Exit::Code(1));
    s.expect(["# Template (pid:51) exited with code 1.", "stop gateway"]);
    s.event(Event::GatewayExited(Exit::Code(0)));
    s.expect([
        "# Shutting down: Master",
        "# Reason: App failed to load.",
        "exit 1",
    ]);
}

#[test]
fn a_stop_does_not_wait_for_one_that_loads() {
    for command in [Command::Terminate, Command::Interrupt] {
        let mut s = Scenario::booting(preloaded(1));
        s.event(Event::GatewayReady);
        s.forget();
        s.command(command);
        assert!(s.did("kill template g1"));
        s.template_exits(1, Exit::Signal(9));
        s.event(Event::GatewayExited(Exit::Code(0)));
        assert!(s.did("exit 0"));
    }
}

#[test]
fn one_that_has_loaded_may_end_by_itself_at_a_stop() {
    let mut s = Scenario::serving_from_template(1);
    s.term();
    assert!(s.did("stop template g1"));
    s.forget();
    s.after_s(2);
    assert!(s.did("kill template g1"));
}

#[test]
fn a_reload_begins_with_a_template_of_its_own_and_ends_the_old_one() {
    let mut s = Scenario::serving_from_template(1);
    s.reload(preloaded(1));
    s.expect([
        "# Handling signal: hup",
        "# Hang up: Master",
        "load g2",
        "spawn template g2",
    ]);
    s.loads(2);
    s.expect(["spawn w2 g2"]);
    s.forks(2);
    s.ready(2);
    s.expect([
        "attach w2",
        "announce w2",
        "serve g2",
        "TERM w1",
        "retire w1",
        "# Reloaded: generation 2 serves",
        "stop template g1",
    ]);
    s.template_exits(1, Exit::Code(0));
    s.expect([]);
}

#[test]
fn preloading_may_be_switched_on_and_off_by_a_reload() {
    let mut s = Scenario::serving(1);
    s.reload(preloaded(1));
    assert!(s.did("spawn template g2"));
    s.loads(2);
    s.forks(2);
    s.ready(2);
    assert!(s.did("serve g2"));
    s.exits(1, 0);
    s.forget();
    s.reload(plan(1));
    assert!(s.did("spawn w3 g3"));
    s.ready(3);
    assert!(s.did("stop template g2"));
}

#[test]
fn code_that_cannot_be_loaded_or_ends_its_process_gives_up_the_reload() {
    for exit in [Exit::Code(1), Exit::Code(0), Exit::Signal(11)] {
        let mut s = Scenario::serving_from_template(1);
        s.reload(preloaded(1));
        s.forget();
        s.template_exits(2, exit);
        assert!(s.did("abandon g2 failed"));
        assert!(s.did(
            "# Reload failed, generation 2 is given up, generation 1 goes on serving. \
             Reason: App failed to load."
        ));
        s.forget();
        s.is_killed(1);
        assert!(s.did("spawn w2 g1"), "from the old template");
    }
}

#[test]
fn a_worker_killed_while_new_code_is_loaded_is_replaced_from_the_old_template() {
    let mut s = Scenario::serving_from_template(2);
    s.reload(preloaded(2));
    s.forget();
    s.is_killed(1);
    s.expect([
        "# Worker (pid:101) was sent SIGKILL! Perhaps out of memory?",
        "forget w1",
        "reaped w1",
        "spawn w3 g1",
    ]);
    s.forks(3);
    s.ready(3);
    s.expect(["attach w3", "announce w3"]);
}

#[test]
fn a_dead_one_is_replaced_and_a_worker_asked_for_meanwhile_waits() {
    let mut s = Scenario::serving_from_template(1);
    s.template_exits(1, Exit::Signal(9));
    s.expect([
        "# Template (pid:51) was sent SIGKILL! Perhaps out of memory?",
        "spawn template g1",
    ]);
    s.is_killed(1);
    s.forget();
    s.loads(1);
    s.expect(["spawn w2 g1"]);
}

#[test]
fn one_that_dies_while_it_forks_leaves_no_worker_behind() {
    let mut s = Scenario::serving_from_template(1);
    s.is_killed(1);
    assert!(s.did("spawn w2 g1"));
    s.forget();
    s.template_exits(1, Exit::Signal(11));
    assert!(s.did("spawn template g1"));
    s.forget();
    s.loads(1);
    s.expect(["spawn w3 g1"]);
}

#[test]
fn one_that_loads_too_long_shows_its_stacks_and_the_next_has_twice_the_time() {
    let boot_timeout = Duration::from_secs(7);
    let mut s = Scenario::booting(Plan {
        boot_timeout,
        ..preloaded(1)
    });
    s.after_s(7);
    s.expect([
        "# TEMPLATE TIMEOUT (pid:51)",
        "dump template g1",
        "# Template (pid:51) had not loaded the application after 7 s (boot_timeout). The next one has 14 s.",
    ]);
    s.after_s(1);
    s.expect(["kill template g1"]);
    s.template_exits(1, Exit::Signal(9));
    s.expect(["spawn template g1"]);
    s.after_s(13);
    s.expect([]);
    s.after_s(1);
    assert!(s.did("dump template g1"));
}

#[test]
fn a_reload_that_loads_too_long_is_given_up() {
    let boot_timeout = Duration::from_secs(7);
    let plan = Plan {
        boot_timeout,
        ..preloaded(1)
    };
    let mut s = Scenario::serving_from(plan.clone());
    s.reload(plan);
    s.forget();
    s.after_s(7);
    assert!(s.did("dump template g2"));
    assert!(s.did(
        "# Reload failed, generation 2 is given up, generation 1 goes on serving. \
         Reason: App was not loaded in time (boot_timeout)."
    ));
    s.after_s(1);
    assert!(s.did("kill template g2"));
}

#[test]
fn one_that_hangs_in_a_fork_is_replaced() {
    let boot_timeout = Duration::from_secs(7);
    let mut s = Scenario::serving_from(Plan {
        boot_timeout,
        ..preloaded(1)
    });
    s.is_killed(1);
    s.forget();
    s.after_s(8);
    s.expect([
        "# TEMPLATE TIMEOUT (pid:51)",
        "dump template g1",
        "# Template (pid:51) stands still in a fork (a hook, or what the application does then).",
        "kill template g1",
    ]);
    s.template_exits(1, Exit::Signal(9));
    s.loads(1);
    s.expect(["spawn template g1", "spawn w3 g1"]);
}
