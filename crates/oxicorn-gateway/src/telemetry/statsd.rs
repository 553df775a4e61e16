//! Metrics of requests for a `StatsD` server: Gunicorn's names and types, one set for each request.
//!
//! Decides what happens when the server is slow, away or not to be found: nothing that anybody here
//! waits for. The event loop only appends to a buffer and hands it over; a thread resolves the name and
//! sends, and what does not go out at once is dropped.
//!
//! Several metrics share a datagram, one a line, which every `StatsD` server takes; a datagram stays
//! below what any link carries in one piece.

use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::settings::{self, StatsdAddress};

/// Bytes of a datagram: an Ethernet frame of 1500 without the headers of IPv6 and UDP, and some to spare.
const DATAGRAM: usize = 1432;

/// Datagrams that wait for the thread; more are dropped.
const WAITING: usize = 64;

/// The thread needs no more, but for the resolver of the C library.
const STACK: usize = 256 * 1024;

/// How long the end of the process waits for the last metrics to be sent.
const FLUSH_LIMIT: Duration = Duration::from_millis(200);

/// How long an address is used before the name is resolved again, and a socket that failed is left alone.
const RENEWAL: Duration = Duration::from_secs(30);

/// The event loop's end.
#[derive(Debug)]
pub(crate) struct Statsd {
    prefix: String,
    /// What follows each metric.
    suffix: String,
    batch: Vec<u8>,
    metric: Vec<u8>,
    /// Gone only while dropped.
    datagrams: Option<SyncSender<Vec<u8>>>,
    /// Its other end goes with the thread.
    thread: Receiver<()>,
}

impl Statsd {
    /// Starts the thread; nothing is resolved here.
    pub(crate) fn start(settings: &settings::Statsd) -> io::Result<Self> {
        let (datagrams, waiting) = sync_channel(WAITING);
        let (lives, ended) = channel::<()>();
        let mut sender = Sender::new(settings.address.clone());
        thread::Builder::new()
            .name("statsd".into())
            .stack_size(STACK)
            .spawn(move || {
                sender.send_for_ever(&waiting);
                drop(lives);
            })?;
        Ok(Self::with_datagrams(settings, datagrams, ended))
    }

    fn with_datagrams(
        settings: &settings::Statsd,
        datagrams: SyncSender<Vec<u8>>,
        thread: Receiver<()>,
    ) -> Self {
        let suffix = match settings.tags.as_str() {
            "" => "\n".into(),
            tags => format!("|#{tags}\n"),
        };
        Self {
            prefix: settings.prefix.clone(),
            suffix,
            batch: Vec::with_capacity(DATAGRAM),
            metric: Vec::new(),
            datagrams: Some(datagrams),
            thread,
        }
    }

    /// The metrics of one request.
    pub(crate) fn request(&mut self, status: u16, elapsed: Duration) {
        let micros = elapsed.as_micros();
        let (whole, rest) = (micros / 1000, micros % 1000);
        self.add(format_args!(
            "gunicorn.request.duration:{whole}.{rest:03}|ms"
        ));
        self.add(format_args!("gunicorn.requests:1|c|@1.0"));
        self.add(format_args!("gunicorn.request.status.{status}:1|c|@1.0"));
    }

    fn add(&mut self, metric: std::fmt::Arguments<'_>) {
        let mut line = std::mem::take(&mut self.metric);
        line.clear();
        let Self { prefix, suffix, .. } = self;
        write!(line, "{prefix}{metric}{suffix}").expect("memory takes everything");
        if self.batch.len() + line.len() > DATAGRAM {
            self.hand_over();
        }
        self.batch.extend_from_slice(&line);
        self.metric = line;
    }

    /// Gives what was collected to the thread.
    pub(crate) fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut datagram = std::mem::replace(&mut self.batch, Vec::with_capacity(DATAGRAM));
        // The line feed stands between metrics.
        datagram.pop();
        if let Some(datagrams) = &self.datagrams {
            // Full: the thread is behind, or still waits for the resolver.
            let _ = datagrams.try_send(datagram);
        }
    }
}

impl Drop for Statsd {
    /// Sends what is left, for as long as [`FLUSH_LIMIT`] allows.
    fn drop(&mut self) {
        self.hand_over();
        self.datagrams = None;
        let _ = self.thread.recv_timeout(FLUSH_LIMIT);
    }
}

