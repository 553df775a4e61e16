//! Requests to the stash, and their answers.

use oxicorn_proto::pool::{Item, Kind};

use crate::answer::{Failure, Payload};
use crate::broker::Broker;
use crate::control::FromBroker;
use crate::stash::{Outcome, Request, StashFault};

impl Broker {
    pub(crate) fn take_stash_request(&mut self, caller: usize, id: u64, payload: &[u8]) {
        let parsed = Request::parse(payload);
        let table = parsed.as_ref().map_or("", |request| request.table);
        if let Ok(request) = &parsed {
            self.figures.count_operation(request.operation);
        }
        let done = parsed
            .clone()
            .and_then(|request| self.stash.perform(&request, self.now));
        self.write_journal();
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

    pub(crate) fn expire_entries(&mut self) {
        if self.stash.next_end().is_some_and(|end| end <= self.now) {
            self.stash.expire(self.now);
            self.write_journal();
        }
    }

    fn write_journal(&mut self) {
        if !self.journal.write(&mut self.stash) {
            self.tell(&FromBroker::Warning(
                "There is no memory to keep the stash if the pool's broker should die".into(),
            ));
        }
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
