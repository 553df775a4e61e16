//! The connections to the listener for metrics and probes: one request each, answered at once.
//!
//! Bounds: [`CONNECTIONS`] at a time, [`HEAD_LIMIT`] bytes of request, [`TIME_LIMIT`] for the whole exchange, so slow
//! or dead scrapers cost a few buffers. One more connection takes the place of the oldest, so that those who say nothing
//! keep no probe away.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oxicorn_os::sockets::{self, Accepted, Address};
use oxicorn_proto::PeerFault;
use oxicorn_proto::http1::{Connection, Event, ResponseHead, Rules};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, spawn_local};

use super::answer::Answer;
use super::application;
use super::dashboard::Dashboard;
use crate::gateway::with;
use crate::transport::readiness::watch;
use crate::transport::timer::{sleep, timeout};

/// Connections at a time.
const CONNECTIONS: usize = 64;

/// Bytes of a request's head.
const HEAD_LIMIT: usize = 16 * 1024;

/// From the accept to the last byte of the answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long accepting rests when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes read before a connection is closed, so that what a client still sends does not take the answer away.
const UNREAD_LIMIT: usize = 64 * 1024;

/// A page of ours tells nobody where its reader came from, and is what it says it is.
const REFERRER: (&[u8], &[u8]) = (b"Referrer-Policy", b"no-referrer");
const NO_SNIFFING: (&[u8], &[u8]) = (b"X-Content-Type-Options", b"nosniff");

/// The connections there are, but for those that watch the dashboard, the oldest first.
#[derive(Debug, Default)]
struct Open {
    last: Cell<u64>,
    tasks: RefCell<VecDeque<(u64, AbortHandle)>>,
}

impl Open {
    /// Serves one more, in place of the oldest where there are enough.
    fn add(self: &Rc<Self>, socket: OwnedFd, peer: Address, rules: Arc<Rules>) {
        let number = self.last.get() + 1;
        self.last.set(number);
        let place = Place(Rc::clone(self), number);
        let task = spawn_local(async move { exchange(socket, &peer, rules, place).await });
        if let Some(oldest) = self.enter(number, task.abort_handle()) {
            oldest.abort();
        }
    }

    /// The one that has to go for it.
    fn enter(&self, number: u64, task: AbortHandle) -> Option<AbortHandle> {
        let mut tasks = self.tasks.borrow_mut();
        tasks.push_back((number, task));
        if tasks.len() <= CONNECTIONS {
            return None;
        }
        tasks.pop_front().map(|(_, oldest)| oldest)
    }
}

/// A connection's place among the others, which ends with this.
#[derive(Debug)]
struct Place(Rc<Open>, u64);

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever lets go of a task holds no borrow: an abort drops nothing itself, the runtime does that later.
        self.0
            .tasks
            .borrow_mut()
            .retain(|(number, _)| *number != self.1);
    }
}

/// Accepts for ever.
pub(crate) async fn serve(listener: OwnedFd) {
    let Ok(listener) = sockets::set_nonblocking(&listener, true).and_then(|()| watch(listener))
    else {
        with(|gateway| {
            gateway.error_log.error(format_args!(
                "The listener of metrics_bind cannot be watched"
            ));
        });
        return;
    };
    let rules = Arc::new(Rules::default());
    let open = Rc::<Open>::default();
    while let Ok(mut guard) = listener.readable().await {
        match sockets::accept(listener.get_ref()) {
            Ok(Accepted::Connection(socket, peer)) => {
                open.add(socket, peer, Arc::clone(&rules));
            }
            Ok(Accepted::Nothing) => guard.clear_ready(),
            Ok(Accepted::Aborted) => {}
            Ok(Accepted::Exhausted(_)) | Err(_) => sleep(PAUSE).await,
        }
    }
}

