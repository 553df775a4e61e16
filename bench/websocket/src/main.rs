//! What wrk is for HTTP: load for WebSocket servers, cheap enough that the server is what is measured.
//!
//! `websocket-load echo PORT PATH CONNECTIONS SIZE SECONDS` keeps one message of `SIZE` bytes under way on each
//! connection: it sends, waits for the echo, checks it, sends the next. At the end it prints one line of JSON.
//!
//! `websocket-load idle PORT PATH CONNECTIONS` opens the connections, has one message echoed on each, prints "ready"
//! and holds them, answering pings, until its standard input ends; then it prints how many the server had closed.
//!
//! One thread, one epoll instance. It offers no extensions, and ends with an error at anything it does not expect.

mod client;
mod frame;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::client::Client;

/// So many newcomers, then the pings of those who came before are answered: a server gives them its patience.
const NEWCOMERS: usize = 100;
const EVENTS_PER_WAIT: usize = 256;
/// epoll data of standard input; clients carry their index, which is never this.
const STANDARD_INPUT: u64 = u64::MAX;
/// How much longer than asked the last echoes may take.
const GRACE: Duration = Duration::from_secs(5);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["echo", port, path, connections, size, seconds] => {
            numbers([port, connections, size, seconds]).and_then(
                |[port, connections, size, seconds]| {
                    echo(
                        port,
                        path,
                        connections,
                        size,
                        Duration::from_secs(seconds as u64),
                    )
                },
            )
        }
        ["idle", port, path, connections] => numbers([port, connections])
            .and_then(|[port, connections]| idle(port, path, connections)),
        _ => Err(io::Error::other(
            "echo PORT PATH CONNECTIONS SIZE SECONDS, or idle PORT PATH CONNECTIONS",
        )),
    };
    if let Err(error) = outcome {
        eprintln!("websocket-load: {error}");
        std::process::exit(1);
    }
}

fn numbers<const N: usize>(texts: [&str; N]) -> io::Result<[usize; N]> {
    let mut numbers = [0; N];
    for (number, text) in numbers.iter_mut().zip(texts) {
        *number = text
            .parse()
            .map_err(|_| io::Error::other(format!("no number: {text}")))?;
    }
    Ok(numbers)
}

/// All clients and what wakes them.
struct Crowd {
    poll: OwnedFd,
    clients: Vec<Client>,
}

impl Crowd {
    /// Connects one after the other: a burst of newcomers is not what is measured.
    fn connect(port: usize, path: &str, connections: usize, size: usize) -> io::Result<Self> {
        let port = u16::try_from(port).map_err(|_| io::Error::other("no port"))?;
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut crowd = Self {
            poll,
            clients: Vec::with_capacity(connections),
        };
        let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
        for index in 0..connections {
            let client = Client::connect(port, path, size)?;
            epoll::add(
                &crowd.poll,
                client.socket(),
                EventData::new_u64(index as u64),
                EventFlags::IN,
            )?;
            crowd.clients.push(client);
            if index % NEWCOMERS == 0 {
                crowd.answer_pings(&mut events)?;
            }
        }
        Ok(crowd)
    }

    fn answer_pings(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        self.wait(events, Some(Instant::now()))?;
        for event in events {
            self.clients[event.data.u64() as usize].receive()?;
        }
        Ok(())
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, until: Option<Instant>) -> io::Result<()> {
        let timeout = until.map(|end| {
            let left = end.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        events.clear();
        epoll::wait(
            &self.poll,
            rustix::buffer::spare_capacity(events),
            timeout.as_ref(),
        )?;
        Ok(())
    }

    fn under_way(&self) -> usize {
        self.clients
            .iter()
            .filter(|client| client.is_waiting())
            .count()
    }
}

fn echo(
    port: usize,
    path: &str,
    connections: usize,
    size: usize,
    length: Duration,
) -> io::Result<()> {
    let mut crowd = Crowd::connect(port, path, connections, size)?;
    let mut latencies: Vec<u32> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
    let begun = Instant::now();
    let end = begun + length;
    for client in &mut crowd.clients {
        client.send(begun)?;
    }
    let mut under_way = connections;
    while under_way > 0 {
        crowd.wait(&mut events, Some(end + GRACE))?;
        let now = Instant::now();
        if now > end + GRACE {
            return Err(io::Error::other(format!(
                "{} echoes did not come",
                crowd.under_way()
            )));
        }
        for event in &events {
            let client = &mut crowd.clients[event.data.u64() as usize];
            if let Some(sent) = client.receive()? {
                latencies.push(u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX));
                if now < end {
                    client.send(now)?;
                } else {
                    under_way -= 1;
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{{\"messages\": {}, \"seconds\": {seconds:.3}, \"median_us\": {}, \"p99_us\": {}}}",
        latencies.len(),
        at(0.5),
        at(0.99)
    );
    Ok(())
}

fn idle(port: usize, path: &str, connections: usize) -> io::Result<()> {
    let mut crowd = Crowd::connect(port, path, connections, 64)?;
    let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
    for index in 0..connections {
        crowd.clients[index].send(Instant::now())?;
        while crowd.clients[index].is_waiting() {
            crowd.wait(&mut events, None)?;
            for event in &events {
                crowd.clients[event.data.u64() as usize].receive()?;
            }
        }
    }
    println!("ready");
    let input = io::stdin();
    epoll::add(
        &crowd.poll,
        &input,
        EventData::new_u64(STANDARD_INPUT),
        EventFlags::IN,
    )?;
    let mut closed = 0;
    loop {
        crowd.wait(&mut events, None)?;
        for event in &events {
            let key = event.data.u64();
            if key == STANDARD_INPUT {
                println!("{closed}");
                return Ok(());
            }
            let client = &mut crowd.clients[key as usize];
            if client.receive().is_err() {
                epoll::delete(&crowd.poll, client.socket())?;
                closed += 1;
            }
        }
    }
}
