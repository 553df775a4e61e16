//! A gateway in a thread of its own, and everything around it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oxicorn_gateway::control::{AttachWorker, FromGateway, ToGateway, decode, encode};
use oxicorn_gateway::{
    AccessLog, DEFAULT_FORMAT, DashboardSetup, ErrorLog, JsonAccessLog, Level, ListenerSetup,
    Settings, Setup, TimeSource, run_by,
};
use oxicorn_link::log_tail::LogTail;
use oxicorn_link::metric_store::{LEAST_BYTES, MetricStore};
use oxicorn_link::scoreboard::{Counter, Gauge, Scoreboard};
use oxicorn_link::wire::{
    EventKind, HeaderList, RequestView, ResponseEncoder, ResponseHead, ResponseKind, flags,
};
use oxicorn_link::{EventHeader, LinkParts, Sizes, StreamId, WaitMode, WorkerEnd, WorkerParts};
use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::poll::{Polled, wait_readable};
use rustix::net::{self, AddressFamily, SocketType};
use tempfile::TempDir;

/// Nothing here takes longer unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running gateway.
pub(crate) struct Scenario {
    pub(crate) directory: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) monitoring_address: SocketAddr,
    pub(crate) scoreboard: Scoreboard,
    /// The application's own metrics.
    pub(crate) metric_store: MetricStore,
    control: Option<Channel>,
    gateway: Option<JoinHandle<i32>>,
    workers: u32,
    /// Its workers take bodies as they come.
    streams: bool,
    /// Workers go on with others when one of their requests is given up.
    pub(crate) goes_on: bool,
    /// What the gateway takes for the time, where that is not the kernel's.
    held_clock: Option<Arc<AtomicU64>>,
}

/// Settings whose deadlines are out of the way.
pub(crate) fn patient() -> Settings {
    let mut settings = Settings::default();
    settings.timeouts.keep_alive = Duration::from_mins(1);
    settings
}

impl Scenario {
    pub(crate) fn start(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::with_listener(settings, listener)
    }

    pub(crate) fn with_listener(settings: Settings, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        Self::with_sockets(
            settings,
            address,
            vec![(format!("http://{address}"), listener.into())],
        )
    }

    pub(crate) fn with_sockets(
        settings: Settings,
        address: SocketAddr,
        listeners: Vec<(String, OwnedFd)>,
    ) -> Self {
        let listeners = listeners.into_iter();
        let plain = listeners.map(|(name, socket)| (ListenerSetup::plain(name), socket));
        Self::begin(settings, address, (plain.collect(), None), None, None)
    }

    /// A gateway for which time passes only by [`Self::pass`]. It serves generation 1, from a listener
    /// with buffers so small that what is sent stays with the gateway.
    pub(crate) fn with_held_clock(settings: Settings) -> Self {
        let listener = crate::limits::listener_with_small_buffers();
        let address = listener.local_addr().unwrap();
        let setup = ListenerSetup::plain(format!("http://{address}"));
        let listeners = (vec![(setup, listener.into())], None);
        let start = Arc::new(AtomicU64::new(1_000_000_000));
        let scenario = Self::begin(settings, address, listeners, Some(start), None);
        scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
        scenario
    }

    /// Time passes; returns when the gateway has looked at everything that is due by then.
    pub(crate) fn pass(&self, duration: Duration) {
        let clock = self.held_clock.as_ref().expect("a clock that is held");
        let by = u64::try_from(duration.as_nanos()).unwrap();
        let now = clock.fetch_add(by, Ordering::Release) + by;
        let figures = self.scoreboard.gateway(0).unwrap();
        eventually("a tick", || figures.gauge(Gauge::Heartbeat) >= now);
    }

    /// The same with one worker of capacity 1.
    pub(crate) fn held_with_worker(settings: Settings) -> (Self, StubWorker) {
        let mut scenario = Self::with_held_clock(settings);
        let worker = scenario.ready_worker(1);
        (scenario, worker)
    }

    /// Time passes until what workers have taken by now is late by such a limit: a tick sees that it was taken, a
    /// later one that it is late.
    pub(crate) fn pass_beyond(&self, limit: Duration) {
        let moment = Duration::from_millis(1);
        self.pass(moment);
        self.pass(limit + moment);
    }

    /// A gateway that speaks TLS with these certificates. It serves generation 1.
    pub(crate) fn with_certificates(settings: Settings, certificates: OwnedFd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let setup = ListenerSetup {
            tls: true,
            ..ListenerSetup::plain(format!("https://{address}"))
        };
        let listeners = (vec![(setup, listener.into())], Some(certificates));
        let scenario = Self::begin(settings, address, listeners, None, None);
        scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
        scenario
    }

