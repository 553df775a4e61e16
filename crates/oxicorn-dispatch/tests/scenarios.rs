//! Readable stories: one situation each, told event by event.

use std::time::Duration;

use oxicorn_dispatch::{
    Action, Cancelled, Dispatcher, Generation, Policy, RejectReason, RequestId, WorkerId,
};

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A dispatcher with what a driver would remember about it.
struct Scenario {
    dispatcher: Dispatcher,
    now: Duration,
}

fn request(id: u64) -> RequestId {
    RequestId(id)
}

fn place(id: u64, worker: u32) -> Action {
    Action::Place {
        request: RequestId(id),
        worker: WorkerId(worker),
    }
}

fn revoke(id: u64, worker: u32) -> Action {
    Action::Revoke {
        request: RequestId(id),
        worker: WorkerId(worker),
    }
}

impl Scenario {
    /// `workers` workers of generation 1 and the given capacity, all ready.
    fn new(workers: u32, capacity: u32) -> Self {
        Self::with_policy(Policy::default(), workers, capacity)
    }

    fn with_policy(policy: Policy, workers: u32, capacity: u32) -> Self {
        let mut scenario = Self {
            dispatcher: Dispatcher::new(policy),
            now: Duration::ZERO,
        };
        scenario
            .dispatcher
            .serve_generation(Generation(1), scenario.now);
        (1..=workers).for_each(|worker| scenario.boot(worker, 1, capacity));
        scenario
    }

    fn boot(&mut self, worker: u32, generation: u32, capacity: u32) {
        self.dispatcher
            .add_worker(WorkerId(worker), Generation(generation), capacity);
        self.dispatcher.worker_ready(WorkerId(worker), self.now);
    }

    fn submit(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.dispatcher.submit(request(id), self.now);
        }
    }

    fn complete(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.dispatcher.handle_completed(request(id), self.now);
        }
    }

    fn revoked(&mut self, id: u64) {
        self.dispatcher.handle_revoked(request(id), self.now);
    }

    fn refused(&mut self, id: u64) {
        self.dispatcher.handle_revoke_refused(request(id), self.now);
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.dispatcher.handle_timeout(self.now);
    }

    /// Goes to the next deadline.
    fn ring(&mut self) {
        self.now = self.dispatcher.next_deadline().expect("a deadline is set");
        self.dispatcher.handle_timeout(self.now);
    }

    /// Goes from deadline to deadline until there is something to do. A deadline may be early.
    fn ring_until_action(&mut self) -> Vec<Action> {
        for _ in 0..3 {
            self.ring();
            let actions = self.actions();
            if !actions.is_empty() {
                return actions;
            }
        }
        panic!("deadlines without any action");
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.dispatcher.poll_action()).collect()
    }

    /// Lets every worker complete requests that take `each`, so that its pace is known.
    fn train(&mut self, workers: u32, capacity: u32, each: Duration) {
        let batch = u64::from(workers * capacity);
        for round in 0..64 {
            let ids = 1_000_000 + round * batch..1_000_000 + (round + 1) * batch;
            self.submit(ids.clone());
            assert_eq!(self.actions().len() as u64, batch);
            self.advance(each);
            self.complete(ids);
        }
        assert_eq!(self.actions(), []);
    }
}

#[test]
fn places_at_once_and_in_turn_at_equally_loaded_workers() {
    let mut scenario = Scenario::new(3, 2);
    scenario.submit(1..=7);
    assert_eq!(
        scenario.actions(),
        [
            place(1, 1),
            place(2, 2),
            place(3, 3),
            place(4, 1),
            place(5, 2),
            place(6, 3)
        ]
    );
    assert_eq!(scenario.dispatcher.queued(), 1);
}

#[test]
fn gives_the_next_request_to_the_least_loaded_worker() {
    let mut scenario = Scenario::new(2, 4);
    scenario.submit(1..=4);
    scenario.actions();
    scenario.complete([2, 4]);
    scenario.submit(5..=6);
    assert_eq!(scenario.actions(), [place(5, 2), place(6, 2)]);
}

