//! The figures of the pool of heavy applications, as its broker and the arbiter have written them on the scoreboard.
//!
//! An application is named by its path, as the settings have it. There are as many as the scoreboard has rows, so the series
//! are bounded; what has no row is one more, `other`, which is shown when it has had a call.

use std::time::Duration;

use oxicorn_link::scoreboard::{
    CallGauge, CallHistogram, CallOutcome, CallRow, OTHER, PoolBlock, PoolCounter, PoolGauge,
};

use super::application::escaped;
use super::exposition::{Exposition, Family, seconds};
use super::families::{coarse, counter, durations, gauge, measured};

/// Everything there is to say of the pool; nothing where there has been none.
pub(super) fn write(out: &mut Exposition, pool: &PoolBlock, now: Duration) {
    let rows: Vec<(String, CallRow)> = pool
        .rows()
        .map(|row| (escaped(&row.name(), true).into_owned(), row))
        .filter(|(name, row)| name != OTHER || has_calls(row))
        .collect();
    if pool.rows().next().is_none() {
        return;
    }
    write_calls(out, &rows);
    write_ages(out, &rows, now);
    write_durations(out, &rows);
    write_processes(out, pool);
    write_stash(out, pool);
}

fn has_calls(row: &CallRow) -> bool {
    let outcomes = CallOutcome::ALL.iter();
    outcomes
        .map(|one| row.outcomes(*one))
        .any(|count| count > 0)
        || row.gauge(CallGauge::Workers) > 0
}

fn write_calls(out: &mut Exposition, rows: &[(String, CallRow)]) {
    const CALLS: Family = counter(
        "oxicorn_pool_calls",
        "Calls of heavy applications, by how they ended for their caller.",
    );
    out.begin(CALLS);
    for (name, row) in rows {
        for outcome in CallOutcome::ALL {
            let labels = [("app", name.as_str()), ("outcome", outcome.name())];
            out.sample(CALLS, &labels, row.outcomes(*outcome));
        }
    }
    for (family, number) in [
        (
            gauge("oxicorn_pool_queue_depth", "Calls that wait for a worker."),
            CallGauge::Queued,
        ),
        (
            gauge("oxicorn_pool_calls_in_flight", "Calls that workers have."),
            CallGauge::InFlight,
        ),
        (
            gauge(
                "oxicorn_pool_workers",
                "Workers of the pool that are given calls.",
            ),
            CallGauge::Workers,
        ),
    ] {
        out.begin(family);
        for (name, row) in rows {
            out.sample(family, &[("app", name)], row.gauge(number));
        }
    }
}

fn write_ages(out: &mut Exposition, rows: &[(String, CallRow)], now: Duration) {
    const OLDEST: Family = measured(
        "seconds",
        gauge(
            "oxicorn_pool_oldest_call_seconds",
            "For how long the oldest call has been queued or running; 0 where there is none.",
        ),
    );
    out.begin(OLDEST);
    for (name, row) in rows {
        for (state, since) in [
            ("queued", CallGauge::QueuedSince),
            ("running", CallGauge::RunningSince),
        ] {
            let age = row.since(since).map(|since| now.saturating_sub(since));
            let micros = age.unwrap_or_default().as_micros();
            let age = seconds(u64::try_from(micros).unwrap_or(u64::MAX));
            out.sample(OLDEST, &[("app", name.as_str()), ("state", state)], age);
        }
    }
}

fn write_durations(out: &mut Exposition, rows: &[(String, CallRow)]) {
    for (family, kind) in [
        (
            durations(
                "oxicorn_pool_call_wait_seconds",
                "From a call's arrival at the pool to being given to a worker.",
            ),
            CallHistogram::Wait,
        ),
        (
            durations(
                "oxicorn_pool_call_run_seconds",
                "From being given to a worker to the call's end; of a stream, to its last piece.",
            ),
            CallHistogram::Run,
        ),
    ] {
        out.begin(family);
        for (name, row) in rows {
            let reading = row.histogram(kind);
            let label = Some(("app", name.as_str()));
            out.histogram_of(family, label, coarse(reading.buckets()), reading.sum_micros);
        }
    }
}

