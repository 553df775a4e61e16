//! Stories: one behaviour each, told from the outside.

mod scenario;

use std::time::Duration;

use oxicorn_arbiter::{Command, Event, Exit, Plan, WorkerId, WorkerState};
use scenario::{Scenario, plan};

#[test]
fn starts_the_gateway_before_the_workers_and_serves_as_soon_as_one_is_ready() {
    let mut s = Scenario::new(plan(2));
    s.event(Event::Started);
    s.expect(["workers 2", "spawn gateway", "spawn w1 g1", "spawn w2 g1"]);
    s.ready(1);
    s.expect([]);
    s.event(Event::GatewayReady);
    s.expect(["attach w1", "announce w1", "attach w2", "serve g1"]);
    s.ready(2);
    s.expect(["announce w2", "booted"]);
}

#[test]
fn runs_without_workers_until_ttin() {
    let mut s = Scenario::new(plan(0));
    s.event(Event::Started);
    s.event(Event::GatewayReady);
    s.expect(["workers 0", "spawn gateway", "serve g1", "booted"]);
    s.command(Command::FewerWorkers);
    s.expect(["# Handling signal: ttou"]);
    s.command(Command::MoreWorkers);
    s.expect([
        "# Handling signal: ttin",
        "workers 0 -> 1",
        "spawn w1 g1",
        "attach w1",
    ]);
}

// --- the vanguard ---------------------------------------------------------------------------------------------------

/// Somebody starts with fewer processors than workers; the gateway is ready at once.
fn crowded(workers: u32, processors: u32) -> Scenario {
    let mut s = Scenario::booting(Plan {
        processors,
        ..plan(workers)
    });
    s.event(Event::GatewayReady);
    s
}

/// How many workers have been ordered.
fn ordered(s: &Scenario) -> usize {
    s.arbiter.workers().count()
}

#[test]
fn where_processors_are_scarce_the_others_wait_until_the_first_worker_is_ready() {
    let mut s = crowded(3, 2);
    s.forget();
    s.ready(1);
    s.expect([
        "announce w1",
        "spawn w2 g1",
        "spawn w3 g1",
        "attach w2",
        "attach w3",
    ]);
}

#[test]
fn as_many_boot_at_first_as_find_a_processor_beside_the_gateway() {
    let starts = [
        (4, 1, 1),
        (4, 2, 1),
        (4, 4, 3),
        (4, 5, 4),
        (1, 1, 1),
        (2, 8, 2),
    ];
    for (workers, processors, first) in starts {
        let s = crowded(workers, processors);
        assert_eq!(ordered(&s), first, "{workers} on {processors}");
    }
}

#[test]
fn a_first_worker_that_hangs_holds_up_the_others_for_a_moment_only() {
    let mut s = crowded(3, 1);
    s.after_ms(199);
    assert_eq!(ordered(&s), 1);
    s.after_ms(1);
    assert_eq!(ordered(&s), 3);
}

#[test]
fn the_time_of_the_vanguard_begins_once() {
    let mut s = crowded(3, 1);
    s.after_ms(150);
    s.is_killed(1);
    assert_eq!(ordered(&s), 1);
    assert!(s.did("spawn w2 g1"));
    s.after_ms(50);
    assert_eq!(ordered(&s), 3);
}

#[test]
fn whoever_comes_later_waits_for_nobody() {
    let mut s = crowded(3, 1);
    s.ready(1);
    s.is_killed(1);
    assert_eq!(ordered(&s), 3);
    s.command(Command::Reload);
    s.event(Event::ConfigurationLoaded(Plan {
        processors: 1,
        ..plan(3)
    }));
    assert_eq!(ordered(&s), 6);
}

#[test]
fn a_reload_in_the_moment_of_the_vanguard_waits_for_nobody() {
    let mut s = crowded(3, 1);
    s.command(Command::Reload);
    s.event(Event::ConfigurationLoaded(Plan {
        processors: 1,
        ..plan(3)
    }));
    assert!(s.did("spawn w4 g2"));
}

// --- death and back-off ---------------------------------------------------------------------------------------------

#[test]
fn a_killed_worker_is_forgotten_reaped_and_replaced_at_once() {
    let mut s = Scenario::serving(2);
    s.is_killed(1);
    s.expect([
        "# Worker (pid:101) was sent SIGKILL! Perhaps out of memory?",
        "forget w1",
        "reaped w1",
        "spawn w3 g1",
        "attach w3",
    ]);
}

#[test]
fn all_killed_in_one_blow_are_replaced_at_once() {
    let mut s = Scenario::serving(4);
    for worker in 1..=4 {
        s.is_killed(worker);
    }
    assert!(s.did("spawn w8 g1"));
}

#[test]
fn young_deaths_in_a_row_wait_longer_and_longer() {
    let mut s = Scenario::serving(1);
    s.is_killed(1);
    assert!(s.did("spawn w2 g1"));
    for (worker, wait_ms) in [(2, 100), (3, 200), (4, 400), (5, 800)] {
        s.ready(worker);
        s.forget();
        s.exits(worker, 1);
        s.after_ms(wait_ms - 1);
        let next = format!("spawn w{} g1", worker + 1);
        assert!(!s.did(&next));
        s.after_ms(1);
        assert!(s.did(&next));
    }
}

