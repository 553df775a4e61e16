//! The pool's workers as the broker sees them: their lanes, and what they are told beside calls.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use oxicorn_os::channel::{Blocking, Channel};
use oxicorn_os::epoll::Ready;
use oxicorn_proto::pool::{Header, Item};

use crate::answer::Payload;
use crate::broker::{Broker, token_of_lane};
use crate::connection::{Connection, End, Frame};
use crate::control::{AddWorker, FromBroker, ToWorker};
use crate::queue::{AppId, CallId, WorkerId};

/// Reads of one lane in one turn of the loop.
const READS_PER_TURN: usize = 16;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Booting,
    Ready,
    Retiring,
    /// It was told that it may exit.
    Released,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) about: AddWorker,
    /// `None`: its end was found.
    lanes: Vec<Option<Connection>>,
    /// Lanes whose call the worker had not read when it ended: it was not begun.
    unread: Vec<usize>,
    control: Channel,
    stage: Stage,
    /// Since when it is ready and has nothing to do.
    idle_since: Option<Duration>,
    /// It was reported as one that does not come back.
    pub(crate) given_up: bool,
}

impl Broker {
    pub(crate) fn add_worker(&mut self, about: AddWorker, mut descriptors: Vec<OwnedFd>) {
        let id = about.worker;
        let Some(control) = descriptors.pop() else {
            return;
        };
        let lane = |(lane, stream): (usize, OwnedFd)| {
            Connection::new(stream.into(), token_of_lane(id, lane), &self.epoll).ok()
        };
        let lanes: Vec<_> = descriptors.into_iter().enumerate().map(lane).collect();
        let calls_each = about.calls_each.iter().copied();
        let applications = about.applications.iter().zip(calls_each);
        self.queue.add_worker(id, applications, lanes.len());
        self.workers.insert(
            id,
            Worker {
                about,
                lanes,
                unread: Vec::new(),
                control: control.into(),
                stage: Stage::Booting,
                idle_since: None,
                given_up: false,
            },
        );
    }

    pub(crate) fn worker_ready(&mut self, worker: WorkerId, applications: Vec<String>) {
        let Some(found) = self.workers.get_mut(&worker) else {
            return;
        };
        if found.stage == Stage::Booting {
            found.stage = Stage::Ready;
            found.idle_since = Some(self.now);
            self.queue.keep_apps(worker, &applications);
            for path in &applications {
                self.asked_for.remove(path);
            }
            found.about.applications = applications;
            self.queue.set_takes_calls(worker, true);
            self.fill(worker);
        }
    }

    pub(crate) fn retire(&mut self, worker: WorkerId) {
        if let Some(found) = self.workers.get_mut(&worker)
            && found.stage != Stage::Released
        {
            found.stage = Stage::Retiring;
            if !self.drains {
                self.queue.set_takes_calls(worker, false);
                self.release_if_idle(worker);
            }
        }
    }

    /// Nobody comes any more: what waits for an application that no worker has would wait in vain.
    pub(crate) fn drain(&mut self) {
        self.drains = true;
        self.expect(&[]);
    }

    /// Whether a call may still come: of those outside there would be no end.
    pub(crate) fn takes_calls_of(&self, caller: usize) -> bool {
        if !self.drains {
            return true;
        }
        let pid = self.callers.get(caller).and_then(|found| found.pid);
        let mut workers = self.workers.values();
        workers.any(|worker| Some(worker.about.pid) == pid)
    }

    /// All calls have ended: so may all workers.
    pub(crate) fn release_drained(&mut self) {
        if !self.drains || !self.calls.is_empty() {
            return;
        }
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        for worker in workers {
            self.queue.set_takes_calls(worker, false);
            self.release_if_idle(worker);
        }
    }

    /// It has something to do.
    pub(crate) fn note_busy(&mut self, worker: WorkerId) {
        if let Some(found) = self.workers.get_mut(&worker) {
            found.idle_since = None;
        }
    }

