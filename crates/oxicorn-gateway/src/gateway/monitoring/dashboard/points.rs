//! What happened in each of the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

use oxicorn_link::scoreboard::{
    ArbiterCounter, ArbiterGauge, Counter, Gauge, HistogramKind, HistogramReading, Method,
    Scoreboard, StatusClass,
};
use serde::Serialize;

use crate::gateway::Gateway;

/// How many are kept: ten minutes.
const KEPT: usize = 600;

/// A second. Rates are per second; times in milliseconds; what has no value (nothing was measured) is null.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    /// When it ended, in seconds since 1970.
    pub(super) time: f64,
    pub(super) responses: f64,
    /// Responses of 500 and more.
    pub(super) errors: f64,
    /// Requests that no worker was asked for, or whose worker gave no answer.
    pub(super) refused: f64,
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
    /// 95th percentile of the time in the queue.
    pub(super) wait: Option<f64>,
    pub(super) queued: u64,
    pub(super) in_flight: u64,
    pub(super) connections: u64,
    pub(super) busy: u32,
    pub(super) capacity: u32,
    pub(super) workers: u32,
    pub(super) generation: u64,
    /// Counted since the server was started: what changes here is a mark on the time axis.
    pub(super) reloads: u64,
    pub(super) reloads_failed: u64,
    pub(super) gateways: u64,
    pub(super) spawned: u64,
    /// Workers that ended by a signal or with an error.
    pub(super) died: u64,
}

/// Counters as they were.
#[derive(Debug)]
struct Counted {
    at: Duration,
    responses: u64,
    errors: u64,
    refused: u64,
    latency: HistogramReading,
    wait: HistogramReading,
}

/// The last seconds.
#[derive(Debug, Default)]
pub(super) struct Points {
    kept: VecDeque<Point>,
    /// The number of the last one, counted from 1.
    last: u64,
    before: Option<Counted>,
}

impl Points {
    /// The second that ends now. The first look only learns what to count from.
    pub(super) fn take(&mut self, gateway: &Gateway) {
        let now = gateway.clock.now();
        let Some(scoreboard) = gateway.metrics.scoreboard() else {
            return;
        };
        let Some(counted) = count(scoreboard, now) else {
            return;
        };
        if let Some(before) = &self.before {
            let point = point(gateway, scoreboard, before, &counted);
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(point);
            self.last += 1;
        }
        self.before = Some(counted);
    }

    /// The points behind the one with this number, as far as they are kept, and the number of the last one.
    pub(super) fn since(&self, number: u64) -> (Vec<&Point>, u64) {
        let new = usize::try_from(self.last.saturating_sub(number)).unwrap_or(KEPT);
        let skipped = self.kept.len().saturating_sub(new);
        (self.kept.range(skipped..).collect(), self.last)
    }
}

fn count(scoreboard: &Scoreboard, at: Duration) -> Option<Counted> {
    let block = scoreboard.gateway(0)?;
    let of_class = |class| -> u64 {
        let methods = Method::ALL.iter();
        methods.map(|method| block.responses(*method, class)).sum()
    };
    let refusals = [
        Counter::RejectedFull,
        Counter::RejectedWaited,
        Counter::Expired,
        Counter::Lost,
        Counter::PeerFaults,
    ];
    Some(Counted {
        at,
        responses: StatusClass::ALL.iter().map(|class| of_class(*class)).sum(),
        errors: of_class(StatusClass::ServerError),
        refused: refusals.map(|counter| block.counter(counter)).iter().sum(),
        latency: block.histogram(HistogramKind::Latency),
        wait: block.histogram(HistogramKind::QueueWait),
    })
}

fn point(gateway: &Gateway, scoreboard: &Scoreboard, before: &Counted, now: &Counted) -> Point {
    let seconds = now.at.saturating_sub(before.at).as_secs_f64().max(0.001);
    let rate = |now: u64, before: u64| {
        let number = u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        (f64::from(number) / seconds * 10.0).round() / 10.0
    };
    let latency = now.latency.since(&before.latency);
    let wait = now.wait.since(&before.wait);
    let staffing = gateway.dispatcher.staffing();
    let (block, arbiter) = (scoreboard.gateway(0), scoreboard.arbiter());
    let gauge = |gauge| block.as_ref().map_or(0, |block| block.gauge(gauge));
    let counter = |counter| arbiter.counter(counter);
    Point {
        time: oxicorn_os::time::wall().as_secs_f64(),
        responses: rate(now.responses, before.responses),
        errors: rate(now.errors, before.errors),
        refused: rate(now.refused, before.refused),
        p50: quantile(&latency, 0.5),
        p95: quantile(&latency, 0.95),
        p99: quantile(&latency, 0.99),
        wait: quantile(&wait, 0.95),
        queued: gauge(Gauge::Queued),
        in_flight: gauge(Gauge::InFlight),
        connections: gauge(Gauge::Connections),
        busy: staffing.busy,
        capacity: staffing.capacity,
        workers: staffing.workers,
        generation: arbiter.gauge(ArbiterGauge::Generation),
        reloads: counter(ArbiterCounter::Reloads),
        reloads_failed: counter(ArbiterCounter::ReloadsFailed),
        gateways: counter(ArbiterCounter::GatewaysSpawned),
        spawned: counter(ArbiterCounter::WorkersSpawned),
        died: counter(ArbiterCounter::ExitedWithError) + counter(ArbiterCounter::EndedBySignal),
    }
}

/// In milliseconds, to a hundredth.
fn quantile(reading: &HistogramReading, part: f64) -> Option<f64> {
    (reading.count() > 0).then(|| (reading.quantile(part).as_secs_f64() * 1e5).round() / 100.0)
}