#[test]
fn a_wait_that_has_become_long_is_told_of() {
    let mut s = Scenario::serving(1);
    for worker in 1..=4 {
        s.is_killed(worker);
        s.after_ms(400);
    }
    s.forget();
    s.is_killed(5);
    s.expect([
        "# Worker (pid:105) was sent SIGKILL! Perhaps out of memory?",
        "forget w5",
        "reaped w5",
        "# Workers died within 10 s of their start, 5 times in a row. The next start is in 0.8 s; a reload (HUP) \
         tries at once.",
    ]);
}

#[test]
fn a_worker_that_grew_old_is_replaced_at_once_however_often() {
    let mut s = Scenario::serving(1);
    for worker in 1..20 {
        s.after_s(10);
        s.is_killed(worker);
        assert!(s.did(&format!("spawn w{} g1", worker + 1)));
        s.ready(worker + 1);
    }
}

#[test]
fn a_refused_fork_is_tried_again_with_back_off() {
    let mut s = Scenario::serving(1);
    s.forks_fail(true);
    s.is_killed(1);
    s.forget();
    s.after_ms(99);
    s.expect([]);
    s.forks_fail(false);
    s.after_ms(1);
    s.expect(["spawn w3 g1", "attach w3"]);
}

#[test]
fn a_stale_notice_at_the_end_of_the_back_off_does_not_lose_the_wake_up() {
    let mut s = Scenario::serving(1);
    s.is_killed(1);
    s.exits(2, 1);
    s.forget();
    s.now += Duration::from_millis(100);
    s.ready(2);
    s.after_ms(1);
    assert!(s.did("spawn w3 g1"));
}

#[test]
fn a_clean_exit_of_its_own_is_replaced_without_a_word() {
    let mut s = Scenario::serving(1);
    s.exits(1, 0);
    s.expect(["forget w1", "reaped w1", "spawn w2 g1", "attach w2"]);
}

// --- first boot -----------------------------------------------------------------------------------------------------

#[test]
fn a_first_boot_that_fails_ends_the_server_with_its_code() {
    let mut s = Scenario::booting(plan(2));
    s.event(Event::GatewayReady);
    s.forget();
    s.exits(1, 3);
    s.expect([
        "# Worker (pid:101) exited with code 3.",
        "forget w1",
        "reaped w1",
        "stop gateway",
        "QUIT w2",
    ]);
    s.exits(2, 4);
    s.event(Event::GatewayExited(Exit::Code(0)));
    s.expect([
        "# Worker (pid:102) exited with code 4.",
        "reaped w2",
        "# Shutting down: Master",
        "# Reason: Worker failed to boot.",
        "exit 3",
    ]);
}

#[test]
fn a_process_that_ends_itself_in_the_first_boot_ends_the_server_unless_its_code_is_0() {
    for code in [1, 42, 255] {
        let mut s = Scenario::booting(plan(1));
        s.forget();
        s.exits(1, code);
        let line = format!("# Worker (pid:101) exited with code {code} before it was ready.");
        assert!(s.did(&line), "{code}");
        s.event(Event::GatewayExited(Exit::Code(0)));
        assert!(s.did("# Reason: Worker failed to boot."), "{code}");
        assert!(s.did("exit 3"), "{code}");
    }
    let mut s = Scenario::booting(plan(1));
    s.forget();
    s.exits(1, 0);
    assert!(s.did("# Worker (pid:101) exited with code 0 before it was ready."));
    assert!(!s.arbiter.is_stopping());
    s.after_ms(100);
    assert!(s.did("spawn w2 g1"));
}

#[test]
fn a_worker_that_dies_of_the_signal_it_was_sent_is_not_worth_a_line() {
    let mut s = Scenario::booting(plan(2));
    s.exits(1, 3);
    s.forget();
    s.event(Event::WorkerExited {
        worker: WorkerId(2),
        exit: Exit::Signal(3),
    });
    s.expect(["reaped w2"]);
}

#[test]
fn an_application_that_is_not_found_ends_the_server_with_4() {
    let mut s = Scenario::booting(plan(1));
    s.exits(1, 4);
    s.event(Event::GatewayExited(Exit::Code(0)));
    assert!(s.did("# Reason: App failed to load."));
    assert!(s.did("exit 4"));
}

#[test]
fn a_failed_first_boot_finishes_what_others_serve_already() {
    let mut s = Scenario::booting(plan(2));
    s.event(Event::GatewayReady);
    s.ready(1);
    s.forget();
    s.cannot_boot(2);
    s.expect(["TERM w1", "drain gateway 30s"]);
    s.event(Event::GatewayDrained);
    s.expect(["release w1"]);
}

#[test]
fn a_worker_that_says_it_cannot_boot_need_not_be_waited_for() {
    let mut s = Scenario::booting(plan(1));
    s.cannot_boot(1);
    s.expect(["stop gateway"]);
    s.after_s(2);
    s.expect(["KILL w1", "kill gateway"]);
}

