//! The table of workers: who there is. It only keeps and counts; it decides nothing.

use std::collections::BTreeMap;

use crate::plan::{Generation, WorkerId};
use crate::worker::{Illegal, WorkerRecord};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct WorkerTable {
    /// By number, that is by age.
    records: BTreeMap<WorkerId, WorkerRecord>,
}

impl WorkerTable {
    pub(crate) fn enter(&mut self, record: WorkerRecord) {
        self.records.insert(record.id(), record);
    }

    pub(crate) fn strike(&mut self, worker: WorkerId) -> Option<WorkerRecord> {
        self.records.remove(&worker)
    }

    pub(crate) fn find(&self, worker: WorkerId) -> Option<&WorkerRecord> {
        self.records.get(&worker)
    }

    /// An unknown worker is as illegal as a known one in the wrong state.
    pub(crate) fn record(&mut self, worker: WorkerId) -> Result<&mut WorkerRecord, Illegal> {
        self.records.get_mut(&worker).ok_or(Illegal)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &WorkerRecord> {
        self.records.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut WorkerRecord> {
        self.records.values_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The ids of all that match, the oldest first; for loops that change the table.
    pub(crate) fn select(&self, wanted: impl Fn(&WorkerRecord) -> bool) -> Vec<WorkerId> {
        self.iter()
            .filter(|record| wanted(record))
            .map(WorkerRecord::id)
            .collect()
    }

    pub(crate) fn count(&self, counted: impl Fn(&WorkerRecord) -> bool) -> usize {
        self.iter().filter(|record| counted(record)).count()
    }

    pub(crate) fn active(&self, generation: Generation) -> usize {
        self.count(|r| r.is_active() && r.generation() == generation)
    }

    /// Active, and not about to be replaced.
    pub(crate) fn staying(&self, generation: Generation) -> usize {
        self.count(|r| r.is_active() && !r.is_outgoing() && r.generation() == generation)
    }

    pub(crate) fn ready(&self, generation: Generation) -> usize {
        self.count(|r| r.is_ready() && r.generation() == generation)
    }

    /// Processes that use memory: all but those that were killed, whose reaping is a matter of milliseconds.
    pub(crate) fn alive(&self) -> usize {
        self.count(|r| !r.is_killed())
    }

    /// Still alive, but lost to this generation or one before it.
    pub(crate) fn lost(&self, generation: Generation) -> usize {
        self.count(|r| r.is_lost() && !r.is_killed() && r.generation() <= generation)
    }
}