    /// A gateway with a dashboard, which has this token; and the warnings it shows.
    pub(crate) fn with_dashboard(settings: Settings, token: Option<&str>) -> (Self, LogTail) {
        let (tail, log_tail) = LogTail::create().unwrap();
        let dashboard = DashboardSetup {
            token: token.map(str::to_owned),
            log_tail,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let setup = ListenerSetup::plain(format!("http://{address}"));
        let listeners = (vec![(setup, listener.into())], None);
        let scenario = Self::begin(settings, address, listeners, None, Some(dashboard));
        (scenario, tail)
    }

    /// Logs go to files in `directory`.
    fn begin(
        mut settings: Settings,
        address: SocketAddr,
        (listeners, certificates): (Vec<(ListenerSetup, OwnedFd)>, Option<OwnedFd>),
        held_clock: Option<Arc<AtomicU64>>,
        dashboard: Option<DashboardSetup>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let streams = settings.stream_requests;
        let path = |name| directory.path().join(name).display().to_string();
        settings.error_log = ErrorLog {
            path: path("error.log"),
            level: Level::Debug,
        };
        let format = settings
            .access_log
            .map_or(DEFAULT_FORMAT.into(), |log| log.format);
        settings.access_log = (!settings.log_forwarding.access).then(|| AccessLog {
            path: path("access.log"),
            format,
        });
        settings.json_access_log = Some(JsonAccessLog {
            path: path("access.json"),
            fields: Vec::new(),
        });
        let (ours, theirs) = Channel::pair().unwrap();
        let (scoreboard, file) = Scoreboard::create(16, 1).unwrap();
        let (metric_store, metric_file) = MetricStore::create(LEAST_BYTES).unwrap();
        let monitoring = TcpListener::bind("127.0.0.1:0").unwrap();
        let monitoring_address = monitoring.local_addr().unwrap();
        let setup = Setup {
            identity: None,
            log_files: None,
            settings,
            control: theirs.into(),
            listeners,
            certificates,
            monitoring: Some(monitoring.into()),
            dashboard,
            scoreboard: file,
            metric_store: metric_file,
        };
        let time = held_clock
            .clone()
            .map_or(TimeSource::Kernel, TimeSource::Held);
        let gateway = Some(std::thread::spawn(move || run_by(setup, time)));
        let scenario = Self {
            directory,
            address,
            monitoring_address,
            scoreboard,
            metric_store,
            control: Some(ours),
            gateway,
            workers: 0,
            streams,
            goes_on: streams,
            held_clock,
        };
        scenario.expect("ready", |message| *message == FromGateway::Ready);
        scenario
    }

    /// A gateway that serves generation 1 with one worker of capacity 1.
    pub(crate) fn with_worker(settings: Settings) -> (Self, StubWorker) {
        let mut scenario = Self::start(settings);
        let worker = scenario.ready_worker(1);
        scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
        (scenario, worker)
    }

    /// A worker of generation 1 that is ready.
    pub(crate) fn ready_worker(&mut self, capacity: u32) -> StubWorker {
        let worker = self.attach(&LinkParts::create(Sizes::default()).unwrap(), capacity, 1);
        self.tell(&ToGateway::WorkerReady {
            worker: worker.number,
        });
        worker
    }

    /// A worker of generation 1 that writes the lines of all its requests, serving.
    pub(crate) fn attach_logging(&mut self) -> StubWorker {
        let worker = self.attach(&LinkParts::create(Sizes::default()).unwrap(), 1, 1);
        let number = worker.number;
        self.tell(&ToGateway::WorkerLogs { worker: number });
        self.tell(&ToGateway::WorkerReady { worker: number });
        self.tell(&ToGateway::ServeGeneration { generation: 1 });
        worker
    }

    /// Attaches a link and gives the worker's end of it.
    pub(crate) fn attach(
        &mut self,
        parts: &LinkParts,
        capacity: u32,
        generation: u32,
    ) -> StubWorker {
        self.workers += 1;
        let number = self.workers;
        self.attach_again(parts, number, capacity, generation);
        StubWorker::new(number, parts)
    }

    /// Tells the gateway about a worker that lives already.
    pub(crate) fn attach_again(
        &self,
        parts: &LinkParts,
        worker: u32,
        capacity: u32,
        generation: u32,
    ) {
        let about = AttachWorker {
            worker,
            pid: 4711,
            age: 1,
            generation,
            capacity,
            streams: self.streams,
            goes_on: self.goes_on,
        };
        let descriptors = [
            parts.memory.as_fd(),
            parts.gateway_doorbell.as_fd(),
            parts.worker_doorbell.as_fd(),
            parts.gateway_side.as_fd(),
        ];
        let packet = encode(&ToGateway::AttachWorker(about)).unwrap();
        let control = self.control.as_ref().unwrap();
        assert!(control.send(&packet, &descriptors, Blocking::Yes).unwrap());
    }

    pub(crate) fn tell(&self, message: &ToGateway) {
        self.tell_with(message, &[]);
    }

    pub(crate) fn tell_with(&self, message: &ToGateway, descriptors: &[OwnedFd]) {
        let packet = encode(message).unwrap();
        let control = self.control.as_ref().unwrap();
        let descriptors: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
        assert!(control.send(&packet, &descriptors, Blocking::Yes).unwrap());
    }

    /// Reads messages until one is as wanted.
    pub(crate) fn expect(&self, what: &str, wanted: impl Fn(&FromGateway) -> bool) -> FromGateway {
        let control = self.control.as_ref().unwrap();
        let mut packet = Vec::new();
        loop {
            let polled = wait_readable(&[control.as_fd()], Some(PATIENCE)).unwrap();
            assert!(!matches!(polled, Polled::TimedOut), "no message: {what}");
            match control
                .recv(&mut packet, &mut Vec::new(), Blocking::No)
                .unwrap()
            {
                Received::Message(_) => {
                    let message = decode(&packet).unwrap();
                    if wanted(&message) {
                        return message;
                    }
                }
                Received::Nothing => {}
                Received::Closed => panic!("the gateway has gone: {what}"),
            }
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// A client whose machine takes next to nothing ahead of it: that is settled when it connects.
    pub(crate) fn connect_with_small_buffer(&self) -> Client {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        net::sockopt::set_socket_recv_buffer_size(&socket, 8192).unwrap();
        net::connect(&socket, &self.address).unwrap();
        Client::new(socket.into())
    }

    /// Until the gateway has so many connections.
    pub(crate) fn wait_for_connections(&self, count: u64) {
        let figures = self.scoreboard.gateway(0).unwrap();
        eventually("connections", || figures.gauge(Gauge::Connections) == count);
    }

    /// Until the gateway has read so many bytes of its clients.
    pub(crate) fn wait_for_bytes(&self, count: usize) {
        let figures = self.scoreboard.gateway(0).unwrap();
        eventually("bytes", || {
            figures.counter(Counter::BytesIn) >= count as u64
        });
    }

    /// The arbiter dies.
    pub(crate) fn hang_up(&mut self) {
        self.control = None;
    }

    /// Waits for the gateway's end.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let gateway = self.gateway.take().unwrap();
        eventually("the gateway ends", || gateway.is_finished());
        gateway.join().unwrap()
    }

    /// The access log once it has so many lines.
    pub(crate) fn access_log(&self, lines: usize) -> Vec<String> {
        self.log("access.log", lines)
    }

    /// A log once it has so many lines.
    pub(crate) fn log(&self, name: &str, lines: usize) -> Vec<String> {
        let path = self.directory.path().join(name);
        let read = || {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        eventually("lines in the access log", || read().len() >= lines);
        let found = read();
        assert_eq!(found.len(), lines, "{found:?}");
        found
    }

    /// Waits for a text in the error log.
    pub(crate) fn expect_error_log(&self, text: &str) {
        eventually(text, || self.has_logged(text));
    }

    /// Whether the error log has a text by now.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        let path = self.directory.path().join("error.log");
        std::fs::read_to_string(path).unwrap().contains(text)
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        let Some(gateway) = self.gateway.take() else {
            return;
        };
        if let Some(control) = &self.control {
            let packet = encode(&ToGateway::Stop).unwrap();
            let _ = control.send(&packet, &[], Blocking::No);
        }
        if !std::thread::panicking() {
            assert_eq!(gateway.join().unwrap(), 0);
        }
    }
}

/// A worker that does what the test says.
pub(crate) struct StubWorker {
    pub(crate) number: u32,
    pub(crate) parts: WorkerParts,
}

/// A request the stub worker has taken.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) stream: StreamId,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl Claimed {
    pub(crate) fn view(&self) -> RequestView<'_> {
        RequestView::decode(&self.payload).unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        std::str::from_utf8(self.view().head.request_target).unwrap()
    }
}

