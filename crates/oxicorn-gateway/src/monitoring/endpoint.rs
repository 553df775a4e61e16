//! The connections to the listener for metrics and probes: one request each, answered at once.
//!
//! Bounds: [`CONNECTIONS`] at a time, [`HEAD_LIMIT`] bytes of request, [`TIME_LIMIT`] for the whole exchange, so slow
//! or dead scrapers cost a few buffers. More connections are accepted and closed: the next scrape comes anyway.

use std::cell::Cell;
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
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::answer::{Answer, Asked};
use super::application;
use crate::gateway::with;
use crate::readiness::watch;

/// Connections at a time.
const CONNECTIONS: u32 = 64;

/// Bytes of a request's head.
const HEAD_LIMIT: usize = 16 * 1024;

/// From the accept to the last byte of the answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long accepting rests when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes read before a connection is closed, so that what a client still sends does not take the answer away.
const UNREAD_LIMIT: usize = 64 * 1024;

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
    let open = Rc::new(Cell::new(0));
    while let Ok(mut guard) = listener.readable().await {
        match sockets::accept(listener.get_ref()) {
            Ok(Accepted::Connection(socket, peer)) => {
                if open.get() < CONNECTIONS {
                    open.set(open.get() + 1);
                    let (rules, open) = (Arc::clone(&rules), Rc::clone(&open));
                    spawn_local(async move {
                        // A client that is slow or gone gets no answer; nobody else needs to know.
                        let _ = timeout(TIME_LIMIT, exchange(socket, &peer, rules)).await;
                        open.set(open.get() - 1);
                    });
                }
            }
            Ok(Accepted::Nothing) => guard.clear_ready(),
            Ok(Accepted::Aborted) => {}
            Ok(Accepted::Exhausted(_)) | Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn exchange(socket: OwnedFd, peer: &Address, rules: Arc<Rules>) -> io::Result<()> {
    match peer {
        Address::Ip(_) => speak(TcpStream::from_std(socket.into())?, rules).await,
        Address::Unix(_) => speak(UnixStream::from_std(socket.into())?, rules).await,
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    rules: Arc<Rules>,
) -> io::Result<()> {
    let mut connection = Connection::new(rules);
    let mut input = Vec::with_capacity(1024);
    let response = loop {
        match connection.poll_event(&input) {
            Ok(polled) if polled.event == Event::Head => {
                let head = connection.head(&input[..polled.consumed]);
                let asked = Asked::of(&head, head.path());
                let Some(mut answer) = with(|gateway| gateway.answer_monitoring(&asked)) else {
                    break None;
                };
                application::complete(&mut answer).await;
                break Some(encode(&mut connection, &answer));
            }
            Ok(polled) => drop(input.drain(..polled.consumed)),
            Err(fault) => break Some(refusal(fault)),
        }
        if input.len() > HEAD_LIMIT || stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    };
    if let Some(response) = response {
        stream.write_all(&response).await?;
        stream.shutdown().await?;
        read_rest(&mut stream).await?;
    }
    Ok(())
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
    let allow = (answer.status == 405).then_some((&b"Allow"[..], &b"GET, HEAD"[..]));
    let headers = [content_type, fresh].into_iter().chain(allow);
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
