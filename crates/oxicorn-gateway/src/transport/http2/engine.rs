//! The h2 crate's connection, from the preface to the end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use oxicorn_proto::http2::RESETS;

use super::wire::{Link, READ, READ_PER_TURN, Wire};
use crate::config::settings::Http2;

/// Bytes that a frame is at least on the wire with a byte of body in it.
const LEAST_FRAME: usize = 10;

/// What h2 charges for a frame of body that is short.
const FRAME_CHARGE: usize = 256;

/// Windows are no larger (RFC 9113 section 6.9.1).
const WINDOW_MAX: u64 = (1 << 31) - 1;

/// Windows of connections are no smaller to begin with.
const WINDOW_LEAST: u64 = 65_535;

/// Header lists beyond which h2 itself answers, without a word: above every bound of ours.
const LIST_LEAST: u32 = 1 << 20;
const LIST_MOST: u32 = 16 << 20;

/// What it permits a head to be cut into grows with its bound for header lists, and shrinks with the size of frames: so
/// many frames fit into a list.
const LIST_FRAMES: u32 = 40;

/// Streams that may be reset before they were taken: above our bound for resets, by those of one read.
const RESETS_UNSEEN: usize = RESETS as usize + READ / LEAST_RESET;

/// Bytes of a request that is reset at once, at least: the headers of two frames, a field, an error code.
const LEAST_RESET: usize = 23;

/// Bytes of responses that one stream may leave with h2.
const SEND_BUFFER: usize = 128 * 1024;

/// How far a connection is.
pub(crate) enum Engine {
    Opening(Handshake<Link, Bytes>),
    Open(Connection<Link, Bytes>),
    /// Nothing is left of it.
    Over,
}

/// A request that came.
pub(crate) type Incoming = (http::Request<RecvStream>, SendResponse<Bytes>);

impl Engine {
    /// `websockets`: extended CONNECT is offered (RFC 8441).
    pub(crate) fn new(settings: &Http2, websockets: bool, wire: &Rc<Wire>) -> Self {
        let streams = u64::from(settings.max_concurrent_streams);
        let window = settings.initial_window_size;
        // So that bodies for which there is no hurry hold up no others.
        let all = (streams * u64::from(window)).clamp(WINDOW_LEAST, WINDOW_MAX);
        let list = settings.max_header_list_size.saturating_mul(4);
        let list = list.max(settings.max_frame_size.saturating_mul(LIST_FRAMES));
        let mut builder = Builder::new();
        builder
            .max_concurrent_streams(settings.max_concurrent_streams)
            .initial_window_size(window)
            .initial_connection_window_size(u32::try_from(all).unwrap_or(u32::MAX))
            .max_frame_size(settings.max_frame_size)
            .max_header_list_size(list.clamp(LIST_LEAST, LIST_MOST))
            .max_send_buffer_size(SEND_BUFFER)
            // What a turn can bring is taken out before the next: slow applications cost no connection.
            .data_frame_budget(READ_PER_TURN / LEAST_FRAME * FRAME_CHARGE)
            .max_pending_accept_reset_streams(RESETS_UNSEEN)
            // Those that it resets are counted as they pass.
            .max_local_error_reset_streams(None);
        if websockets {
            builder.enable_connect_protocol();
        }
        Self::Opening(builder.handshake(Link::new(Rc::clone(wire))))
    }

    /// Reads, writes, and gives the next request; `None`: the connection is over.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Incoming>, h2::Error>> {
        loop {
            match self {
                Self::Over => return Poll::Ready(Ok(None)),
                Self::Opening(handshake) => match Pin::new(handshake).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(connection)) => *self = Self::Open(connection),
                    Poll::Ready(Err(error)) => {
                        *self = Self::Over;
                        return Poll::Ready(Err(error));
                    }
                },
                Self::Open(connection) => {
                    return match connection.poll_accept(cx) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(Some(Ok(incoming))) => Poll::Ready(Ok(Some(incoming))),
                        Poll::Ready(other) => {
                            *self = Self::Over;
                            Poll::Ready(other.map_or(Ok(None), |result| result.map(Some)))
                        }
                    };
                }
            }
        }
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(self, Self::Opening(_))
    }

    /// No new streams; the connection ends with the last of those that are open.
    pub(crate) fn leave(&mut self) {
        match self {
            Self::Open(connection) => connection.graceful_shutdown(),
            Self::Opening(_) => *self = Self::Over,
            Self::Over => {}
        }
    }

    /// The connection ends as soon as that is said.
    pub(crate) fn go_away(&mut self, reason: Reason) {
        match self {
            Self::Open(connection) => connection.abrupt_shutdown(reason),
            Self::Opening(_) => *self = Self::Over,
            Self::Over => {}
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Opening(_) => "Opening",
            Self::Open(_) => "Open",
            Self::Over => "Over",
        })
    }
}