#[test]
fn a_worker_of_the_wrong_class_makes_room_at_once_and_is_no_loss() {
    let mut s = Scenario::booting(plan(2));
    s.event(Event::GatewayReady);
    s.forget();
    s.is_a_misfit(1);
    assert!(s.did("spawn w3 g1"));
    s.is_a_misfit(2);
    assert!(s.did("spawn w4 g1"));
    s.forget();
    s.exits(1, 0);
    s.exits(2, 0);
    s.expect(["forget w1", "reaped w1", "forget w2", "reaped w2"]);
}

#[test]
fn a_reload_to_another_class_is_not_given_up() {
    let mut s = Scenario::serving(1);
    s.reload(plan(1));
    s.forget();
    s.is_a_misfit(2);
    s.exits(2, 0);
    assert!(s.did("spawn w3 g2"));
    s.ready(3);
    assert!(s.did("serve g2"));
}

#[test]
fn a_later_boot_failure_is_tried_again_and_nobody_else_stops() {
    let mut s = Scenario::serving(2);
    s.is_killed(1);
    s.forget();
    s.exits(3, 3);
    s.expect([
        "# Worker (pid:103) exited with code 3.",
        "forget w3",
        "reaped w3",
    ]);
    s.after_ms(100);
    s.expect(["spawn w4 g1", "attach w4"]);
    assert!(!s.arbiter.is_stopping());
}

#[test]
fn a_gateway_that_never_gets_ready_ends_the_server() {
    let mut s = Scenario::booting(plan(1));
    s.event(Event::GatewayExited(Exit::Code(1)));
    s.expect(["# Gateway (pid:11) exited with code 1.", "QUIT w1"]);
    s.exits(1, 0);
    s.expect([
        "reaped w1",
        "# Shutting down: Master",
        "# Reason: Gateway failed to boot.",
        "exit 1",
    ]);
}

#[test]
fn a_gateway_that_cannot_boot_ends_the_server_with_its_code() {
    let mut s = Scenario::booting(plan(0));
    s.event(Event::GatewayExited(Exit::Code(3)));
    s.expect([
        "# Gateway (pid:11) exited with code 3.",
        "# Shutting down: Master",
        "# Reason: Gateway failed to boot.",
        "exit 3",
    ]);
}

// --- reload ---------------------------------------------------------------------------------------------------------

#[test]
fn hup_moves_when_all_new_workers_are_ready_and_then_retires_the_old() {
    let mut s = Scenario::serving(2);
    s.command(Command::Reload);
    s.expect(["# Handling signal: hup", "# Hang up: Master", "load g2"]);
    s.event(Event::ConfigurationLoaded(plan(2)));
    s.expect(["spawn w3 g2", "spawn w4 g2", "attach w3", "attach w4"]);
    s.ready(4);
    s.expect(["announce w4"]);
    s.ready(3);
    s.expect([
        "announce w3",
        "serve g2",
        "TERM w1",
        "retire w1",
        "TERM w2",
        "retire w2",
        "# Reloaded: generation 2 serves",
    ]);
    s.drained(2);
    s.expect(["release w2"]);
    s.exits(2, 0);
    s.expect(["forget w2", "reaped w2"]);
    s.after_s(30);
    s.expect(["# Worker graceful timeout (pid:101)", "QUIT w1"]);
    s.after_s(2);
    s.expect(["KILL w1"]);
    s.is_killed(1);
    s.expect([
        "# Worker (pid:101) was sent SIGKILL!",
        "forget w1",
        "reaped w1",
    ]);
}

#[test]
fn a_generation_that_cannot_boot_is_given_up_and_the_old_one_serves_on() {
    let mut s = Scenario::serving(2);
    s.reload(plan(2));
    s.ready(3);
    s.forget();
    s.cannot_boot(4);
    s.expect([
        "TERM w3",
        "retire w3",
        "release w3",
        "abandon g2 failed",
        "# Reload failed, generation 2 is given up, generation 1 goes on serving. \
         Reason: Worker failed to boot.",
    ]);
    s.exits(4, 3);
    s.exits(3, 0);
    assert_eq!(s.ready_of(1), 2);
    assert_eq!(s.arbiter.loading(), None);
    s.forget();
    s.after_s(100);
    s.expect([]);
}

#[test]
fn a_generation_whose_workers_die_is_given_up_after_three() {
    let mut s = Scenario::serving(1);
    s.reload(plan(1));
    s.is_killed(2);
    s.is_killed(3);
    s.after_ms(100);
    assert_eq!(s.arbiter.loading().map(|g| g.0), Some(2));
    s.forget();
    s.is_killed(4);
    s.expect([
        "# Worker (pid:104) was sent SIGKILL! Perhaps out of memory?",
        "forget w4",
        "reaped w4",
        "abandon g2 failed",
        "# Reload failed, generation 2 is given up, generation 1 goes on serving. \
         Reason: Workers died before they were ready.",
    ]);
}

#[test]
fn an_invalid_configuration_changes_nothing() {
    let mut s = Scenario::serving(1);
    s.command(Command::Reload);
    s.forget();
    s.event(Event::ConfigurationRefused);
    s.expect([
        "# Reload failed, generation 2 is given up, generation 1 goes on serving. \
               Reason: Configuration is not valid.",
    ]);
    s.command(Command::Reload);
    assert!(s.did("load g3"));
}