/// The thread's end.
#[derive(Debug)]
struct Sender {
    address: StatsdAddress,
    socket: Option<Socket>,
    /// When the socket is made (again).
    renewal: Instant,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Sender {
    fn new(address: StatsdAddress) -> Self {
        Self {
            address,
            socket: None,
            renewal: Instant::now(),
        }
    }

    fn send_for_ever(&mut self, waiting: &Receiver<Vec<u8>>) {
        while let Ok(datagram) = waiting.recv() {
            self.send(&datagram, Instant::now());
        }
    }

    fn send(&mut self, datagram: &[u8], now: Instant) {
        if now >= self.renewal {
            // A resolver that fails for a moment is no reason to forget an address that was good.
            if let Ok(socket) = Socket::connect(&self.address) {
                self.socket = Some(socket);
            }
            self.renewal = now + RENEWAL;
        }
        let sent = match &self.socket {
            Some(Socket::Udp(socket)) => socket.send(datagram),
            Some(Socket::Unix(socket)) => socket.send(datagram),
            None => return,
        };
        // A Unix socket that was made anew has to be connected to again; a full one is only full.
        if let (Err(error), StatsdAddress::Unix(_)) = (sent, &self.address)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            self.socket = Socket::connect(&self.address).ok();
        }
    }
}

impl Socket {
    fn connect(address: &StatsdAddress) -> io::Result<Self> {
        match address {
            StatsdAddress::Udp(host, port) => {
                let addresses = (host.as_str(), *port).to_socket_addrs()?;
                let mut failure = io::ErrorKind::NotFound.into();
                for address in addresses {
                    match connect_udp(address) {
                        Ok(socket) => return Ok(Self::Udp(socket)),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
            StatsdAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                Ok(Self::Unix(socket))
            }
        }
    }
}

fn connect_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collecting(prefix: &str, tags: &str) -> (Statsd, Receiver<Vec<u8>>) {
        let (datagrams, waiting) = sync_channel(WAITING);
        let settings = settings::Statsd {
            address: StatsdAddress::Udp("localhost".into(), 8125),
            prefix: prefix.into(),
            tags: tags.into(),
        };
        let (_, ended) = channel();
        (Statsd::with_datagrams(&settings, datagrams, ended), waiting)
    }

    fn next(waiting: &Receiver<Vec<u8>>) -> String {
        let datagram = waiting.try_recv().expect("a datagram");
        String::from_utf8(datagram).expect("ASCII")
    }

    #[test]
    fn a_request_has_gunicorns_three_metrics() {
        let (mut statsd, waiting) = collecting("shop.", "a:b,c");
        statsd.request(201, Duration::from_micros(1_234_050));
        assert!(waiting.try_recv().is_err(), "metrics are collected first");
        statsd.hand_over();
        assert_eq!(
            next(&waiting),
            "shop.gunicorn.request.duration:1234.050|ms|#a:b,c\n\
             shop.gunicorn.requests:1|c|@1.0|#a:b,c\n\
             shop.gunicorn.request.status.201:1|c|@1.0|#a:b,c"
        );
    }

    #[test]
    fn datagrams_stay_small_and_nobody_waits_for_the_thread() {
        let (mut statsd, waiting) = collecting("", "");
        for _ in 0..10_000 {
            statsd.request(200, Duration::ZERO);
        }
        let datagrams: Vec<_> = waiting.try_iter().collect();
        assert_eq!(datagrams.len(), WAITING);
        assert!(datagrams.iter().all(|one| one.len() <= DATAGRAM));
        assert!(datagrams.iter().all(|one| one.last() != Some(&b'\n')));
    }

    #[test]
    fn a_server_that_comes_back_is_found_again() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("statsd");
        let mut sender = Sender::new(StatsdAddress::Unix(path.clone()));
        let now = Instant::now();
        sender.send(b"lost", now);
        let server = UnixDatagram::bind(&path).expect("bound");
        sender.send(b"still lost", now);
        sender.send(b"one", now + RENEWAL);
        let mut buffer = [0; 16];
        assert_eq!(server.recv(&mut buffer).expect("a datagram"), 3);
        drop(server);
        std::fs::remove_file(&path).expect("ours");
        let server = UnixDatagram::bind(&path).expect("bound");
        sender.send(b"lost again", now + RENEWAL);
        sender.send(b"three", now + RENEWAL);
        assert_eq!(server.recv(&mut buffer).expect("a datagram"), 5);
    }

    #[test]
    fn a_server_that_does_not_read_costs_metrics_only() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("statsd");
        let _server = UnixDatagram::bind(&path).expect("bound");
        let mut sender = Sender::new(StatsdAddress::Unix(path));
        for _ in 0..10_000 {
            sender.send(&[b'x'; 1000], Instant::now());
        }
        assert!(sender.socket.is_some());
    }
}
