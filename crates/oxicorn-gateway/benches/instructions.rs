//! What the gateway takes for a request, in instructions, and for a connection at rest, in memory.
//!
//! `cargo bench -p oxicorn-gateway --bench instructions` runs a gateway as a process under valgrind, and is its client and
//! its worker itself, so that nothing but the gateway is counted. Counted are instructions, not time: the figures depend
//! on the toolchain, and on how often the gateway sleeps. For a lone hello it sleeps twice: until the client has asked,
//! and until the worker has answered. On a busy machine an answer would be there before the second sleep, and a hello
//! cost a tenth less: so the worker answers only when the gateway sleeps. Where it says several things one after the other
//! (a message and its credit, a long body) it depends on the machine how many of them the gateway wakes up for: those
//! figures are compared, and recorded, on a quiet machine only.
//! Each figure is the difference of a long and a short run, so that the start does not count.
//! Without valgrind it says so and counts only memory. Behind `--` may be named what is wanted (`memory`, `hello`...).
//! What was measured when somebody last looked is written down (see [`figures`]): the bench fails where more is needed
//! than that; with `--record` it writes down what it measures.
#![expect(clippy::print_stdout, reason = "a bench reports")]

#[path = "figures/mod.rs"]
mod figures;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use oxicorn_gateway::control::{AttachWorker, FromGateway, ToGateway, decode, encode};
use oxicorn_gateway::{ErrorLog, Http2, Level, ListenerSetup, Settings, Setup, WebSocket, run};
use oxicorn_link::metric_store::{LEAST_BYTES, MetricStore};
use oxicorn_link::scoreboard::Scoreboard;
use oxicorn_link::window::RESPONSE_PIECE;
use oxicorn_link::wire::{
    EventKind, ResponseEncoder, ResponseHead, ResponseKind, encode_credit, flags,
};
use oxicorn_link::{LinkParts, Sizes, StreamId, WaitMode, WorkerEnd, WorkerParts};
use oxicorn_os::channel::{Blocking, Channel, Received};
use tempfile::TempDir;

use crate::figures::Figures;

/// Exchanges of a short and of a long run.
const ROUNDS: [usize; 2] = [12 * STREAMS, 75 * STREAMS];

/// Connections that rest while memory is looked at; each has had one exchange.
const CONNECTIONS: usize = 4000;

const MESSAGE: usize = 64;
const MEBIBYTE: usize = 1 << 20;

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

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Requests of HTTP/2 that a client sends at once.
const STREAMS: usize = 16;

/// How a client of HTTP/2 begins: its preface, no settings of its own, and a window for all that it will be sent.
const HTTP2_BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \0\0\0\x04\0\0\0\0\0\
    \0\0\x04\x08\0\0\0\0\0\x40\0\0\0";

/// `GET /` by http; its authority and its user agent are entered into the table (RFC 7541 section 6.2.1).
const HTTP2_FIRST: &[u8] = b"\x82\x86\x84\x41\x0e127.0.0.1:8000\x7a\x05bench";

/// The same, with both out of the table (section 6.1).
const HTTP2_NEXT: &[u8] = b"\x82\x86\x84\xbf\xbe";

/// Acknowledges the gateway's settings.
const HTTP2_ACKNOWLEDGED: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";

/// Bytes of a frame's header, and the flag of a frame that is its stream's last.
const FRAME_HEADER: usize = 9;
const END_STREAM: u8 = 1;

/// What is counted.
const CASES: [&str; 5] = [
    "hello",
    "ten headers",
    "WebSocket message",
    "1 MiB",
    "HTTP/2 hello",
];