    /// When the next worker will have had nothing to do for long enough, and which.
    fn next_idle(&self) -> Option<(Duration, WorkerId)> {
        let timeout = self.settings.idle_timeout?;
        let idle = self.workers.iter().filter_map(|(&worker, found)| {
            let since = found.idle_since.filter(|_| found.stage == Stage::Ready)?;
            Some((since + timeout, worker))
        });
        idle.min()
    }

    pub(crate) fn next_rest(&self) -> Option<Duration> {
        self.next_idle().map(|(due, _)| due)
    }

    /// Tells the arbiter of workers that have had nothing to do for long enough. It has them end, or has other plans.
    pub(crate) fn report_idle(&mut self) {
        while let Some((due, worker)) = self.next_idle()
            && due <= self.now
        {
            if let Some(found) = self.workers.get_mut(&worker) {
                found.idle_since = None;
                for path in &found.about.applications {
                    self.asked_for.remove(path);
                }
            }
            self.tell(&FromBroker::Idle(worker));
        }
    }

    /// A call waits: where workers rest one may be wanted. Asked once, until one that has the application is ready.
    pub(crate) fn ask_for_worker(&mut self, app: AppId) {
        if self.settings.idle_timeout.is_none() {
            return;
        }
        let path = self.queue.path(app);
        let is_coming = self.workers.values().any(|found| {
            found.stage == Stage::Booting && found.about.applications.iter().any(|one| one == path)
        });
        if !is_coming && !self.asked_for.contains(path) {
            let path = path.to_owned();
            self.asked_for.insert(path.clone());
            self.tell(&FromBroker::Wanted(path));
        }
    }

    fn release_if_idle(&mut self, worker: WorkerId) {
        if self.drains && !self.calls.is_empty() {
            return;
        }
        let is_idle = self.queue.is_idle(worker);
        if let Some(found) = self.workers.get_mut(&worker)
            && found.stage == Stage::Retiring
            && is_idle
        {
            found.stage = Stage::Released;
            self.tell_worker(worker, ToWorker::Release);
        }
    }

    /// Its process is gone. What it sent before its end counts.
    pub(crate) fn worker_gone(&mut self, worker: WorkerId, reason: &str) {
        let lanes = self.workers.get(&worker).map_or(0, |one| one.lanes.len());
        self.queue.set_takes_calls(worker, false);
        for lane in 0..lanes {
            while self.read_lane(worker, lane) {}
        }
        let Some(gone) = self.workers.remove(&worker) else {
            return;
        };
        let unread = gone.unread.iter();
        let not_begun: Vec<CallId> = unread
            .filter_map(|&lane| self.queue.running_at(worker, lane))
            .collect();
        let mut running = self.queue.remove_worker(worker);
        // The oldest is the first again.
        running.sort_unstable_by(|one, two| two.cmp(one));
        for call in running {
            if not_begun.contains(&call) {
                self.queue_again(call);
            } else {
                self.lose(call, gone.about.pid, reason);
            }
        }
        if self.drains {
            self.expect(&[]);
        }
    }

    pub(crate) fn handle_lane(&mut self, worker: WorkerId, lane: usize, ready: Ready) {
        if ready.write {
            let found = self.workers.get_mut(&worker);
            let lane = found.and_then(|found| found.lanes.get_mut(lane)?.as_mut());
            if let Some(connection) = lane {
                connection.flush(&self.epoll);
            }
        }
        if ready.read {
            for _ in 0..READS_PER_TURN {
                if !self.read_lane(worker, lane) {
                    return;
                }
            }
        }
    }

    /// Reads once; whether there may be more.
    fn read_lane(&mut self, worker: WorkerId, lane: usize) -> bool {
        let Some(found) = self.workers.get_mut(&worker) else {
            return false;
        };
        let Some(connection) = found.lanes.get_mut(lane).and_then(Option::as_mut) else {
            return false;
        };
        let mut frames = Vec::new();
        let more = connection.read(&mut self.scratch, &mut frames);
        for frame in frames {
            if !self.take_frame_of(worker, lane, &frame) {
                return false;
            }
        }
        more.unwrap_or_else(|end| {
            if let End::Unread = end
                && let Some(found) = self.workers.get_mut(&worker)
            {
                found.unread.push(lane);
                return true;
            }
            // The arbiter will tell how the process ended; one that only closed its end is not to be used again.
            if let Some(found) = self.workers.get_mut(&worker)
                && let Some(connection) = found.lanes[lane].take()
                && connection.has_lost()
            {
                found.unread.push(lane);
            }
            self.queue.set_takes_calls(worker, false);
            false
        })
    }

