//! The gateway with workers that are no Python: what it costs by itself.
//!
//! `cargo run --release --example stub_worker -- [workers] [port] [microseconds] [access log]`,
//! then for example `wrk -t1 -c64 -d5s http://127.0.0.1:8099/`. The workers are busy for the given
//! microseconds with each request, as an interpreter would be; `/body/N` is answered with N bytes
//! and `/file` with a file of 100 KiB. Every five seconds the processor time of each thread is
//! printed; `gateway` is the one that counts. Ends with its standard input.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use oxicorn_gateway::control::{AttachWorker, ToGateway, encode};
use oxicorn_gateway::{AccessLog, DEFAULT_FORMAT, ListenerSetup, Settings, Setup, run};
use oxicorn_link::metric_store::{LEAST_BYTES, MetricStore};
use oxicorn_link::scoreboard::Scoreboard;
use oxicorn_link::window::{RESPONSE_WINDOW, SendWindow};
use oxicorn_link::wire::{
    EventKind, FilePart, RequestView, ResponseEncoder, ResponseHead, ResponseKind, decode_credit,
    flags,
};
use oxicorn_link::{LinkParts, Sizes, StreamId, WaitMode, WorkerEnd, WorkerParts};
use oxicorn_os::channel::{Blocking, Channel};
use oxicorn_os::memfd;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |standard: u32| {
        arguments
            .next()
            .map_or(standard, |text| text.parse().expect("a number"))
    };
    let (workers, port, busy) = (number(1), number(8099), number(0));
    let access_log = arguments.next();
    let listener = TcpListener::bind(("127.0.0.1", u16::try_from(port).expect("a port")));
    let listener = listener.expect("a free port");
    let (ours, theirs) = Channel::pair().expect("descriptors");
    let settings = Settings {
        access_log: access_log.map(|path| AccessLog {
            path,
            format: DEFAULT_FORMAT.into(),
        }),
        ..Settings::default()
    };
    let setup = Setup {
        identity: None,
        log_files: None,
        settings,
        control: theirs.into(),
        listeners: vec![(
            ListenerSetup::plain(format!("http://127.0.0.1:{port}")),
            listener.into(),
        )],
        certificates: None,
        monitoring: None,
        dashboard: None,
        scoreboard: Scoreboard::create(16, 1).expect("memory").1,
        metric_store: MetricStore::create(LEAST_BYTES).expect("memory").1,
    };
    let gateway = thread::Builder::new()
        .name("gateway".into())
        .spawn(move || run(setup));
    for worker in 0..workers {
        attach(&ours, worker, Duration::from_micros(busy.into()));
    }
    send(&ours, &ToGateway::ServeGeneration { generation: 1 });
    thread::spawn(report_for_ever);
    let _ = std::io::stdin().read(&mut [0]);
    drop(ours);
    gateway.expect("a thread").join().expect("no panic");
}

fn send(control: &Channel, message: &ToGateway) {
    let packet = encode(message).expect("short");
    control
        .send(&packet, &[], Blocking::Yes)
        .expect("the gateway lives");
}

fn attach(control: &Channel, worker: u32, busy: Duration) {
    let parts = LinkParts::create(Sizes::default()).expect("memory");
    let about = AttachWorker {
        worker,
        pid: 1,
        age: 1,
        generation: 1,
        capacity: 1,
        streams: false,
        goes_on: false,
    };
    let packet = encode(&ToGateway::AttachWorker(about)).expect("short");
    let descriptors = [
        parts.memory.as_fd(),
        parts.gateway_doorbell.as_fd(),
        parts.worker_doorbell.as_fd(),
        parts.gateway_side.as_fd(),
    ];
    control
        .send(&packet, &descriptors, Blocking::Yes)
        .expect("the gateway lives");
    send(control, &ToGateway::WorkerReady { worker });
    let serve = move || {
        let LinkParts {
            memory,
            gateway_doorbell,
            worker_doorbell,
            worker_side,
            ..
        } = parts;
        let end = WorkerEnd::attach(
            memory,
            gateway_doorbell,
            worker_doorbell,
            worker_side,
            WaitMode::Futex,
        );
        serve_for_ever(end.expect("a fresh link"), busy);
    };
    thread::Builder::new()
        .name(format!("worker-{worker}"))
        .spawn(serve)
        .expect("a thread");
}