#[test]
fn a_hook_that_raises_is_not_called_an_invalid_configuration() {
    let mut s = Scenario::serving(1);
    s.command(Command::Reload);
    s.forget();
    s.event(Event::ReloadHookFailed);
    s.expect([
        "# Reload failed, generation 2 is given up, generation 1 goes on serving. \
               Reason: Hook on_reload raised an exception.",
    ]);
}

#[test]
fn a_hook_that_raises_before_the_first_fork_ends_the_server() {
    let mut s = Scenario::new(plan(2));
    s.pre_fork_raises(true);
    s.event(Event::Started);
    s.event(Event::GatewayExited(Exit::Code(0)));
    assert!(s.did("# Reason: Hook pre_fork raised an exception."));
    assert!(s.did("exit 255"));
}

#[test]
fn a_hook_that_raises_before_a_fork_gives_up_the_reload_and_costs_a_serving_server_nothing() {
    let mut s = Scenario::serving(1);
    s.pre_fork_raises(true);
    s.reload(plan(1));
    assert!(s.did("abandon g2 failed"));
    assert_eq!(s.ready_of(1), 1);
    s.is_killed(1);
    s.pre_fork_raises(false);
    s.after_s(1);
    assert!(s.did("spawn w4 g1"), "it is tried again");
}

#[test]
fn the_newest_reload_wins() {
    let mut s = Scenario::serving(2);
    s.reload(plan(2));
    s.ready(3);
    s.forget();
    s.reload(plan(1));
    s.expect([
        "# Handling signal: hup",
        "# Hang up: Master",
        "load g3",
        "TERM w3",
        "retire w3",
        "release w3",
        "QUIT w4",
        "abandon g2 unneeded",
        "workers 2 -> 1",
        "spawn w5 g3",
        "attach w5",
    ]);
    s.ready(5);
    assert_eq!(s.arbiter.serving().0, 3);
}

#[test]
fn a_hup_while_the_configuration_is_read_reads_it_again() {
    let mut s = Scenario::serving(1);
    s.command(Command::Reload);
    s.command(Command::Reload);
    s.forget();
    s.event(Event::ConfigurationLoaded(plan(1)));
    s.expect(["abandon g2 unneeded", "load g3"]);
    s.event(Event::ConfigurationLoaded(plan(1)));
    s.expect(["spawn w2 g3", "attach w2"]);
}

#[test]
fn a_reload_on_the_heels_of_another_boots_at_once() {
    let mut s = Scenario::serving(2);
    s.complete_reload(3, 2);
    s.forget();
    s.reload(plan(2));
    assert!(s.did("spawn w5 g3") && s.did("spawn w6 g3"));
}

#[test]
fn a_reload_behind_two_that_still_drain_waits_for_room_and_says_so() {
    let mut s = Scenario::serving(2);
    s.complete_reload(3, 2);
    s.complete_reload(5, 2);
    s.forget();
    s.reload(plan(2));
    s.expect([
        "# Handling signal: hup",
        "# Hang up: Master",
        "load g4",
        "# Reload: generation 4 waits until some of 4 workers of earlier generations have ended \
         (graceful_timeout at most)",
    ]);
    s.drained(1);
    s.exits(1, 0);
    s.expect([
        "release w1",
        "forget w1",
        "reaped w1",
        "spawn w7 g4",
        "attach w7",
    ]);
}

#[test]
fn ttin_is_remembered_across_hup() {
    let mut s = Scenario::serving(1);
    s.command(Command::MoreWorkers);
    s.ready(2);
    s.reload(plan(1));
    assert_eq!(s.arbiter.wanted(), 2);
}

#[test]
fn a_changed_setting_replaces_what_ttin_said() {
    let mut s = Scenario::serving(1);
    s.command(Command::MoreWorkers);
    s.ready(2);
    s.forget();
    s.reload(plan(4));
    assert!(s.did("workers 2 -> 4"));
}

#[test]
fn ttin_during_a_reload_counts_for_both_generations() {
    let mut s = Scenario::serving(1);
    s.reload(plan(1));
    s.forget();
    s.command(Command::MoreWorkers);
    s.expect([
        "# Handling signal: ttin",
        "workers 1 -> 2",
        "spawn w3 g2",
        "attach w3",
    ]);
    s.cannot_boot(2);
    // The old generation goes on, and gets the one it was promised.
    s.exits(3, 0);
    s.exits(2, 3);
    assert!(s.did("spawn w4 g1"));
    assert_eq!(s.arbiter.wanted(), 2);
}

#[test]
fn ttou_during_a_reload_may_complete_it() {
    let mut s = Scenario::serving(2);
    s.reload(plan(2));
    s.ready(4);
    s.forget();
    s.command(Command::FewerWorkers);
    s.expect([
        "# Handling signal: ttou",
        "workers 2 -> 1",
        "serve g2",
        "TERM w1",
        "retire w1",
        "TERM w2",
        "retire w2",
        "# Reloaded: generation 2 serves",
        "QUIT w3",
    ]);
}