#[test]
fn keeps_order_of_arrival_for_those_that_wait() {
    let mut scenario = Scenario::new(1, 1);
    scenario.submit(1..=4);
    assert_eq!(scenario.actions(), [place(1, 1)]);
    for id in 1..=3 {
        scenario.advance(ms(5));
        scenario.complete([id]);
        assert_eq!(scenario.actions(), [place(id + 1, 1)]);
    }
}

#[test]
fn is_strict_while_the_pace_is_unknown() {
    let mut scenario = Scenario::new(1, 1);
    scenario.submit(1..=9);
    assert_eq!(scenario.actions(), [place(1, 1)]);
}

#[test]
fn is_strict_where_requests_take_long() {
    let mut scenario = Scenario::new(1, 1);
    scenario.train(1, 1, ms(3));
    scenario.submit(1..=9);
    assert_eq!(scenario.actions(), [place(1, 1)]);
}

#[test]
fn places_ahead_as_much_as_budget_and_limit_allow() {
    for (each, ahead) in [(us(10), 16), (us(100), 5), (us(240), 2), (us(501), 0)] {
        let mut scenario = Scenario::new(1, 1);
        scenario.train(1, 1, each);
        scenario.submit(1..=64);
        assert_eq!(scenario.actions().len(), 1 + ahead, "{each:?}");
    }
}

#[test]
fn places_more_ahead_where_nothing_had_to_be_moved_for_long() {
    let mut scenario = Scenario::new(2, 1);
    for _ in 0..16 {
        scenario.train(2, 1, us(5));
    }
    scenario.submit(1..=200);
    assert_eq!(scenario.actions().len(), 2 * (1 + 64));
    // The first worker stalls, the second goes on.
    scenario.advance(ms(2));
    scenario.complete((1..=130).filter(|id| id % 2 == 0));
    let actions = scenario.actions();
    assert_eq!(actions.last(), Some(&revoke(1, 1)), "it may lie unclaimed");
    scenario.refused(1);
    while let [.., Action::Revoke { request, .. }] = scenario.actions()[..] {
        scenario.dispatcher.handle_revoked(request, scenario.now);
    }
    assert_eq!(scenario.dispatcher.in_flight(WorkerId(2)), 1 + 16);
}

#[test]
fn places_ahead_only_when_every_worker_is_at_capacity() {
    let mut scenario = Scenario::new(3, 1);
    scenario.train(3, 1, us(20));
    scenario.submit(1..=6);
    let workers: Vec<_> = scenario.actions();
    assert_eq!(
        workers,
        [
            place(1, 1),
            place(2, 2),
            place(3, 3),
            place(4, 1),
            place(5, 2),
            place(6, 3)
        ]
    );
}

#[test]
fn threads_that_sleep_count_by_the_pace_of_the_worker() {
    let mut scenario = Scenario::new(1, 16);
    scenario.train(1, 16, ms(1)); // 16 in a millisecond: 62 us each, read as one batch
    scenario.submit(1..=64);
    let placed = scenario.actions().len();
    assert!((16 + 4..=16 + 15).contains(&placed), "{placed}");
}

#[test]
fn a_worker_that_boots_gets_nothing() {
    let mut scenario = Scenario::new(0, 1);
    scenario
        .dispatcher
        .add_worker(WorkerId(1), Generation(1), 1);
    scenario.submit([1]);
    assert_eq!(scenario.actions(), []);
    scenario.dispatcher.worker_ready(WorkerId(1), scenario.now);
    assert_eq!(scenario.actions(), [place(1, 1)]);
}