/// The gateway: its control channel is its standard input, its listener its standard output.
fn serve(directory: &Path) -> ExitCode {
    let control = std::io::stdin().as_fd().try_clone_to_owned();
    let listener = std::io::stdout().as_fd().try_clone_to_owned();
    let mut settings = Settings {
        websocket: Some(WebSocket::default()),
        http2: Some(Http2 {
            prior_knowledge: true,
            ..Http2::default()
        }),
        error_log: ErrorLog {
            path: directory.join("error.log").display().to_string(),
            level: Level::Info,
        },
        ..Settings::default()
    };
    settings.timeouts.keep_alive = Duration::from_mins(10);
    let (_scoreboard, scoreboard) = Scoreboard::create(16, 1).expect("memory");
    let (_metrics, metric_store) = MetricStore::create(LEAST_BYTES).expect("memory");
    let code = run(Setup {
        identity: None,
        log_files: None,
        settings,
        control: control.expect("a channel"),
        listeners: vec![(
            ListenerSetup::plain("http://bench"),
            listener.expect("a listener"),
        )],
        certificates: None,
        monitoring: None,
        dashboard: None,
        scoreboard,
        metric_store,
    });
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// A gateway as a process, with its worker.
struct Bench {
    _directory: TempDir,
    address: SocketAddr,
    control: Channel,
    gateway: Child,
    worker: WorkerParts,
    payload: Vec<u8>,
}

impl Bench {
    /// `by`: the program that runs it.
    fn start(by: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (control, theirs) = Channel::pair().expect("a channel");
        let program = std::env::current_exe().expect("this program");
        let program = program.display().to_string();
        let mut words = by.to_vec();
        words.push(&program);
        let gateway = Command::new(words[0])
            .args(&words[1..])
            .arg("--gateway")
            .arg(directory.path())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let parts = LinkParts::create(Sizes::default()).expect("a link");
        let worker = WorkerEnd::attach(
            parts.memory.try_clone().expect("a descriptor"),
            parts.gateway_doorbell.try_clone().expect("a descriptor"),
            parts.worker_doorbell.try_clone().expect("a descriptor"),
            parts.worker_side.try_clone().expect("a descriptor"),
            WaitMode::Futex,
        );
        let bench = Self {
            _directory: directory,
            address,
            control,
            gateway,
            worker: worker.expect("a link").split(),
            payload: Vec::new(),
        };
        bench.wait_until_ready();
        bench.attach(&parts);
        bench
    }

    fn wait_until_ready(&self) {
        let mut packet = Vec::new();
        loop {
            let received = self
                .control
                .recv(&mut packet, &mut Vec::new(), Blocking::Yes);
            match received.expect("a message") {
                Received::Message(_) if matches!(decode(&packet), Ok(FromGateway::Ready)) => return,
                Received::Closed => panic!("the gateway has gone"),
                _ => {}
            }
        }
    }

    fn attach(&self, parts: &LinkParts) {
        let about = AttachWorker {
            worker: 1,
            pid: 1,
            age: 1,
            generation: 1,
            capacity: u32::try_from(STREAMS).expect("few"),
            streams: false,
            goes_on: false,
        };
        let descriptors = parts.for_gateway().expect("descriptors");
        let descriptors = descriptors.each_ref().map(OwnedFd::as_fd);
        let messages = [
            (ToGateway::AttachWorker(about), &descriptors[..]),
            (ToGateway::WorkerReady { worker: 1 }, &[]),
            (ToGateway::ServeGeneration { generation: 1 }, &[]),
        ];
        for (message, descriptors) in messages {
            let packet = encode(&message).expect("a message");
            let sent = self.control.send(&packet, descriptors, Blocking::Yes);
            assert!(sent.expect("a gateway"));
        }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("a connection");
        client.set_nodelay(true).expect("a socket");
        client
    }

    fn claim(&mut self) -> StreamId {
        loop {
            if let Some(claimed) = self.worker.requests.try_claim(&mut self.payload) {
                return claimed.stream;
            }
            self.worker.requests.wait(Duration::from_secs(1));
        }
    }

    /// Waits until the gateway has nothing to do.
    fn wait_until_asleep(&self) {
        let path = format!("/proc/{}/stat", self.gateway.id());
        loop {
            let stat = std::fs::read_to_string(&path).expect("a gateway");
            // Behind the program's name, which may be anything, stands the state.
            let state = stat.rsplit_once(") ").map_or("", |(_, state)| state);
            if state.starts_with('S') {
                return;
            }
            assert!(!state.starts_with('Z'), "the gateway has gone");
            std::thread::yield_now();
        }
    }

    fn send(&mut self, kind: ResponseKind, stream: StreamId, bits: u8, head: &[u8], body: &[u8]) {
        let responses = &mut self.worker.responses;
        while responses.try_send(kind, stream, bits, head, body).is_err() {
            responses.wait_room(head.len() + body.len(), Duration::from_secs(1));
        }
    }

    /// A client's request and its response, whose body is `body`.
    fn exchange(&mut self, client: &mut TcpStream, request: &str, body: &[u8], room: &mut [u8]) {
        client.write_all(request.as_bytes()).expect("a gateway");
        let stream = self.claim();
        if body.len() <= RESPONSE_PIECE {
            self.wait_until_asleep();
        }
        self.answer(stream, body);
        read_response(client, body.len(), room);
    }

    /// A worker's response.
    fn answer(&mut self, stream: StreamId, body: &[u8]) {
        let length = body.len().to_string();
        let head = head_of(
            200,
            &[("Content-Type", "text/plain"), ("Content-Length", &length)],
        );
        let mut pieces = body.chunks(RESPONSE_PIECE).peekable();
        let first = pieces.next().unwrap_or_default();
        let bits = |over| if over { flags::END } else { 0 };
        self.send(
            ResponseKind::Head,
            stream,
            bits(pieces.peek().is_none()),
            &head,
            first,
        );
        while let Some(piece) = pieces.next() {
            let over = bits(pieces.peek().is_none());
            self.send(ResponseKind::BodyChunk, stream, over, &[], piece);
        }
    }

    fn exchanges(&mut self, rounds: usize, request: &str, body: &[u8]) {
        let mut client = self.connect();
        let mut room = vec![0; MEBIBYTE + 1024];
        for _ in 0..rounds {
            self.exchange(&mut client, request, body, &mut room);
        }
    }

    /// So many requests of one connection that speaks HTTP/2: as many as it has streams are sent at once, and all of them
    /// have come to the worker before the first is answered.
    fn streams(&mut self, rounds: usize) {
        let mut client = self.connect();
        client.write_all(HTTP2_BEGIN).expect("a gateway");
        let mut numbers = (1_u32..).step_by(2);
        let mut frames = Frames::default();
        for round in 0..rounds / STREAMS {
            let mut requests = Vec::new();
            for place in 0..STREAMS {
                let is_first = round == 0 && place == 0;
                let block = if is_first { HTTP2_FIRST } else { HTTP2_NEXT };
                let number = numbers.next().expect("a number");
                requests.extend_from_slice(&[0, 0, u8::try_from(block.len()).expect("short")]);
                // HEADERS, with END_HEADERS and END_STREAM.
                requests.extend_from_slice(&[1, 4 | END_STREAM]);
                requests.extend_from_slice(&number.to_be_bytes());
                requests.extend_from_slice(block);
            }
            client.write_all(&requests).expect("a gateway");
            let claimed: Vec<_> = (0..STREAMS).map(|_| self.claim()).collect();
            self.wait_until_asleep();
            for stream in claimed {
                self.answer(stream, b"Hello, World!");
            }
            for _ in 0..STREAMS {
                frames.read_to_end_of_stream(&mut client);
            }
            if round == 0 {
                client.write_all(HTTP2_ACKNOWLEDGED).expect("a gateway");
            }
        }
    }

    /// Messages of a client that come back from the worker.
    fn messages(&mut self, rounds: usize) {
        let mut client = self.connect();
        client.write_all(HANDSHAKE.as_bytes()).expect("a gateway");
        let stream = self.claim();
        self.send(
            ResponseKind::WebSocketAccept,
            stream,
            0,
            &head_of(101, &[]),
            &[],
        );
        let mut room = vec![0; 1024];
        while !room.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(client.read(&mut room).expect("a handshake") > 0);
        }
        let mut frame = vec![
            0x81,
            0x80 | u8::try_from(MESSAGE).expect("short"),
            1,
            2,
            3,
            4,
        ];
        frame.extend(
            std::iter::repeat_n(b'x', MESSAGE)
                .zip([1, 2, 3, 4].into_iter().cycle())
                .map(|(a, b)| a ^ b),
        );
        for _ in 0..rounds {
            client.write_all(&frame).expect("a gateway");
            self.echo(stream);
            client
                .read_exact(&mut room[..MESSAGE + 2])
                .expect("an echo");
        }
    }

    fn echo(&mut self, stream: StreamId) {
        loop {
            match self.worker.events.try_next(&mut self.payload) {
                Some(event) if event.kind == EventKind::WebSocketMessage => break,
                Some(_) => {}
                None => {
                    self.worker.events.wait(Duration::from_secs(1));
                }
            }
        }
        let payload = std::mem::take(&mut self.payload);
        // As much as the message has taken of the window.
        let credit = encode_credit(u32::try_from(payload.len() + 64).expect("short"));
        self.send(ResponseKind::Credit, stream, 0, &credit, &[]);
        self.send(
            ResponseKind::WebSocketMessage,
            stream,
            flags::END,
            &[],
            &payload,
        );
        self.payload = payload;
    }

    fn play(&mut self, case: &str, rounds: usize) {
        match case {
            "hello" => self.exchanges(rounds, HELLO, b"Hello, World!"),
            "ten headers" => self.exchanges(rounds, BROWSER, b"Hello, World!"),
            "1 MiB" => self.exchanges(rounds, HELLO, &vec![b'x'; MEBIBYTE]),
            "HTTP/2 hello" => self.streams(rounds),
            _ => self.messages(rounds),
        }
    }

    /// Ends the gateway; what it has said.
    fn end(self) -> String {
        let Self {
            control, gateway, ..
        } = self;
        drop(control);
        let output = gateway.wait_with_output().expect("a process");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// What a client of HTTP/2 has received and not looked at.
#[derive(Default)]
struct Frames {
    received: Vec<u8>,
}

impl Frames {
    /// Looks at frames up to one that ends a stream's response.
    fn read_to_end_of_stream(&mut self, client: &mut TcpStream) {
        loop {
            self.fill(client, FRAME_HEADER);
            let header = &self.received[..FRAME_HEADER];
            let length = header[..3]
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            let (kind, bits) = (header[3], header[4]);
            assert!(kind != 3 && kind != 7, "RST_STREAM or GOAWAY");
            self.fill(client, FRAME_HEADER + length);
            self.received.drain(..FRAME_HEADER + length);
            // DATA and HEADERS know this flag.
            if kind <= 1 && bits & END_STREAM != 0 {
                return;
            }
        }
    }

    fn fill(&mut self, client: &mut TcpStream, count: usize) {
        let mut room = [0; 16 * 1024];
        while self.received.len() < count {
            let read = client.read(&mut room).expect("a response");
            assert!(read > 0, "closed too early");
            self.received.extend_from_slice(&room[..read]);
        }
    }
}

fn head_of(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = Vec::new();
    let head = ResponseHead {
        status,
        reason: b"",
    };
    let mut encoder = ResponseEncoder::begin(&mut payload, &head);
    for (name, value) in headers {
        encoder.header(name.as_bytes(), value.as_bytes());
    }
    encoder.finish();
    payload
}

fn read_response(client: &mut TcpStream, body: usize, room: &mut [u8]) {
    let mut filled = 0;
    loop {
        let count = client.read(&mut room[filled..]).expect("a response");
        assert!(count > 0, "closed too early");
        filled += count;
        let head = room[..filled.min(1024)]
            .windows(4)
            .position(|end| end == b"\r\n\r\n");
        if head.is_some_and(|head| filled == head + 4 + body) {
            return;
        }
    }
}

/// Instructions of a run.
fn count(case: &str, rounds: usize) -> Result<u64, String> {
    let by = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
    ];
    let mut bench = Bench::start(&by);
    bench.play(case, rounds);
    let said = bench.end();
    said.lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, number)| number.trim().parse().ok())
        .ok_or_else(|| format!("valgrind counted nothing:\n{said}"))
}

