//! Those who call: their connections, and what they ask for beside calls.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use oxicorn_os::epoll::Ready;
use oxicorn_os::stream::Stream;
use oxicorn_proto::pool::{Fields, Header, Item, Kind, Reader};

use crate::answer::{Failure, Payload};
use crate::broker::{Broker, token_of_caller};
use crate::connection::{Connection, End, Frame};
use crate::control::FromBroker;
use crate::queue::CallId;

/// Reads of one connection in one turn of the loop.
const READS_PER_TURN: usize = 16;
/// Bytes that a caller may leave unread before whoever sends them is left alone, and at which it is listened to again.
const OUTPUT_HIGH: usize = 512 << 10;
const OUTPUT_LOW: usize = 128 << 10;
/// Calls of one connection that may be under way.
const CALLS_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Caller {
    connection: Connection,
    pub(crate) pid: Option<i32>,
    /// By the ids of the caller.
    calls: HashMap<u64, CallId>,
    /// Lanes that are not read until it has read.
    pub(crate) full: bool,
}

impl Broker {
    pub(crate) fn add_caller(&mut self, stream: Stream) {
        let entry = self.callers.vacant_entry();
        let token = token_of_caller(entry.key());
        if let Ok(connection) = Connection::new(stream, token, &self.epoll) {
            let pid = connection.peer_process();
            entry.insert(Caller {
                connection,
                pid,
                calls: HashMap::new(),
                full: false,
            });
        }
    }

    pub(crate) fn handle_caller(&mut self, caller: usize, ready: Ready) {
        if ready.write
            && let Some(found) = self.callers.get_mut(caller)
        {
            found.connection.flush(&self.epoll);
            self.resume(caller);
        }
        if ready.read {
            self.read_caller(caller);
        }
    }

    fn read_caller(&mut self, caller: usize) {
        let mut frames = Vec::new();
        for _ in 0..READS_PER_TURN {
            let Some(found) = self.callers.get_mut(caller) else {
                return;
            };
            let read = found.connection.read(&mut self.scratch, &mut frames);
            for frame in frames.drain(..) {
                self.take_frame(caller, frame);
            }
            match read {
                Ok(true) => {}
                Ok(false) => return,
                Err(end) => return self.end_caller(caller, &end),
            }
        }
    }

    /// Whoever has left is waited for by nobody: their calls are not wanted any more.
    fn end_caller(&mut self, caller: usize, end: &End) {
        let Some(gone) = self.callers.try_remove(caller) else {
            return;
        };
        if !matches!(end, End::Closed | End::Unread) {
            let pid = gone.pid.unwrap_or(0);
            let text = format!("A caller of the pool (pid:{pid}) was hung up on: {end}");
            self.tell(&FromBroker::Warning(text));
        }
        for call in gone.calls.into_values() {
            self.cancel(call);
        }
        self.rest_listener(false);
    }

    fn take_frame(&mut self, caller: usize, frame: Frame) {
        let id = frame.header.id;
        let answer = match frame.header.kind {
            Kind::Request => self.take_request(caller, frame),
            Kind::Cancel => {
                self.take_cancellation(caller, id);
                Ok(())
            }
            Kind::Status => {
                let payload = self.status();
                self.answer(caller, Kind::Response, id, &payload, None);
                Ok(())
            }
            Kind::Manage => self.take_order(caller, id, &frame.payload),
            Kind::Stash => {
                self.take_stash_request(caller, id, &frame.payload);
                Ok(())
            }
            Kind::View => {
                self.take_view_question(caller, id);
                Ok(())
            }
            Kind::Response | Kind::Error | Kind::Chunk | Kind::End => {
                Err("A caller sends no answers")
            }
        };
        if let Err(text) = answer {
            let payload = Failure::Protocol(text).payload();
            self.answer(caller, Kind::Error, id, &payload, None);
        }
    }

    fn take_cancellation(&mut self, caller: usize, id: u64) {
        let found = self.callers.get_mut(caller);
        if let Some(call) = found.and_then(|found| found.calls.remove(&id)) {
            self.cancel(call);
        }
    }

