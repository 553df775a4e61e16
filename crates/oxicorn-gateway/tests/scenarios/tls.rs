//! TLS, as clients by rustls see it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use oxicorn_gateway::control::{FromGateway, ToGateway};
use oxicorn_gateway::{ProxyProtocol, Settings};
use oxicorn_link::wire::{self, EventKind, FilePart, ResponseKind, flags};
use oxicorn_tls::{Certified, ClientCertificates, Material, Version};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::http2::client::{frame, request};
use crate::scenario::{Client, PATIENCE, Response, Scenario, StubWorker, patient, pattern};

/// A certificate and its key, for `localhost` and for its own name.
pub(crate) struct Pki {
    certified: Certified,
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Pki {
    fn new(name: &str) -> Self {
        let names = vec!["localhost".into(), name.into()];
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certified: Certified {
                certificate_file: name.into(),
                key_file: name.into(),
                chain: certificate.pem(),
                key: key.serialize_pem(),
                ocsp: Vec::new(),
            },
            der: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    fn material(&self) -> Material {
        Material {
            certificates: vec![self.certified.clone()],
            clients: ClientCertificates::NotAsked,
            least_version: Version::Tls12,
            most_version: Version::Tls13,
            ciphers: None,
            protocols: vec!["http/1.1".into()],
        }
    }

    /// A client that trusts this one alone.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

fn file(material: &Material) -> OwnedFd {
    oxicorn_os::memfd::with_content("test", &material.encode()).unwrap()
}

/// One thread, and others beside it that make the steps of handshakes.
const THREADS: [usize; 2] = [1, 3];

fn with_threads(threads: usize) -> Settings {
    Settings {
        threads,
        ..patient()
    }
}

pub(crate) fn start(settings: Settings) -> (Scenario, StubWorker, Pki) {
    let pki = Pki::new("one.example");
    let mut scenario = Scenario::with_certificates(settings, file(&pki.material()));
    let worker = scenario.ready_worker(1);
    (scenario, worker, pki)
}

/// A client's connection.
pub(crate) struct TlsClient {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl TlsClient {
    fn over(stream: TcpStream, config: &Arc<ClientConfig>) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self {
            stream: StreamOwned::new(connection, stream),
            buffer: Vec::new(),
        }
    }

    pub(crate) fn connect(scenario: &Scenario, config: &Arc<ClientConfig>) -> Self {
        Self::over(TcpStream::connect(scenario.address).unwrap(), config)
    }

    pub(crate) fn get(&mut self, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
    }

    /// A response with a length.
    pub(crate) fn read_response(&mut self) -> Response {
        let mut piece = [0; 16_384];
        loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8(self.buffer[..end + 4].to_vec()).unwrap();
                let mut response = Response {
                    status: head.split(' ').nth(1).unwrap().parse().unwrap(),
                    head,
                    body: Vec::new(),
                };
                let length: usize = response.header("content-length").unwrap().parse().unwrap();
                if self.buffer.len() >= end + 4 + length {
                    response.body = self.buffer[end + 4..end + 4 + length].to_vec();
                    self.buffer.drain(..end + 4 + length);
                    return response;
                }
            }
            let count = self.stream.read(&mut piece).unwrap();
            assert!(count > 0, "closed too early");
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }

    fn echo(&mut self, worker: &mut StubWorker, target: &str) {
        self.get(target);
        worker.echo();
        assert_eq!(self.read_response().text(), target);
    }
}

#[test]
fn requests_are_served_and_their_scheme_is_https() {
    for threads in THREADS {
        let (scenario, mut worker, pki) = start(with_threads(threads));
        let config = Arc::new(pki.client_config());
        let mut client = TlsClient::connect(&scenario, &config);
        client.get("/first");
        let claimed = worker.claim();
        assert_eq!(claimed.view().head.scheme, wire::Scheme::Https);
        let variables: Vec<_> = claimed.view().variables.iter().collect();
        assert_eq!(variables, [(wire::TLS, &[3, 4, 0x13, 2][..])]);
        worker.respond(&claimed, "one");
        assert_eq!(client.read_response().text(), "one");
        client.echo(&mut worker, "/second");
        client.stream.conn.send_close_notify();
        client.stream.flush().unwrap();
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).expect("a goodbye");
        assert!(rest.is_empty());
        assert_eq!(scenario.access_log(2).len(), 2);
    }
}

#[test]
fn long_bodies_pass_in_both_directions() {
    let (scenario, mut worker, pki) = start(patient());
    let config = Arc::new(pki.client_config());
    let mut client = TlsClient::connect(&scenario, &config);
    let body = pattern(0, 100 * 1024);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.stream.write_all(head.as_bytes()).unwrap();
    client.stream.write_all(&body).unwrap();
    let claimed = worker.claim();
    assert_eq!(claimed.view().body, body);
    let (stream, len) = (claimed.stream, 3 * 1024 * 1024);
    let sender = std::thread::spawn(move || {
        worker.head(stream, 0, 200, &[("Content-Length", &len.to_string())], b"");
        for start in (0..len).step_by(64 * 1024) {
            let last = start + 64 * 1024 == len;
            let bits = if last { flags::END } else { 0 };
            worker.send(
                ResponseKind::BodyChunk,
                stream,
                bits,
                &pattern(start, 64 * 1024),
            );
        }
        worker
    });
    assert_eq!(client.read_response().body, pattern(0, len));
    let mut worker = sender.join().unwrap();
    client.echo(&mut worker, "/next");
}

/// A file leaves with the head before it, in pieces that grow and shrink with what the client takes.
#[test]
fn files_follow_their_heads() {
    let (scenario, mut worker, pki) = start(patient());
    let config = Arc::new(pki.client_config());
    let mut client = TlsClient::connect(&scenario, &config);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(0, 3_000_000)).unwrap();
    for len in [1, 1000, 16 * 1024, 100 * 1024, 128 * 1024 + 1, 2_999_000] {
        client.get("/file");
        let claimed = worker.claim();
        let length = len.to_string();
        worker.head(claimed.stream, 0, 200, &[("Content-Length", &length)], b"");
        let descriptors = &worker.parts.descriptors;
        descriptors
            .send(claimed.stream, file.as_fd(), PATIENCE)
            .unwrap();
        let part = FilePart { offset: 7, len }.encode();
        let bits = flags::END | flags::HAS_DESCRIPTOR;
        worker.send(ResponseKind::File, claimed.stream, bits, &part);
        let response = client.read_response();
        assert!(
            response.body == pattern(7, usize::try_from(len).unwrap()),
            "{len}"
        );
        client.echo(&mut worker, "/next");
    }
}

