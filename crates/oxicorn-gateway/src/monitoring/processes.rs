//! The figures of single processes: what each worker does, and how much memory each process has.

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

/// A process's memory is read from `/proc`; who is gone, or lives where it cannot be seen, has no line.
pub(super) fn write_memory(
    out: &mut Exposition,
    scoreboard: &Scoreboard,
    workers: &[(String, SlotReading)],
) {
    const RESIDENT: Family = measured(
        "bytes",
        gauge(
            "oxicorn_process_resident_memory_bytes",
            "Memory of a process that is in RAM; what processes share is counted in each.",
        ),
    );
    out.begin(RESIDENT);
    let arbiter = scoreboard.arbiter().gauge(ArbiterGauge::Pid);
    let arbiter = i32::try_from(arbiter).unwrap_or(0);
    for (role, pid) in [("arbiter", arbiter), ("gateway", process::id())] {
        if let Some(bytes) = resident_bytes_of(pid) {
            out.sample(RESIDENT, &[("process", role), ("worker", "")], bytes);
        }
    }
    for (slot, worker) in workers {
        if let Some(bytes) = resident_bytes_of(worker.pid) {
            out.sample(RESIDENT, &[("process", "worker"), ("worker", slot)], bytes);
        }
    }
}
