//! What wrk is for requests: load of new TLS connections, cheap enough that the server is what is measured.
//!
//! `tls-load PORT CONNECTIONS SECONDS` keeps so many connections under way: each is made, asks for `/`, is answered
//! and closed by the server, then the next begins. At the end it prints one line of JSON.
//!
//! A client and the server share the processors of one machine, so it does as little as it can: it believes every
//! certificate and every signature, offers one cipher suite and a key share that cost nothing, and resumes nothing. A
//! thread for each connection, which waits in the kernel.

mod credulous;

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const STACK: usize = 128 * 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [port, connections, seconds] => run(port, connections, seconds),
        _ => Err(io::Error::other("tls-load PORT CONNECTIONS SECONDS")),
    };
    if let Err(error) = outcome {
        eprintln!("tls-load: {error}");
        std::process::exit(1);
    }
}

fn run(port: &str, connections: &str, seconds: &str) -> io::Result<()> {
    let port: u16 = number(port)?;
    let connections: usize = number(connections)?;
    let length = Duration::from_secs(number(seconds)?);
    let config = Arc::new(credulous::config().map_err(io::Error::other)?);
    let begun = Instant::now();
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let config = Arc::clone(&config);
        let client = thread::Builder::new().stack_size(STACK);
        clients.push(client.spawn(move || connect_until(port, &config, begun + length))?);
    }
    let mut latencies = Vec::new();
    for client in clients {
        let made = client.join().map_err(|_| io::Error::other("panicked"))?;
        latencies.extend(made?);
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_micros();
    println!(
        "{{\"connections\": {}, \"seconds\": {seconds:.3}, \"median_us\": {}, \"p99_us\": {}}}",
        latencies.len(),
        at(50),
        at(99)
    );
    Ok(())
}

fn number<N: std::str::FromStr>(text: &str) -> io::Result<N> {
    text.parse()
        .map_err(|_| io::Error::other(format!("no number: {text}")))
}

/// Makes one connection after the other; how long each took.
fn connect_until(port: u16, config: &Arc<ClientConfig>, end: Instant) -> io::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    loop {
        let begun = Instant::now();
        ask(port, config)?;
        latencies.push(begun.elapsed());
        if Instant::now() > end {
            return Ok(latencies);
        }
    }
}

fn ask(port: u16, config: &Arc<ClientConfig>) -> io::Result<()> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(session, socket);
    // It leaves with the end of the handshake.
    client.conn.writer().write_all(REQUEST)?;
    let mut answer = [0; 1024];
    let mut length = 0;
    loop {
        match client.read(&mut answer[length..])? {
            0 if answer.starts_with(b"HTTP/1.1 200 ") => return Ok(()),
            0 => return Err(io::Error::other("not answered with 200")),
            count => length += count,
        }
    }
}
