//! A connection that an application has taken over (`gunicorn.socket`) while TLS is spoken on it.
//!
//! The application gets one end of a socket pair. What it writes is encrypted here and sent on, what the client sends
//! is decrypted here and written to it, until both have ended. Each direction has one buffer: who does not read stops
//! the other.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use super::Tls;
use crate::transport::socket::{Received, Sent, Socket};

/// Bytes on their way, in each direction.
const BUFFER: usize = 16 * 1024;

/// Rounds before others have their turn.
const ROUNDS: u32 = 16;

/// One direction.
#[derive(Default)]
struct Way {
    bytes: Vec<u8>,
    sent: usize,
    ended: bool,
    /// The end was passed on.
    closed: bool,
}

impl Way {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Empty memory to read into, if everything read before is gone.
    fn room(&mut self) -> Option<&mut Vec<u8>> {
        if self.ended || !self.rest().is_empty() {
            return None;
        }
        self.bytes.clear();
        self.bytes.reserve(BUFFER);
        self.sent = 0;
        Some(&mut self.bytes)
    }

    /// Whether the end has to be passed on now.
    fn must_close(&mut self) -> bool {
        let due = self.ended && self.rest().is_empty() && !self.closed;
        self.closed |= due;
        due
    }
}

/// Carries bytes between the client and the application until both have ended, or one has gone.
pub(crate) async fn relay(mut tls: Tls, application: OwnedFd) {
    let mut application = Socket::new(application);
    if tls.watch().is_err() || application.watch().is_err() {
        return;
    }
    let (mut to_application, mut to_client) = (Way::default(), Way::default());
    // Whoever breaks off ends it for both.
    let _ = poll_fn(|cx| {
        for _ in 0..ROUNDS {
            let went = carry(
                cx,
                &mut tls,
                &application,
                &mut to_application,
                &mut to_client,
            )?;
            if to_application.closed && to_client.closed {
                return Poll::Ready(Ok::<_, io::Error>(()));
            }
            if !went {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    tls.say_goodbye();
}

/// Does what can be done now in both directions; `false`: there is nothing to do but to wait.
fn carry(
    cx: &mut Context<'_>,
    tls: &mut Tls,
    application: &Socket,
    to_application: &mut Way,
    to_client: &mut Way,
) -> io::Result<bool> {
    let mut went = false;
    if let Some(room) = to_application.room() {
        match tls.poll_receive(cx, room) {
            Poll::Ready(Ok(Received::End)) => (to_application.ended, went) = (true, true),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Ready(Ok(_)) => went = true,
            Poll::Pending => {}
        }
    }
    if !to_application.rest().is_empty()
        && let Sent::Bytes(count) = application.poll_send(cx, to_application.rest(), false)?
    {
        to_application.sent += count;
        went = true;
    }
    if to_application.must_close() {
        application.finish_sending();
    }
    if let Some(room) = to_client.room() {
        match application.poll_receive(cx, room)? {
            Poll::Ready(Received::End) => (to_client.ended, went) = (true, true),
            Poll::Ready(_) => went = true,
            Poll::Pending => {}
        }
    }
    if !to_client.rest().is_empty()
        && let Sent::Bytes(count) = tls.poll_send(cx, to_client.rest(), false)?
    {
        to_client.sent += count;
        went = true;
    }
    if to_client.must_close() {
        tls.finish_sending();
    }
    Ok(went)
}