    fn take_order(&mut self, caller: usize, id: u64, payload: &[u8]) -> Result<(), &'static str> {
        let (mut order, mut count) = (0, 1);
        let mut fields = Fields::new(payload).map_err(|_| "No order can be read")?;
        while let Some((name, value)) = fields.next_field().map_err(|_| "No order can be read")? {
            if let Ok(Some(Item::Int(number))) = Reader::new(value).next_item() {
                match name {
                    "op" => order = number,
                    "count" => count = number,
                    _ => {}
                }
            }
        }
        let sign = match order {
            1 => 1,
            2 => -1,
            _ => return Err("op is 1 (more workers) or 2 (fewer)"),
        };
        let count = i32::try_from(count.clamp(1, 1000)).unwrap_or(1);
        self.tell(&FromBroker::Manage(sign * count));
        let mut payload = Payload::default();
        payload.map(1).item(Item::Text("result")).map(2);
        payload
            .item(Item::Text("success"))
            .item(Item::Bool(true))
            .number("requested", i64::from(count));
        self.answer(caller, Kind::Response, id, &payload.0, None);
        Ok(())
    }

    /// Notes a call of this caller's; `false`: it has one with this id, or too many.
    pub(crate) fn note_call(&mut self, caller: usize, id: u64, call: CallId) -> bool {
        let Some(found) = self.callers.get_mut(caller) else {
            return false;
        };
        if found.calls.contains_key(&id) || found.calls.len() >= CALLS_MAX {
            return false;
        }
        found.calls.insert(id, call);
        true
    }

    pub(crate) fn forget_call(&mut self, caller: usize, id: u64) {
        if let Some(found) = self.callers.get_mut(caller) {
            found.calls.remove(&id);
        }
    }

    /// Sends a frame to a caller; whether it has more to read now than is good.
    pub(crate) fn answer(
        &mut self,
        caller: usize,
        kind: Kind,
        id: u64,
        payload: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> bool {
        let Some(found) = self.callers.get_mut(caller) else {
            return false;
        };
        let header = Header {
            kind,
            length: payload.len(),
            id,
            descriptor: descriptor.is_some(),
        };
        found
            .connection
            .send(header, payload, descriptor, &self.epoll);
        found.full |= found.connection.waiting() > OUTPUT_HIGH;
        found.full
    }

    /// It has read: those who send to it go on.
    fn resume(&mut self, caller: usize) {
        let Some(found) = self.callers.get_mut(caller) else {
            return;
        };
        if !found.full || found.connection.waiting() > OUTPUT_LOW {
            return;
        }
        found.full = false;
        let calls: Vec<CallId> = found.calls.values().copied().collect();
        for call in calls {
            self.listen_to(call, true);
        }
    }

    /// Gunicorn's answer about arbiter and workers, with more fields.
    fn status(&self) -> Vec<u8> {
        let mut payload = Payload::default();
        payload.map(1).item(Item::Text("result")).map(4);
        payload.number("arbiter_pid", i64::from(oxicorn_os::process::id()));
        payload.number(
            "worker_count",
            i64::try_from(self.workers.len()).unwrap_or(0),
        );
        payload.item(Item::Text("workers"));
        payload.item(Item::List(self.workers.len()));
        let mut workers: Vec<_> = self.workers.keys().copied().collect();
        workers.sort_unstable();
        for worker in workers {
            self.worker_status(worker, &mut payload);
        }
        let apps: Vec<_> = self.queue.apps().collect();
        payload
            .item(Item::Text("apps"))
            .item(Item::List(apps.len()));
        for (path, _, waiting) in apps {
            let having = |worker: &&crate::workers::Worker| {
                worker.about.applications.iter().any(|one| one == path)
            };
            let pids: Vec<i32> = self
                .workers
                .values()
                .filter(having)
                .map(|one| one.about.pid)
                .collect();
            payload.map(4).text("import_path", path);
            payload.number("queued", i64::try_from(waiting).unwrap_or(i64::MAX));
            payload.number("current_workers", i64::try_from(pids.len()).unwrap_or(0));
            payload
                .item(Item::Text("worker_pids"))
                .item(Item::List(pids.len()));
            for pid in pids {
                payload.item(Item::Int(i64::from(pid)));
            }
        }
        payload.0
    }
}
