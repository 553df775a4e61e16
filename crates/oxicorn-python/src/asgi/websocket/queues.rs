//! Messages of a WebSocket on their way: those that came and the application has not received, and
//! those it sent and the client has no room for yet.
//!
//! Both are bounded by windows. The gateway may send as much as the application takes; of a message
//! that is not complete it may send on only while nothing else waits, so what is held is one window
//! and one message, which has its own limit.

use std::collections::VecDeque;

use oxicorn_link::StreamId;
use oxicorn_link::window::{
    REQUEST_WINDOW, RESPONSE_WINDOW, ReceiveWindow, SendWindow, websocket_cost, websocket_room,
};
use oxicorn_link::wire::{ResponseKind, WebSocketClose, flags};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::event::Data;
use crate::asgi::link::Link;

/// The largest piece of a message on the link: small beside the ring.
const PIECE: usize = 64 * 1024;

/// The smallest piece that is worth sending ahead of the rest of its message.
const LEAST_PIECE: usize = 4 * 1024;

/// Memory for messages in pieces that is kept between them.
const PARTIAL_KEPT: usize = 4 * 1024;

/// What came.
#[derive(Debug)]
pub(crate) struct Incoming {
    messages: VecDeque<Received>,
    /// The message that is not complete.
    partial: Vec<u8>,
    /// What it counts that was not given back.
    owed: usize,
    window: ReceiveWindow,
}

/// A message.
#[derive(Debug)]
struct Received {
    /// `str` or `bytes`.
    data: Py<PyAny>,
    binary: bool,
    cost: usize,
}

/// A message for the application, and the credit that is due for it.
pub(crate) struct Next<'py> {
    pub(crate) data: Bound<'py, PyAny>,
    pub(crate) binary: bool,
    pub(crate) credit: Option<u32>,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self {
            messages: VecDeque::new(),
            partial: Vec::new(),
            owed: 0,
            window: ReceiveWindow::new(REQUEST_WINDOW),
        }
    }

    /// A piece came. With it may come credit that is due at once.
    pub(crate) fn push(&mut self, py: Python<'_>, bits: u8, piece: &[u8]) -> PyResult<Option<u32>> {
        let cost = websocket_cost(piece.len());
        // The gateway is trusted to keep to the window.
        let _ = self.window.receive(cost);
        self.owed += cost;
        if bits & flags::END == 0 {
            self.partial.extend_from_slice(piece);
            return Ok(self.release_partial());
        }
        let binary = bits & flags::BINARY != 0;
        let data = if self.partial.is_empty() {
            to_python(py, binary, piece)?
        } else {
            self.partial.extend_from_slice(piece);
            let data = to_python(py, binary, &self.partial)?;
            self.partial.clear();
            self.partial.shrink_to(PARTIAL_KEPT);
            data
        };
        let cost = std::mem::take(&mut self.owed);
        self.messages.push_back(Received { data, binary, cost });
        Ok(None)
    }

    /// The next message.
    pub(crate) fn pop<'py>(&mut self, py: Python<'py>) -> Option<Next<'py>> {
        let Received { data, binary, cost } = self.messages.pop_front()?;
        let freed = self.window.release(cost);
        let partial = self.release_partial();
        let credit = freed.into_iter().chain(partial).reduce(u32::saturating_add);
        Some(Next {
            data: data.into_bound(py),
            binary,
            credit,
        })
    }

    /// Whether no message waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The rest of what is not complete will not come.
    pub(crate) fn drop_partial(&mut self) {
        self.partial = Vec::new();
    }

    /// Nobody wants what waits any more.
    pub(crate) fn clear(&mut self) {
        self.messages = VecDeque::new();
        self.partial = Vec::new();
    }

    /// Where nothing else waits, the rest of a message is asked for.
    fn release_partial(&mut self) -> Option<u32> {
        if !self.messages.is_empty() {
            return None;
        }
        self.window.release(std::mem::take(&mut self.owed))
    }
}

fn to_python(py: Python<'_>, binary: bool, data: &[u8]) -> PyResult<Py<PyAny>> {
    if binary {
        return Ok(PyBytes::new(py, data).into_any().unbind());
    }
    // The gateway has checked it.
    Ok(PyString::from_bytes(py, data)?.into_any().unbind())
}

