//! What requests say of themselves, and what becomes of it.

use std::fmt::Write as _;
use std::sync::Arc;

use oxicorn_proto::http1::{Connection, Event};

use super::*;
use crate::config::tracing::{Export, RequestId, Sampler};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOW: Duration = Duration::from_secs(1_700_000_000);

fn all() -> Tracing {
    Tracing {
        request_id: Some(RequestId {
            header: "X-Request-ID".into(),
            respond: true,
        }),
        request_start: true,
        context: TraceContext::Any,
        ..Tracing::default()
    }
}

fn exporting(sampler: Sampler) -> Tracing {
    Tracing {
        sampler,
        export: Some(Export {
            endpoint: "http://localhost".into(),
            authorities: None,
            headers: Vec::new(),
            resource: Vec::new(),
            timeout: Duration::from_secs(1),
            delay: Duration::from_secs(1),
            queue: 1,
            batch: 1,
        }),
        ..all()
    }
}

/// A request with these headers, looked at by a peer that is `trusted`; random bytes are all 7.
fn begin(
    settings: &Tracing,
    trusted: bool,
    headers: &[(&str, &str)],
) -> (RequestTrace, Vec<String>) {
    let rules = Rules::new(settings).expect("something is on");
    let mut request = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    request += "\r\n";
    let mut connection = Connection::new(Arc::default());
    let polled = connection
        .poll_event(request.as_bytes())
        .expect("a good request");
    assert_eq!(polled.event, Event::Head);
    let head = connection.head(request.as_bytes());
    let trace = RequestTrace::begin(&rules, &head, trusted, || NOW, |bytes| bytes.fill(7));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let told = trace.told_headers(&head);
    let told = told.map(|(name, value)| format!("{}: {}", text(name), text(value)));
    let told = told.collect();
    (trace, told)
}

fn id(trusted: bool, headers: &[(&str, &str)]) -> String {
    let (trace, _) = begin(&all(), trusted, headers);
    String::from_utf8_lossy(trace.id().expect("one")).into_owned()
}

const MADE: &str = "07070707-0707-4707-8707-070707070707";

#[test]
fn nothing_is_looked_at_where_nothing_is_on() {
    assert!(Rules::new(&Tracing::default()).is_none());
    let timing = Tracing {
        server_timing: true,
        ..Tracing::default()
    };
    assert!(
        Rules::new(&timing).is_none(),
        "it needs no request's headers"
    );
}

#[test]
fn ids_are_taken_from_those_who_are_trusted() {
    assert_eq!(id(true, &[("x-request-id", "abc-1")]), "abc-1");
    assert_eq!(id(false, &[("X-Request-ID", "abc-1")]), MADE);
    assert_eq!(id(true, &[("X-Request-ID", "a b")]), MADE);
    assert_eq!(id(true, &[("X-Request-ID", "")]), MADE);
    let twice = [("X-Request-ID", "one"), ("X-Request-ID", "two")];
    assert_eq!(id(true, &twice), MADE);
    assert_eq!(id(true, &[]), MADE);
}

#[test]
fn the_application_is_told_one_id_whatever_came() {
    let settings = Tracing {
        context: TraceContext::Off,
        ..all()
    };
    let came = [
        ("X-Request-ID", "forged"),
        ("Accept", "*/*"),
        ("traceparent", "x"),
    ];
    let (_, told) = begin(&settings, false, &came);
    let id = format!("X-Request-ID: {MADE}");
    assert_eq!(told, ["Host: a", "Accept: */*", "traceparent: x", &id]);
}

#[test]
fn the_time_in_proxies_is_taken_from_those_who_are_trusted() {
    let time = |trusted, headers: &[(&str, &str)]| begin(&all(), trusted, headers).0.proxy_time;
    let start = [("X-Request-Start", "t=1699999999.750")];
    assert_eq!(time(true, &start), Some(Duration::from_millis(250)));
    assert_eq!(time(false, &start), None);
    assert_eq!(
        time(true, &[("X-Queue-Start", "1699999998000")]),
        Some(Duration::from_secs(2))
    );
    assert_eq!(time(true, &[("X-Request-Start", "now")]), None);
    assert_eq!(time(true, &[("X-Request-Start", "1600000000")]), None);
}

