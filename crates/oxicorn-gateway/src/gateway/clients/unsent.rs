//! When what waits for clients is written.
//!
//! Decides: when the last message at hand has been added, so that a small response is one piece, written in the
//! turn that read it from the ring. Where `io_uring` is to be had, what the messages at hand have for several
//! clients is sent by one system call ([`SendBatch`]); where not, each is sent when the next begins.

use std::os::fd::BorrowedFd;

use oxicorn_os::send_batch::{self, SendBatch};

use crate::buffer::output::Next;
use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::transport::zero_copy::SEND_FROM;

/// Connections with something to send that the next message may still add to.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    waiting: Vec<Waiting>,
    batch: Option<SendBatch>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    key: usize,
    serial: u64,
    /// Bytes of it that were sent together with those of others.
    gone: usize,
}

impl Unsent {
    fn is_full(&self) -> bool {
        let most = self.batch.as_ref().map_or(1, |_| send_batch::MOST);
        self.waiting.len() >= most
    }
}

impl Gateway {
    /// Clients are sent to together, if the settings want it and the kernel allows it.
    pub(crate) fn choose_sending(&mut self) {
        let wanted = self.resolved.settings.io_uring;
        self.unsent.batch = match wanted.then(SendBatch::new).transpose() {
            Ok(batch) => batch,
            Err(error) => {
                self.error_log
                    .debug(format_args!("io_uring is not to be had: {error}"));
                None
            }
        };
    }

    /// Something was added to a connection's output: write it when no more is added right now.
    pub(crate) fn send_soon(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let held = connection.output.held();
        if !std::mem::replace(&mut connection.is_unsent, true) {
            let serial = connection.serial;
            if self.unsent.is_full() {
                self.flush_unsent();
            }
            let gone = 0;
            self.unsent.waiting.push(Waiting { key, serial, gone });
        }
        if held >= SEND_FROM {
            self.flush_unsent();
        }
    }

    /// Writes what `send_soon` held back.
    #[inline]
    pub(crate) fn flush_unsent(&mut self) {
        if !self.unsent.waiting.is_empty() {
            self.flush_those_that_wait();
        }
    }

    #[inline(never)]
    fn flush_those_that_wait(&mut self) {
        if self.unsent.waiting.len() > 1 {
            return self.flush_several();
        }
        if let Some(one) = self.unsent.waiting.pop() {
            self.flush_waiting(one);
        }
    }

    fn flush_several(&mut self) {
        let mut waiting = std::mem::take(&mut self.unsent.waiting);
        self.send_together(&mut waiting);
        for &one in &waiting {
            self.flush_waiting(one);
        }
        // What follows from a write may be that something else is to be written.
        if self.unsent.waiting.is_empty() {
            waiting.clear();
            self.unsent.waiting = waiting;
        }
    }

    fn flush_waiting(&mut self, Waiting { key, serial, gone }: Waiting) {
        if let Some(connection) = self.connection(key, serial) {
            connection.is_unsent = false;
            self.flush_further(key, gone);
        }
    }

    fn send_together(&mut self, waiting: &mut [Waiting]) {
        let Some(mut batch) = self.unsent.batch.take() else {
            return;
        };
        for one in &*waiting {
            if let Some(connection) = self.connection(one.key, one.serial) {
                encrypt(connection);
            }
        }
        let of = |one: &Waiting| {
            let connection = self.connections.get(one.key);
            connection.filter(|found| found.serial == one.serial)
        };
        batch.send(waiting.iter().filter_map(|one| sendable(of(one)?)));
        let mut index = 0;
        for one in waiting {
            let Some(connection) = self.connection(one.key, one.serial) else {
                continue;
            };
            if sendable(connection).is_some() {
                let count = batch.result(index).unwrap_or(0);
                one.gone = connection.transport.note_together(count);
                connection.output.bytes_sent(one.gone);
                index += 1;
            }
        }
        self.unsent.batch = Some(batch).filter(SendBatch::is_open);
    }
}

/// Makes ready what is sent together and goes out in another form.
fn encrypt(connection: &mut Connection) {
    if connection.stalled_since.is_none()
        && let Next::Bytes { bytes, more: false } = connection.output.next()
    {
        connection.transport.prepare_together(bytes);
    }
}

/// What may be sent together with what others get: the last that waits, for a socket which is not known to be full.
fn sendable(connection: &Connection) -> Option<(BorrowedFd<'_>, &[u8])> {
    if connection.stalled_since.is_some() {
        return None;
    }
    match connection.output.next() {
        Next::Bytes { bytes, more: false } => connection.transport.together(bytes),
        _ => None,
    }
}
