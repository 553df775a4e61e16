//! What an ordinary exchange costs: parsing a request and encoding its answer, in nanoseconds a
//! round, beside the bare scan of the same head by httparse.
//!
//! `cargo bench -p oxicorn-proto`. One case alone, for counting instructions with a profiler:
//! `cargo bench -p oxicorn-proto -- CASE ROUNDS`.
#![expect(clippy::print_stdout, reason = "a bench reports")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use oxicorn_proto::http1::{BodyFraming, Connection, Event, Next, OwnLine, ResponseHead, Rules};

const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

/// Ten headers as a browser sends them.
const BROWSER: &[u8] = b"GET /accounts/42?tab=orders HTTP/1.1\r\n\
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

const POST: &[u8] =
    b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nTransfer-Encoding: chunked\r\n\r\n\
    10\r\n0123456789abcdef\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";

const RESPONSE_HEADERS: [(&[u8], &[u8]); 2] = [
    (b"Content-Type", b"text/plain; charset=utf-8"),
    (b"Content-Length", b"13"),
];

/// One connection and its buffer, as a driver has them.
struct Bench {
    connection: Connection,
    server: OwnLine,
    date: OwnLine,
    out: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self {
            connection: Connection::new(Arc::new(Rules::default())),
            server: OwnLine::new(b"Server", b"oxicorn").expect("a good line"),
            date: OwnLine::new(b"Date", b"Sat, 21 Nov 2026 03:23:03 GMT").expect("a good line"),
            out: Vec::with_capacity(4096),
        }
    }

    /// Polls a whole request; the sum of what a caller looks at.
    fn parse(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        let mut seen = 0;
        loop {
            let polled = self
                .connection
                .poll_event(&input[at..])
                .expect("a good request");
            let bytes = &input[at..at + polled.consumed];
            match polled.event {
                Event::Head => seen += self.look(bytes),
                Event::Body(range) => seen += range.len(),
                Event::BodyEnd => return seen,
                Event::NeedMore | Event::Paused | Event::Switched => {
                    unreachable!("the request is whole")
                }
            }
            at += polled.consumed;
        }
    }

    fn look(&self, bytes: &[u8]) -> usize {
        let head = self.connection.head(bytes);
        let headers: usize = head
            .headers()
            .map(|header| header.name.len() + header.value.len())
            .sum();
        headers + head.path().len() + usize::from(head.framing() == BodyFraming::None)
    }

    fn answer(&mut self) -> Next {
        self.out.clear();
        let head = ResponseHead {
            status: 200,
            reason: b"OK",
            server: Some(&self.server),
            date: Some(&self.date),
            body_length: None,
        };
        let headers = black_box(RESPONSE_HEADERS);
        self.connection
            .encode_response_head(&head, headers, &mut self.out)
            .expect("a good head");
        self.connection
            .encode_body(b"Hello, world!", &mut self.out)
            .expect("in order");
        self.connection
            .finish_response([], &mut self.out)
            .expect("complete")
    }

    fn round(&mut self, input: &[u8]) {
        black_box(self.parse(black_box(input)));
        assert_eq!(self.answer(), Next::KeepAlive);
        black_box(&self.out);
        self.connection.start_next_exchange().expect("through");
    }
}

fn parse_only(bench: &mut Bench, input: &[u8]) {
    bench.connection = Connection::new(Arc::clone(&Arc::new(Rules::default())));
    black_box(bench.parse(black_box(input)));
}

fn httparse_scan(input: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(black_box(input)).expect("a good head");
    assert!(black_box(status).is_complete());
    black_box(&request);
}

/// The scan with the array of headers kept uninitialised, as fast as it can be used.
fn httparse_scan_uninit(input: &[u8]) {
    let mut headers = [const { std::mem::MaybeUninit::uninit() }; 100];
    let mut request = httparse::Request::new(&mut []);
    let status = request
        .parse_with_uninit_headers(black_box(input), &mut headers)
        .expect("a good head");
    assert!(black_box(status).is_complete());
    black_box(&request);
}

fn run(case: &str, rounds: u32) -> bool {
    let mut bench = Bench::new();
    let mut work: Box<dyn FnMut()> = match case {
        "hello" => Box::new(move || bench.round(HELLO)),
        "browser" => Box::new(move || bench.round(BROWSER)),
        "chunked" => Box::new(move || bench.round(POST)),
        "browser-parse" => Box::new(move || parse_only(&mut bench, BROWSER)),
        "browser-httparse" => Box::new(|| httparse_scan(BROWSER)),
        "browser-httparse-uninit" => Box::new(|| httparse_scan_uninit(BROWSER)),
        "hello-httparse-uninit" => Box::new(|| httparse_scan_uninit(HELLO)),
        _ => return false,
    };
    let start = Instant::now();
    for _ in 0..rounds {
        work();
    }
    let each = start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds);
    println!("{case:28} {each:8.1} ns");
    true
}

const CASES: [&str; 7] = [
    "hello",
    "browser",
    "chunked",
    "browser-parse",
    "browser-httparse",
    "browser-httparse-uninit",
    "hello-httparse-uninit",
];

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    if let [case, rounds] = &words[..] {
        let rounds = rounds.parse().expect("a number of rounds");
        assert!(run(case, rounds), "no such case");
        return;
    }
    for case in CASES {
        run(case, 200_000);
        run(case, 2_000_000);
    }
}