#[test]
fn requests_behind_a_slow_one_move_to_whoever_has_room() {
    let mut scenario = Scenario::new(2, 1);
    scenario.train(2, 1, us(100));
    let begin = scenario.now;
    scenario.submit(1..=6); // 1, 3, 5 at the first, 2, 4, 6 at the second worker
    assert_eq!(scenario.actions().len(), 6);
    scenario.advance(us(300));
    scenario.complete([2, 4, 6]); // 1 turns out to take four seconds
    assert_eq!(scenario.actions(), [revoke(3, 1)]);
    scenario.revoked(3);
    assert_eq!(scenario.actions(), [place(3, 2)]);
    scenario.ring();
    assert_eq!(scenario.now, begin + ms(1));
    assert_eq!(scenario.actions(), [revoke(1, 1)]);
    scenario.refused(1);
    assert_eq!(scenario.actions(), [revoke(5, 1)]);
    scenario.revoked(5);
    assert_eq!(scenario.actions(), [place(5, 2)]);
    scenario.submit([7]);
    scenario.complete([3, 5]);
    assert_eq!(
        scenario.actions(),
        [place(7, 2)],
        "nothing more goes to the slow one"
    );
}

#[test]
fn a_stalled_worker_gives_back_even_where_others_only_have_places_ahead() {
    let mut scenario = Scenario::new(2, 1);
    scenario.train(2, 1, us(40));
    scenario.submit(1..=8); // odd ones at the first worker
    scenario.actions();
    for id in [2, 4, 6] {
        scenario.advance(us(400));
        scenario.complete([id]);
        scenario.submit([id + 100, id + 101, id + 102]);
        let actions = scenario.actions();
        if let Some(Action::Revoke { request, worker }) = actions.last() {
            assert_eq!((*request, *worker), (RequestId(1), WorkerId(1)));
            scenario.refused(1);
            assert_eq!(scenario.actions(), [revoke(3, 1)]);
            scenario.revoked(3);
            assert_eq!(scenario.actions().first(), Some(&place(3, 2)));
            return;
        }
    }
    panic!("3 still waits behind the slow one");
}

#[test]
fn what_was_taken_back_keeps_its_place_in_the_order_of_arrival() {
    let mut scenario = Scenario::new(1, 1);
    scenario.train(1, 1, us(20));
    scenario.submit(1..=4);
    assert_eq!(scenario.actions().len(), 4);
    scenario.submit(5..=6);
    scenario.dispatcher.retire_worker(WorkerId(1), scenario.now);
    assert_eq!(scenario.actions(), [revoke(1, 1)]);
    scenario.refused(1);
    for id in [2, 3, 4] {
        assert_eq!(scenario.actions(), [revoke(id, 1)]);
        scenario.revoked(id);
    }
    scenario.boot(2, 1, 8);
    assert_eq!(
        scenario.actions(),
        (2..=6).map(|id| place(id, 2)).collect::<Vec<_>>()
    );
}

#[test]
fn a_free_worker_takes_what_lies_ahead_of_a_slower_one() {
    let mut scenario = Scenario::new(2, 1);
    scenario.train(2, 1, us(100));
    scenario.submit(1..=6);
    scenario.actions();
    scenario.advance(us(100));
    scenario.complete([1, 2, 3, 5]);
    assert_eq!(scenario.actions(), [revoke(6, 2)], "4 runs by now");
    scenario.revoked(6);
    assert_eq!(scenario.actions(), [place(6, 1)]);
}

#[test]
fn a_fast_worker_is_left_alone_until_something_waited_for_a_stall() {
    let mut scenario = Scenario::new(2, 1);
    scenario.train(2, 1, us(10));
    scenario.submit(1..=6);
    scenario.actions();
    scenario.advance(us(10));
    scenario.complete([1, 3, 5]);
    assert_eq!(scenario.actions(), [], "moving costs more than waiting");
    assert_eq!(scenario.ring_until_action(), [revoke(2, 2)]);
    scenario.refused(2);
    assert_eq!(scenario.actions(), [revoke(4, 2)]);
}

#[test]
fn a_single_worker_needs_no_timer() {
    let mut scenario = Scenario::new(1, 4);
    scenario.submit(1..=3);
    scenario.actions();
    assert_eq!(scenario.dispatcher.next_deadline(), None);
}

#[test]
fn a_single_worker_is_never_asked_to_give_back() {
    let mut scenario = Scenario::new(1, 4);
    scenario.submit(1..=3);
    scenario.actions();
    scenario.advance(ms(5));
    assert_eq!(scenario.actions(), [], "its own room is no better place");
}

