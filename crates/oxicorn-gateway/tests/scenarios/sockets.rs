//! Kinds of listeners, and who is behind a connection.

use std::io::{Read as _, Seek as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use oxicorn_gateway::control::ToGateway;
use oxicorn_gateway::{AccessLog, ProxyProtocol, Settings};
use oxicorn_link::wire::{Address, Scheme};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::scenario::{Client, Scenario, StubWorker, eventually, patient};

fn ask(stream: &mut UnixStream, worker: &mut StubWorker, check: impl FnOnce(Address<'_>)) {
    stream
        .write_all(b"GET / HTTP/1.0\r\nX-Forwarded-Proto: https\r\n\r\n")
        .unwrap();
    let claimed = worker.claim();
    let head = claimed.view().head;
    check(head.server);
    assert_eq!(head.client, Address::Unix { path: b"" });
    assert_eq!(head.scheme, Scheme::Https, "unix peers are trusted");
    worker.respond(&claimed, "unix");
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("\r\n\r\nunix"), "{text}");
}

#[test]
fn serves_unix_and_abstract_and_several_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let name = format!("oxicorn-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let hidden = UnixListener::bind_addr(&address).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_address = tcp.local_addr().unwrap();
    let listeners = vec![
        ("unix".to_owned(), unix.into()),
        ("abstract".to_owned(), hidden.into()),
        ("tcp".to_owned(), tcp.into()),
    ];
    let mut scenario = Scenario::with_sockets(patient(), tcp_address, listeners);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut worker = scenario.ready_worker(1);
    let mut stream = UnixStream::connect(&path).unwrap();
    let path = path.display().to_string();
    ask(&mut stream, &mut worker, |server| {
        assert_eq!(
            server,
            Address::Unix {
                path: path.as_bytes()
            }
        );
    });
    let mut stream = UnixStream::connect_addr(&address).unwrap();
    ask(&mut stream, &mut worker, |server| {
        assert_eq!(
            server,
            Address::Unix {
                path: format!("\0{name}").as_bytes()
            }
        );
    });
    let mut client = scenario.connect();
    client.get("/");
    worker.echo();
    assert_eq!(client.read_response().status, 200);
    // An unnamed client has no address in the log.
    assert!(scenario.access_log(3)[0].starts_with(" - - ["));
}

fn scheme_for(settings: Settings, headers: &str) -> Scheme {
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send(&format!("GET / HTTP/1.1\r\nHost: t\r\n{headers}\r\n"));
    let claimed = worker.claim();
    let scheme = claimed.view().head.scheme;
    worker.respond(&claimed, "");
    client.read_response();
    scheme
}

#[test]
fn the_scheme_comes_from_trusted_peers_only() {
    let header = "X-Forwarded-Proto: https\r\n";
    assert_eq!(scheme_for(patient(), ""), Scheme::Http);
    assert_eq!(scheme_for(patient(), header), Scheme::Https);
    let mut settings = patient();
    settings.trust.forwarded_allow_ips = vec!["192.0.2.0/24".into()];
    assert_eq!(scheme_for(settings, header), Scheme::Http);
    let mut settings = patient();
    settings.https = true;
    assert_eq!(scheme_for(settings, ""), Scheme::Https);
}

#[test]
fn a_proxy_header_holds_for_every_request_of_the_connection() {
    let mut settings = patient();
    settings.trust.proxy_protocol = ProxyProtocol::V1;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send("PROXY TCP4 203.0.113.7 198.51.100.1 5678 443\r\n");
    for _ in 0..2 {
        client.get("/");
        let claimed = worker.claim();
        let head = claimed.view().head;
        assert_eq!(
            head.client,
            Address::Ip {
                host: b"203.0.113.7",
                port: 5678
            }
        );
        let proxy = head.proxy.unwrap();
        assert_eq!(
            (proxy.protocol, proxy.destination_port),
            (&b"TCP4"[..], 443)
        );
        worker.respond(&claimed, "");
        assert_eq!(client.read_response().status, 200);
    }
    assert!(scenario.access_log(2)[1].starts_with("203.0.113.7 "));
}

#[test]
fn a_proxy_header_is_not_believed_from_anybody() {
    let mut settings = patient();
    settings.trust.proxy_protocol = ProxyProtocol::Auto;
    settings.trust.proxy_allow_ips = vec![];
    let (scenario, _worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send("PROXY TCP4 203.0.113.7 198.51.100.1 5678 443\r\n");
    assert_eq!(client.read_response().status, 403);
}

#[test]
fn listeners_are_added_and_replaced() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = second.local_addr().unwrap();
    let old = scenario.address;
    scenario.tell_with(
        &ToGateway::Listeners {
            binds: vec![oxicorn_gateway::ListenerSetup::plain("second")],
            replace: true,
        },
        &[second.into()],
    );
    let mut client = Client::new(std::net::TcpStream::connect(address).unwrap());
    client.get("/second");
    worker.echo();
    assert_eq!(client.read_response().text(), "/second");
    eventually("the first listener is closed", || {
        std::net::TcpStream::connect(old).is_err()
    });
}

#[test]
fn logs_are_opened_again_on_order() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let path = scenario.directory.path().join("access.log");
    let rotated = scenario.directory.path().join("access.log.1");
    let mut client = scenario.connect();
    client.get("/old");
    worker.echo();
    client.read_response();
    scenario.access_log(1);
    std::fs::rename(&path, &rotated).unwrap();
    scenario.tell(&ToGateway::ReopenLogs);
    eventually("a new file", || path.exists());
    client.get("/new");
    worker.echo();
    client.read_response();
    assert!(scenario.access_log(1)[0].contains("/new"));
}