impl StubWorker {
    pub(crate) fn new(number: u32, parts: &LinkParts) -> Self {
        let end = WorkerEnd::attach(
            parts.memory.try_clone().unwrap(),
            parts.gateway_doorbell.try_clone().unwrap(),
            parts.worker_doorbell.try_clone().unwrap(),
            parts.worker_side.try_clone().unwrap(),
            WaitMode::Futex,
        );
        Self {
            number,
            parts: end.unwrap().split(),
        }
    }

    /// Takes the next request.
    pub(crate) fn claim(&mut self) -> Claimed {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(claimed) = self.try_claim() {
                return claimed;
            }
            assert!(Instant::now() < deadline, "no request came");
            self.parts.requests.wait(Duration::from_millis(50));
        }
    }

    pub(crate) fn try_claim(&mut self) -> Option<Claimed> {
        let mut payload = Vec::new();
        let claimed = self.parts.requests.try_claim(&mut payload)?;
        Some(Claimed {
            stream: claimed.stream,
            flags: claimed.flags,
            payload,
        })
    }

    pub(crate) fn send(&mut self, kind: ResponseKind, stream: StreamId, bits: u8, payload: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        while self
            .parts
            .responses
            .try_send(kind, stream, bits, payload, &[])
            .is_err()
        {
            assert!(Instant::now() < deadline, "no room in the ring");
            self.parts
                .responses
                .wait_room(payload.len(), Duration::from_millis(50));
        }
    }

    pub(crate) fn head(
        &mut self,
        stream: StreamId,
        bits: u8,
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut payload = response_head(status, headers);
        payload.extend_from_slice(body);
        self.send(ResponseKind::Head, stream, bits, &payload);
    }

    /// A whole response.
    pub(crate) fn respond(&mut self, claimed: &Claimed, body: &str) {
        self.head(claimed.stream, flags::END, 200, &[], body.as_bytes());
    }

    /// Takes a request and answers it with its target.
    pub(crate) fn echo(&mut self) {
        let claimed = self.claim();
        let target = claimed.target().to_owned();
        self.respond(&claimed, &target);
    }

    /// The next event about a request.
    pub(crate) fn event(&mut self) -> (EventKind, StreamId, Vec<u8>) {
        let (event, payload) = self.event_with_flags();
        (event.kind, event.stream, payload)
    }

    pub(crate) fn event_with_flags(&mut self) -> (EventHeader, Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        let mut payload = Vec::new();
        loop {
            if let Some(event) = self.parts.events.try_next(&mut payload) {
                return (event, payload);
            }
            assert!(Instant::now() < deadline, "no event came");
            self.parts.events.wait(Duration::from_millis(50));
        }
    }
}

