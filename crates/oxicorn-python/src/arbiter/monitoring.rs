//! The listener for metrics and probes, the figures that only the arbiter knows, and the memory of the applications'.
//!
//! The arbiter binds `metrics_bind` once and hands it to each gateway, and to who takes over from it (USR2), so that
//! the address answers as long as there is a server.

use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use oxicorn_arbiter::{Event, Exit, ReplacementReason};
use oxicorn_link::scoreboard::{ArbiterCounter, ArbiterGauge, Scoreboard};
use oxicorn_os::{process, time};
use oxicorn_settings::BindAddress;
use pyo3::prelude::*;

use super::binding::unbound;
use super::generation::with_settings;
use super::listeners::{self, Listener, Origin};
use super::log;
use super::python::PyArbiter;
use super::supervisor::Supervisor;
use crate::metrics;

/// Opens the listener of `metrics_bind`, or takes the predecessor's.
pub(crate) fn open(server: &PyArbiter<'_>, cfg: &Bound<'_, PyAny>) -> PyResult<Option<Listener>> {
    let (bind, options) = with_settings(cfg, |settings| {
        let bind = settings.inner.metrics_bind().cloned();
        (bind, listeners::Options::of(&settings.inner))
    })?;
    let inherited = server.inherited_metrics_listener()?;
    let Some(bind) = bind else {
        if let Some(descriptor) = inherited {
            drop(oxicorn_os::sockets::adopt(descriptor));
        }
        return Ok(None);
    };
    let listener = match inherited.and_then(|descriptor| inherit(descriptor, &bind, options)) {
        Some(listener) => listener,
        None => listeners::open(server, &bind, options).ok_or_else(|| unbound(&bind))?,
    };
    let text = format!("Metrics and probes at: {}", listener.text);
    log::write(server, oxicorn_arbiter::Level::Info, &text);
    Ok(Some(listener))
}

/// The predecessor's, if it listens where the settings say; else it is let go of.
fn inherit(descriptor: i32, bind: &BindAddress, options: listeners::Options) -> Option<Listener> {
    let binds = std::slice::from_ref(bind);
    let found = listeners::inherit(&[descriptor], binds, Origin::Predecessor, options);
    found.ok()?.pop()
}

/// Makes the memory of the applications' own metrics; workers have it by the fork.
pub(crate) fn share_metrics(cfg: &Bound<'_, PyAny>) -> PyResult<OwnedFd> {
    let bytes = with_settings(cfg, |settings| settings.inner.number("metrics_memory"))?;
    Ok(metrics::share(
        usize::try_from(bytes).unwrap_or(usize::MAX),
    )?)
}

/// What is known when the server is started.
pub(crate) fn begin(scoreboard: &Scoreboard) {
    let block = scoreboard.arbiter();
    let started = SystemTime::now().duration_since(UNIX_EPOCH);
    block.set(
        ArbiterGauge::StartTime,
        started.map_or(0, |since| since.as_secs()),
    );
    block.set(ArbiterGauge::Pid, u64::try_from(process::id()).unwrap_or(0));
}

impl Supervisor<'_> {
    /// Counts what the arbiter hears of.
    pub(crate) fn count(&self, event: &Event) {
        let block = self.scoreboard.arbiter();
        if let Event::GatewaySpawned { pid } = event {
            block.set(ArbiterGauge::GatewayPid, (*pid).into());
        }
        if let Event::WorkerReady(worker) = event
            && let Some(slot) = self
                .workers
                .get(*worker)
                .and_then(|found| found.slot.as_ref())
            && let Some(reading) = slot.read()
        {
            let took = time::monotonic().saturating_sub(reading.since);
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            block.set(ArbiterGauge::BootTime, nanos);
        }
        if let Some(counter) = counter_of(event) {
            block.count(counter);
        }
    }

    /// How many workers there should be, and which generation serves, as of now.
    pub(crate) fn show_wanted(&self) {
        let block = self.scoreboard.arbiter();
        block.set(ArbiterGauge::WorkersWanted, self.arbiter.wanted().into());
    }
}

const fn counter_of(event: &Event) -> Option<ArbiterCounter> {
    Some(match event {
        Event::WorkerSpawned { .. } => ArbiterCounter::WorkersSpawned,
        Event::GatewaySpawned { .. } => ArbiterCounter::GatewaysSpawned,
        Event::ConfigurationLoaded(_) => ArbiterCounter::Reloads,
        Event::ConfigurationRefused | Event::ReloadHookFailed => ArbiterCounter::ReloadsFailed,
        Event::WorkerExited { exit, .. } => match exit {
            Exit::Code(0) => ArbiterCounter::ExitedNormally,
            Exit::Code(_) => ArbiterCounter::ExitedWithError,
            Exit::Signal(_) => ArbiterCounter::EndedBySignal,
        },
        Event::WorkerWantsReplacement { reason, .. } => match reason {
            ReplacementReason::MaxRequests => ArbiterCounter::ReplacedMaxRequests,
            ReplacementReason::Memory => ArbiterCounter::ReplacedMemory,
            ReplacementReason::Requested => ArbiterCounter::ReplacedRequested,
        },
        Event::RequestExpired { .. } => ArbiterCounter::ReplacedTimeout,
        Event::HeartbeatMissed(_) => ArbiterCounter::ReplacedHeartbeat,
        Event::WorkerFault(_) => ArbiterCounter::ReplacedFault,
        Event::WorkerBootFailed { .. } | Event::WorkerSpawnFailed(_) | Event::PreForkFailed(_) => {
            ArbiterCounter::BootFailed
        }
        _ => return None,
    })
}
