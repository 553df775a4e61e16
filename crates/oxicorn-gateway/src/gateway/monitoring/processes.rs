//! The figures of single processes: what each worker does, and how much memory each process has.

use std::collections::HashMap;
use std::time::Duration;

use oxicorn_link::scoreboard::{ArbiterGauge, Scoreboard, SlotReading, WorkerState};

use oxicorn_os::process::{self, resident_bytes_of};

use super::exposition::{Exposition, Family, seconds};
use super::families::{gauge, measured};

/// Workers, each with its place on the scoreboard.
pub(super) fn write_workers(
    out: &mut Exposition,
    workers: &[(String, SlotReading)],
    now: Duration,
) {
    const STATES: Family = gauge("oxicorn_workers", "Workers by what they do.");
    const BUSY: Family = gauge(
        "oxicorn_worker_requests_in_flight",
        "Requests a worker works on.",
    );
    const AGE: Family = measured(
        "seconds",
        gauge("oxicorn_worker_age_seconds", "Since a worker was started."),
    );
    const SILENCE: Family = measured(
        "seconds",
        gauge(
            "oxicorn_worker_silence_seconds",
            "Since a worker's last sign of life.",
        ),
    );
    out.begin(STATES);
    for state in WorkerState::ALL {
        let number = (workers.iter()).filter(|(_, worker)| worker.state == Some(*state));
        out.sample(STATES, &[("state", state.name())], number.count());
    }
    let since = |then: Duration| {
        let micros = now.saturating_sub(then).as_micros();
        seconds(u64::try_from(micros).unwrap_or(u64::MAX))
    };
    out.begin(BUSY);
    for (slot, worker) in workers {
        out.sample(BUSY, &[("worker", slot)], worker.busy);
    }
    for (family, then) in [
        (AGE, (|worker| worker.since) as fn(&SlotReading) -> Duration),
        (SILENCE, |worker| worker.heartbeat),
    ] {
        out.begin(family);
        for (slot, worker) in workers {
            out.sample(family, &[("worker", slot)], since(then(worker)));
        }
    }
}

/// Every process that is known.
pub(super) fn all(scoreboard: &Scoreboard) -> Vec<i32> {
    let workers = scoreboard.workers().map(|worker| worker.pid);
    [arbiter_of(scoreboard), process::id()]
        .into_iter()
        .chain(workers)
        .collect()
}

fn arbiter_of(scoreboard: &Scoreboard) -> i32 {
    i32::try_from(scoreboard.arbiter().gauge(ArbiterGauge::Pid)).unwrap_or(0)
}

/// A process's memory is read from `/proc`; who is gone, or lives where it cannot be seen, has no line.
pub(super) fn write_memory(
    out: &mut Exposition,
    scoreboard: &Scoreboard,
    workers: &[(String, SlotReading)],
    proportional: &HashMap<i32, u64>,
) {
    const RESIDENT: Family = measured(
        "bytes",
        gauge(
            "oxicorn_process_resident_memory_bytes",
            "Memory of a process that is in RAM; what processes share is counted in each.",
        ),
    );
    const PROPORTIONAL: Family = measured(
        "bytes",
        gauge(
            "oxicorn_process_proportional_memory_bytes",
            "Memory of a process that is in RAM; of what processes share, each has its part.",
        ),
    );
    let resident: &dyn Fn(i32) -> Option<u64> = &resident_bytes_of;
    let own_part = |pid: i32| proportional.get(&pid).copied();
    for (family, bytes_of) in [(RESIDENT, resident), (PROPORTIONAL, &own_part)] {
        out.begin(family);
        for (role, pid) in [
            ("arbiter", arbiter_of(scoreboard)),
            ("gateway", process::id()),
        ] {
            if let Some(bytes) = bytes_of(pid) {
                out.sample(family, &[("process", role), ("worker", "")], bytes);
            }
        }
        for (slot, worker) in workers {
            if let Some(bytes) = bytes_of(worker.pid) {
                out.sample(family, &[("process", "worker"), ("worker", slot)], bytes);
            }
        }
    }
}