fn serve_for_ever(end: WorkerEnd, busy: Duration) {
    let mut parts = end.split();
    let mut request = Vec::new();
    let file = memfd::with_content("file", &vec![b'f'; 100 * 1024]).expect("memory");
    loop {
        let Some(claimed) = parts.requests.try_claim(&mut request) else {
            parts.requests.wait(Duration::from_secs(1));
            continue;
        };
        let begun = Instant::now();
        while begun.elapsed() < busy {}
        let view = RequestView::decode(&request).expect("the gateway's");
        let answer = Answer {
            parts: &mut parts,
            stream: claimed.stream,
        };
        match view.head.path {
            b"/file" => answer.file(&file),
            path => match path
                .strip_prefix(b"/body/")
                .and_then(|size| str::from_utf8(size).ok())
            {
                Some(size) => answer.body(size.parse().unwrap_or(0)),
                None => answer.hello(),
            },
        }
    }
}

struct Answer<'w> {
    parts: &'w mut WorkerParts,
    stream: StreamId,
}

impl Answer<'_> {
    fn send(&mut self, kind: ResponseKind, bits: u8, head: &[u8], body: &[u8]) {
        let responses = &mut self.parts.responses;
        while responses
            .try_send(kind, self.stream, bits, head, body)
            .is_err()
        {
            responses.wait_room(head.len() + body.len(), Duration::from_secs(1));
        }
    }

    fn hello(mut self) {
        let head = head(None);
        self.send(ResponseKind::Head, flags::END, &head, b"Hello, world!");
    }

    /// So many bytes in pieces of 64 KiB, as far as there is credit.
    fn body(mut self, size: usize) {
        let piece = [b'x'; 16 * 1024].repeat(4);
        let mut window = SendWindow::new(RESPONSE_WINDOW);
        self.send(ResponseKind::Head, 0, &head(Some(size)), b"");
        let mut left = size;
        let mut payload = Vec::new();
        while left > 0 {
            let count = left.min(piece.len());
            while window.available() < count as u64 {
                match self
                    .parts
                    .events
                    .try_next(&mut payload)
                    .map(|event| event.kind)
                {
                    Some(EventKind::Credit) => {
                        window.credit(decode_credit(&payload).expect("the gateway's"));
                    }
                    // Nobody reads it: one piece more, and that is the end.
                    Some(EventKind::Cancel) => {
                        left = count;
                        window.credit(u32::MAX);
                    }
                    Some(_) => {}
                    None => {
                        self.parts.events.wait(Duration::from_secs(1));
                    }
                }
            }
            window.spend(count);
            left -= count;
            let bits = if left == 0 { flags::END } else { 0 };
            self.send(ResponseKind::BodyChunk, bits, &piece[..count], b"");
        }
    }

    /// 100 KiB by descriptor.
    fn file(mut self, file: &OwnedFd) {
        let part = FilePart {
            offset: 0,
            len: 100 * 1024,
        };
        self.send(ResponseKind::Head, 0, &head(Some(100 * 1024)), b"");
        let descriptors = &self.parts.descriptors;
        let sent = descriptors.send(self.stream, file.as_fd(), Duration::from_secs(1));
        sent.expect("the gateway lives");
        let bits = flags::END | flags::HAS_DESCRIPTOR;
        self.send(ResponseKind::File, bits, &part.encode(), b"");
    }
}

fn head(length: Option<usize>) -> Vec<u8> {
    let mut head = Vec::new();
    let status = ResponseHead {
        status: 200,
        reason: b"OK",
    };
    let mut encoder = ResponseEncoder::begin(&mut head, &status);
    encoder.header(b"Content-Type", b"text/plain");
    if let Some(length) = length {
        encoder.header(b"Content-Length", length.to_string().as_bytes());
    }
    encoder.finish();
    head
}

/// Prints each thread's processor time of the last five seconds.
fn report_for_ever() {
    let mut before = Vec::new();
    loop {
        let now = times();
        for (name, nanoseconds) in &now {
            let earlier = before
                .iter()
                .find(|(other, _)| other == name)
                .map_or(0, |(_, n)| *n);
            let used = Duration::from_nanos(nanoseconds.saturating_sub(earlier));
            if used > Duration::from_millis(1) {
                eprint_line(&format!("{name}: {:.3} s", used.as_secs_f64()));
            }
        }
        before = now;
        thread::sleep(Duration::from_secs(5));
    }
}

fn times() -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let name = std::fs::read_to_string(path.join("comm"))
                .ok()?
                .trim()
                .to_owned();
            let times = std::fs::read_to_string(path.join("schedstat")).ok()?;
            Some((name, times.split(' ').next()?.parse().ok()?))
        })
        .collect()
}

fn eprint_line(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}
