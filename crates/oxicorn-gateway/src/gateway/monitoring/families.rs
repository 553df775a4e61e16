//! The figures: what they are called, and where on the scoreboard they stand.
//!
//! All of it is read from the scoreboard, which outlives gateways and workers, so counters never go back while the
//! server runs. Labels are bounded: methods and status classes are few, and a worker is named by its place on the
//! scoreboard, which its successor takes over.

use std::collections::HashMap;
use std::time::Duration;

use oxicorn_dispatch::Staffing;
use oxicorn_link::scoreboard::{
    ArbiterCounter, ArbiterGauge, Counter, GatewayBlock, Gauge, HistogramKind, Method, Scoreboard,
    StatusClass, WaitKind,
};

use super::exposition::{Exposition, Family, Kind, seconds};
use super::negotiation::Format;
use super::{pool, processes};

/// Histogram bounds: each power of two of microseconds from an eighth of a millisecond to a minute.
const BOUNDS: std::ops::RangeInclusive<u64> = 1 << 7..=1 << 26;

pub(super) const fn counter(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Counter,
        unit: None,
        help,
    }
}

pub(super) const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        unit: None,
        help,
    }
}

pub(super) const fn measured(unit: &'static str, family: Family) -> Family {
    Family {
        unit: Some(unit),
        ..family
    }
}

pub(super) const fn durations(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Histogram,
        unit: Some("seconds"),
        help,
    }
}

/// Everything there is to say of the server itself.
pub(super) fn write(
    format: Format,
    scoreboard: &Scoreboard,
    staffing: Staffing,
    proportional: &HashMap<i32, u64>,
    now: Duration,
) -> String {
    let mut out = Exposition::new(format);
    if let Some(gateway) = scoreboard.gateway(0) {
        write_requests(&mut out, &gateway);
        write_durations(&mut out, &gateway);
        write_clients(&mut out, &gateway);
    }
    write_staffing(&mut out, staffing);
    write_server(&mut out, scoreboard);
    let workers: Vec<_> = (0..scoreboard.slots())
        .filter_map(|number| Some((number.to_string(), scoreboard.slot(number)?.read()?)))
        .collect();
    processes::write_workers(&mut out, &workers, now);
    write_waits(&mut out, scoreboard);
    processes::write_memory(&mut out, scoreboard, &workers, proportional);
    pool::write(&mut out, &scoreboard.pool(), now);
    out.into_text()
}

fn write_requests(out: &mut Exposition, gateway: &GatewayBlock) {
    const RESPONSES: Family = counter(
        "oxicorn_responses",
        "Responses by method and status class, those of the server itself included.",
    );
    const REFUSED: Family = counter(
        "oxicorn_requests_refused",
        "Requests that no worker was asked for, or whose worker gave no answer.",
    );
    out.begin(RESPONSES);
    for method in Method::ALL {
        for class in StatusClass::ALL {
            let number = gateway.responses(*method, *class);
            // Most pairs never come: a series begins with the first response.
            if number > 0 {
                let labels = [("method", method.name()), ("class", class.name())];
                out.sample(RESPONSES, &labels, number);
            }
        }
    }
    let refused = [
        ("queue_full", Counter::RejectedFull),
        ("queue_timeout", Counter::RejectedWaited),
        ("timeout", Counter::Expired),
        ("worker_lost", Counter::Lost),
        ("client_left", Counter::Abandoned),
        ("malformed", Counter::PeerFaults),
    ];
    write_by(out, gateway, REFUSED, "reason", &refused);
    write_handshakes(out, gateway);
    write_floods(out, gateway);
    for (family, counter) in [
        (
            counter("oxicorn_requests", "Requests whose head was read."),
            Counter::Requests,
        ),
        (
            counter(
                "oxicorn_requests_requeued",
                "Requests given to another worker because theirs was busy or died.",
            ),
            Counter::Requeued,
        ),
        (
            counter("oxicorn_connections_accepted", "Client connections."),
            Counter::Accepted,
        ),
        (
            counter("oxicorn_spans_exported", "Spans that a collector took."),
            Counter::SpansExported,
        ),
        (
            counter(
                "oxicorn_spans_dropped",
                "Spans that were not exported, because the collector was slow, away or refused them.",
            ),
            Counter::SpansDropped,
        ),
        (
            measured(
                "bytes",
                counter("oxicorn_received_bytes", "Bytes received from clients."),
            ),
            Counter::BytesIn,
        ),
        (
            measured(
                "bytes",
                counter("oxicorn_sent_bytes", "Bytes sent to clients."),
            ),
            Counter::BytesOut,
        ),
    ] {
        out.single(family, gateway.counter(counter));
    }
}

