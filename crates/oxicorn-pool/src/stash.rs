//! The tables that all workers share: decides, performs nothing.
//!
//! Keys and values are the bytes they came as; two are the same if their bytes are. So only what an operation needs is
//! read: a number that is to be added to. Every operation is one step; time is an argument. The book of changes that a new
//! broker starts from is kept by `journal`: each change says what is to be written there. Callers see the entries in memory
//! that they share with the broker, and put some there: `shared`.

mod glob;
mod journal;
mod operation;
pub mod shared;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

pub(crate) use self::journal::Journal;
pub(crate) use self::operation::{Operation, Request};
pub(crate) use self::shared::{Asked, Counts, Mirror};

/// Bytes that an entry costs beside its key and its value.
const ENTRY_COST: usize = 96;

/// Why an operation fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StashFault {
    /// There is no such table.
    Table,
    /// There is no such key.
    Key,
    /// It would hold more bytes than it may.
    Full { limit: usize },
    /// What is there, or is to be added, is no number, or the sum is none of 64 bits.
    Number,
    /// The request makes no sense.
    Request(&'static str),
}

/// What an operation gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Bool(bool),
    /// A value, as it came.
    Value(Vec<u8>),
    Int(i64),
    Float(f64),
    /// Keys, as they came.
    Keys(Vec<Vec<u8>>),
    /// Entries and bytes of a table.
    Info {
        entries: usize,
        bytes: usize,
    },
    /// Names of tables.
    Tables(Vec<String>),
}

/// A change, for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The table is there.
    Table(String),
    /// It is gone, with these keys.
    NoTable { table: String, keys: Vec<Vec<u8>> },
    /// It is empty; these keys were there.
    Cleared { table: String, keys: Vec<Vec<u8>> },
    /// The key has this value, until then.
    Entry {
        table: String,
        key: Vec<u8>,
        value: Vec<u8>,
        expires: Option<Duration>,
    },
    /// The key is gone.
    NoEntry { table: String, key: Vec<u8> },
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    expires: Option<Duration>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Vec<u8>, Entry>,
    bytes: usize,
}

/// All tables.
#[derive(Debug, Default)]
pub(crate) struct Stash {
    tables: BTreeMap<String, Table>,
    bytes: usize,
    /// Of all tables.
    entries: usize,
    limit: usize,
    /// What ends when.
    ends: BTreeSet<(Duration, String, Vec<u8>)>,
    changes: Vec<Change>,
}

impl Stash {
    /// How many bytes it may hold; 0: any number. What is there already stays.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The same, as it was set.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// What has changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// When the next entry ends.
    pub(crate) fn next_end(&self) -> Option<Duration> {
        self.ends.first().map(|(end, ..)| *end)
    }

    /// Takes out what has ended by `now`.
    pub(crate) fn expire(&mut self, now: Duration) {
        while let Some((end, ..)) = self.ends.first()
            && *end <= now
            && let Some((_, table, key)) = self.ends.pop_first()
        {
            self.remove(&table, &key);
        }
    }

    /// Changes of an earlier broker, in their order.
    pub(crate) fn replay(&mut self, change: Change) {
        self.take_over(change);
        self.changes.clear();
    }

    /// A change that was made elsewhere.
    pub(crate) fn take_over(&mut self, change: Change) {
        match change {
            Change::Table(table) => {
                self.tables.entry(table).or_default();
            }
            Change::NoTable { table, .. } => drop(self.delete_table(&table)),
            Change::Cleared { table, .. } => self.clear(&table),
            Change::Entry {
                table,
                key,
                value,
                expires,
            } => self.insert(&table, key, value, expires),
            Change::NoEntry { table, key } => {
                self.remove(&table, &key);
            }
        }
    }

