//! Messages of a WebSocket on their way: those that came and the application has not received, and
//! those it sent and the client has no room for yet.
//!
//! Both are bounded by windows. The gateway may send as much as the application takes; of a message
//! that is not complete it may send on only while nothing else waits, so what is held is one window
//! and one message, which has its own limit.

use std::collections::VecDeque;

use oxicorn_link::StreamId;
use oxicorn_link::window::{
    REQUEST_WINDOW, RESPONSE_WINDOW, ReceiveWindow, SendWindow, is_large_message, websocket_cost,
    websocket_room,
};
use oxicorn_link::wire::{ResponseKind, WebSocketClose, flags};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::event::Data;
use crate::worker::LoopLink;

/// The largest piece of a message on the link: small beside the ring.
const PIECE: usize = 64 * 1024;

/// The smallest piece that is worth sending ahead of the rest of its message.
const LEAST_PIECE: usize = 4 * 1024;

/// A message in pieces is gathered in blocks of so many bytes: what it takes is what has come of it,
/// and nothing is moved while it grows.
const BLOCK: usize = 64 * 1024;

/// Memory for messages in pieces that is kept between them.
const PARTIAL_KEPT: usize = 4 * 1024;

/// What came.
#[derive(Debug)]
pub(crate) struct Incoming {
    messages: VecDeque<Received>,
    /// The message that is not complete.
    partial: Partial,
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
    large: bool,
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
            partial: Partial::default(),
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
            self.partial.push(piece);
            return Ok(self.release_partial());
        }
        let binary = bits & flags::BINARY != 0;
        let len = self.partial.len() + piece.len();
        let data = if len == piece.len() {
            to_python(py, binary, piece)?
        } else {
            self.partial.push(piece);
            self.partial.take(py, binary)?
        };
        let received = Received {
            data,
            binary,
            cost: std::mem::take(&mut self.owed),
            large: is_large_message(len),
        };
        self.messages.push_back(received);
        Ok(None)
    }

    /// The next message.
    pub(crate) fn pop<'py>(&mut self, py: Python<'py>) -> Option<Next<'py>> {
        let Received {
            data,
            binary,
            cost,
            large,
        } = self.messages.pop_front()?;
        let freed = if large {
            self.window.release_at_once(cost)
        } else {
            self.window.release(cost)
        };
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
        self.partial = Partial::default();
    }

    /// Nobody wants what waits any more.
    pub(crate) fn clear(&mut self) {
        self.messages = VecDeque::new();
        self.partial = Partial::default();
    }

    /// Where nothing else waits, the rest of a message is asked for.
    fn release_partial(&mut self) -> Option<u32> {
        if !self.messages.is_empty() {
            return None;
        }
        self.window.release(std::mem::take(&mut self.owed))
    }
}

/// What has come of a message that is not complete.
#[derive(Debug, Default)]
struct Partial {
    /// Blocks that are full.
    blocks: Vec<Vec<u8>>,
    /// The one that is not.
    last: Vec<u8>,
    /// Bytes in the full ones.
    before: usize,
}

impl Partial {
    fn len(&self) -> usize {
        self.before + self.last.len()
    }

    fn push(&mut self, mut piece: &[u8]) {
        while self.last.len() + piece.len() > BLOCK {
            let (here, rest) = piece.split_at(BLOCK - self.last.len());
            self.last.extend_from_slice(here);
            self.before += BLOCK;
            self.blocks.push(std::mem::take(&mut self.last));
            self.last.reserve_exact(BLOCK);
            piece = rest;
        }
        self.last.extend_from_slice(piece);
    }

    /// The whole, as Python has it; nothing is left.
    fn take(&mut self, py: Python<'_>, binary: bool) -> PyResult<Py<PyAny>> {
        let len = self.len();
        let blocks = std::mem::take(&mut self.blocks);
        self.before = 0;
        let data = if blocks.is_empty() {
            to_python(py, binary, &self.last)?
        } else if binary {
            let parts = blocks.iter().chain([&self.last]);
            PyBytes::new_with(py, len, |mut room| {
                for part in parts {
                    let (here, rest) = room.split_at_mut(part.len());
                    here.copy_from_slice(part);
                    room = rest;
                }
                Ok(())
            })?
            .into_any()
            .unbind()
        } else {
            let mut whole = Vec::with_capacity(len);
            for block in blocks {
                whole.extend_from_slice(&block);
            }
            whole.extend_from_slice(&self.last);
            to_python(py, binary, &whole)?
        };
        self.last.clear();
        self.last.shrink_to(PARTIAL_KEPT);
        Ok(data)
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
        link: &LoopLink,
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
        link: &LoopLink,
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
        link: &LoopLink,
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
    link: &LoopLink,
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
