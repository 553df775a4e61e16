//! Who watches, and what they are sent: Server-Sent Events (HTML Living Standard, 9.2).
//!
//! A viewer is sent what is new since the last time, then waits for the next second. While a message is under way
//! nothing is gathered for it: what it missed is in the points that are kept, which have their bound.

use std::fmt::Write as _;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::Dashboard;
use super::points::Point;
use crate::gateway::with;
use crate::transport::timer::timeout;

/// Viewers at a time.
pub(super) const VIEWERS: u32 = 8;

/// How long a viewer may take to read a message.
const READ_LIMIT: Duration = Duration::from_secs(10);

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";

/// One viewer: what it has been sent.
#[derive(Debug, Default)]
struct Seen {
    points: u64,
    lines: u64,
}

/// A warning, as it is sent.
#[derive(Debug, Serialize)]
struct Line<'a> {
    number: u64,
    time: f64,
    level: &'static str,
    pid: u32,
    text: &'a str,
}

impl Dashboard {
    /// Sends until the viewer leaves, or reads no more.
    pub(crate) async fn send_to<S: AsyncWrite + Unpin>(self: Rc<Self>, stream: &mut S) {
        self.viewers.set(self.viewers.get() + 1);
        if self.viewers.get() == 1 {
            // Nobody has watched: there is no state yet, or an old one.
            let state = with(crate::gateway::Gateway::dashboard_state);
            *self.state.borrow_mut() = state.unwrap_or_default().into();
        }
        let sent = self.send_all(stream, READ_LIMIT).await;
        self.viewers.set(self.viewers.get() - 1);
        // A viewer that has left is no news.
        drop(sent);
    }

    async fn send_all<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        limit: Duration,
    ) -> io::Result<()> {
        let mut taken = self.taken.subscribe();
        taken.mark_unchanged();
        let mut seen = Seen::default();
        timeout(limit, stream.write_all(HEAD)).await??;
        loop {
            let message = self.news(&mut seen);
            timeout(limit, stream.write_all(message.as_bytes())).await??;
            if taken.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// What is new for a viewer.
    fn news(&self, seen: &mut Seen) -> String {
        let mut message = String::new();
        let points = self.points.borrow();
        let (new, last) = points.since(seen.points);
        seen.points = last;
        event(&mut message, "points", &json::<Vec<&Point>>(&new));
        event(&mut message, "state", &self.state.borrow());
        let lines = self.tail.since(seen.lines);
        if let Some(last) = lines.last() {
            seen.lines = last.number;
            let lines: Vec<_> = lines
                .iter()
                .map(|line| Line {
                    number: line.number,
                    time: line.time.as_secs_f64(),
                    level: level(line.level),
                    pid: line.pid,
                    text: &line.text,
                })
                .collect();
            event(&mut message, "log", &json(&lines));
        }
        message
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// JSON has no line ends in it, so it is one line of data.
fn event(message: &mut String, name: &str, data: &str) {
    let _ = write!(message, "event: {name}\ndata: {data}\n\n");
}

const fn level(number: u8) -> &'static str {
    match number {
        0..=39 => "warning",
        40..=49 => "error",
        _ => "critical",
    }
}

#[cfg(test)]
mod tests {
    use oxicorn_link::log_tail::LogTail;

    use super::super::DashboardSetup;
    use super::*;

    #[test]
    fn a_viewer_that_reads_no_more_is_let_go_of() {
        let (_, log_tail) = LogTail::create().expect("a tail");
        let token = None;
        let dashboard = Dashboard::new(DashboardSetup { token, log_tail }).expect("a tail");
        // It takes half of the head, or no more than that.
        for takes in [HEAD.len() / 2, HEAD.len()] {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.expect("a runtime");
            let (mut here, _there) = tokio::io::duplex(takes);
            let sent = runtime.block_on(dashboard.send_all(&mut here, Duration::ZERO));
            assert_eq!(sent.expect_err("late").kind(), io::ErrorKind::TimedOut);
        }
    }
}
