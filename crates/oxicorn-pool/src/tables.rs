//! Requests to the stash, and their answers.

use std::os::fd::AsFd;

use oxicorn_proto::pool::{Item, Kind};

use crate::answer::{Failure, Payload};
use crate::broker::Broker;
use crate::control::FromBroker;
use crate::stash::{Asked, Change, Operation, Outcome, Request, Stash, StashFault};

impl Broker {
    pub(crate) fn take_stash_request(&mut self, caller: usize, id: u64, payload: &[u8]) {
        let parsed = Request::parse(payload);
        let table = parsed.as_ref().map_or("", |request| request.table);
        if let Ok(request) = &parsed {
            self.figures.count_operation(request.operation);
        }
        let now = self.now;
        let done = parsed.clone().and_then(|request| {
            self.with_stash(asked_by(&request), |stash| stash.perform(&request, now))
        });
        match done {
            Ok(outcome) => {
                let payload = result(&outcome, table);
                self.answer(caller, Kind::Response, id, &payload, None);
            }
            Err(fault) => {
                if let StashFault::Full { .. } = fault {
                    self.figures.count_full_stash();
                }
                let payload = failure(&fault, table);
                self.answer(caller, Kind::Error, id, &payload, None);
            }
        }
    }

    /// Gives a caller the memory in which it sees the stash, or nothing.
    pub(crate) fn take_view_question(&mut self, caller: usize, id: u64) {
        let file = self.mirror.show(&self.stash);
        let file = file.and_then(|file| file.try_clone_to_owned().ok());
        if file.is_none() && self.mirror.is_used_up() {
            self.tell(&FromBroker::Warning(
                "Too many processes died while they wrote to the stash: get and put ask the pool from now on".into(),
            ));
        }
        let mut payload = Payload::default();
        payload
            .map(1)
            .item(Item::Text("result"))
            .item(Item::Bool(file.is_some()));
        let file = file.as_ref().map(AsFd::as_fd);
        self.answer(caller, Kind::Response, id, &payload.0, file);
    }

    /// Takes out what has ended, and looks what callers did by themselves, when it is time to.
    pub(crate) fn tend_stash(&mut self) {
        let (now, due) = (self.now, [self.stash.next_end(), self.mirror.lease_end()]);
        if due.into_iter().flatten().any(|due| due <= now) {
            self.with_stash(Asked::No, |stash| stash.expire(now));
        }
    }

    /// Does something with the stash, after what callers have put by themselves.
    pub(crate) fn with_stash<T>(
        &mut self,
        asked: Asked<'_>,
        work: impl FnOnce(&mut Stash) -> T,
    ) -> T {
        let put = self.mirror.begin();
        self.take_over(put);
        let done = work(&mut self.stash);
        let changes = self.stash.take_changes();
        self.write_journal(&changes);
        self.mirror.finish(&changes, &self.stash, asked, self.now);
        self.figures.count_direct(self.mirror.take_counts());
        done
    }

    /// Takes over what callers have put, now or beside an earlier broker.
    pub(crate) fn take_over(&mut self, put: Vec<Change>) {
        for change in put {
            self.stash.take_over(change);
        }
        let changes = self.stash.take_changes();
        self.write_journal(&changes);
        self.mirror.taken();
    }

    fn write_journal(&mut self, changes: &[Change]) {
        if !self.journal.write(changes, &self.stash) {
            self.tell(&FromBroker::Warning(
                "There is no memory to keep the stash if the pool's broker should die".into(),
            ));
        }
    }
}

fn asked_by<'a>(request: &Request<'a>) -> Asked<'a> {
    match (request.operation, request.key) {
        (Operation::Get, Some(key)) => Asked::Value {
            table: request.table,
            key,
        },
        _ => Asked::Something,
    }
}

fn result(outcome: &Outcome, table: &str) -> Vec<u8> {
    let mut payload = Payload::default();
    payload.map(1).item(Item::Text("result"));
    match outcome {
        Outcome::Bool(flag) => payload.item(Item::Bool(*flag)),
        Outcome::Value(value) => payload.raw(value),
        Outcome::Int(number) => payload.item(Item::Int(*number)),
        Outcome::Float(number) => payload.item(Item::Float(*number)),
        Outcome::Keys(keys) => {
            payload.item(Item::List(keys.len()));
            for key in keys {
                payload.raw(key);
            }
            &mut payload
        }
        Outcome::Info { entries, bytes } => payload
            .map(3)
            .number("size", i64::try_from(*entries).unwrap_or(i64::MAX))
            .number("bytes", i64::try_from(*bytes).unwrap_or(i64::MAX))
            .text("table", table),
        Outcome::Tables(names) => {
            payload.item(Item::List(names.len()));
            for name in names {
                payload.item(Item::Text(name));
            }
            &mut payload
        }
    };
    payload.0
}

fn failure(fault: &StashFault, table: &str) -> Vec<u8> {
    let (class, message) = match fault {
        StashFault::Table => (
            "StashTableNotFoundError",
            format!("Stash table not found: {table}"),
        ),
        StashFault::Key => ("StashKeyNotFoundError", format!("Key not found in {table}")),
        StashFault::Full { limit } => (
            "StashFullError",
            format!("The stash holds {limit} bytes, which is dirty_stash_size"),
        ),
        StashFault::Number => (
            "StashError",
            "Only numbers can be added, and their sum must have 64 bits".to_owned(),
        ),
        StashFault::Request(text) => ("StashError", (*text).to_owned()),
    };
    Failure::Stash {
        class,
        message: &message,
    }
    .payload()
}