/// Bytes that show when one is missing or out of place, from the `start`th on.
pub(crate) fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len)
        .map(|place| u8::try_from(place % 251).unwrap())
        .collect()
}

pub(crate) fn response_head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
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

pub(crate) fn header<'a>(headers: HeaderList<'a>, name: &str) -> Option<&'a [u8]> {
    let mut found = headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
    found.next().map(|(_, value)| value)
}

/// A client's connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// What a client received.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Leaves so that nobody can take it for having nothing more to say.
    pub(crate) fn reset(self) {
        oxicorn_os::sockets::set_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).unwrap();
    }

    pub(crate) fn get(&mut self, target: &str) {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }

    fn fill(&mut self) -> usize {
        let mut piece = [0; 16_384];
        let count = self.stream.read(&mut piece).unwrap();
        self.buffer.extend_from_slice(&piece[..count]);
        count
    }

    fn take_until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self
                .buffer
                .windows(end.len())
                .position(|window| window == end)
            {
                return self.buffer.drain(..at + end.len()).collect();
            }
            assert!(
                self.fill() > 0,
                "closed after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill() > 0, "closed too early");
        }
        self.buffer.drain(..count).collect()
    }

    /// A response's head, and nothing of its body.
    pub(crate) fn read_head(&mut self) -> Response {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n")).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Response {
            status,
            head,
            body: Vec::new(),
        }
    }

    /// A whole response with a body that has an end.
    pub(crate) fn read_response(&mut self) -> Response {
        let mut response = self.read_head();
        if let Some(length) = response.header("content-length") {
            let length = length.parse().unwrap();
            response.body = self.take(length);
        } else if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.read_chunk() {
                response.body.extend_from_slice(&chunk);
            }
        } else {
            response.body = self.read_to_end();
        }
        response
    }

    pub(crate) fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let size = String::from_utf8(self.take_until(b"\r\n")).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let chunk = self.take(size);
        assert_eq!(self.take(2), b"\r\n");
        (size > 0).then_some(chunk)
    }

    /// Everything until the server closes; a reset ends it too.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
        rest
    }

    /// The server closes without another byte.
    pub(crate) fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}