fn write_handshakes(out: &mut Exposition, gateway: &GatewayBlock) {
    const DONE: Family = counter(
        "oxicorn_tls_handshakes",
        "TLS handshakes by version, and whether they resumed a session.",
    );
    const FAILED: Family = counter(
        "oxicorn_tls_handshakes_failed",
        "Connections whose TLS handshake did not come to its end.",
    );
    out.begin(DONE);
    for (version, resumed, counter) in [
        ("1.2", "false", Counter::Tls12),
        ("1.2", "true", Counter::Tls12Resumed),
        ("1.3", "false", Counter::Tls13),
        ("1.3", "true", Counter::Tls13Resumed),
    ] {
        let labels = [("version", version), ("resumed", resumed)];
        out.sample(DONE, &labels, gateway.counter(counter));
    }
    let failed = [
        ("protocol", Counter::TlsFailed),
        ("timeout", Counter::TlsTooSlow),
        ("plain_http", Counter::TlsUnencrypted),
    ];
    write_by(out, gateway, FAILED, "reason", &failed);
}

fn write_floods(out: &mut Exposition, gateway: &GatewayBlock) {
    const FLOODS: Family = counter(
        "oxicorn_http2_floods",
        "Connections of HTTP/2 that were ended because they passed a bound, by what there was too much of.",
    );
    let floods = [
        ("resets", Counter::Http2Resets),
        ("malformed", Counter::Http2Malformed),
        ("continuations", Counter::Http2Continuations),
        ("control_frames", Counter::Http2Control),
        ("window_updates", Counter::Http2WindowUpdates),
        ("header_list", Counter::Http2HeaderLists),
    ];
    write_by(out, gateway, FLOODS, "kind", &floods);
}

/// A family with one label, and a counter for each of its values.
fn write_by(
    out: &mut Exposition,
    gateway: &GatewayBlock,
    family: Family,
    label: &'static str,
    counters: &[(&str, Counter)],
) {
    out.begin(family);
    for (value, counter) in counters {
        out.sample(family, &[(label, value)], gateway.counter(*counter));
    }
}

fn write_durations(out: &mut Exposition, gateway: &GatewayBlock) {
    for (family, kind) in [
        (
            durations(
                "oxicorn_request_duration_seconds",
                "From a request's first byte to its response's last.",
            ),
            HistogramKind::Latency,
        ),
        (
            durations(
                "oxicorn_request_queue_seconds",
                "From a complete request to being given to a worker.",
            ),
            HistogramKind::QueueWait,
        ),
        (
            durations(
                "oxicorn_request_proxy_seconds",
                "From a proxy's getting a request to its head being read here, see the setting request_start.",
            ),
            HistogramKind::ProxyTime,
        ),
        (
            durations(
                "oxicorn_request_service_seconds",
                "From being given to a worker to the end of the application's call.",
            ),
            HistogramKind::Service,
        ),
    ] {
        let reading = gateway.histogram(kind);
        out.histogram(family, coarse(reading.buckets()), reading.sum_micros);
    }
}

fn write_waits(out: &mut Exposition, scoreboard: &Scoreboard) {
    for (family, kind) in [
        (
            durations(
                "oxicorn_interpreter_wait_seconds",
                "How long threads that a request has woken waited for the interpreter.",
            ),
            WaitKind::Interpreter,
        ),
        (
            durations(
                "oxicorn_loop_lag_seconds",
                "How long event loops took to turn when they were called, several times a minute.",
            ),
            WaitKind::Loop,
        ),
    ] {
        let reading = scoreboard.waits(kind);
        out.histogram(family, coarse(reading.buckets()), reading.sum_micros);
    }
}

/// The buckets of powers of two, each with what lies between it and the one before.
pub(super) fn coarse(
    fine: impl Iterator<Item = (Option<u64>, u64)>,
) -> impl Iterator<Item = (Option<u64>, u64)> {
    let mut gathered = 0_u64;
    fine.filter_map(move |(bound, values)| {
        gathered = gathered.saturating_add(values);
        let is_shown = bound.is_none_or(|bound| bound.is_power_of_two() && BOUNDS.contains(&bound));
        is_shown.then(|| (bound, std::mem::take(&mut gathered)))
    })
}

fn write_clients(out: &mut Exposition, gateway: &GatewayBlock) {
    for (family, number) in [
        (
            gauge("oxicorn_queue_depth", "Requests that wait for a worker."),
            gateway.gauge(Gauge::Queued),
        ),
        (
            gauge("oxicorn_requests_in_flight", "Requests that workers have."),
            gateway.gauge(Gauge::InFlight),
        ),
        (
            gauge("oxicorn_connections", "Open client connections."),
            gateway.gauge(Gauge::Connections),
        ),
        (
            measured(
                "bytes",
                gauge(
                    "oxicorn_buffered_bytes",
                    "Bytes held for clients, see the setting buffer_limit.",
                ),
            ),
            gateway.gauge(Gauge::Buffered),
        ),
    ] {
        out.single(family, number);
    }
}