fn write_processes(out: &mut Exposition, pool: &PoolBlock) {
    const EXITS: Family = counter(
        "oxicorn_pool_worker_exits",
        "Workers of the pool that have ended, by how.",
    );
    const REPLACED: Family = counter(
        "oxicorn_pool_worker_replacements",
        "Workers of the pool that were replaced, by why; reloads are not among them.",
    );
    for (family, number) in [
        (
            counter(
                "oxicorn_pool_workers_spawned",
                "Workers of the pool that were started.",
            ),
            PoolCounter::WorkersSpawned,
        ),
        (
            counter(
                "oxicorn_pool_brokers_spawned",
                "Brokers of the pool that were started.",
            ),
            PoolCounter::BrokersSpawned,
        ),
    ] {
        out.single(family, pool.counter(number));
    }
    for (family, reasons) in [
        (
            EXITS,
            &[
                ("exited", PoolCounter::ExitedNormally),
                ("error", PoolCounter::ExitedWithError),
                ("signal", PoolCounter::EndedBySignal),
                ("out_of_memory", PoolCounter::OutOfMemory),
            ][..],
        ),
        (
            REPLACED,
            &[
                ("max_calls", PoolCounter::ReplacedMaxCalls),
                ("memory", PoolCounter::ReplacedMemory),
                ("requested", PoolCounter::ReplacedRequested),
                ("timeout", PoolCounter::ReplacedTimeout),
                ("boot_failed", PoolCounter::BootFailed),
            ],
        ),
    ] {
        out.begin(family);
        for (reason, number) in reasons {
            out.sample(family, &[("reason", reason)], pool.counter(*number));
        }
    }
    out.single(
        gauge("oxicorn_pool_callers", "Connections to the pool."),
        pool.gauge(PoolGauge::Callers),
    );
}

fn write_stash(out: &mut Exposition, pool: &PoolBlock) {
    const OPERATIONS: Family = counter(
        "oxicorn_pool_stash_operations",
        "Operations on the stash, those included that failed.",
    );
    for (family, number) in [
        (
            measured(
                "bytes",
                gauge("oxicorn_pool_stash_bytes", "Bytes that the stash holds."),
            ),
            PoolGauge::StashBytes,
        ),
        (
            gauge("oxicorn_pool_stash_entries", "Entries of its tables."),
            PoolGauge::StashEntries,
        ),
        (
            gauge("oxicorn_pool_stash_tables", "Its tables."),
            PoolGauge::StashTables,
        ),
    ] {
        out.single(family, pool.gauge(number));
    }
    out.begin(OPERATIONS);
    for (operation, number) in pool.operations() {
        out.sample(OPERATIONS, &[("operation", operation)], number);
    }
    out.single(
        counter(
            "oxicorn_pool_stash_full",
            "Operations refused because the stash would have held more than dirty_stash_size.",
        ),
        pool.counter(PoolCounter::StashFull),
    );
}

#[cfg(test)]
mod tests {
    use oxicorn_link::scoreboard::Scoreboard;

    use super::super::negotiation::Format;
    use super::*;

    fn written(pool: &PoolBlock) -> String {
        let mut out = Exposition::new(Format::Prometheus);
        write(&mut out, pool, Duration::from_secs(10));
        out.into_text()
    }

    #[test]
    fn without_a_pool_nothing_is_said_of_it() {
        let (board, _file) = Scoreboard::create(1, 1).expect("memory");
        assert_eq!(written(&board.pool()), "");
    }

    #[test]
    fn an_application_is_a_label_whatever_its_path_is() {
        let (board, _file) = Scoreboard::create(1, 1).expect("memory");
        let pool = board.pool();
        pool.give_row("a\"b:C\n");
        let text = written(&pool);
        assert!(
            text.contains(r#"oxicorn_pool_queue_depth{app="a\"b:C\n"} 0"#),
            "{text}"
        );
        assert!(!text.contains(r#"app="other""#));
        let other = pool.rows().next().expect("that of all others");
        other.count(CallOutcome::NoWorkers);
        other.record(CallHistogram::Run, Duration::from_secs(1));
        let text = written(&pool);
        assert!(text.contains(r#"oxicorn_pool_calls_total{app="other",outcome="no_workers"} 1"#));
        assert!(text.contains(r#"oxicorn_pool_call_run_seconds_count{app="other"} 1"#));
    }

    #[test]
    fn the_age_of_the_oldest_call_grows_until_there_is_none() {
        let (board, _file) = Scoreboard::create(1, 1).expect("memory");
        let pool = board.pool();
        pool.give_row("a:B");
        let row = pool.row_of("a:B").expect("it was given");
        row.set_since(CallGauge::RunningSince, Some(Duration::from_millis(7500)));
        row.set_since(CallGauge::QueuedSince, Some(Duration::ZERO));
        let is = |state: &str, age: &str| {
            let name = "oxicorn_pool_oldest_call_seconds";
            let line = format!("{name}{{app=\"a:B\",state=\"{state}\"}} {age}\n");
            assert!(written(&pool).contains(&line), "{line}");
        };
        is("running", "2.500000");
        is("queued", "9.999999");
        row.set_since(CallGauge::RunningSince, None);
        is("running", "0.000000");
    }
}