#[test]
fn a_completion_shows_that_what_was_placed_before_is_claimed() {
    let mut scenario = Scenario::new(1, 2);
    scenario.submit(1..=2);
    scenario.actions();
    scenario.boot(2, 1, 2);
    scenario.complete([2]);
    scenario.advance(ms(5));
    assert_eq!(scenario.actions(), []);
    assert_eq!(scenario.dispatcher.next_deadline(), None);
}

#[test]
fn a_placement_that_was_never_written_tells_nothing_about_the_worker() {
    let mut scenario = Scenario::new(1, 2);
    scenario.submit(1..=2);
    assert_eq!(scenario.actions(), [place(1, 1), place(2, 1)]);
    scenario.dispatcher.handle_lost(request(2));
    assert_eq!(scenario.dispatcher.service_time(WorkerId(1)), None);
    scenario.boot(2, 1, 2);
    scenario.advance(ms(1));
    assert_eq!(scenario.actions(), [revoke(1, 1)], "it may lie unclaimed");
}

#[test]
fn what_is_placed_ahead_late_is_watched_too() {
    let mut scenario = Scenario::new(2, 1);
    scenario.train(2, 1, us(10));
    scenario.advance(ms(1));
    assert_eq!(scenario.actions(), []);
    scenario.submit(1..=2);
    scenario.actions();
    scenario.advance(us(500));
    scenario.complete(1..=2);
    let progress = scenario.now;
    scenario.submit(3..=4);
    scenario.actions();
    for id in 3..=4 {
        scenario
            .dispatcher
            .handle_claimed(request(id), scenario.now);
    }
    scenario.advance(us(500));
    assert_eq!(scenario.actions(), [], "all is claimed, nothing to watch");
    scenario.submit([5]);
    assert_eq!(scenario.actions(), [place(5, 1)]);
    scenario.complete([4]);
    assert_eq!(scenario.actions(), []);
    assert_eq!(scenario.ring_until_action(), [revoke(5, 1)]);
    assert_eq!(scenario.now, progress + ms(1));
}

#[test]
fn a_worker_that_does_not_claim_loses_its_request_and_is_avoided_for_a_while() {
    let mut scenario = Scenario::new(2, 1);
    scenario.submit([1]);
    assert_eq!(scenario.actions(), [place(1, 1)]);
    scenario.ring();
    assert_eq!(scenario.actions(), [revoke(1, 1)]);
    scenario.revoked(1);
    assert_eq!(scenario.actions(), [place(1, 2)]);
    scenario.advance(ms(2));
    scenario.complete([1]);
    scenario.submit([2]);
    assert_eq!(
        scenario.actions(),
        [place(2, 2)],
        "the other one is suspect"
    );
    scenario.submit([3]);
    assert_eq!(scenario.actions(), [place(3, 1)], "but better than nothing");
    scenario.complete([2, 3]);
    scenario.submit([4, 5]);
    assert_eq!(
        scenario.actions(),
        [place(4, 2), place(5, 1)],
        "and cleared"
    );
}

#[test]
fn a_hanging_process_tree_does_not_make_requests_wander() {
    let mut scenario = Scenario::new(2, 2);
    scenario.submit([1, 2]);
    assert_eq!(scenario.actions(), [place(1, 1), place(2, 2)]);
    let mut moves = 0;
    for _ in 0..40 {
        scenario.advance(ms(1));
        while let Some(action) = scenario.dispatcher.poll_action() {
            if let Action::Revoke { request, .. } = action {
                moves += 1;
                scenario.revoked(request.0);
            }
        }
    }
    assert!(moves <= 20, "{moves} moves in 40 ms");
}

#[test]
fn a_claim_that_was_told_is_never_revoked() {
    let mut scenario = Scenario::new(2, 1);
    scenario.submit([1]);
    scenario.actions();
    scenario.dispatcher.handle_claimed(request(1), scenario.now);
    scenario.advance(ms(50));
    assert_eq!(scenario.actions(), []);
    assert_eq!(scenario.dispatcher.next_deadline(), None);
}