/// Set in the process that [`is_alone`] makes.
const ALONE: &str = "OXICORN_TEST_ALONE";

/// Whether this process runs nothing but the test `name`. If not, such a process is made, and has to succeed.
fn is_alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut own = std::process::Command::new(std::env::current_exe().unwrap());
    let ended = own
        .args(["--exact", name])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    false
}

#[test]
fn without_descriptors_accepting_pauses_and_goes_on_later() {
    // The limit is a process's, and so holds for all tests that run in it.
    if !is_alone("sockets::without_descriptors_accepting_pauses_and_goes_on_later") {
        return;
    }
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let limit = getrlimit(Resource::Nofile);
    let mut clients: Vec<_> = (0..4).map(|_| scenario.connect()).collect();
    scenario.wait_for_connections(4);
    let mut log = std::fs::File::open(scenario.directory.path().join("error.log")).unwrap();
    let spare = std::fs::File::open("/dev/null").unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let current = Some(open.map(number).max().unwrap() + 8);
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    let connect = || std::net::TcpStream::connect(scenario.address).map(Client::new);
    let mut waiting = Vec::new();
    while let Ok(client) = connect() {
        waiting.push(client);
    }
    // If it was the gateway that took the last one, this is who finds it without.
    drop(spare);
    waiting.extend(connect());
    let mut text = || {
        log.rewind().unwrap();
        std::io::read_to_string(&log).unwrap()
    };
    eventually("a pause", move || {
        text().contains("pauses: Too many open files")
    });
    // Who is in is served.
    clients[0].get("/in");
    worker.echo();
    assert_eq!(clients[0].read_response().text(), "/in");
    // Who waits is served as soon as there is room.
    setrlimit(Resource::Nofile, limit).unwrap();
    for client in &mut waiting {
        client.get("/waited");
        worker.echo();
        assert_eq!(client.read_response().text(), "/waited");
    }
}

#[test]
fn new_settings_hold_for_new_connections() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut old = scenario.connect();
    old.get("/");
    worker.echo();
    assert_eq!(old.read_response().header("server"), Some("oxicorn"));
    let path = scenario.directory.path().join("second.log");
    let mut settings = patient();
    settings.server_header = "renamed".into();
    settings.access_log = Some(AccessLog {
        path: path.display().to_string(),
        format: "%(U)s %(bad)q".into(),
    });
    scenario.tell(&ToGateway::Settings(Box::new(settings)));
    eventually("the second log", || path.exists());
    let mut new = scenario.connect();
    new.get("/new");
    worker.echo();
    assert_eq!(new.read_response().header("server"), Some("renamed"));
    let text = || std::fs::read_to_string(&path).unwrap();
    // A format that cannot be used gives way to the default.
    eventually("a line", || text().contains("\"GET /new HTTP/1.1\" 200 4 "));
    old.get("/old");
    worker.echo();
    assert_eq!(
        old.read_response().header("server"),
        Some("oxicorn"),
        "an open connection keeps its settings"
    );
}