    /// Everything as changes from nothing.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Change> + '_ {
        let tables = self.tables.keys().cloned().map(Change::Table);
        tables.chain(
            self.entries()
                .map(|(table, key, value, expires)| Change::Entry {
                    table: table.to_owned(),
                    key: key.to_vec(),
                    value: value.to_vec(),
                    expires,
                }),
        )
    }

    /// Table, key, value and end of every entry.
    pub(crate) fn entries(
        &self,
    ) -> impl Iterator<Item = (&str, &[u8], &[u8], Option<Duration>)> + '_ {
        self.tables.iter().flat_map(|(name, table)| {
            let entries = table.entries.iter();
            entries.map(|(key, entry)| (name.as_str(), &key[..], &entry.value[..], entry.expires))
        })
    }

    /// Value and end of an entry.
    pub(crate) fn entry(&self, table: &str, key: &[u8]) -> Option<(&[u8], Option<Duration>)> {
        let entry = self.find(table, key)?;
        Some((&entry.value, entry.expires))
    }

    /// How many tables there are, and how many entries they have together.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.tables.len(), self.entries)
    }

    /// Bytes that are held.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn perform(
        &mut self,
        request: &Request<'_>,
        now: Duration,
    ) -> Result<Outcome, StashFault> {
        self.expire(now);
        let table = request.table;
        let expires = request.ttl.map(|ttl| now.saturating_add(ttl));
        match request.operation {
            Operation::Put => {
                self.store(table, request.key()?, request.value, expires)?;
                Ok(Outcome::Bool(true))
            }
            Operation::Add => {
                let key = request.key()?;
                if self.find(table, key).is_some() {
                    return Ok(Outcome::Bool(false));
                }
                self.store(table, key, request.value, expires)?;
                Ok(Outcome::Bool(true))
            }
            Operation::Replace => {
                let key = request.key()?;
                let is = self.find(table, key).map(|entry| entry.value.as_slice());
                if is != Some(request.expected) {
                    return Ok(Outcome::Bool(false));
                }
                self.store(table, key, request.value, expires)?;
                Ok(Outcome::Bool(true))
            }
            Operation::Get => {
                let found = self.find(table, request.key()?);
                let entry = found.ok_or(StashFault::Key)?;
                Ok(Outcome::Value(entry.value.clone()))
            }
            Operation::Pop => {
                let removed = self.remove(table, request.key()?);
                removed.map(Outcome::Value).ok_or(StashFault::Key)
            }
            Operation::Delete => {
                let removed = self.remove(table, request.key()?);
                Ok(Outcome::Bool(removed.is_some()))
            }
            Operation::DeleteIf => {
                let key = request.key()?;
                let is = self.find(table, key).map(|entry| entry.value.as_slice());
                if is != Some(request.expected) {
                    return Ok(Outcome::Bool(false));
                }
                Ok(Outcome::Bool(self.remove(table, key).is_some()))
            }
            Operation::Touch => {
                let key = request.key()?;
                let found = self.find(table, key);
                let Some(value) = found.map(|entry| entry.value.clone()) else {
                    return Ok(Outcome::Bool(false));
                };
                self.insert(table, key.to_vec(), value, expires);
                Ok(Outcome::Bool(true))
            }
            Operation::Increment => self.increment(table, request.key()?, request.value, expires),
            Operation::Keys => Ok(Outcome::Keys(self.keys(table, request.pattern))),
            Operation::Clear => {
                self.clear(table);
                Ok(Outcome::Bool(true))
            }
            Operation::Info => {
                let table = self.tables.get(table).ok_or(StashFault::Table)?;
                Ok(Outcome::Info {
                    entries: table.entries.len(),
                    bytes: table.bytes,
                })
            }
            Operation::Ensure => {
                self.ensure(table);
                Ok(Outcome::Bool(true))
            }
            Operation::DeleteTable => Ok(Outcome::Bool(self.delete_table(table).is_some())),
            Operation::Tables => Ok(Outcome::Tables(self.tables.keys().cloned().collect())),
            Operation::Exists => Ok(Outcome::Bool(match request.key {
                None => self.tables.contains_key(table),
                Some(key) => self.find(table, key).is_some(),
            })),
        }
    }

    fn find(&self, table: &str, key: &[u8]) -> Option<&Entry> {
        self.tables.get(table)?.entries.get(key)
    }

    fn ensure(&mut self, table: &str) {
        if !self.tables.contains_key(table) {
            self.tables.insert(table.to_owned(), Table::default());
            self.changes.push(Change::Table(table.to_owned()));
        }
    }

    /// Stores a value if there is room.
    fn store(
        &mut self,
        table: &str,
        key: &[u8],
        value: &[u8],
        expires: Option<Duration>,
    ) -> Result<(), StashFault> {
        let before = self.find(table, key);
        let before = before.map_or(0, |entry| cost(key.len(), entry.value.len()));
        let after = self.bytes - before + cost(key.len(), value.len());
        if self.limit > 0 && after > self.limit && after > self.bytes {
            return Err(StashFault::Full { limit: self.limit });
        }
        self.insert(table, key.to_vec(), value.to_vec(), expires);
        Ok(())
    }

    fn insert(&mut self, table: &str, key: Vec<u8>, value: Vec<u8>, expires: Option<Duration>) {
        self.ensure(table);
        self.take_out(table, &key);
        if let Some(end) = expires {
            self.ends.insert((end, table.to_owned(), key.clone()));
        }
        self.changes.push(Change::Entry {
            table: table.to_owned(),
            key: key.clone(),
            value: value.clone(),
            expires,
        });
        let cost = cost(key.len(), value.len());
        self.bytes += cost;
        if let Some(table) = self.tables.get_mut(table) {
            table.bytes += cost;
            table.entries.insert(key, Entry { value, expires });
            self.entries += 1;
        }
    }

    /// Without a change being noted.
    fn take_out(&mut self, name: &str, key: &[u8]) -> Option<Entry> {
        let table = self.tables.get_mut(name)?;
        let entry = table.entries.remove(key)?;
        let cost = cost(key.len(), entry.value.len());
        table.bytes -= cost;
        self.bytes -= cost;
        self.entries -= 1;
        if let Some(end) = entry.expires {
            self.ends.remove(&(end, name.to_owned(), key.to_vec()));
        }
        Some(entry)
    }

    fn remove(&mut self, table: &str, key: &[u8]) -> Option<Vec<u8>> {
        let entry = self.take_out(table, key)?;
        self.changes.push(Change::NoEntry {
            table: table.to_owned(),
            key: key.to_vec(),
        });
        Some(entry.value)
    }

    /// Takes all out of a table; the keys.
    fn forget_entries(&mut self, name: &str) -> Vec<Vec<u8>> {
        let Some(table) = self.tables.get_mut(name) else {
            return Vec::new();
        };
        self.bytes -= std::mem::take(&mut table.bytes);
        self.entries -= table.entries.len();
        let mut keys = Vec::with_capacity(table.entries.len());
        for (key, entry) in std::mem::take(&mut table.entries) {
            if let Some(end) = entry.expires {
                self.ends.remove(&(end, name.to_owned(), key.clone()));
            }
            keys.push(key);
        }
        keys
    }

    fn clear(&mut self, table: &str) {
        let keys = self.forget_entries(table);
        if self.tables.contains_key(table) {
            let table = table.to_owned();
            self.changes.push(Change::Cleared { table, keys });
        }
    }

    fn delete_table(&mut self, table: &str) -> Option<()> {
        let keys = self.forget_entries(table);
        self.tables.remove(table)?;
        let table = table.to_owned();
        self.changes.push(Change::NoTable { table, keys });
        Some(())
    }

    fn keys(&self, table: &str, pattern: Option<&str>) -> Vec<Vec<u8>> {
        let entries = self.tables.get(table).map(|table| table.entries.keys());
        let matches = |key: &&Vec<u8>| {
            pattern.is_none_or(|pattern| glob::matches(pattern, &operation::shown(key)))
        };
        let mut keys: Vec<Vec<u8>> = entries
            .into_iter()
            .flatten()
            .filter(matches)
            .cloned()
            .collect();
        keys.sort_unstable();
        keys
    }

    fn increment(
        &mut self,
        table: &str,
        key: &[u8],
        amount: &[u8],
        expires: Option<Duration>,
    ) -> Result<Outcome, StashFault> {
        use operation::Number;
        let amount = Number::read(amount).ok_or(StashFault::Number)?;
        let found = self.find(table, key);
        // A number that is there keeps its time.
        let expires = found.map_or(expires, |entry| entry.expires);
        let before = match found {
            Some(entry) => Number::read(&entry.value).ok_or(StashFault::Number)?,
            None => Number::Int(0),
        };
        let sum = before.plus(amount).ok_or(StashFault::Number)?;
        self.store(table, key, &sum.encode(), expires)?;
        Ok(match sum {
            Number::Int(sum) => Outcome::Int(sum),
            Number::Float(sum) => Outcome::Float(sum),
        })
    }
}

/// What an entry counts whose key and value have so many bytes.
const fn cost(key: usize, value: usize) -> usize {
    key + value + ENTRY_COST
}

#[cfg(test)]
mod tests;
