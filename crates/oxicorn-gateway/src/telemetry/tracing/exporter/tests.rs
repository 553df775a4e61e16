//! Collectors that take spans, and such as do not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::*;

/// No test waits for longer.
const PATIENCE: Duration = Duration::from_secs(20);

fn export(endpoint: &str) -> Export {
    Export {
        endpoint: endpoint.into(),
        authorities: None,
        headers: vec![("api-key".into(), "secret".into())],
        resource: vec![("service.name".into(), "shop".into())],
        timeout: PATIENCE,
        delay: Duration::from_secs(1),
        queue: 4,
        batch: 2,
    }
}

/// A collector that answers one post after the other with these, and tells what was posted.
fn collector(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("bound"));
    let thread = thread::spawn(move || {
        answers
            .into_iter()
            .map(|answer| {
                let (stream, _) = listener.accept().expect("a post");
                let post = read_post(&stream);
                // Whoever has had enough of it is gone already.
                let _ = (&stream).write_all(&answer);
                post
            })
            .collect()
    });
    (endpoint, thread)
}

/// Head and body of a post, as text.
fn read_post(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut post = String::new();
    while !post.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut post).expect("a head"), 0);
    }
    let lower = post.to_ascii_lowercase();
    let length = lower.split("content-length: ").nth(1).expect("a length");
    let length = length
        .split("\r\n")
        .next()
        .expect("a line")
        .parse()
        .expect("a number");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    post + &String::from_utf8_lossy(&body)
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn add(exporter: &mut Exporter, spans: usize) {
    for _ in 0..spans {
        exporter.add(Duration::ZERO, |out| out.extend_from_slice(b"[span]"));
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 5 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("not in time: {what}");
}

#[test]
fn spans_are_posted_in_batches() {
    let (endpoint, collector) = collector(vec![answer("200 OK", b""), answer("202 Accepted", b"")]);
    let mut exporter = Exporter::start(&export(&endpoint)).expect("a thread");
    add(&mut exporter, 3);
    assert_eq!(exporter.finish(), (3, 0));
    let posts = collector.join().expect("two posts");
    let head = posts[0].to_ascii_lowercase();
    for part in [
        "post /v1/traces http/1.1\r\n",
        "content-type: application/x-protobuf\r\n",
        "api-key: secret\r\n",
        "service.name",
    ] {
        assert!(head.contains(part), "{head}");
    }
    assert_eq!(posts[0].matches("[span]").count(), 2);
    assert_eq!(
        posts[1].matches("[span]").count(),
        1,
        "what was left at the end"
    );
}

#[test]
fn spans_do_not_wait_for_their_batch_to_be_full() {
    let (endpoint, collector) = collector(vec![answer("200 OK", b"")]);
    let mut exporter = Exporter::start(&export(&endpoint)).expect("a thread");
    add(&mut exporter, 1);
    exporter.tick(Duration::from_millis(999));
    assert_eq!(exporter.batch.spans, 1);
    exporter.tick(Duration::from_secs(1));
    eventually("exported", || {
        exporter.shared.exported.load(Ordering::Relaxed) == 1
    });
    collector.join().expect("a post");
}

#[test]
fn a_collector_that_does_not_answer_costs_a_bounded_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let mut exporter = Exporter::start(&export(&endpoint)).expect("a thread");
    // Two are with the thread, which waits for the answer.
    add(&mut exporter, 2);
    let (stream, _) = listener.accept().expect("a post");
    read_post(&stream);
    // Four wait in the queue, two in the batch.
    add(&mut exporter, 6);
    assert_eq!(exporter.take_counts(), (0, 0));
    add(&mut exporter, 5);
    assert_eq!(exporter.take_counts(), (0, 5));
    assert!(exporter.batch.bytes.len() < 64);
    // The end does not wait for it for long.
    assert_eq!(exporter.finish(), (0, 8));
}

#[test]
fn nobody_who_listens_is_told_of_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let mut exporter = Exporter::start(&export(&endpoint)).expect("a thread");
    add(&mut exporter, 2);
    let mut news = None;
    eventually("told", || {
        news = exporter.take_news();
        news.is_some()
    });
    assert!(
        matches!(&news, Some(News::Failing(reason)) if reason.contains("refused")),
        "{news:?}"
    );
    add(&mut exporter, 2);
    // The pause before the next attempt ends with the process.
    assert_eq!(exporter.finish(), (0, 4));
}

#[test]
fn posts_are_repeated_where_that_may_help() {
    let again =
        b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (endpoint, collector) = collector(vec![again.to_vec(), answer("200 OK", b"")]);
    let mut exporter = Exporter::start(&export(&endpoint)).expect("a thread");
    add(&mut exporter, 2);
    eventually("exported", || {
        exporter.shared.exported.load(Ordering::Relaxed) == 2
    });
    assert_eq!(exporter.take_news(), Some(News::Recovered));
    let posts = collector.join().expect("two posts");
    assert_eq!(posts[0], posts[1]);
}

#[test]
fn what_a_hostile_collector_answers_harms_nobody() {
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 4 << 20]].concat();
    let long = answer("200 OK", &vec![b'\x0a'; 4 << 20]);
    for (hostile, exported) in [
        (b"nonsense\r\n\r\n".to_vec(), 0),
        (Vec::new(), 0),
        (endless, 0),
        // Its status says that they were taken.
        (long, 2),
        (answer("301 Moved\r\nLocation: http://127.0.0.1:1/", b""), 0),
        (answer("400 Bad Request", b"no"), 0),
        (
            answer("200 OK", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            2,
        ),
        // partial_success { rejected_spans: 2^63, error_message: "no" }
        (
            answer(
                "200 OK",
                b"\x0a\x0e\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\x12\x02no",
            ),
            0,
        ),
    ] {
        let shown = String::from_utf8_lossy(&hostile[..hostile.len().min(60)]).into_owned();
        let (endpoint, collector) = collector(vec![hostile]);
        let mut exporter = Exporter::start(&export(&endpoint)).expect("a thread");
        add(&mut exporter, 2);
        collector.join().expect("a post");
        assert_eq!(exporter.finish(), (exported, 2 - exported), "{shown}");
    }
}

#[test]
fn partial_success_is_counted() {
    // partial_success { rejected_spans: 1, error_message: "too old" }
    let (endpoint, collector) =
        collector(vec![answer("200 OK", b"\x0a\x0b\x08\x01\x12\x07too old")]);
    let mut exporter = Exporter::start(&export(&endpoint)).expect("a thread");
    add(&mut exporter, 2);
    eventually("settled", || {
        exporter.shared.exported.load(Ordering::Relaxed) == 1
    });
    let news =
        News::Failing("the collector does not take them: 1 spans were rejected: too old".into());
    assert_eq!(exporter.take_news(), Some(news));
    assert_eq!(exporter.take_counts(), (1, 1));
    collector.join().expect("a post");
}
