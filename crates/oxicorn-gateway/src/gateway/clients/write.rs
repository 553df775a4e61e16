//! From a connection's output to its socket.
//!
//! Decides what is written next, and what follows when it is gone or cannot be: what the socket does not take
//! waits for the socket; what leaves is credited to the worker. When to write is decided in `unsent`.

use std::os::fd::AsFd as _;
use std::task::Context;
use std::time::Duration;

use oxicorn_link::scoreboard::Counter;
use oxicorn_os::sendfile::read_at;

use crate::buffer::output::{FilePiece, Next};
use crate::buffer::records::Records;
use crate::connection::Connection;
use crate::exchange::{Exchange, Happened, Stage};
use crate::gateway::Gateway;
use crate::transport::Transport;
use crate::transport::socket::{Sent, SentFile};

/// Writes of one connection before others have their turn.
const WRITES_PER_TURN: u32 = 16;

/// How a round of writing ended.
enum Flushed {
    /// Everything is gone.
    All,
    /// The socket is full; the task is woken when it is not.
    Blocked,
    /// Enough for one turn.
    Enough,
    /// The client, or the file that was being sent, is gone.
    Broken,
}

impl Gateway {
    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, key: usize) {
        self.flush_further(key, 0);
    }

    /// Writes as much as the socket takes of what is left after `gone` bytes have just been sent.
    pub(crate) fn flush_further(&mut self, key: usize, gone: usize) {
        self.flush_output(key, gone);
        self.account(key);
    }

    fn flush_output(&mut self, key: usize, gone: usize) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let output = &connection.output;
        let (before, held) = (output.remaining() + gone as u64, output.held() + gone);
        let flushed = write(connection, &mut self.scratch.file);
        let left = before.saturating_sub(connection.output.remaining());
        // What lay in a file was credited when it went there, and what waits behind it is still held.
        let freed = held.saturating_sub(connection.output.held());
        self.metrics
            .add(Counter::BytesOut, connection.on_the_wire(left));
        connection.sent += left;
        connection.stalled_since = match flushed {
            Flushed::Blocked if left == 0 => connection.stalled_since.or(Some(now)),
            Flushed::Blocked => Some(now),
            _ => None,
        };
        match flushed {
            Flushed::All => {
                self.credit(key, usize::MAX);
                self.handle_flushed(key);
            }
            Flushed::Blocked => {
                set_write_deadline(connection, now);
                if !connection.has_task {
                    self.wake(key);
                }
                self.credit(key, freed);
            }
            Flushed::Enough => {
                self.wake(key);
                self.credit(key, freed);
            }
            Flushed::Broken => self.handle_client_gone(key),
        }
    }

    /// So many bytes left the buffer: the worker may send as many more.
    pub(crate) fn credit(&mut self, key: usize, left: usize) {
        let Some(id) = self
            .connections
            .get(key)
            .and_then(crate::connection::Connection::call)
        else {
            return;
        };
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        let freed = left.min(call.uncredited);
        if freed == 0 {
            return;
        }
        call.uncredited -= freed;
        let Some(credit) = call.window.release(freed) else {
            return;
        };
        if let crate::workers::calls::Place::Worker { worker, .. } = call.place
            && let Some(record) = self.pool.of_id(worker)
        {
            let stream = id.stream(record.link.epoch());
            record.give_credit(stream, credit);
        }
    }

    /// Nothing is left to send.
    fn handle_flushed(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match connection.stage() {
            Some(Stage::Flushing(_)) => self.happened(key, Happened::Written),
            Some(Stage::Talking) => {
                connection.clear_websocket_write_deadline();
                self.resume_websocket(key);
            }
            // What a client that sends, or has left, has time for stays as it is.
            Some(stage)
                if stage.is_served() && !connection.is_uploading() && !connection.at_end =>
            {
                if let Some(exchange) = &mut connection.exchange {
                    exchange.deadline = None;
                }
            }
            _ => {}
        }
    }
}

