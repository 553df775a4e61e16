//! What the broker counts, on the scoreboard, where it outlives the broker: calls by application and how they ended, how long
//! they waited and ran; callers, the stash.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use oxicorn_link::scoreboard::{
    CallGauge, CallHistogram, CallOutcome, CallRow, PoolBlock, PoolCounter, PoolGauge,
    RunningCalls, Scoreboard,
};

use crate::broker::Broker;
use crate::queue::AppId;
use crate::stash::{Counts, Operation};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Figures {
    block: PoolBlock,
    /// By the numbers of the queue; `None`: not looked for yet, or there is none.
    rows: Vec<Option<CallRow>>,
    pub(crate) running_calls: RunningCalls,
}

impl Figures {
    pub(crate) fn attach(scoreboard: &OwnedFd) -> io::Result<Self> {
        let scoreboard = Scoreboard::attach(scoreboard).map_err(io::Error::other)?;
        let block = scoreboard.pool();
        Ok(Self {
            running_calls: block.running_calls(),
            rows: Vec::new(),
            block,
        })
    }

    fn row(&mut self, app: AppId, path: &str) -> Option<&CallRow> {
        if self.rows.len() <= app {
            self.rows.resize(app + 1, None);
        }
        let row = &mut self.rows[app];
        if row.is_none() {
            *row = self.block.row_of(path);
        }
        row.as_ref()
    }

    /// A call of an application that nobody has ever named.
    pub(crate) fn count_unknown(&self) {
        if let Some(row) = self.block.rows().next() {
            row.count(CallOutcome::NoWorkers);
        }
    }

    pub(crate) fn count_operation(&self, operation: Operation) {
        self.block.count_operations(operation as usize, 1);
    }

    /// Counts what callers did by themselves.
    pub(crate) fn count_direct(&self, counts: Counts) {
        for (operation, count) in [(Operation::Put, counts.puts), (Operation::Get, counts.gets)] {
            if count > 0 {
                self.block.count_operations(operation as usize, count);
            }
        }
    }

    pub(crate) fn count_full_stash(&self) {
        self.block.count(PoolCounter::StashFull);
    }

    fn set(&self, gauge: PoolGauge, number: usize) {
        self.block.set(gauge, number as u64);
    }
}

impl Broker {
    /// A call has ended for its caller.
    pub(crate) fn count_end(&mut self, app: AppId, outcome: CallOutcome) {
        if let Some(row) = self.figures.row(app, self.queue.path(app)) {
            row.count(outcome);
        }
    }

    pub(crate) fn record(&mut self, app: AppId, kind: CallHistogram, took: Duration) {
        if let Some(row) = self.figures.row(app, self.queue.path(app)) {
            row.record(kind, took);
        }
    }

    /// Shows what has changed in this turn of the loop.
    pub(crate) fn show_figures(&mut self) {
        while let Some((app, waiting, running)) = self.queue.next_change() {
            let oldest = self.oldest(app);
            if let Some(row) = self.figures.row(app, self.queue.path(app)) {
                for (gauge, since) in oldest {
                    row.set_since(gauge, since);
                }
                row.set(CallGauge::Queued, waiting as u64);
                row.set(CallGauge::InFlight, running as u64);
            }
        }
        let (tables, entries) = self.stash.size();
        self.figures.set(PoolGauge::Callers, self.callers.len());
        self.figures.set(PoolGauge::StashBytes, self.stash.bytes());
        self.figures.set(PoolGauge::StashEntries, entries);
        self.figures.set(PoolGauge::StashTables, tables);
    }
}