#[test]
fn a_valid_context_is_passed_on_as_it_is_where_nothing_is_recorded() {
    let came = [
        ("Traceparent", CALLER),
        ("tracestate", "a=1"),
        ("TraceState", "b=2"),
    ];
    let (trace, told) = begin(&all(), false, &came);
    let parent = format!("traceparent: {CALLER}");
    assert_eq!(told[1..3], [format!("X-Request-ID: {MADE}"), parent]);
    assert_eq!(told[3], "tracestate: a=1,b=2");
    assert!(!trace.is_recorded());
    assert_eq!(
        &trace.trace_id().expect("one"),
        b"4bf92f3577b34da6a3ce929d0e0e4736"
    );
}

#[test]
fn a_trace_begins_where_there_is_no_valid_one() {
    let begun = format!("traceparent: 00-{}-{}-03", "07".repeat(16), "07".repeat(8));
    for came in [
        &[][..],
        &[("tracestate", "a=1")],
        &[("traceparent", "00-nonsense"), ("tracestate", "a=1")],
        &[("traceparent", CALLER), ("traceparent", CALLER)],
    ] {
        let (_, told) = begin(&all(), true, came);
        assert_eq!((told.len(), &told[2]), (3, &begun), "{came:?}");
    }
}

#[test]
fn contexts_of_strangers_may_be_left_out() {
    let settings = Tracing {
        context: TraceContext::Trusted,
        ..all()
    };
    let came = [("traceparent", CALLER), ("tracestate", "a=1")];
    assert_eq!(
        begin(&settings, true, &came).1[2..],
        [format!("traceparent: {CALLER}"), "tracestate: a=1".into()]
    );
    let told = begin(&settings, false, &came).1;
    assert!(
        told.len() == 3 && told[2].starts_with("traceparent: 00-0707"),
        "{told:?}"
    );
}

#[test]
fn the_application_is_the_child_of_a_recorded_span() {
    let (trace, told) = begin(
        &exporting(Sampler::default()),
        false,
        &[("traceparent", CALLER)],
    );
    assert!(trace.is_recorded());
    let ours = format!(
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01",
        "07".repeat(8)
    );
    assert_eq!(told[2], ours);
    let context = trace.context.expect("one");
    assert_eq!(
        context.parent,
        Some([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7])
    );
}

#[test]
fn what_the_caller_has_decided_is_followed() {
    let quiet = CALLER.replace("-01", "-00");
    let settings = exporting(Sampler::default());
    let (trace, told) = begin(&settings, false, &[("traceparent", &quiet)]);
    assert!(!trace.is_recorded());
    assert_eq!(
        told[2],
        format!("traceparent: {quiet}"),
        "its span stays the parent"
    );
    let never = Sampler {
        follows_parent: true,
        ratio: 0.0,
    };
    assert!(
        begin(&exporting(never), false, &[("traceparent", CALLER)])
            .0
            .is_recorded()
    );
    let (trace, told) = begin(&exporting(never), false, &[]);
    assert!(!trace.is_recorded() && told[2].ends_with("-02"), "{told:?}");
    let alone = Sampler {
        follows_parent: false,
        ratio: 0.0,
    };
    let (trace, told) = begin(&exporting(alone), false, &[("traceparent", CALLER)]);
    assert!(!trace.is_recorded() && told[2].ends_with("-00"), "{told:?}");
}

#[test]
fn a_part_of_the_traces_is_sampled_by_their_ids() {
    let sampled = |ratio, byte: u8| {
        let sampler = Sampler {
            follows_parent: true,
            ratio,
        };
        let rules = Rules::new(&exporting(sampler)).expect("on");
        is_sampled(&rules, &[byte; 16])
    };
    assert!(sampled(0.5, 0x7f) && !sampled(0.5, 0x80));
    assert!(sampled(1.0, 0xff) && !sampled(0.0, 0x00));
}

#[test]
fn names_that_are_one_variable_are_replaced() {
    assert!(is_same_variable(b"X_Request-id", b"x-request-ID"));
    assert!(!is_same_variable(b"x-request-i", b"x-request-id"));
}

#[test]
fn lines_end_with_the_ids_there_are() {
    let (trace, _) = begin(
        &all(),
        true,
        &[("X-Request-ID", "abc"), ("traceparent", CALLER)],
    );
    assert_eq!(
        RequestIds::of(Some(&trace)).to_string(),
        " request_id=abc trace_id=4bf92f3577b34da6a3ce929d0e0e4736"
    );
    assert_eq!(RequestIds::of(None).to_string(), "");
}