#[test]
fn the_old_generation_gets_no_new_workers_during_a_reload_but_after_it_failed() {
    let mut s = Scenario::serving(2);
    s.reload(plan(2));
    s.forget();
    s.is_killed(1);
    assert!(!s.take_done().iter().any(|done| done.starts_with("spawn")));
    s.cannot_boot(3);
    assert!(s.did("spawn w5 g1"));
}

#[test]
fn the_new_generation_serves_early_if_the_old_one_is_lost() {
    let mut s = Scenario::serving(2);
    s.reload(plan(2));
    s.is_killed(1);
    s.is_killed(2);
    s.forget();
    s.ready(3);
    s.expect(["announce w3", "serve g2", "# Reloaded: generation 2 serves"]);
}

#[test]
fn an_old_worker_that_hangs_in_its_boot_does_not_block_a_reload() {
    let mut s = Scenario::serving(1);
    s.wants_successor(1);
    assert_eq!(s.state(2), Some(WorkerState::Booting));
    s.forget();
    s.reload(plan(1));
    assert!(s.did("QUIT w2"));
    s.exits(2, 0);
    assert!(s.did("spawn w3 g2"));
    s.ready(3);
    assert_eq!(s.arbiter.serving().0, 2);
}

#[test]
fn a_reload_starts_the_back_off_over() {
    let mut s = Scenario::serving(1);
    s.is_killed(1);
    for worker in 2..9 {
        s.exits(worker, 1);
        s.after_s(7);
    }
    s.exits(9, 1);
    s.forget();
    s.reload(plan(1));
    assert!(s.did("spawn w10 g2"));
}

// --- replacement ----------------------------------------------------------------------------------------------------

#[test]
fn the_successor_is_ready_before_the_predecessor_is_retired() {
    let mut s = Scenario::serving(1);
    s.wants_successor(1);
    s.expect(["spawn w2 g1", "attach w2"]);
    s.ready(2);
    s.expect(["announce w2", "TERM w1", "retire w1"]);
    s.drained(1);
    s.exits(1, 0);
    s.expect(["release w1", "forget w1", "reaped w1"]);
}

#[test]
fn a_worker_beyond_the_number_wanted_takes_the_place_of_the_oldest() {
    let mut s = Scenario::serving(2);
    s.event(Event::SpawnRequested);
    s.expect(["spawn w3 g1", "attach w3"]);
    // Asked for again before it is there: the next one's turn comes after it.
    s.event(Event::SpawnRequested);
    s.expect([""; 0]);
    s.ready(3);
    s.expect(["announce w3", "TERM w1", "retire w1"]);
    s.drained(1);
    s.exits(1, 0);
    assert!(s.did("spawn w4 g1"));
    s.ready(4);
    assert!(s.did("TERM w2"));
}

#[test]
fn nobody_is_asked_for_where_all_leave_or_boot() {
    let mut s = Scenario::serving(1);
    s.wants_successor(1);
    s.forget();
    s.event(Event::SpawnRequested);
    s.expect([""; 0]);
}

#[test]
fn workers_that_ask_together_are_replaced_in_turn() {
    let mut s = Scenario::serving(3);
    for worker in 1..=3 {
        s.wants_successor(worker);
    }
    s.expect(["spawn w4 g1", "attach w4"]);
    s.ready(4);
    s.expect(["announce w4", "TERM w1", "retire w1"]);
    s.drained(1);
    s.expect(["release w1"]);
    s.exits(1, 0);
    s.expect(["forget w1", "reaped w1", "spawn w5 g1", "attach w5"]);
}

#[test]
fn a_successor_that_cannot_boot_leaves_the_predecessor_serving() {
    let mut s = Scenario::serving(1);
    s.wants_successor(1);
    s.forget();
    s.exits(2, 3);
    s.expect([
        "# Worker (pid:102) exited with code 3.",
        "forget w2",
        "reaped w2",
        "spawn w3 g1",
        "attach w3",
    ]);
    assert_eq!(s.state(1), Some(WorkerState::Ready { outgoing: true }));
}

#[test]
fn a_predecessor_that_dies_before_its_successor_is_ready_needs_no_second_one() {
    let mut s = Scenario::serving(1);
    s.wants_successor(1);
    s.forget();
    s.is_killed(1);
    s.after_s(60);
    assert!(!s.take_done().iter().any(|done| done.starts_with("spawn")));
}

#[test]
fn ttou_retires_the_oldest() {
    let mut s = Scenario::serving(3);
    s.command(Command::FewerWorkers);
    s.expect([
        "# Handling signal: ttou",
        "workers 3 -> 2",
        "TERM w1",
        "retire w1",
    ]);
}

#[test]
fn ttou_rather_takes_one_that_does_not_serve_yet() {
    let mut s = Scenario::serving(2);
    s.command(Command::MoreWorkers);
    s.forget();
    s.command(Command::FewerWorkers);
    s.expect(["# Handling signal: ttou", "workers 3 -> 2", "QUIT w3"]);
}

#[test]
fn ttin_and_ttou_in_turn_do_not_fill_the_machine() {
    let mut s = Scenario::serving(1);
    for _ in 0..20 {
        s.command(Command::MoreWorkers);
        if let Some(newest) = s.arbiter.workers().last().map(|w| w.id().0) {
            s.ready(newest);
        }
        s.command(Command::FewerWorkers);
        assert!(s.arbiter.workers().count() <= 3 * 2);
    }
    assert_eq!(s.ready_of(1), 1);
}

