//! The dashboard, on the listener for metrics and probes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use oxicorn_gateway::control::{DashboardOrder, FromGateway, ToGateway};
use oxicorn_link::scoreboard::{CallGauge, CallOutcome};

use crate::scenario::{PATIENCE, Scenario, eventually, patient};

const TOKEN: &str = "0123456789abcdef";

fn send(scenario: &Scenario, method: &str, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(scenario.monitoring_address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn ask(scenario: &Scenario, method: &str, path: &str, headers: &str) -> String {
    let mut answer = String::new();
    send(scenario, method, path, headers)
        .read_to_string(&mut answer)
        .unwrap();
    answer
}

/// Reads until it has come. A viewer is sent something each second, so that nothing else ends the waiting.
fn read_until(stream: &mut TcpStream, expected: &str) -> String {
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&seen).contains(expected) {
        let text = String::from_utf8_lossy(&seen);
        assert!(Instant::now() < deadline, "no {expected} in {text}");
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&seen);
        assert_ne!(count, 0, "ended before {expected}: {text}");
        seen.extend(&buffer[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

const LOCAL: &str = "Host: localhost:1\r\n";

fn bearer(token: &str) -> String {
    format!("Host: shop.example\r\nAuthorization: Bearer {token}\r\n")
}

#[test]
fn without_the_setting_there_is_none() {
    let scenario = Scenario::start(patient());
    for path in ["/dashboard", "/dashboard/stream", "/dashboard/reload"] {
        assert!(ask(&scenario, "GET", path, LOCAL).starts_with("HTTP/1.1 404"));
    }
    assert!(!ask(&scenario, "GET", "/", LOCAL).contains("dashboard"));
}

#[test]
fn figures_and_warnings_come_by_themselves() {
    let (mut scenario, tail) = Scenario::with_dashboard(patient(), None);
    let mut worker = scenario.ready_worker(1);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut viewer = send(&scenario, "GET", "/dashboard/stream", LOCAL);
    let head = read_until(&mut viewer, "event: state\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"));
    let mut client = scenario.connect();
    client.get("/report?year=1999");
    let claimed = worker.claim();
    let shown = read_until(&mut viewer, "/report?year=1999");
    assert!(shown.contains("event: points\ndata: ["));
    worker.respond(&claimed, "");
    client.read_response();
    read_until(&mut viewer, "\"requests_total\":0");
    tail.write(Duration::from_secs(7), 40, 42, "something\nis \"wrong\"");
    let shown = read_until(&mut viewer, "event: log\n");
    let shown = shown + &read_until(&mut viewer, "\n\n");
    assert!(shown.contains(r#""level":"error","pid":42,"text":"something\nis \"wrong\"""#));
}

#[test]
fn heavy_applications_are_shown_with_what_waits_and_runs() {
    let (scenario, _tail) = Scenario::with_dashboard(patient(), None);
    let mut viewer = send(&scenario, "GET", "/dashboard/stream", LOCAL);
    read_until(&mut viewer, r#""heavy":[]"#);
    let pool = scenario.scoreboard.pool();
    pool.give_row("model:\"Model");
    let row = pool.row_of("model:\"Model").unwrap();
    row.set(CallGauge::Workers, 2);
    row.set(CallGauge::Queued, 3);
    row.set(CallGauge::InFlight, 4);
    row.count(CallOutcome::Ok);
    for outcome in [CallOutcome::Error, CallOutcome::Timeout] {
        row.count(outcome);
    }
    let expected = r#""heavy":[{"app":"model:\"Model","workers":2,"queued":3,"running":4,"queued_ms":null,"running_ms":null,"answered":1,"cancelled":0,"failed":2}]"#;
    read_until(&mut viewer, expected);
}

#[test]
fn without_a_token_names_of_others_are_refused_and_nothing_is_changed() {
    let (scenario, _) = Scenario::with_dashboard(patient(), None);
    assert!(ask(&scenario, "GET", "/", LOCAL).contains("/dashboard\n"));
    let page = ask(&scenario, "GET", "/dashboard", "Host: evil.example\r\n");
    assert!(page.contains("\r\nContent-Security-Policy: default-src 'none';"));
    for path in ["/dashboard/stream", "/dashboard/stacks?pid=1"] {
        for host in ["Host: evil.example\r\n", "Host: localhost.evil.example\r\n"] {
            let answer = ask(&scenario, "GET", path, host);
            assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        }
    }
    for path in ["/dashboard/reload", "/dashboard/recycle?pid=1"] {
        let answer = ask(&scenario, "POST", path, LOCAL);
        assert!(
            answer.starts_with("HTTP/1.1 403") && answer.contains("read-only"),
            "{answer}"
        );
        assert!(ask(&scenario, "GET", path, LOCAL).contains("\r\nAllow: POST\r\n"));
    }
}

#[test]
fn who_has_the_token_may_look_and_order() {
    let (scenario, _) = Scenario::with_dashboard(patient(), Some(TOKEN));
    for headers in [
        LOCAL.to_owned(),
        bearer("0123456789abcdeX"),
        bearer(""),
        "Host: localhost\r\nAuthorization: Basic 0123456789abcdef\r\n".into(),
    ] {
        for (method, path) in [
            ("GET", "/dashboard/stream"),
            ("GET", "/dashboard/stacks?pid=1"),
            ("POST", "/dashboard/reload"),
            ("POST", "/dashboard/recycle?pid=1"),
        ] {
            let answer = ask(&scenario, method, path, &headers);
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
            assert!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n"));
        }
    }
    let mut viewer = send(&scenario, "GET", "/dashboard/stream", &bearer(TOKEN));
    read_until(&mut viewer, "\"orders\":true");
    let order = |path| ask(&scenario, "POST", path, &bearer(TOKEN));
    assert!(order("/dashboard/recycle").starts_with("HTTP/1.1 400"));
    assert!(order("/dashboard/reload").starts_with("HTTP/1.1 202"));
    let reload = FromGateway::Dashboard(DashboardOrder::Reload);
    scenario.expect("a reload", |message| *message == reload);
    assert!(order("/dashboard/recycle?pid=77").starts_with("HTTP/1.1 202"));
    let recycle = FromGateway::Dashboard(DashboardOrder::Recycle { pid: 77 });
    scenario.expect("a recycling", |message| *message == recycle);
}

#[test]
fn stacks_are_the_arbiters_answer() {
    let (scenario, _) = Scenario::with_dashboard(patient(), None);
    let mut asked = send(
        &scenario,
        "GET",
        "/dashboard/stacks?pid=77&request=3.1",
        LOCAL,
    );
    let wanted = FromGateway::WantStacks {
        token: 1,
        pid: 77,
        request: "3.1".into(),
    };
    scenario.expect("a wish", |message| *message == wanted);
    let other = ask(&scenario, "GET", "/dashboard/stacks?pid=78", LOCAL);
    assert!(other.starts_with("HTTP/1.1 503"), "one at a time: {other}");
    let text = "File \"a.py\", line 1 in b\n";
    for (token, text) in [(9, "of another question"), (1, text)] {
        let text = text.into();
        scenario.tell(&ToGateway::Stacks { token, text });
    }
    let mut answer = String::new();
    asked.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(text),
        "{answer}"
    );
    assert!(ask(&scenario, "GET", "/dashboard/stacks?pid=x", LOCAL).starts_with("HTTP/1.1 400"));
}

#[test]
fn viewers_are_few_and_those_who_leave_make_room() {
    let (scenario, _) = Scenario::with_dashboard(patient(), None);
    let watch = || send(&scenario, "GET", "/dashboard/stream", LOCAL);
    let mut viewers: Vec<_> = (0..8).map(|_| watch()).collect();
    for viewer in &mut viewers {
        read_until(viewer, "event: state\n");
    }
    let refused = ask(&scenario, "GET", "/dashboard/stream", LOCAL);
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("8 viewers"),
        "{refused}"
    );
    // Others are served: a stream takes none of their time.
    assert!(ask(&scenario, "GET", "/livez", LOCAL).ends_with("ok\n"));
    viewers.pop();
    eventually("room for another", || {
        let mut viewer = watch();
        let mut start = [0; 15];
        viewer.read_exact(&mut start).unwrap();
        &start == b"HTTP/1.1 200 OK"
    });
}
