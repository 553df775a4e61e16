//! Workers and requests as they are now.

use std::time::Duration;

use oxicorn_link::scoreboard::{
    ArbiterGauge, CallGauge, CallOutcome, CallRow, OTHER, PoolBlock, RunningCall, SlotReading,
    WorkerState,
};
use oxicorn_os::process::{self, resident_bytes_of};
use serde::Serialize;

use crate::control::RequestShown;
use crate::gateway::Gateway;

/// Requests that are shown, the oldest.
const REQUESTS: usize = 20;

/// Calls of heavy applications that are shown, the oldest.
const CALLS: usize = 20;

/// Workers that are shown.
const WORKERS: usize = 256;

#[derive(Debug, Serialize)]
struct State {
    version: &'static str,
    /// When the server was started, in seconds since 1970.
    started: u64,
    wanted: u64,
    generation: u64,
    stopping: bool,
    /// Workers may be replaced and the server reloaded from here.
    orders: bool,
    arbiter: Process,
    gateway: Process,
    workers: Vec<Worker>,
    requests: Vec<RequestShown>,
    requests_total: usize,
    /// Of the pool of heavy applications; empty where there is none.
    heavy: Vec<Heavy>,
    /// Of their calls those that have run longest.
    calls: Vec<HeavyCall>,
    calls_total: u64,
}

/// A heavy application.
#[derive(Debug, Serialize)]
struct Heavy {
    app: String,
    /// That are given calls.
    workers: u64,
    /// Calls that wait, and calls that run.
    queued: u64,
    running: u64,
    /// Milliseconds for which the oldest of them does so.
    queued_ms: Option<u64>,
    running_ms: Option<u64>,
    /// Calls that have ended with a result, those that its caller did not want any more, and all others.
    answered: u64,
    cancelled: u64,
    failed: u64,
}

impl Heavy {
    fn of(row: &CallRow, now: Duration) -> Self {
        let (mut answered, mut cancelled, mut failed) = (0, 0, 0);
        for outcome in CallOutcome::ALL {
            let sum = match outcome {
                CallOutcome::Ok => &mut answered,
                CallOutcome::Cancelled => &mut cancelled,
                _ => &mut failed,
            };
            *sum += row.outcomes(*outcome);
        }
        Self {
            app: row.name(),
            workers: row.gauge(CallGauge::Workers),
            queued: row.gauge(CallGauge::Queued),
            running: row.gauge(CallGauge::InFlight),
            queued_ms: row.since(CallGauge::QueuedSince).map(|at| millis(at, now)),
            running_ms: (row.since(CallGauge::RunningSince)).map(|at| millis(at, now)),
            answered,
            cancelled,
            failed,
        }
    }

    fn all(pool: &PoolBlock, now: Duration) -> Vec<Self> {
        let shown = pool.rows().map(|row| Self::of(&row, now));
        // What is called and does not exist is shown when somebody has called it.
        shown
            .filter(|one| one.app != OTHER || one.failed > 0)
            .collect()
    }
}

/// A call that a worker of the pool runs.
#[derive(Debug, Serialize)]
struct HeavyCall {
    call: String,
    worker: i32,
    /// 0: unknown.
    caller: i32,
    age_ms: u64,
    queued_ms: u64,
}

impl HeavyCall {
    fn of(call: RunningCall, now: Duration) -> Self {
        Self {
            call: call.name,
            worker: call.worker,
            caller: call.caller,
            age_ms: millis(call.begun, now),
            queued_ms: millis(call.received, call.begun),
        }
    }
}

fn millis(since: Duration, now: Duration) -> u64 {
    u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Serialize)]
struct Process {
    pid: i32,
    /// Resident memory in bytes.
    rss: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Worker {
    pid: i32,
    /// Its number, counted by the arbiter.
    age: u64,
    generation: u32,
    state: &'static str,
    /// Seconds since it was started.
    uptime: u64,
    /// Milliseconds since its last sign of life.
    silence: u64,
    busy: u64,
    requests: u64,
    rss: Option<u64>,
}

impl Process {
    fn of(pid: i32) -> Self {
        Self {
            pid,
            rss: resident_bytes_of(pid),
        }
    }
}

impl Worker {
    fn of(reading: &SlotReading, now: Duration) -> Self {
        Self {
            pid: reading.pid,
            age: reading.age,
            generation: reading.generation,
            state: reading.state.map_or("unknown", WorkerState::name),
            uptime: now.saturating_sub(reading.since).as_secs(),
            silence: millis(reading.heartbeat, now),
            busy: reading.busy,
            requests: reading.requests,
            rss: resident_bytes_of(reading.pid),
        }
    }
}

impl Gateway {
    /// All of it as JSON.
    pub(super) fn dashboard_state(&mut self) -> String {
        let now = self.clock.now();
        let (requests_total, requests) = self.shown_requests(REQUESTS);
        let orders = (self.dashboard.as_ref()).is_some_and(|dashboard| dashboard.token.is_some());
        let stopping = self.drain.is_some();
        let Some(scoreboard) = self.metrics.scoreboard() else {
            return "{}".into();
        };
        let arbiter = scoreboard.arbiter();
        let mut workers: Vec<_> = scoreboard.workers().collect();
        workers.sort_unstable_by_key(|worker| worker.age);
        workers.truncate(WORKERS);
        let heavy = Heavy::all(&scoreboard.pool(), now);
        let calls = scoreboard.pool().running_calls().all().into_iter();
        let calls = calls.take(CALLS).map(|call| HeavyCall::of(call, now));
        let state = State {
            version: env!("CARGO_PKG_VERSION"),
            started: arbiter.gauge(ArbiterGauge::StartTime),
            wanted: arbiter.gauge(ArbiterGauge::WorkersWanted),
            generation: arbiter.gauge(ArbiterGauge::Generation),
            stopping,
            orders,
            arbiter: Process::of(i32::try_from(arbiter.gauge(ArbiterGauge::Pid)).unwrap_or(0)),
            gateway: Process::of(process::id()),
            workers: workers
                .iter()
                .map(|worker| Worker::of(worker, now))
                .collect(),
            requests,
            requests_total,
            calls_total: heavy.iter().map(|one| one.running).sum(),
            heavy,
            calls: calls.collect(),
        };
        serde_json::to_string(&state).unwrap_or_default()
    }
}