#[test]
fn ttou_never_goes_below_one() {
    let mut s = Scenario::serving(1);
    s.command(Command::FewerWorkers);
    s.expect(["# Handling signal: ttou"]);
}

// --- expiry ---------------------------------------------------------------------------------------------------------

#[test]
fn an_expired_request_dumps_the_stacks_and_replaces_the_worker() {
    let mut s = Scenario::serving(1);
    s.expires(1, 0);
    s.expect([
        "# WORKER TIMEOUT (pid:101)",
        "dump w1",
        "retire w1",
        "ABRT w1",
        "spawn w2 g1",
        "attach w2",
    ]);
    s.after_s(1);
    s.expect(["KILL w1"]);
}

#[test]
fn the_others_of_an_expired_worker_are_finished_first() {
    let mut s = Scenario::serving(1);
    s.expires(1, 2);
    s.expect([
        "# WORKER TIMEOUT (pid:101)",
        "dump w1",
        "retire w1",
        "spawn w2 g1",
        "attach w2",
    ]);
    s.after_s(29);
    s.expect([]);
    s.drained(1);
    s.expect(["ABRT w1"]);
}

#[test]
fn the_others_of_an_expired_worker_have_the_graceful_timeout() {
    let mut s = Scenario::serving(1);
    s.expires(1, 2);
    s.forget();
    s.after_s(10);
    s.expires(1, 1);
    s.expect(["# WORKER TIMEOUT (pid:101)", "dump w1"]);
    s.after_s(20);
    s.expect(["ABRT w1"]);
    s.after_s(1);
    s.expect(["KILL w1"]);
}

#[test]
fn a_server_where_everything_expires_does_not_fill_the_machine() {
    let mut s = Scenario::serving(2);
    for worker in 1..=4 {
        s.expires(worker, 1);
        s.ready(worker + 2);
    }
    // Two were wanted, two more for the first two expired; the others wait until one of these is gone.
    assert_eq!(s.arbiter.workers().count(), 4);
    s.forget();
    s.drained(1);
    s.exits(1, 1);
    assert!(s.did("spawn w5 g1"));
}

#[test]
fn a_worker_whose_heart_stands_still_is_aborted_even_while_it_boots() {
    let mut s = Scenario::serving(1);
    s.wants_successor(1);
    s.forget();
    s.event(Event::HeartbeatMissed(WorkerId(2)));
    assert!(s.did("# WORKER TIMEOUT (pid:102)"));
    assert!(s.did("ABRT w2"));
    s.after_s(1);
    assert!(s.did("KILL w2"));
}

fn timed(workers: u32) -> Plan {
    Plan {
        boot_timeout: Duration::from_secs(30),
        ..plan(workers)
    }
}

#[test]
fn a_worker_that_is_not_ready_in_time_is_replaced_even_on_the_first_boot() {
    let mut s = Scenario::booting(timed(1));
    s.event(Event::GatewayReady);
    s.forget();
    s.after_s(29);
    s.expect([]);
    s.after_s(1);
    s.expect([
        "# WORKER TIMEOUT (pid:101)",
        "dump w1",
        "ABRT w1",
        "# Worker (pid:101) was not ready after 30 s (boot_timeout). The next one has 60 s.",
        "spawn w2 g1",
        "attach w2",
    ]);
    s.after_s(1);
    s.expect(["KILL w1"]);
    s.is_killed(1);
    s.forget();
    s.after_s(58);
    s.expect([]);
    s.ready(2);
    s.forget();
    s.after_s(1000);
    s.expect([]);
}

#[test]
fn several_that_are_late_together_double_the_time_once() {
    let mut s = Scenario::booting(timed(3));
    s.after_s(30);
    let next = " was not ready after 30 s (boot_timeout). The next one has 60 s.";
    for pid in 101..=103 {
        assert!(s.did(&format!("# Worker (pid:{pid}){next}")));
    }
    s.forget();
    s.after_s(60);
    assert!(s.did(
        "# Worker (pid:104) was not ready after 60 s (boot_timeout). The next one has 120 s."
    ));
}

#[test]
fn a_successor_that_hangs_in_its_boot_leaves_the_predecessor_serving() {
    let mut s = Scenario::serving_plan(timed(1));
    s.wants_successor(1);
    s.forget();
    s.after_s(30);
    assert!(s.did("# WORKER TIMEOUT (pid:102)"));
    s.exits(2, 1);
    assert!(s.did("spawn w3 g1"));
    assert_eq!(s.state(1), Some(WorkerState::Ready { outgoing: true }));
}