/// A client that is slow or gone gets no answer; nobody else needs to know.
async fn exchange(socket: OwnedFd, peer: &Address, rules: Arc<Rules>, place: Place) {
    match peer {
        Address::Ip(_) => {
            if let Ok(stream) = TcpStream::from_std(socket.into()) {
                serve_client(stream, rules, place).await;
            }
        }
        Address::Unix(_) => {
            if let Ok(stream) = UnixStream::from_std(socket.into()) {
                serve_client(stream, rules, place).await;
            }
        }
    }
}

async fn serve_client<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    rules: Arc<Rules>,
    place: Place,
) {
    // A viewer of the dashboard stays, with bounds of its own.
    if let Ok(Ok(Some(dashboard))) = timeout(TIME_LIMIT, speak(&mut stream, rules)).await {
        drop(place);
        dashboard.send_to(&mut stream).await;
    }
}

/// Answers one request; or gives what its client wants to watch.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    rules: Arc<Rules>,
) -> io::Result<Option<Rc<Dashboard>>> {
    let mut connection = Connection::new(rules);
    let mut input = Vec::with_capacity(1024);
    let response = loop {
        match connection.poll_event(&input) {
            Ok(polled) if polled.event == Event::Head => {
                let head = connection.head(&input[..polled.consumed]);
                let Some(routed) = with(|gateway| gateway.route_monitoring(&head)) else {
                    break None;
                };
                let mut answer = match routed.answer().await {
                    Ok(answer) => answer,
                    Err(dashboard) => return Ok(Some(dashboard)),
                };
                application::complete(&mut answer).await;
                break Some(encode(&mut connection, &answer));
            }
            Ok(polled) => drop(input.drain(..polled.consumed)),
            Err(fault) => break Some(refusal(fault)),
        }
        if input.len() > HEAD_LIMIT || stream.read_buf(&mut input).await? == 0 {
            return Ok(None);
        }
    };
    if let Some(response) = response {
        stream.write_all(&response).await?;
        stream.shutdown().await?;
        read_rest(stream).await?;
    }
    Ok(None)
}

/// To close a socket with something unread in it resets the connection, and the answer with it.
async fn read_rest<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut buffer = [0; 1024];
    let mut seen = 0;
    while seen < UNREAD_LIMIT {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => seen += count,
        }
    }
    Ok(())
}

fn encode(connection: &mut Connection, answer: &Answer) -> Vec<u8> {
    connection.deny_keep_alive();
    let head = ResponseHead {
        status: answer.status,
        reason: answer.reason.as_bytes(),
        body_length: Some(answer.body.len() as u64),
        ..ResponseHead::default()
    };
    let content_type = (&b"Content-Type"[..], answer.content_type.as_bytes());
    let fresh = (&b"Cache-Control"[..], &b"no-store"[..]);
    let allow = (answer.status == 405).then(|| {
        let post = answer.body.contains("POST");
        let methods: &[u8] = if post { b"POST" } else { b"GET, HEAD" };
        (&b"Allow"[..], methods)
    });
    let policy = answer.policy.as_ref().map(|policy| {
        let policy = (&b"Content-Security-Policy"[..], policy.as_bytes());
        [policy, REFERRER, NO_SNIFFING]
    });
    let asks = (answer.status == 401).then_some((&b"WWW-Authenticate"[..], &b"Bearer"[..]));
    let headers = [content_type, fresh]
        .into_iter()
        .chain(allow)
        .chain(asks)
        .chain(policy.into_iter().flatten());
    let mut out = Vec::with_capacity(answer.body.len() + 256);
    let written = connection
        .encode_response_head(&head, headers, &mut out)
        .and_then(|_| connection.encode_body(answer.body.as_bytes(), &mut out))
        .and_then(|_| connection.finish_response([], &mut out));
    debug_assert!(written.is_ok(), "our own answers are well formed");
    out
}

fn refusal(fault: PeerFault) -> Vec<u8> {
    let text = format!("{fault}\n");
    let (status, reason) = (fault.status(), fault.reason());
    format!(
        "HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    )
    .into_bytes()
}