#[test]
fn plain_http_is_told_that_it_came_to_the_wrong_port() {
    let (scenario, _worker, _) = start(patient());
    let mut client = scenario.connect();
    client.get("/plain");
    let response = client.read_response();
    assert_eq!(response.status, 400);
    assert!(response.text().contains("use https"), "{}", response.text());
    client.expect_end();
    assert!(scenario.access_log(1)[0].contains("400"));
    scenario.expect_error_log("plain HTTP was sent to a port that speaks TLS");
}

#[test]
fn what_is_no_handshake_is_closed_and_told() {
    for threads in THREADS {
        let (scenario, mut worker, pki) = start(with_threads(threads));
        for odd in [
            &b"\x80\x2e\x01\x03\x01"[..],
            b"\x16\x03\x01\x00\x05hello",
            b"\x16\x03\x01\xff\xff",
            &[0x16, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3],
        ] {
            let mut client = scenario.connect();
            client.stream.write_all(odd).unwrap();
            let _ = client.stream.shutdown(Shutdown::Write);
            // An alert at most.
            assert!(client.read_to_end().len() <= 7, "{odd:?}");
        }
        scenario.expect_error_log("TLS failed: ");
        let config = Arc::new(pki.client_config());
        TlsClient::connect(&scenario, &config).echo(&mut worker, "/still");
    }
}