#[test]
fn dispatch_moves_to_the_new_generation_and_the_old_one_drains() {
    let mut scenario = Scenario::new(1, 2);
    scenario.submit([1]);
    assert_eq!(scenario.actions(), [place(1, 1)]);
    scenario.boot(2, 2, 2);
    scenario.submit([2]);
    assert_eq!(scenario.actions(), [place(2, 1)], "not served yet");
    scenario
        .dispatcher
        .serve_generation(Generation(2), scenario.now);
    scenario.submit([3]);
    assert_eq!(scenario.actions(), [place(3, 2)]);
    scenario.dispatcher.retire_worker(WorkerId(1), scenario.now);
    assert_eq!(scenario.actions(), [revoke(1, 1)]);
    scenario.refused(1);
    assert_eq!(scenario.actions(), [revoke(2, 1)]);
    scenario.revoked(2);
    assert_eq!(scenario.actions(), [place(2, 2)]);
    scenario.complete([1]);
    assert_eq!(scenario.actions(), [Action::Drained(WorkerId(1))]);
    assert_eq!(
        scenario.dispatcher.remove_worker(WorkerId(1), scenario.now),
        []
    );
}

#[test]
fn an_idle_worker_is_drained_at_once_and_only_once() {
    let mut scenario = Scenario::new(1, 1);
    scenario.dispatcher.retire_worker(WorkerId(1), scenario.now);
    scenario.dispatcher.retire_worker(WorkerId(1), scenario.now);
    assert_eq!(scenario.actions(), [Action::Drained(WorkerId(1))]);
}

#[test]
fn a_dead_workers_unclaimed_requests_go_to_another_and_the_claimed_are_lost() {
    let mut scenario = Scenario::new(1, 1);
    scenario.train(1, 1, us(20));
    scenario.submit(1..=4);
    scenario.actions();
    let orphans = scenario.dispatcher.remove_worker(WorkerId(1), scenario.now);
    assert_eq!(orphans, (1..=4).map(request).collect::<Vec<_>>());
    assert_eq!(scenario.actions(), []);
    scenario.dispatcher.handle_lost(request(1));
    (2..=4).for_each(|id| scenario.revoked(id));
    scenario.boot(2, 1, 3);
    assert_eq!(scenario.actions(), [place(2, 2), place(3, 2), place(4, 2)]);
    assert_eq!(scenario.dispatcher.total_in_flight(), 3);
}

#[test]
fn a_death_in_mid_revocation_unblocks_decisions() {
    let mut scenario = Scenario::new(2, 1);
    scenario.submit([1]);
    scenario.actions();
    scenario.ring();
    assert_eq!(scenario.actions(), [revoke(1, 1)]);
    scenario.submit([2]);
    assert_eq!(scenario.actions(), [], "the answer comes first");
    assert_eq!(
        scenario.dispatcher.remove_worker(WorkerId(1), scenario.now),
        [request(1)]
    );
    assert_eq!(scenario.actions(), [place(2, 2)]);
    scenario.revoked(1);
    scenario.complete([2]);
    assert_eq!(scenario.actions(), [place(1, 2)]);
}

#[test]
fn a_completion_answers_a_revocation() {
    let mut scenario = Scenario::new(2, 1);
    scenario.submit([1]);
    scenario.actions();
    scenario.ring();
    assert_eq!(scenario.actions(), [revoke(1, 1)]);
    scenario.complete([1]);
    scenario.submit([2]);
    assert_eq!(scenario.actions(), [place(2, 2)]);
    scenario.refused(1);
    assert_eq!(scenario.actions(), []);
}

#[test]
fn a_full_queue_rejects_the_newest() {
    let policy = Policy {
        queue_limit: 2,
        ..Policy::default()
    };
    let mut scenario = Scenario::with_policy(policy, 1, 1);
    scenario.submit(1..=5);
    let rejected = |id| Action::Reject {
        request: request(id),
        reason: RejectReason::QueueFull,
        retry_after: Duration::from_secs(1),
    };
    assert_eq!(scenario.actions(), [place(1, 1), rejected(5), rejected(4)]);
    assert_eq!(scenario.dispatcher.queued(), 2);
}