/// What goes.
#[derive(Debug)]
pub(crate) struct Outgoing {
    held: VecDeque<Held>,
    window: SendWindow,
}

/// Something that waits for the client to read.
enum Held {
    Message {
        data: Data,
        at: usize,
    },
    Close {
        code: u16,
        reason: String,
        /// The application is through: nothing follows.
        last: bool,
    },
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Message { .. } => "Message",
            Self::Close { .. } => "Close",
        })
    }
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self {
            held: VecDeque::new(),
            window: SendWindow::new(RESPONSE_WINDOW),
        }
    }

    /// Whether something waits for the client to read.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.held.is_empty()
    }

    pub(crate) fn credit(&mut self, bytes: u32) {
        self.window.credit(bytes);
    }

    /// Nobody reads any more.
    pub(crate) fn clear(&mut self) {
        self.held = VecDeque::new();
    }

    /// Sends a message behind everything that waits.
    pub(crate) fn message(
        &mut self,
        py: Python<'_>,
        link: &Link,
        stream: StreamId,
        data: Data,
    ) -> PyResult<()> {
        let bytes = data.bytes(py)?;
        let cost = websocket_cost(bytes.len());
        let fits = bytes.len() <= PIECE && self.window.available() >= cost as u64;
        if self.held.is_empty() && fits {
            let mut bits = flags::END;
            if data.is_binary() {
                bits |= flags::BINARY;
            }
            link.send(py, ResponseKind::WebSocketMessage, stream, bits, bytes, &[])?;
            self.window.spend(cost);
            return Ok(());
        }
        self.held.push_back(Held::Message { data, at: 0 });
        self.flush(py, link, stream).map(drop)
    }

    /// Sends a close behind everything that waits. Of the last one it is returned whether it has left.
    pub(crate) fn close(
        &mut self,
        py: Python<'_>,
        link: &Link,
        stream: StreamId,
        (code, reason): (u16, String),
        last: bool,
    ) -> PyResult<bool> {
        self.held.push_back(Held::Close { code, reason, last });
        self.flush(py, link, stream)
    }

    /// Sends what there is room for. `true`: the last close has left.
    pub(crate) fn flush(
        &mut self,
        py: Python<'_>,
        link: &Link,
        stream: StreamId,
    ) -> PyResult<bool> {
        while let Some(first) = self.held.front_mut() {
            match first {
                Held::Close { code, reason, last } => {
                    let mut payload = Vec::new();
                    let close = WebSocketClose {
                        code: *code,
                        reason: reason.as_bytes(),
                    };
                    close.encode(&mut payload);
                    let bits = if *last { flags::END } else { 0 };
                    link.send(
                        py,
                        ResponseKind::WebSocketClose,
                        stream,
                        bits,
                        &payload,
                        &[],
                    )?;
                    if *last {
                        self.held.clear();
                        return Ok(true);
                    }
                }
                Held::Message { data, at } => {
                    if !send_pieces(py, link, stream, &mut self.window, data, at)? {
                        return Ok(false);
                    }
                }
            }
            self.held.pop_front();
        }
        Ok(false)
    }
}

/// Sends as many pieces of a message as there is room for. `true`: all of it.
fn send_pieces(
    py: Python<'_>,
    link: &Link,
    stream: StreamId,
    window: &mut SendWindow,
    data: &Data,
    at: &mut usize,
) -> PyResult<bool> {
    let bytes = data.bytes(py)?;
    loop {
        let rest = &bytes[*at..];
        let room = websocket_room(window.available());
        let Some(room) = room.map(|room| usize::try_from(room).unwrap_or(PIECE).min(PIECE)) else {
            return Ok(false);
        };
        if room < rest.len().min(LEAST_PIECE) {
            return Ok(false);
        }
        let piece = &rest[..rest.len().min(room)];
        let last = piece.len() == rest.len();
        let mut bits = if last { flags::END } else { 0 };
        if data.is_binary() {
            bits |= flags::BINARY;
        }
        link.send(py, ResponseKind::WebSocketMessage, stream, bits, piece, &[])?;
        window.spend(websocket_cost(piece.len()));
        *at += piece.len();
        if last {
            return Ok(true);
        }
    }
}
