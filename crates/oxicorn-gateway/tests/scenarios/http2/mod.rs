//! HTTP/2, as a client by the h2 crate and one with frames by hand see it.

mod abuse;
pub(crate) mod client;
mod ends;
mod flow;
mod other_ways;

use http::Request;
use oxicorn_gateway::{Http2, Settings};
use oxicorn_link::wire::{HeaderList, ResponseKind, Scheme, Version, flags};

use crate::scenario::{Scenario, StubWorker, header, patient, response_head};
use client::{Http2Client, RawHttp2, get, request, uri};

/// Settings of a gateway that speaks HTTP/2 without TLS.
fn http2() -> Settings {
    Settings {
        http2: Some(Http2 {
            prior_knowledge: true,
            ..Http2::default()
        }),
        ..patient()
    }
}

/// A gateway, and a worker that takes several requests at once.
fn start(settings: Settings) -> (Scenario, StubWorker) {
    let mut scenario = Scenario::start(settings);
    let worker = scenario.ready_worker(8);
    scenario.tell(&oxicorn_gateway::control::ToGateway::ServeGeneration { generation: 1 });
    (scenario, worker)
}

#[test]
fn a_stream_is_a_request_as_any_other() {
    let (scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    let asked = Request::builder()
        .uri(uri("/a%20b?c"))
        .header("x-one", "1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(())
        .unwrap();
    let asked = client.ask(asked, true);
    let claimed = worker.claim();
    let view = claimed.view();
    assert_eq!(view.head.version, Version::Http2);
    assert_eq!(view.head.scheme, Scheme::Http);
    assert_eq!(view.head.method, b"GET");
    assert_eq!(view.head.request_target, b"/a%20b?c");
    assert_eq!(view.head.path, b"/a b");
    assert_eq!(header(view.headers, "host"), Some(&b"t.example"[..]));
    assert_eq!(header(view.headers, "x-one"), Some(&b"1"[..]));
    assert_eq!(header(view.headers, "cookie"), Some(&b"a=1; b=2"[..]));
    worker.head(
        claimed.stream,
        flags::END,
        200,
        &[("X-Two", "2"), ("Connection", "close"), ("Keep-Alive", "5")],
        b"body",
    );
    let answer = client.read(asked.response);
    assert_eq!((answer.status, answer.text()), (200, "body"));
    assert_eq!(answer.header("x-two"), Some("2"));
    assert_eq!(answer.header("server"), Some("oxicorn"));
    assert_eq!(answer.header("content-length"), Some("4"));
    assert!(answer.header("date").is_some());
    for ours_alone in ["connection", "keep-alive", "transfer-encoding"] {
        assert_eq!(answer.header(ours_alone), None);
    }
    let line = &scenario.access_log(1)[0];
    assert!(line.contains("\"GET /a%20b?c HTTP/2.0\" 200 4 "), "{line}");
}

#[test]
fn streams_are_served_side_by_side() {
    let (scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    let asked: Vec<_> = (0..4).map(|n| client.get(&format!("/{n}"))).collect();
    let mut claimed: Vec<_> = (0..4).map(|_| worker.claim()).collect();
    // In the opposite order.
    while let Some(one) = claimed.pop() {
        let target = one.target().to_owned();
        worker.respond(&one, &target);
    }
    for (n, asked) in asked.into_iter().enumerate() {
        assert_eq!(client.read(asked.response).text(), format!("/{n}"));
    }
    assert_eq!(scenario.access_log(4).len(), 4);
}

#[test]
fn bodies_hints_and_trailers_go_both_ways() {
    let (scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    let mut asked = client.post("/up");
    client.send(&mut asked, b"some ", false);
    client.send(&mut asked, b"body", false);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    asked.body.send_trailers(trailers).unwrap();
    let claimed = worker.claim();
    assert_eq!(claimed.view().body, b"some body");
    let hints = response_head(103, &[("Link", "</a.css>; rel=preload")]);
    worker.send(ResponseKind::Informational, claimed.stream, 0, &hints);
    worker.head(claimed.stream, 0, 200, &[("Content-Length", "1")], b"x");
    let mut trailers = Vec::new();
    HeaderList::encode_entry(&mut trailers, b"Grpc-Status", b"0");
    worker.send(ResponseKind::Trailers, claimed.stream, 0, &trailers);
    let answer = client.read(asked.response);
    assert_eq!(answer.text(), "x");
    let status = answer
        .trailers
        .and_then(|all| all.get("grpc-status").cloned());
    assert_eq!(status.unwrap(), "0");
    assert!(scenario.access_log(1)[0].contains("\"POST /up HTTP/2.0\" 200 1 "));
}

#[test]
fn an_answer_without_a_body_ends_with_its_head() {
    let (scenario, mut worker) = start(http2());
    let mut client = RawHttp2::connect(&scenario);
    for (stream, method, status) in [(1, "HEAD", 200), (3, "GET", 204), (5, "GET", 304)] {
        client.frame(1, 5, stream, &request(method, "/"));
        let claimed = worker.claim();
        worker.head(claimed.stream, flags::END, status, &[], b"");
        let (bits, of, _) = client.read_kind(1);
        assert_eq!((bits & 1, of), (1, stream), "{method} {status}");
    }
}

#[test]
fn what_http1_refuses_is_refused_with_the_same_answer_and_logged() {
    let mut settings = http2();
    settings.rules.limits.request_line = 100;
    settings.rules.limits.fields = 10;
    settings.rules.limits.body = Some(10);
    let (scenario, _worker) = start(settings);
    let mut client = Http2Client::connect(&scenario);
    let with = |name: &str, value: &str| {
        let request = Request::builder().uri(uri("/")).header(name, value);
        request.body(()).unwrap()
    };
    let mut many = get("/");
    for n in 0..20 {
        let name: http::HeaderName = format!("x-{n}").parse().unwrap();
        many.headers_mut().append(name, "1".parse().unwrap());
    }
    let mut strange = with("host", "other.example");
    *strange.uri_mut() = uri("/").parse().unwrap();
    for (request, status, why) in [
        (get(&format!("/{}", "x".repeat(200))), 414, "too long"),
        (many, 431, ""),
        (with("x-long", &"x".repeat(70_000)), 431, ""),
        (with("expect", "wonders"), 417, ""),
        (strange, 400, ""),
        (get("/ä"), 400, ""),
    ] {
        let asked = client.ask(request, true);
        let answer = client.read(asked.response);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    let mut asked = client.post("/");
    client.send(&mut asked, b"more than ten bytes", false);
    assert_eq!(client.read(asked.response).status, 413);
    scenario.expect_error_log("Invalid request from ip=127.0.0.1");
    let lines = scenario.access_log(7);
    assert!(lines[0].contains("HTTP/2.0\" 414 "), "{}", lines[0]);
}

#[test]
fn a_trusted_health_check_by_http1_is_served() {
    let (scenario, mut worker) = start(http2());
    let mut client = scenario.connect();
    client.send("G");
    client.send("ET /health HTTP/1.1\r\nHost: t\r\n\r\n");
    worker.echo();
    assert_eq!(client.read_response().text(), "/health");
    // As much of the preface as any method could be.
    let mut client = scenario.connect();
    client.send("P");
    client.send("OST /p HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n");
    worker.echo();
    assert_eq!(client.read_response().text(), "/p");
}

#[test]
fn http1_is_refused_where_it_is_not_listed() {
    let mut settings = http2();
    if let Some(http2) = &mut settings.http2 {
        http2.http1 = false;
    }
    let (scenario, _worker) = start(settings);
    let mut client = scenario.connect();
    client.get("/");
    let response = client.read_response();
    assert_eq!(response.status, 400);
    assert!(response.text().contains("HTTP/2"));
}

#[test]
fn who_is_not_trusted_speaks_it_with_tls_only() {
    let mut settings = http2();
    settings.trust.forwarded_allow_ips = vec!["192.0.2.1".into()];
    let (scenario, _worker) = start(settings);
    let mut client = RawHttp2::connect(&scenario);
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client.stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
}

#[test]
fn a_preface_in_pieces_is_one() {
    let (scenario, mut worker) = start(http2());
    let stream = std::net::TcpStream::connect(scenario.address).unwrap();
    let mut client = RawHttp2 { stream };
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        client.write(&[*byte]);
        std::thread::yield_now();
    }
    for byte in [
        client::frame(4, 0, 0, &[]),
        client::frame(1, 5, 1, &request("GET", "/")),
    ]
    .concat()
    {
        client.write(&[byte]);
    }
    worker.echo();
    let (_, stream, body) = client.read_kind(0);
    assert_eq!((stream, &body[..]), (1, &b"/"[..]));
}

#[test]
fn clients_are_told_the_settings() {
    let mut settings = http2();
    settings.http2 = Some(Http2 {
        prior_knowledge: true,
        max_concurrent_streams: 7,
        initial_window_size: 70_000,
        max_frame_size: 20_000,
        max_header_list_size: 1_000,
        ..Http2::default()
    });
    let told = |settings: Settings| {
        let (scenario, _worker) = start(settings);
        let (flags, _, payload) = RawHttp2::connect(&scenario).read_kind(4);
        assert_eq!(flags, 0);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
        let mut said: Vec<_> = payload
            .chunks(6)
            .map(|one| (number(&one[..2]), number(&one[2..])))
            .collect();
        said.sort_unstable();
        said
    };
    let said = told(settings.clone());
    for wanted in [(3, 7), (4, 70_000), (5, 20_000), (6, 1_000)] {
        assert!(said.contains(&wanted), "{wanted:?} of {said:?}");
    }
    if let Some(http2) = &mut settings.http2 {
        http2.max_header_list_size = 0;
    }
    assert!(told(settings).iter().all(|(id, _)| *id != 6));
}

#[test]
fn trailers_have_the_bounds_of_headers() {
    let mut settings = http2();
    settings.rules.limits.fields = 10;
    let (scenario, _worker) = start(settings);
    let mut client = Http2Client::connect(&scenario);
    for (name, count, status) in [("x-many", 11, 431), ("content-length", 1, 400)] {
        let mut asked = client.post("/");
        client.send(&mut asked, b"body", false);
        let mut trailers = http::HeaderMap::new();
        for _ in 0..count {
            trailers.append(name, "1".parse().unwrap());
        }
        asked.body.send_trailers(trailers).unwrap();
        assert_eq!(client.read(asked.response).status, status, "{name}");
    }
}
