//! What users order beside stopping and reloading: upgrades, a rest for the workers, reloads by a changed source.

mod scenario;

use oxicorn_arbiter::timing::CHANGES_REMEMBERED;
use oxicorn_arbiter::{Arbiter, Command, Event, Exit, Plan};
use scenario::{Scenario, plan};

// --- the server is up -------------------------------------------------------------------------------------------------

#[test]
fn the_server_is_up_when_gateway_and_all_workers_are_ready_and_that_is_said_once() {
    let mut s = Scenario::booting(plan(2));
    s.event(Event::GatewayReady);
    s.ready(1);
    assert!(!s.did("booted"));
    s.ready(2);
    assert!(s.did("booted"));
    s.forget();
    s.is_killed(1);
    s.ready(3);
    s.complete_reload(4, 2);
    s.gateway_is_killed();
    s.event(Event::GatewayReady);
    assert!(!s.did("booted"));
}

#[test]
fn a_server_without_workers_is_up_with_its_gateway() {
    let mut s = Scenario::booting(plan(0));
    assert!(!s.did("booted"));
    s.event(Event::GatewayReady);
    s.expect(["serve g1", "booted"]);
}

// --- upgrades ---------------------------------------------------------------------------------------------------------

#[test]
fn usr2_starts_one_successor_and_no_second_one() {
    let mut s = Scenario::serving(1);
    assert!(!s.arbiter.shares_listeners());
    s.command(Command::Upgrade);
    s.expect(["# Handling signal: usr2", "start successor"]);
    s.event(Event::SuccessorStarted);
    assert!(s.arbiter.shares_listeners());
    s.command(Command::Upgrade);
    s.expect([
        "# Handling signal: usr2",
        "# USR2 signal ignored. Child exists.",
    ]);
    s.event(Event::SuccessorExited);
    assert!(!s.arbiter.shares_listeners());
    s.command(Command::Upgrade);
    s.expect(["# Handling signal: usr2", "start successor"]);
}

#[test]
fn a_successor_that_cannot_be_started_leaves_everything_as_it_was() {
    let mut s = Scenario::serving(1);
    s.command(Command::Upgrade);
    s.event(Event::SuccessorFailed);
    assert!(!s.arbiter.shares_listeners());
    s.forget();
    s.command(Command::Upgrade);
    s.expect(["# Handling signal: usr2", "start successor"]);
}

#[test]
fn a_successor_starts_none_until_it_is_promoted() {
    let mut s = Scenario::serving(1);
    s.arbiter = Arbiter::new(plan(0)).with_predecessor();
    s.event(Event::Started);
    s.event(Event::GatewayReady);
    s.forget();
    s.command(Command::Upgrade);
    s.expect([
        "# Handling signal: usr2",
        "# USR2 signal ignored. Parent exists.",
    ]);
    assert!(s.arbiter.shares_listeners());
    s.event(Event::PredecessorGone);
    s.expect(["# Master has been promoted.", "promote"]);
    assert!(!s.arbiter.shares_listeners());
    s.event(Event::PredecessorGone);
    s.expect([]);
    s.command(Command::Upgrade);
    s.expect(["# Handling signal: usr2", "start successor"]);
}

#[test]
fn the_end_of_a_server_does_not_wait_for_its_successor() {
    let mut s = Scenario::serving(0);
    s.command(Command::Upgrade);
    s.event(Event::SuccessorStarted);
    s.term();
    s.event(Event::GatewayDrained);
    s.event(Event::GatewayExited(Exit::Code(0)));
    assert!(s.did("exit 0"));
}

// --- workers at rest --------------------------------------------------------------------------------------------------

fn in_background(workers: u32) -> Plan {
    Plan {
        daemon: true,
        ..plan(workers)
    }
}

#[test]
fn winch_retires_the_workers_of_a_daemon_and_a_reload_starts_them_again() {
    let mut s = Scenario::serving_plan(in_background(2));
    s.command(Command::StopWorkers);
    s.expect([
        "# Handling signal: winch",
        "# graceful stop of workers",
        "workers 2 -> 0",
        "TERM w1",
        "retire w1",
        "TERM w2",
        "retire w2",
    ]);
    s.drained(1);
    s.drained(2);
    s.exits(1, 0);
    s.exits(2, 0);
    s.forget();
    s.reload(in_background(2));
    assert!(s.did("spawn w3 g2") && s.did("spawn w4 g2"));
}

#[test]
fn ttin_wakes_one_worker_after_winch() {
    let mut s = Scenario::serving_plan(in_background(2));
    s.command(Command::StopWorkers);
    s.forget();
    s.command(Command::MoreWorkers);
    assert!(s.did("workers 0 -> 1") && s.did("spawn w3 g1"));
}

#[test]
fn winch_of_a_terminal_does_nothing() {
    let mut s = Scenario::serving(1);
    s.command(Command::StopWorkers);
    s.expect(["# Handling signal: winch"]);
    assert_eq!(s.arbiter.wanted(), 1);
}

// --- a changed source -------------------------------------------------------------------------------------------------

#[test]
fn a_change_reported_by_every_worker_is_one_reload() {
    let mut s = Scenario::serving(2);
    s.event(Event::SourceChanged(1));
    s.event(Event::SourceChanged(1));
    s.expect(["load g2"]);
    s.event(Event::ConfigurationLoaded(plan(2)));
    s.event(Event::SourceChanged(1));
    s.cannot_boot(3);
    s.forget();
    s.event(Event::SourceChanged(1));
    s.expect([]);
}

#[test]
fn a_change_during_a_reload_is_a_reload_of_its_own() {
    let mut s = Scenario::serving(1);
    s.event(Event::SourceChanged(1));
    s.event(Event::ConfigurationLoaded(plan(1)));
    s.forget();
    s.event(Event::SourceChanged(2));
    s.expect(["load g3"]);
}

#[test]
fn changes_remembered_are_bounded() {
    let mut s = Scenario::serving(1);
    for change in 0..=CHANGES_REMEMBERED as u64 {
        s.event(Event::SourceChanged(change));
    }
    s.event(Event::ConfigurationLoaded(plan(1)));
    s.forget();
    // The first one is forgotten, the second is not.
    s.event(Event::SourceChanged(1));
    s.expect([]);
    s.event(Event::ConfigurationLoaded(plan(1)));
    s.forget();
    s.event(Event::SourceChanged(0));
    s.expect(["load g4"]);
}

#[test]
fn a_stopping_server_does_not_look_at_changes() {
    let mut s = Scenario::serving(1);
    s.term();
    s.forget();
    s.event(Event::SourceChanged(1));
    s.expect([]);
}