#[test]
fn without_a_queue_what_has_a_place_is_still_served() {
    let policy = Policy {
        queue_limit: 0,
        ..Policy::default()
    };
    let mut scenario = Scenario::with_policy(policy, 2, 1);
    scenario.submit(1..=2);
    assert_eq!(scenario.actions(), [place(1, 1), place(2, 2)]);
    scenario.submit([3]);
    assert!(matches!(scenario.actions()[..], [Action::Reject { .. }]));
}

#[test]
fn what_came_back_is_not_rejected_for_a_full_queue() {
    let policy = Policy {
        queue_limit: 0,
        ..Policy::default()
    };
    let mut scenario = Scenario::with_policy(policy, 1, 4);
    scenario.submit(1..=3);
    scenario.actions();
    scenario.dispatcher.remove_worker(WorkerId(1), scenario.now);
    (1..=3).for_each(|id| scenario.revoked(id));
    assert_eq!(scenario.actions(), []);
    assert_eq!(scenario.dispatcher.queued(), 3);
}

#[test]
fn waiting_too_long_ends_with_a_rejection() {
    let mut scenario = Scenario::new(1, 1);
    scenario.train(1, 1, Duration::from_secs(10));
    scenario.submit(1..=3);
    scenario.actions();
    assert_eq!(
        scenario.dispatcher.waiting_longest(scenario.now + ms(7)),
        Some(ms(7))
    );
    let submitted = scenario.now;
    scenario.ring();
    assert_eq!(scenario.now, submitted + Policy::default().queue_timeout);
    let rejected = |id, seconds| Action::Reject {
        request: request(id),
        reason: RejectReason::WaitedTooLong,
        retry_after: Duration::from_secs(seconds),
    };
    assert_eq!(scenario.actions(), [rejected(2, 20), rejected(3, 10)]);
    assert_eq!(scenario.dispatcher.next_deadline(), None);
}

#[test]
fn waiting_too_long_ahead_at_the_only_worker_ends_with_a_rejection_too() {
    let mut scenario = Scenario::new(1, 1);
    scenario.train(1, 1, us(50));
    scenario.submit(1..=2);
    let submitted = scenario.now;
    assert_eq!(scenario.actions(), [place(1, 1), place(2, 1)]);
    scenario.ring();
    assert_eq!(scenario.now, submitted + Policy::default().queue_timeout);
    assert_eq!(scenario.actions(), [revoke(2, 1)]);
    scenario.revoked(2);
    assert!(matches!(
        scenario.actions()[..],
        [Action::Reject {
            reason: RejectReason::WaitedTooLong,
            ..
        }]
    ));
    assert_eq!(scenario.dispatcher.next_deadline(), None);
}

#[test]
fn a_place_that_came_free_in_time_beats_the_rejection() {
    let mut scenario = Scenario::new(1, 1);
    scenario.submit(1..=2);
    scenario.actions();
    scenario.advance(Duration::from_secs(31));
    scenario.complete([1]);
    assert_eq!(scenario.actions(), [place(2, 1)]);
}

#[test]
fn a_full_ring_puts_the_request_back_to_the_front_and_spares_the_worker() {
    let mut scenario = Scenario::new(2, 4);
    scenario.submit([1]);
    assert_eq!(scenario.actions(), [place(1, 1)]);
    scenario.submit([2]);
    scenario
        .dispatcher
        .handle_placement_refused(request(1), scenario.now);
    assert_eq!(scenario.actions(), [place(1, 2), place(2, 2)]);
    scenario.submit([3]);
    assert_eq!(scenario.actions(), [place(3, 2)], "the first is still full");
    scenario.dispatcher.handle_claimed(request(3), scenario.now);
    scenario.advance(ms(1));
    scenario.submit([4]);
    assert_eq!(scenario.actions(), [place(4, 1)]);
}