/// Bytes of memory that the gateway has for itself.
fn memory(bench: &Bench) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", bench.gateway.id());
    let text = std::fs::read_to_string(path).expect("a process");
    let kibibytes = text.lines().find_map(|line| {
        let number = line.strip_prefix("Private_Dirty:")?;
        number.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    kibibytes.expect("a number") << 10
}

/// Bytes for each connection that rests.
fn memory_at_rest() -> u64 {
    let mut bench = Bench::start(&["env"]);
    let mut room = vec![0; 4096];
    let mut open = |bench: &mut Bench, count: usize| {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = bench.connect();
            bench.exchange(&mut client, BROWSER, b"Hello, World!", &mut room);
            clients.push(client);
        }
        clients
    };
    let first = open(&mut bench, 100);
    let before = memory(&bench);
    let clients = open(&mut bench, CONNECTIONS);
    let after = memory(&bench);
    drop((first, clients));
    bench.end();
    (after - before) / CONNECTIONS as u64
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, directory] = &words[..]
        && word == "--gateway"
    {
        return serve(Path::new(directory));
    }
    let mut figures = match Figures::read() {
        Ok(figures) => figures,
        Err(error) => {
            println!("what was written down cannot be read: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Names of cases, if not all are wanted.
    let wanted: Vec<_> = words
        .iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let is_wanted = |case: &str| wanted.is_empty() || wanted.iter().any(|word| *word == case);
    if is_wanted("memory") {
        figures.note("bytes of a connection at rest", memory_at_rest());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions are not counted: valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    for case in CASES.into_iter().filter(|case| is_wanted(case)) {
        match (count(case, ROUNDS[0]), count(case, ROUNDS[1])) {
            (Ok(short), Ok(long)) => {
                let each = (long - short) / (ROUNDS[1] - ROUNDS[0]) as u64;
                figures.note(&format!("instructions of {case}"), each);
            }
            (Err(reason), _) | (_, Err(reason)) => {
                println!("{reason}");
                return ExitCode::FAILURE;
            }
        }
    }
    if words.iter().any(|word| word == "--record") {
        return match figures.record() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("the figures cannot be written down: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if figures.hold() {
        return ExitCode::SUCCESS;
    }
    println!("more is needed than what was written down in bench/gateway-instructions.toml");
    ExitCode::FAILURE
}
