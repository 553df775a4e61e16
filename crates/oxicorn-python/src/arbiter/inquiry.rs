//! Asking a worker what each of its calls is doing.
//!
//! The worker's observer answers twice (see `worker/observer.rs`): at once which thread has which request, and as soon as
//! it has the interpreter the stacks. Where these do not come in time, a dump by signal takes their place.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::time::Duration;

use oxicorn_arbiter::WorkerId;
use oxicorn_link::scoreboard::{Slot, WorkerState};
use oxicorn_os::channel::Blocking;
use oxicorn_os::time;

use super::stacks::PendingDump;
use super::supervisor::Supervisor;
use oxicorn_arbiter::messages::ToWorker;

/// How long a worker's interpreter is waited for before its stacks are taken without it.
const INTERPRETER_PATIENCE: Duration = Duration::from_millis(20);

/// How long, once there is a dump, is waited for the word which thread has which request.
const BOOK_PATIENCE: Duration = Duration::from_millis(300);

/// The longest answer, in bytes.
const LONGEST: u64 = 4 << 20;

/// A question that a worker was asked.
#[derive(Debug)]
pub(crate) struct Inquiry {
    pub(crate) worker: WorkerId,
    pub(crate) pid: i32,
    number: u64,
    /// When a dump is asked for.
    dump_at: Duration,
    dump: Dump,
    pub(crate) answer: Answer,
}

#[derive(Debug)]
enum Dump {
    NotAsked,
    Pending(PendingDump),
    /// Since when.
    Over(Duration),
}

/// What is known of a worker's calls.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// JSON, as `WorkerContext`'s table of calls writes it.
    pub(crate) calls: Option<String>,
    /// JSON, as `oxicorn.workers.stacks` writes it.
    pub(crate) stacks: Option<String>,
    /// All threads, as `faulthandler` writes them.
    pub(crate) dump: String,
}

impl Inquiry {
    /// Nothing more is to be expected.
    pub(crate) fn is_over(&self) -> bool {
        let Dump::Over(since) = self.dump else {
            return self.answer.stacks.is_some();
        };
        let has_all = self.answer.calls.is_some() || self.answer.dump.is_empty();
        self.answer.stacks.is_some() || has_all || time::monotonic() >= since + BOOK_PATIENCE
    }

    /// When to look again.
    pub(crate) fn next_look(&self) -> Duration {
        match &self.dump {
            Dump::Pending(dump) => dump.next_look(),
            Dump::NotAsked => self.dump_at,
            Dump::Over(since) => *since + BOOK_PATIENCE,
        }
    }
}

/// Which of a worker's two answers it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Calls,
    Stacks,
}

impl Supervisor<'_> {
    /// Asks a worker; `None`: it is not there, or has not come so far that it could answer.
    pub(crate) fn inquire(&mut self, id: WorkerId) -> Option<Inquiry> {
        self.last_inquiry += 1;
        let worker = self.workers.get(id)?;
        let state = worker.slot.as_ref().and_then(Slot::read)?.state?;
        // Before that nobody listens, and the signal would end it.
        if state == WorkerState::Booting {
            return None;
        }
        let question = ToWorker::Stacks(self.last_inquiry).encode();
        // One that does not take it is asked by the signal.
        let _ = worker.messages.send(&question, &[], Blocking::No);
        Some(Inquiry {
            worker: id,
            pid: worker.pid,
            number: self.last_inquiry,
            dump_at: time::monotonic() + INTERPRETER_PATIENCE,
            dump: Dump::NotAsked,
            answer: Answer::default(),
        })
    }

    /// Sees to what has come, or has not come in time.
    pub(crate) fn pursue(&self, inquiry: &mut Inquiry) {
        let now = time::monotonic();
        let has_answered = inquiry.answer.stacks.is_some();
        match &mut inquiry.dump {
            Dump::NotAsked if now >= inquiry.dump_at && !has_answered => {
                let file = self.workers.get(inquiry.worker);
                let file = file.and_then(|worker| worker.stack_dump.try_clone().ok());
                let dump = file.and_then(|file| self.begin_dump("worker", inquiry.pid, file));
                inquiry.dump = dump.map_or(Dump::Over(now), Dump::Pending);
            }
            Dump::Pending(dump) => {
                if let Some(text) = dump.poll(now) {
                    inquiry.answer.dump = text;
                    inquiry.dump = Dump::Over(now);
                }
            }
            Dump::NotAsked | Dump::Over(_) => {}
        }
    }

    /// A worker has answered; too late, where nobody waits for it any more.
    pub(crate) fn take_answer(
        &mut self,
        worker: WorkerId,
        number: u64,
        part: Part,
        file: Option<OwnedFd>,
    ) {
        let Some(text) = file.and_then(read) else {
            return;
        };
        let of_control = self.control.inquiries();
        let of_slow = self.slow.iter_mut().map(|slow| &mut slow.inquiry);
        let of_dashboard = self.dashboard.inquiries();
        let mut all = of_control.chain(of_slow).chain(of_dashboard);
        if let Some(inquiry) = all.find(|one| one.number == number && one.worker == worker) {
            match part {
                Part::Calls => inquiry.answer.calls = Some(text),
                Part::Stacks => inquiry.answer.stacks = Some(text),
            }
        }
    }
}

fn read(file: OwnedFd) -> Option<String> {
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}