#[test]
fn a_hello_in_single_bytes_is_a_hello() {
    for threads in THREADS {
        let (scenario, mut worker, pki) = start(with_threads(threads));
        let config = Arc::new(pki.client_config());
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        let mut stream = TcpStream::connect(scenario.address).unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in hello {
            stream.write_all(&[byte]).unwrap();
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = TlsClient {
            stream: StreamOwned::new(connection, stream),
            buffer: Vec::new(),
        };
        client.echo(&mut worker, "/pieces");
    }
}

#[test]
fn new_certificates_are_for_new_connections_and_sessions_go_on() {
    let (scenario, mut worker, pki) = start(patient());
    let config = Arc::new(pki.client_config());
    let mut before = TlsClient::connect(&scenario, &config);
    before.echo(&mut worker, "/before");
    let other = Pki::new("two.example");
    let both = Material {
        certificates: vec![other.certified.clone()],
        ..pki.material()
    };
    scenario.tell_with(&ToGateway::Certificates, &[file(&both)]);
    let new = Arc::new(other.client_config());
    let mut after = TlsClient::connect(&scenario, &new);
    after.echo(&mut worker, "/after");
    before.echo(&mut worker, "/untouched");
    // A ticket given out before the change.
    let mut resumed = TlsClient::connect(&scenario, &config);
    resumed.echo(&mut worker, "/resumed");
    assert_eq!(
        resumed.stream.conn.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
}

#[test]
fn sessions_are_resumed_by_tickets_with_tls_12_too() {
    for threads in THREADS {
        let (scenario, mut worker, pki) = start(with_threads(threads));
        let mut roots = RootCertStore::empty();
        roots.add(pki.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        let kinds = ["/first", "/second"].map(|target| {
            let mut client = TlsClient::connect(&scenario, &config);
            client.echo(&mut worker, target);
            client.stream.conn.handshake_kind().unwrap()
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    }
}

#[test]
fn broken_certificates_leave_the_old_ones() {
    let (scenario, mut worker, pki) = start(patient());
    let mut broken = pki.material();
    broken.certificates[0].key = Pki::new("other").certified.key;
    scenario.tell_with(&ToGateway::Certificates, &[file(&broken)]);
    scenario.expect("a refusal", |message| {
        matches!(message, FromGateway::Refused { reason } if reason.contains("does not belong"))
    });
    let config = Arc::new(pki.client_config());
    TlsClient::connect(&scenario, &config).echo(&mut worker, "/old");
}

#[test]
fn clients_show_who_they_are() {
    for threads in THREADS {
        let pki = Pki::new("one.example");
        let alice = Pki::new("alice");
        let mut material = pki.material();
        let authorities = serde_authorities(&alice);
        material.clients = ClientCertificates::Optional(authorities);
        let mut scenario = Scenario::with_certificates(with_threads(threads), file(&material));
        let mut worker = scenario.ready_worker(1);
        let mut roots = RootCertStore::empty();
        roots.add(pki.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![alice.der.clone()],
                PrivatePkcs8KeyDer::from(alice.key.clone()).into(),
            )
            .unwrap();
        let mut client = TlsClient::connect(&scenario, &Arc::new(config));
        client.get("/who");
        let claimed = worker.claim();
        let variable = |name: &[u8]| {
            let view = claimed.view();
            let found = view.variables.iter().find(|(found, _)| *found == name);
            String::from_utf8(found.map(|(_, value)| value.to_vec()).unwrap_or_default()).unwrap()
        };
        assert_eq!(variable(b"SSL_CLIENT_VERIFY"), "SUCCESS");
        assert_eq!(variable(b"SSL_CLIENT_S_DN"), "CN=alice");
        assert!(variable(b"SSL_CLIENT_CERT").starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert!(!variable(b"SSL_CLIENT_M_SERIAL").is_empty());
        worker.respond(&claimed, "alice");
        client.read_response();

        let mut nobody = TlsClient::connect(&scenario, &Arc::new(pki.client_config()));
        nobody.get("/nobody");
        let claimed = worker.claim();
        let variables: Vec<_> = claimed.view().variables.iter().collect();
        assert_eq!(variables[1], (&b"SSL_CLIENT_VERIFY"[..], &b"NONE"[..]));
        worker.respond(&claimed, "nobody");
        nobody.read_response();
    }
}

fn serde_authorities(pki: &Pki) -> oxicorn_tls::Authorities {
    oxicorn_tls::Authorities {
        file: "ca".into(),
        certificates: pki.certified.chain.clone(),
        revoked: String::new(),
        revoked_file: "none".into(),
    }
}

#[test]
fn the_proxy_header_comes_before_the_handshake() {
    let mut settings = patient();
    settings.trust.proxy_protocol = ProxyProtocol::Auto;
    settings.trust.proxy_allow_ips = vec!["127.0.0.1".into()];
    let (scenario, mut worker, pki) = start(settings);
    let config = Arc::new(pki.client_config());
    for in_one_piece in [false, true] {
        let header = b"PROXY TCP4 203.0.113.7 198.51.100.1 5678 443\r\n";
        let mut stream = TcpStream::connect(scenario.address).unwrap();
        let mut client = if in_one_piece {
            let name = ServerName::try_from("localhost").unwrap();
            let mut connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut bytes = header.to_vec();
            connection.write_tls(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
            TlsClient {
                stream: StreamOwned::new(connection, stream),
                buffer: Vec::new(),
            }
        } else {
            stream.write_all(header).unwrap();
            TlsClient::over(stream, &config)
        };
        client.get("/behind");
        let claimed = worker.claim();
        let client_address = wire::Address::Ip {
            host: b"203.0.113.7",
            port: 5678,
        };
        assert_eq!(claimed.view().head.client, client_address);
        worker.respond(&claimed, "ok");
        assert_eq!(client.read_response().text(), "ok");
    }
}

#[test]
fn an_application_may_have_the_connection() {
    let (scenario, mut worker, pki) = start(patient());
    let mut client = TlsClient::connect(&scenario, &Arc::new(pki.client_config()));
    client.get("/socket");
    let claimed = worker.claim();
    worker.send(ResponseKind::Hijack, claimed.stream, 0, b"");
    let (kind, stream, payload) = worker.event();
    assert_eq!((kind, payload.len()), (EventKind::Hijacked, 0));
    let mut socket =
        std::os::unix::net::UnixStream::from(worker.parts.descriptors.take(stream).unwrap());
    client.stream.write_all(b"ping").unwrap();
    let mut four = [0; 4];
    socket.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"ping");
    let long = pattern(0, 1024 * 1024);
    let sent = long.clone();
    let writer = std::thread::spawn(move || {
        socket.write_all(&sent).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        rest
    });
    let mut received = Vec::new();
    client.stream.read_to_end(&mut received).expect("a goodbye");
    assert!(received == long, "what arrived is not what was sent");
    client.stream.write_all(b"half").unwrap();
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert_eq!(writer.join().unwrap(), b"half");
}

#[test]
fn a_flood_of_handshakes_leaves_nobody_out() {
    for threads in THREADS {
        let (scenario, mut worker, pki) = start(with_threads(threads));
        let config = Arc::new(pki.client_config());
        let mut clients: Vec<_> = (0..64)
            .map(|_| {
                let mut client = TlsClient::connect(&scenario, &config);
                // The hello, without waiting for what comes of it.
                client
                    .stream
                    .conn
                    .write_tls(&mut client.stream.sock)
                    .unwrap();
                client
            })
            .collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.echo(&mut worker, &format!("/{number}"));
        }
    }
}

#[test]
fn a_slow_handshake_ends_with_the_time_for_a_head() {
    for threads in THREADS {
        let mut settings = with_threads(threads);
        settings.timeouts.head = Duration::from_millis(200);
        let (scenario, _worker, _) = start(settings);
        let mut client = scenario.connect();
        client
            .stream
            .write_all(b"\x16\x03\x01\x02\x00\x01")
            .unwrap();
        client.expect_end();
        scenario.expect_error_log("the TLS handshake did not end in time");
    }
}

#[test]
fn an_end_without_a_goodbye_is_an_end_or_a_failure_as_the_settings_say() {
    for suppressed in [true, false] {
        let mut settings = patient();
        settings.suppress_ragged_eofs = suppressed;
        let (scenario, mut worker, pki) = start(settings);
        let mut client = TlsClient::connect(&scenario, &Arc::new(pki.client_config()));
        client.echo(&mut worker, "/");
        client.stream.sock.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        match client.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
        }
        if !suppressed {
            scenario.expect_error_log("the connection ended without close_notify");
        }
    }
}

#[test]
fn requests_without_tls_are_sent_to_https() {
    let mut settings = patient();
    settings.https_redirect = Some(8443);
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    for (target, host, location) in [
        ("/a?b=c", "x.example:8080", "https://x.example:8443/a?b=c"),
        ("/", "[::1]:80", "https://[::1]:8443/"),
        (
            "http://y.example/p",
            "y.example",
            "https://y.example:8443/p",
        ),
    ] {
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = client.read_response();
        assert_eq!(response.status, 308);
        assert_eq!(response.header("location"), Some(location));
    }
    client.get("/.well-known/acme-challenge/token");
    worker.echo();
    assert_eq!(client.read_response().status, 200);
    // The proxy in front has spoken TLS.
    client.send("GET /s HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\r\n");
    worker.echo();
    assert_eq!(client.read_response().text(), "/s");
}

#[test]
fn a_connection_that_rests_holds_no_buffer() {
    use oxicorn_link::scoreboard::Gauge;
    let (scenario, mut worker, pki) = start(patient());
    let config = Arc::new(pki.client_config());
    let mut client = TlsClient::connect(&scenario, &config);
    client.echo(&mut worker, "/");
    let figures = scenario.scoreboard.gateway(0).unwrap();
    crate::scenario::eventually("no buffer is held", || {
        figures.gauge(Gauge::Buffered) < 4096
    });
    drop(Client::new(client.stream.sock));
}

#[test]
fn who_agrees_on_http2_in_the_handshake_speaks_it() {
    let settings = Settings {
        http2: Some(oxicorn_gateway::Http2::default()),
        ..patient()
    };
    let pki = Pki::new("one.example");
    let mut material = pki.material();
    material.protocols = vec!["h2".into(), "http/1.1".into()];
    let mut scenario = Scenario::with_certificates(settings, file(&material));
    let mut worker = scenario.ready_worker(1);
    for (protocol, version) in [
        ("h2", wire::Version::Http2),
        ("http/1.1", wire::Version::Http11),
    ] {
        let mut config = pki.client_config();
        config.alpn_protocols = vec![protocol.into()];
        let mut client = TlsClient::connect(&scenario, &Arc::new(config));
        if protocol == "h2" {
            let request = [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                frame(4, 0, 0, &[]),
                frame(1, 5, 1, &request("GET", "/x")),
            ];
            client.stream.write_all(&request.concat()).unwrap();
        } else {
            client.get("/x");
        }
        let claimed = worker.claim();
        assert_eq!(claimed.view().head.version, version);
        assert_eq!(claimed.view().head.scheme, wire::Scheme::Https);
        worker.respond(&claimed, "by tls");
        let mut came = Vec::new();
        while !came.ends_with(b"by tls") {
            let mut buffer = [0; 1024];
            let count = client.stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&came));
            came.extend_from_slice(&buffer[..count]);
        }
    }
}