    fn take_frame_of(&mut self, worker: WorkerId, lane: usize, frame: &Frame) -> bool {
        if self.take_answer(worker, lane, frame) {
            return true;
        }
        let pid = self.workers.get(&worker).map_or(0, |one| one.about.pid);
        let text = format!("Dirty worker (pid:{pid}) sent what nobody asked it for");
        self.tell(&FromBroker::Warning(text.clone()));
        self.give_up(worker, text);
        false
    }

    /// A call of this worker's has ended.
    pub(crate) fn lane_is_free(&mut self, worker: WorkerId) {
        self.fill(worker);
        if self.queue.is_idle(worker)
            && let Some(found) = self.workers.get_mut(&worker)
        {
            found.idle_since = Some(self.now);
        }
        self.release_if_idle(worker);
    }

    pub(crate) fn send_to_lane(
        &mut self,
        worker: WorkerId,
        lane: usize,
        header: Header,
        payload: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) {
        let Some(found) = self.workers.get_mut(&worker) else {
            return;
        };
        match found.lanes.get_mut(lane).and_then(Option::as_mut) {
            Some(connection) => connection.send(header, payload, descriptor, &self.epoll),
            // The arbiter will tell of its end.
            None => found.unread.push(lane),
        }
    }

    pub(crate) fn tell_worker(&self, worker: WorkerId, word: ToWorker) {
        if let Some(worker) = self.workers.get(&worker) {
            // One that does not listen is given up for what it does not do.
            let _ = worker.control.send(&word.encode(), &[], Blocking::No);
        }
    }

    /// Whether what this call sends is read.
    pub(crate) fn listen_to(&mut self, call: CallId, listens: bool) {
        let Some((_, worker, lane)) = self.calls.get(&call).and_then(|call| call.begun) else {
            return;
        };
        let found = self.workers.get_mut(&worker);
        let lane = found.and_then(|found| found.lanes.get_mut(lane)?.as_mut());
        if let Some(connection) = lane {
            connection.set_reads(listens, &self.epoll);
        }
    }

    pub(crate) fn worker_status(&self, worker: WorkerId, payload: &mut Payload) {
        let Some(found) = self.workers.get(&worker) else {
            return;
        };
        let about = &found.about;
        payload.map(7).number("pid", i64::from(about.pid));
        payload.number("age", i64::try_from(about.age).unwrap_or(i64::MAX));
        payload.number("generation", i64::from(about.generation));
        payload.item(Item::Text("apps"));
        payload.item(Item::List(about.applications.len()));
        for path in &about.applications {
            payload.item(Item::Text(path));
        }
        payload
            .item(Item::Text("booted"))
            .item(Item::Bool(found.stage != Stage::Booting));
        let state = match found.stage {
            _ if found.given_up => "stuck",
            Stage::Booting => "booting",
            Stage::Ready => "ready",
            Stage::Retiring | Stage::Released => "retiring",
        };
        payload.text("state", state);
        let running: Vec<CallId> = self.queue.running(worker).collect();
        payload
            .item(Item::Text("calls"))
            .item(Item::List(running.len()));
        for call in running {
            let Some(entry) = self.calls.get(&call) else {
                payload.map(0);
                continue;
            };
            let begun = entry.begun.map_or(self.now, |(begun, ..)| begun);
            let caller = self.callers.get(entry.caller).and_then(|caller| caller.pid);
            payload.map(5);
            payload.text("app_path", self.queue.path(entry.app));
            payload.text("action", &entry.action);
            payload.float("age", self.now.saturating_sub(begun).as_secs_f64());
            payload.float("queued", begun.saturating_sub(entry.received).as_secs_f64());
            payload.number("caller_pid", i64::from(caller.unwrap_or(0)));
        }
    }
}
