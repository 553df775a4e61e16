//! Every (state, call) pair: what is legal, where it leads, and that the rest changes nothing.

use super::*;

const T: Duration = Duration::from_secs(50);
const LATER: Duration = Duration::from_mins(1);

type Call = (&'static str, fn(&mut WorkerRecord) -> Result<(), Illegal>);

const CALLS: [Call; 12] = [
    ("spawned", |r| r.handle_spawned(7, T).map(|_| ())),
    ("disown", WorkerRecord::disown),
    ("ready", WorkerRecord::handle_ready),
    ("outgoing", WorkerRecord::mark_outgoing),
    ("retire", |r| r.retire(LATER)),
    ("expire", |r| r.expire(LATER)),
    ("TERM", |r| {
        r.stop(Some(WorkerSignal::Graceful), LATER).map(|_| ())
    }),
    ("QUIT", |r| {
        r.stop(Some(WorkerSignal::Quick), LATER).map(|_| ())
    }),
    ("cannot boot", |r| r.handle_boot_failed(LATER)),
    ("abort", |r| r.abort(LATER)),
    ("kill", |r| r.kill(LATER)),
    ("is a misfit", |r| r.handle_misfit(LATER)),
];

fn in_state(state: WorkerState) -> WorkerRecord {
    let mut record = WorkerRecord::ordered(WorkerId(1), Generation(1), T, 0, None);
    record.state = state;
    record
}

/// What a state becomes by the calls of [`CALLS`], in their order; `None` where the call is illegal.
fn table() -> Vec<(WorkerState, [Option<WorkerState>; 12])> {
    use WorkerState::{Booting, Expiring, Killed, Ready, Retiring, Starting, Stopping};
    let stopping = |signal, deadline| Stopping { signal, deadline };
    let (term, quit, abrt) = (
        Some(WorkerSignal::Graceful),
        Some(WorkerSignal::Quick),
        Some(WorkerSignal::Abort),
    );
    let ready = Ready { outgoing: false };
    let outgoing = Ready { outgoing: true };
    let unwanted = Starting { unwanted: true };
    let retiring = Retiring { deadline: LATER };
    let expiring = |deadline| Some(Expiring { deadline });
    let killed = Some(Killed { since: LATER });
    let [by_term, by_quit, itself, aborted] =
        [term, quit, None, abrt].map(|signal| Some(stopping(signal, LATER)));
    let starting = [
        Some(Booting),
        Some(unwanted),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
    ];
    // One that was told something stronger than TERM, or goes by itself, keeps to that.
    let stays = |signal| {
        let same = Some(stopping(signal, T));
        [
            None, None, None, None, None, None, same, same, None, None, killed, None,
        ]
    };
    let leaving = [by_term, by_quit, None, aborted, killed];
    let row = |first: [Option<WorkerState>; 6]| {
        let mut row = [None; 12];
        row[..6].copy_from_slice(&first);
        row[6..11].copy_from_slice(&leaving);
        row
    };
    let mut booting = row([None, None, Some(ready), None, None, None]);
    booting[8] = itself;
    booting[11] = itself;
    vec![
        (Starting { unwanted: false }, starting),
        (unwanted, starting),
        (Booting, booting),
        (
            ready,
            row([
                None,
                None,
                None,
                Some(outgoing),
                Some(retiring),
                expiring(LATER),
            ]),
        ),
        (
            outgoing,
            row([None, None, None, None, Some(retiring), expiring(LATER)]),
        ),
        (
            Retiring { deadline: T },
            row([None, None, None, None, None, expiring(T)]),
        ),
        (
            Expiring { deadline: T },
            row([None, None, None, None, None, expiring(T)]),
        ),
        (stopping(term, T), {
            let same = Some(stopping(term, T));
            [
                None, None, None, None, None, None, same, by_quit, None, None, killed, None,
            ]
        }),
        (stopping(quit, T), stays(quit)),
        (stopping(abrt, T), stays(abrt)),
        (stopping(None, T), stays(None)),
        (Killed { since: T }, [None; 12]),
    ]
}

#[test]
fn every_call_in_every_state() {
    for (state, row) in table() {
        for ((name, call), expected) in CALLS.iter().zip(row) {
            let before = in_state(state);
            let mut record = before.clone();
            match (call(&mut record), expected) {
                (Ok(()), Some(after)) => assert_eq!(record.state, after, "{name} in {state:?}"),
                (Err(Illegal), None) => assert_eq!(record, before, "{name} in {state:?}"),
                (result, _) => panic!("{name} in {state:?} gave {result:?}"),
            }
        }
    }
}

#[test]
fn only_what_is_to_be_sent_is_sent() {
    let stop = |told, signal| {
        in_state(WorkerState::Stopping {
            signal: told,
            deadline: T,
        })
        .stop(Some(signal), LATER)
    };
    assert_eq!(
        in_state(WorkerState::Booting).stop(Some(WorkerSignal::Quick), T),
        Ok(true)
    );
    assert_eq!(
        stop(Some(WorkerSignal::Graceful), WorkerSignal::Graceful),
        Ok(false)
    );
    assert_eq!(
        stop(Some(WorkerSignal::Graceful), WorkerSignal::Quick),
        Ok(true)
    );
    assert_eq!(
        stop(Some(WorkerSignal::Quick), WorkerSignal::Quick),
        Ok(false)
    );
    assert_eq!(stop(None, WorkerSignal::Quick), Ok(false));
}

#[test]
fn one_that_was_disowned_before_it_was_there_is_not_wanted() {
    assert_eq!(
        in_state(WorkerState::Starting { unwanted: false }).handle_spawned(7, T),
        Ok(true)
    );
    assert_eq!(
        in_state(WorkerState::Starting { unwanted: true }).handle_spawned(7, T),
        Ok(false)
    );
}