/// The client has to take what waits for it: a span begins, if none is under way.
fn set_write_deadline(connection: &mut Connection, now: Duration) {
    if connection.is_talking() {
        return connection.set_websocket_write_deadline(now);
    }
    let starts = |one: &Exchange| {
        (one.stage().is_served() || one.stage().is_flushing()) && one.deadline.is_none()
    };
    if !connection.exchange.as_deref().is_some_and(starts) {
        return;
    }
    let (moved, timeouts) = (connection.moved(), connection.resolved.settings.timeouts);
    if let Some(exchange) = &mut connection.exchange {
        exchange.begin_span(timeouts.demand_on_reader(), moved, now);
    }
}

fn write(connection: &mut Connection, buffer: &mut Vec<u8>) -> Flushed {
    let Connection {
        transport,
        output,
        waker,
        resolved,
        ..
    } = connection;
    let cx = &mut Context::from_waker(waker);
    for _ in 0..WRITES_PER_TURN {
        match transport.poll_sealed(cx) {
            Ok(None) => {}
            Ok(Some(Sent::Bytes(count))) => {
                output.sent(count);
                continue;
            }
            Ok(Some(Sent::Blocked)) => return Flushed::Blocked,
            Err(_) => return Flushed::Broken,
        }
        match output.next() {
            Next::Nothing => return Flushed::All,
            Next::Bytes { bytes, more } => {
                let wanted = bytes.len();
                match transport.poll_send(cx, bytes, more) {
                    Ok(Sent::Bytes(count)) if count <= wanted => output.bytes_sent(count),
                    Ok(Sent::Blocked) => return Flushed::Blocked,
                    Ok(Sent::Bytes(_)) | Err(_) => return Flushed::Broken,
                }
            }
            Next::File(FilePiece {
                records: Some(records),
                ..
            }) => {
                let records = *records;
                let load = |piece: &FilePiece, out: &mut Vec<u8>| load_record(records, piece, out);
                if !output.load_file(load).is_ok_and(|count| count > 0) {
                    return Flushed::Broken;
                }
            }
            Next::File(piece) => {
                let sent = if resolved.settings.sendfile {
                    transport.poll_send_file(cx, piece.source.as_fd(), piece.offset, piece.rest)
                } else {
                    Ok(SentFile::Unsupported)
                };
                let sent = match sent {
                    Ok(SentFile::Unsupported) => copy_file(transport, cx, piece, buffer),
                    other => other,
                };
                match sent {
                    Ok(SentFile::Bytes(count)) => output.file_sent(count),
                    Ok(SentFile::Blocked) => return Flushed::Blocked,
                    Ok(SentFile::EndOfFile | SentFile::Unsupported) | Err(_) => {
                        return Flushed::Broken;
                    }
                }
            }
        }
    }
    if output.is_empty() {
        Flushed::All
    } else {
        Flushed::Enough
    }
}

/// Appends a piece of a file in a record; says how long it is.
fn load_record(records: Records, piece: &FilePiece, out: &mut Vec<u8>) -> std::io::Result<u64> {
    let wanted = usize::try_from(piece.rest).unwrap_or(records.most());
    let mut content = vec![0; wanted.min(records.most())];
    let read = read_at(&piece.source, &mut content, piece.offset)?;
    if read > 0 {
        records.write_header(read, out);
        out.extend_from_slice(&content[..read]);
    }
    Ok(read as u64)
}

/// Sends a piece of a file through memory.
fn copy_file(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    piece: &FilePiece,
    buffer: &mut Vec<u8>,
) -> std::io::Result<SentFile> {
    let most = transport.piece();
    let wanted = usize::try_from(piece.rest).unwrap_or(most).min(most);
    // What lies there of another file is overwritten: it is not filled anew.
    if buffer.len() < wanted {
        buffer.resize(wanted, 0);
    }
    let read = read_at(&piece.source, &mut buffer[..wanted], piece.offset)?;
    if read == 0 {
        return Ok(SentFile::EndOfFile);
    }
    Ok(match transport.poll_send(cx, &buffer[..read], false)? {
        Sent::Bytes(count) => SentFile::Bytes(count as u64),
        Sent::Blocked => SentFile::Blocked,
    })
}
