//! Instructions from the bytes of a head to a checked request, beside httparse on the same bytes.
//!
//! httparse only takes the head apart; we also decide framing, persistence, Host, expectation,
//! upgrade, the forms of the target and the fate of every name. What that may cost stands beside each
//! message. Counted by valgrind, not timed: the figures do not depend on what else the machine does,
//! only on the toolchain.
//!
//! `cargo bench -p oxicorn-proto --bench instructions` runs itself under valgrind once a case,
//! prints the table and fails beyond the bound; without valgrind it says so and checks nothing.
//! Both sides read every header once, as whoever parses a head does next.
#![expect(clippy::print_stdout, reason = "a bench reports")]

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use oxicorn_proto::http1::{Connection, Event, ResponseHead, Rules};

/// Warm ones included: a connection that lives on is the ordinary case.
const ROUNDS: u32 = 200;

const HELLO: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

/// Ten headers as a browser sends them.
const BROWSER: &str = "GET /accounts/42?tab=orders HTTP/1.1\r\n\
    Host: 127.0.0.1:8000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: de,en-US;q=0.7,en;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: http://127.0.0.1:8000/accounts/42\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Cache-Control: max-age=0\r\n\r\n";

/// Thirty, as behind two proxies and a tracing library.
fn proxied() -> String {
    let mut message = BROWSER.trim_end().to_owned() + "\r\n";
    for (name, value) in [
        ("Content-Type", "application/json"),
        ("Content-Length", "0"),
        ("X-Forwarded-For", "203.0.113.9, 198.51.100.17"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example"),
        ("X-Forwarded-Port", "443"),
        ("X-Real-Ip", "203.0.113.9"),
        ("X-Request-Id", "7b6a4f0e-6c0b-4f83-9d0e-2f6f4c1a9b55"),
        (
            "Traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("Tracestate", "vendor=00f067aa0ba902b7"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
        ("Sec-Fetch-User", "?1"),
        (
            "Sec-Ch-Ua",
            "\"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"",
        ),
        ("Sec-Ch-Ua-Mobile", "?0"),
        ("Sec-Ch-Ua-Platform", "\"Linux\""),
        ("Origin", "https://shop.example"),
        ("Priority", "u=1, i"),
        ("Dnt", "1"),
    ] {
        message += [name, ": ", value, "\r\n"].concat().as_str();
    }
    message + "\r\n"
}

fn message(name: &str) -> String {
    match name {
        "hello" => HELLO.to_owned(),
        "browser" => BROWSER.to_owned(),
        "proxied" => proxied(),
        _ => panic!("no such message: {name}"),
    }
}

/// Each message, and how many times httparse's instructions it may cost. All checks together are to
/// cost no more than 30 %. The shortest head there is comes next to that: its one header is the one
/// with a grammar of its own, and the conclusions and states are the same for every request.
const MESSAGES: [(&str, f64); 3] = [("hello", 1.30), ("browser", 1.05), ("proxied", 0.95)];

/// Counted: head, its facts, its headers, and that no body follows.
#[inline(never)]
fn counted_oxicorn(connection: &mut Connection, input: &[u8]) -> usize {
    let polled = connection.poll_event(input).expect("a good head");
    debug_assert_eq!(polled.event, Event::Head);
    let head = connection.head(&input[..polled.consumed]);
    let mut seen = head.method().len() + head.request_target().len();
    for header in head.headers() {
        seen += header.name.len() + header.value.len();
    }
    let end = connection.poll_event(b"").expect("no body");
    debug_assert_eq!(end.event, Event::BodyEnd);
    seen + polled.consumed
}

/// Counted: the same of httparse, in the way that costs it least.
#[inline(never)]
fn counted_httparse(input: &[u8]) -> usize {
    let mut headers = [const { MaybeUninit::uninit() }; 100];
    let mut request = httparse::Request::new(&mut []);
    let status = request
        .parse_with_uninit_headers(input, &mut headers)
        .expect("a good head");
    let mut seen = request.method.map_or(0, str::len) + request.path.map_or(0, str::len);
    for header in &*request.headers {
        seen += header.name.len() + header.value.len();
    }
    seen + status.unwrap()
}

/// Not counted: the answer.
#[inline(never)]
fn answer(connection: &mut Connection, out: &mut Vec<u8>) {
    out.clear();
    let head = ResponseHead {
        status: 204,
        ..ResponseHead::default()
    };
    connection
        .encode_response_head(&head, [], out)
        .expect("a good head");
    connection.finish_response([], out).expect("complete");
}

/// Counted: what makes the connection ready for the next request, as httparse is given new headers.
#[inline(never)]
fn counted_oxicorn_again(connection: &mut Connection) {
    connection.start_next_exchange().expect("through");
}

fn play(parser: &str, name: &str) {
    let message = message(name);
    let input = message.as_bytes();
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        if parser == "httparse" {
            black_box(counted_httparse(black_box(input)));
        } else {
            black_box(counted_oxicorn(&mut connection, black_box(input)));
            answer(&mut connection, &mut out);
            counted_oxicorn_again(&mut connection);
        }
    }
}

/// Instructions a round: this program again, under valgrind.
fn count(parser: &str, name: &str) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*counted_{parser}*"))
        .arg(program)
        .args([parser, name])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, number)| number.trim().parse::<u32>().ok())
        .filter(|number| *number > 0);
    match collected {
        Some(number) => Ok(f64::from(number) / f64::from(ROUNDS)),
        None => Err(format!("valgrind counted nothing:\n{said}")),
    }
}

fn compare() -> Result<bool, String> {
    let mut kept = true;
    println!("instructions    oxicorn   httparse    ratio  allowed");
    for (name, allowed) in MESSAGES {
        let (ours, theirs) = (count("oxicorn", name)?, count("httparse", name)?);
        let ratio = ours / theirs;
        println!("{name:12} {ours:10.0} {theirs:10.0} {ratio:8.2} {allowed:8.2}");
        kept &= ratio <= allowed;
    }
    Ok(kept)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    if let [parser, name] = &words[..] {
        play(parser, name);
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("not checked: valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    match compare() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("a request costs more than is allowed");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