#[test]
fn a_full_ring_of_the_only_worker_is_tried_again() {
    let mut scenario = Scenario::new(1, 4);
    scenario.submit([1, 2]);
    assert_eq!(scenario.actions(), [place(1, 1), place(2, 1)]);
    scenario
        .dispatcher
        .handle_placement_refused(request(2), scenario.now);
    assert_eq!(scenario.actions(), []);
    scenario.complete([1]);
    assert_eq!(scenario.actions(), [place(2, 1)]);
    scenario
        .dispatcher
        .handle_placement_refused(request(2), scenario.now);
    assert_eq!(scenario.actions(), []);
    scenario.ring();
    assert_eq!(scenario.now, ms(1));
    assert_eq!(
        scenario.actions(),
        [place(2, 1)],
        "it may have drained its ring unseen"
    );
}

#[test]
fn a_cancelled_request_is_forgotten_wherever_it_is() {
    let mut scenario = Scenario::new(1, 1);
    scenario.train(1, 1, us(400)); // one ahead
    scenario.submit(1..=4);
    assert_eq!(scenario.actions(), [place(1, 1), place(2, 1)]);
    let cancel =
        |scenario: &mut Scenario, id| scenario.dispatcher.cancel(request(id), scenario.now);
    assert_eq!(cancel(&mut scenario, 3), Cancelled::Forgotten, "queued");
    assert_eq!(cancel(&mut scenario, 99), Cancelled::Forgotten, "unknown");
    assert_eq!(cancel(&mut scenario, 2), Cancelled::Placed(WorkerId(1)));
    scenario.revoked(2);
    assert_eq!(scenario.actions(), [place(4, 1)]);
    assert_eq!(cancel(&mut scenario, 1), Cancelled::Placed(WorkerId(1)));
    scenario.refused(1);
    assert_eq!(scenario.actions(), []);
    assert_eq!(
        scenario.dispatcher.in_flight(WorkerId(1)),
        2,
        "it is still worked on"
    );
    scenario.complete([1, 4]);
    assert_eq!(scenario.dispatcher.total_in_flight(), 0);
    assert_eq!(scenario.actions(), []);
}

#[test]
fn an_orphan_whose_client_left_is_forgotten() {
    let mut scenario = Scenario::new(1, 2);
    scenario.submit([1, 2]);
    scenario.actions();
    scenario.dispatcher.cancel(request(1), scenario.now);
    assert_eq!(
        scenario
            .dispatcher
            .remove_worker(WorkerId(1), scenario.now)
            .len(),
        2
    );
    assert_eq!(
        scenario.dispatcher.cancel(request(2), scenario.now),
        Cancelled::Forgotten
    );
    (1..=2).for_each(|id| scenario.revoked(id));
    scenario.boot(2, 1, 2);
    assert_eq!(scenario.actions(), []);
}

#[test]
fn unknown_names_are_ignored() {
    let mut scenario = Scenario::new(1, 1);
    scenario.complete([7]);
    scenario.revoked(7);
    scenario.refused(7);
    scenario.dispatcher.handle_lost(request(7));
    scenario.dispatcher.handle_claimed(request(7), scenario.now);
    scenario
        .dispatcher
        .handle_placement_refused(request(7), scenario.now);
    scenario.dispatcher.retire_worker(WorkerId(9), scenario.now);
    assert_eq!(
        scenario.dispatcher.remove_worker(WorkerId(9), scenario.now),
        []
    );
    assert_eq!(scenario.actions(), []);
    scenario.submit([1, 1]);
    scenario.boot(1, 1, 50);
    assert_eq!(scenario.actions(), [place(1, 1)]);
}

#[test]
fn time_that_runs_backwards_is_held() {
    let mut scenario = Scenario::new(2, 1);
    scenario.advance(ms(10));
    scenario.submit([1]);
    scenario.actions();
    scenario.dispatcher.handle_completed(request(1), ms(3));
    scenario.submit([2]);
    assert_eq!(scenario.actions().len(), 1);
}