#[test]
fn a_generation_that_hangs_in_its_boot_is_given_up_and_the_old_one_serves_on() {
    let mut s = Scenario::serving_plan(timed(2));
    s.reload(timed(2));
    s.ready(3);
    s.forget();
    s.after_s(30);
    s.expect([
        "# WORKER TIMEOUT (pid:104)",
        "dump w4",
        "ABRT w4",
        "# Worker (pid:104) was not ready after 30 s (boot_timeout). The next one has 60 s.",
        "TERM w3",
        "retire w3",
        "release w3",
        "abandon g2 failed",
        "# Reload failed, generation 2 is given up, generation 1 goes on serving. \
         Reason: Worker was not ready in time (boot_timeout).",
    ]);
    s.exits(3, 0);
    s.forget();
    s.after_s(1);
    s.expect(["KILL w4"]);
    s.is_killed(4);
    s.forget();
    s.after_s(100);
    s.expect([]);
    // The next reload has learned how long it takes.
    s.reload(timed(2));
    s.forget();
    s.after_s(59);
    s.expect([]);
}

#[test]
fn without_boot_timeout_a_boot_may_take_any_time() {
    let mut s = Scenario::booting(plan(1));
    s.after_s(100_000);
    s.expect([]);
}

#[test]
fn a_worker_that_writes_nonsense_is_killed_and_replaced() {
    let mut s = Scenario::serving(1);
    s.event(Event::WorkerFault(WorkerId(1)));
    s.expect([
        "# Worker (pid:101) wrote nonsense to the gateway; killing it.",
        "KILL w1",
        "spawn w2 g1",
        "attach w2",
    ]);
}

// --- gateway --------------------------------------------------------------------------------------------------------

#[test]
fn a_killed_gateway_is_replaced_and_the_workers_stay() {
    let mut s = Scenario::serving(2);
    s.gateway_is_killed();
    s.expect([
        "# Gateway (pid:11) was sent SIGKILL! Perhaps out of memory?",
        "spawn gateway",
    ]);
    s.event(Event::GatewayReady);
    s.expect([
        "attach w1",
        "announce w1",
        "attach w2",
        "announce w2",
        "serve g1",
    ]);
}

#[test]
fn a_gateway_that_keeps_dying_is_started_with_back_off() {
    let mut s = Scenario::serving(1);
    s.gateway_is_killed();
    s.forget();
    s.gateway_is_killed();
    s.after_ms(99);
    assert!(!s.did("spawn gateway"));
    s.after_ms(1);
    assert!(s.did("spawn gateway"));
}

#[test]
fn nobody_waits_for_the_drain_of_a_dead_gateway() {
    let mut s = Scenario::serving(2);
    s.complete_reload(3, 2);
    s.expires(1, 3);
    s.forget();
    s.gateway_is_killed();
    assert!(s.did("ABRT w1"));
    assert!(s.did("release w2"));
}

#[test]
fn a_reload_goes_on_without_a_gateway() {
    let mut s = Scenario::serving(1);
    s.gateway_is_killed();
    s.reload(plan(1));
    s.forget();
    s.ready(2);
    s.expect([
        "serve g2",
        "TERM w1",
        "release w1",
        "# Reloaded: generation 2 serves",
    ]);
    s.event(Event::GatewayReady);
    s.expect(["attach w2", "announce w2", "serve g2"]);
}

// --- shutdown -------------------------------------------------------------------------------------------------------

#[test]
fn term_tells_the_workers_and_drains_the_gateway_before_they_are_released() {
    let mut s = Scenario::serving(2);
    s.term();
    s.expect([
        "# Handling signal: term",
        "TERM w1",
        "TERM w2",
        "drain gateway 30s",
    ]);
    s.event(Event::GatewayDrained);
    s.expect(["release w1", "release w2"]);
    s.event(Event::GatewayExited(Exit::Code(0)));
    s.exits(1, 0);
    s.exits(2, 0);
    s.expect([
        "reaped w1",
        "reaped w2",
        "# Shutting down: Master",
        "exit 0",
    ]);
}

#[test]
fn a_worker_that_gets_ready_during_a_shutdown_is_told_at_once() {
    let mut s = Scenario::serving(1);
    s.command(Command::MoreWorkers);
    s.term();
    s.forget();
    s.ready(2);
    s.expect(["TERM w2", "announce w2"]);
    s.event(Event::GatewayDrained);
    s.expect(["release w1", "release w2"]);
}

#[test]
fn a_retiring_worker_is_told_once_whatever_follows() {
    let mut s = Scenario::serving(2);
    s.command(Command::FewerWorkers);
    assert!(s.did("TERM w1"));
    s.forget();
    s.term();
    s.expect(["# Handling signal: term", "TERM w2", "drain gateway 30s"]);
    s.drained(1);
    s.expect(["release w1"]);
}

#[test]
fn workers_that_others_told_as_well_serve_until_the_stop_is_done() {
    let mut s = Scenario::serving(2);
    s.term();
    s.forget();
    // TERM went to all processes: the workers say that they were told.
    s.wants_successor(1);
    s.wants_successor(2);
    s.expect([]);
    s.event(Event::GatewayDrained);
    s.expect(["release w1", "release w2"]);
}

#[test]
fn a_worker_that_somebody_else_told_serves_until_its_successor_is_ready() {
    let mut s = Scenario::serving(1);
    s.event(Event::WorkerWantsReplacement {
        worker: WorkerId(1),
        reason: oxicorn_arbiter::ReplacementReason::Requested,
    });
    s.expect(["spawn w2 g1", "attach w2"]);
    s.ready(2);
    s.expect(["announce w2", "TERM w1", "retire w1"]);
}