fn write_staffing(out: &mut Exposition, staffing: Staffing) {
    for (family, number) in [
        (
            gauge(
                "oxicorn_workers_serving",
                "Workers that are given requests.",
            ),
            staffing.workers,
        ),
        (
            gauge(
                "oxicorn_workers_busy",
                "Of the workers serving, those that have a request.",
            ),
            staffing.busy_workers,
        ),
        (
            gauge(
                "oxicorn_capacity",
                "Requests that the workers serving work on at a time.",
            ),
            staffing.capacity,
        ),
        (
            gauge(
                "oxicorn_capacity_used",
                "Of the capacity, what is in use; the queue grows when it is all.",
            ),
            staffing.busy,
        ),
    ] {
        out.single(family, number);
    }
}

fn write_server(out: &mut Exposition, scoreboard: &Scoreboard) {
    const EXITS: Family = counter("oxicorn_worker_exits", "Workers that have ended, by how.");
    const REPLACED: Family = counter(
        "oxicorn_worker_replacements",
        "Workers that were replaced, by why; reloads are not among them.",
    );
    let arbiter = scoreboard.arbiter();
    for (family, gauge) in [
        (
            gauge("oxicorn_workers_wanted", "Workers there should be."),
            ArbiterGauge::WorkersWanted,
        ),
        (
            gauge(
                "oxicorn_generation",
                "The generation of workers that serves; each reload makes a new one.",
            ),
            ArbiterGauge::Generation,
        ),
        (
            measured(
                "seconds",
                gauge(
                    "oxicorn_start_time_seconds",
                    "When the server was started, since 1970.",
                ),
            ),
            ArbiterGauge::StartTime,
        ),
    ] {
        out.single(family, arbiter.gauge(gauge));
    }
    out.single(
        measured(
            "seconds",
            gauge(
                "oxicorn_worker_boot_seconds",
                "How long the worker that became ready last took for it.",
            ),
        ),
        seconds(arbiter.gauge(ArbiterGauge::BootTime) / 1000),
    );
    for (family, number) in [
        (
            counter("oxicorn_workers_spawned", "Workers that were started."),
            ArbiterCounter::WorkersSpawned,
        ),
        (
            counter("oxicorn_gateways_spawned", "Gateways that were started."),
            ArbiterCounter::GatewaysSpawned,
        ),
        (
            counter("oxicorn_reloads", "Configurations that were loaded again."),
            ArbiterCounter::Reloads,
        ),
        (
            counter(
                "oxicorn_reloads_failed",
                "Reloads that were refused or given up.",
            ),
            ArbiterCounter::ReloadsFailed,
        ),
    ] {
        out.single(family, arbiter.counter(number));
    }
    for (family, reasons) in [
        (
            EXITS,
            &[
                ("exited", ArbiterCounter::ExitedNormally),
                ("error", ArbiterCounter::ExitedWithError),
                ("signal", ArbiterCounter::EndedBySignal),
                ("out_of_memory", ArbiterCounter::OutOfMemory),
            ][..],
        ),
        (
            REPLACED,
            &[
                ("max_requests", ArbiterCounter::ReplacedMaxRequests),
                ("memory", ArbiterCounter::ReplacedMemory),
                ("requested", ArbiterCounter::ReplacedRequested),
                ("timeout", ArbiterCounter::ReplacedTimeout),
                ("heartbeat", ArbiterCounter::ReplacedHeartbeat),
                ("link_fault", ArbiterCounter::ReplacedFault),
                ("boot_failed", ArbiterCounter::BootFailed),
            ],
        ),
    ] {
        out.begin(family);
        for (reason, counter) in reasons {
            out.sample(family, &[("reason", reason)], arbiter.counter(*counter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_buckets_lose_no_value_and_keep_exact_bounds() {
        let (board, _file) = Scoreboard::create(1, 1).expect("memory");
        let block = board.gateway(0).expect("one");
        for micros in [0, 1, 127, 128, 129, 1000, 70_000_000, u64::from(u32::MAX)] {
            block.record(HistogramKind::Service, Duration::from_micros(micros));
        }
        let reading = block.histogram(HistogramKind::Service);
        let buckets: Vec<_> = coarse(reading.buckets()).collect();
        assert_eq!(buckets.len(), 21, "20 bounds and what is beyond them");
        assert_eq!(buckets.iter().map(|(_, values)| values).sum::<u64>(), 8);
        assert_eq!(buckets[0], (Some(128), 3), "what is shorter than the bound");
        assert_eq!(buckets.last(), Some(&(None, 2)));
    }
}