#[test]
fn term_ends_even_if_nobody_cooperates() {
    let mut s = Scenario::serving(2);
    s.term();
    s.forget();
    s.after_ms(29_999);
    s.expect([]);
    s.after_ms(1);
    s.expect(["stop gateway", "QUIT w1", "QUIT w2"]);
    s.after_s(2);
    s.expect(["KILL w1", "KILL w2", "kill gateway"]);
    s.after_s(5);
    assert!(s.did("exit 0"));
}

#[test]
fn a_second_term_is_quick() {
    let mut s = Scenario::serving(1);
    s.term();
    s.forget();
    s.term();
    s.expect([
        "# Handling signal: term",
        "# Quick shutdown requested",
        "stop gateway",
        "QUIT w1",
    ]);
    s.after_s(2);
    s.expect(["KILL w1", "kill gateway"]);
}

#[test]
fn int_is_quick_and_kills_after_two_seconds() {
    let mut s = Scenario::serving(1);
    s.command(Command::Interrupt);
    s.expect(["# Handling signal: int", "stop gateway", "QUIT w1"]);
    s.after_s(2);
    s.expect(["KILL w1", "kill gateway"]);
}

#[test]
fn term_during_a_reload_drops_the_new_generation_and_finishes_the_old_one() {
    let mut s = Scenario::serving(1);
    s.reload(plan(2));
    s.ready(2);
    s.forget();
    s.term();
    s.expect([
        "# Handling signal: term",
        "TERM w2",
        "retire w2",
        "release w2",
        "QUIT w3",
        "abandon g2 unneeded",
        "TERM w1",
        "drain gateway 30s",
    ]);
    assert_eq!(s.state(1), Some(WorkerState::Ready { outgoing: false }));
}

#[test]
fn a_worker_in_its_exit_hooks_is_not_told_twice() {
    let mut s = Scenario::serving(1);
    s.term();
    s.after_s(29);
    s.event(Event::GatewayDrained);
    s.forget();
    // Its two seconds last beyond the graceful deadline.
    s.after_ms(1900);
    assert!(!s.did("QUIT w1"));
    s.after_ms(100);
    assert!(s.did("QUIT w1"));
    s.after_s(2);
    assert!(s.did("KILL w1"));
}

#[test]
fn during_a_shutdown_nobody_is_replaced() {
    let mut s = Scenario::serving(2);
    s.term();
    s.forget();
    s.is_killed(1);
    s.expires(2, 0);
    s.after_s(1);
    assert!(!s.take_done().iter().any(|done| done.starts_with("spawn")));
}

#[test]
fn a_gateway_that_dies_while_it_drains_lets_the_workers_go() {
    let mut s = Scenario::serving(1);
    s.term();
    s.forget();
    s.gateway_is_killed();
    s.expect([
        "# Gateway (pid:11) was sent SIGKILL! Perhaps out of memory?",
        "release w1",
    ]);
}

#[test]
fn what_cannot_be_reaped_does_not_hold_up_the_exit() {
    let mut s = Scenario::serving(1);
    s.command(Command::Quit);
    s.after_s(2);
    s.forget();
    s.after_s(5);
    s.expect([
        "# Worker (pid:101) does not die; leaving it behind.",
        "# Gateway (pid:11) does not die; leaving it behind.",
        "# Shutting down: Master",
        "exit 0",
    ]);
}

#[test]
fn a_stopping_server_does_not_reload_or_grow() {
    let mut s = Scenario::serving(1);
    s.term();
    s.forget();
    s.command(Command::Reload);
    s.command(Command::MoreWorkers);
    s.expect([]);
    s.command(Command::Reopen);
    s.expect(["# Handling signal: usr1", "reopen", "USR1 w1"]);
}

#[test]
fn usr1_reaches_the_gateway_and_every_worker() {
    let mut s = Scenario::serving(1);
    s.wants_successor(1);
    s.forget();
    s.command(Command::Reopen);
    s.expect(["# Handling signal: usr1", "reopen", "USR1 w1", "USR1 w2"]);
}

#[test]
fn a_worker_ordered_when_the_shutdown_began_is_stopped_when_it_comes() {
    let mut arbiter = oxicorn_arbiter::Arbiter::new(plan(1));
    let now = Duration::from_secs(1);
    arbiter.handle(Event::Started, now);
    arbiter.handle(Event::Command(Command::Interrupt), now);
    arbiter.handle(
        Event::WorkerSpawned {
            worker: WorkerId(1),
            pid: 7,
        },
        now,
    );
    let actions: Vec<_> = std::iter::from_fn(|| arbiter.poll_action())
        .filter_map(|a| scenario::words(&a))
        .collect();
    assert_eq!(actions.last().map(String::as_str), Some("QUIT w1"));
}

#[test]
fn times_without_end_do_no_harm() {
    let endless = Plan {
        graceful_timeout: Duration::MAX,
        ..plan(1)
    };
    let mut s = Scenario::serving_plan(endless);
    s.expires(1, 1);
    s.term();
    s.after_s(1_000_000);
    assert!(!s.did("KILL w1"));
}
