//! Memory held for clients, and what is done when there is too much of it.
//!
//! Decides who pays. What a connection holds is counted when it changes; the sum is one number.
//! Beyond `buffer_limit`, in this order of how little it hurts:
//!
//! 0. (from half of it) of a body that goes to its worker as it comes only what the worker waits for
//!    is read, so that those alone never reach the bound; of WebSocket messages a quarter of the
//!    usual window is read ahead,
//! 1. other request bodies go to files from their first byte on,
//! 2. a head that needs more room than one read is refused with 503,
//! 3. compressors that WebSockets have for themselves are taken away,
//! 4. until an eighth of the bound is free again (so that the search is rare): the connections that
//!    have taken nothing of what waits for them for longest are cut, and the WebSockets with the
//!    largest messages that are not complete are closed, those first who hold more together. What is
//!    left of each kind when it holds next to nothing ([`TRIFLE`]) goes on: others fill the memory,
//!    and to end those who talk and read would only make them pay for it.
//!
//! What cannot be refused is small: one read for each connection, so the bound that holds is an eighth
//! more than `buffer_limit`, and 16 KiB for each connection.

use std::time::Duration;

use oxicorn_os::heap;

use crate::buffer::input::READ_SIZE;
use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::transport::http2;

/// The part of the bound that is made free when it is reached.
const RELIEF: usize = 8;

/// The part of the bound up to which the readers together, and the messages together, are let be.
const TRIFLE: usize = 2 * RELIEF;

/// The part of the bound that must have come since the last search.
const WORTH_A_SEARCH: usize = 64;

/// The part of the bound up to which bodies are read ahead of their workers.
const READ_AHEAD_PART: usize = 2;

/// Bytes of a head that are always taken.
pub(crate) const ALWAYS_TAKEN: usize = 2 * READ_SIZE;

/// Memory is given back to the kernel when fewer than one in so many connections, or bytes held, are
/// left of the most there were,
const SUBSIDED: usize = 4;

/// if there were at least so many connections,
const FLOOD: usize = 256;

/// or bytes.
const FLOOD_BYTES: usize = 4 * 1024 * 1024;

/// Free memory that a resting gateway keeps.
const SPARE_AT_REST: usize = 256 * 1024;

/// The sum.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget {
    held: usize,
    /// The least that was held since relief was last looked for.
    left: usize,
    /// The most that was held since memory was last given back.
    most_held: usize,
    /// The most connections since then.
    most: usize,
}

impl MemoryBudget {
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// A connection that held `before` holds `now`.
    pub(crate) fn note(&mut self, before: usize, now: usize) {
        self.held = self.held.saturating_sub(before) + now;
        self.most_held = self.most_held.max(self.held);
        self.left = self.left.min(self.held);
    }

    /// Whether too much is held, and enough more than after the last search to look again: it may
    /// have found nobody who could give way.
    fn calls_for_relief(&self, limit: usize) -> bool {
        self.held > limit && self.held - self.left > limit / WORTH_A_SEARCH
    }

    /// Relief was looked for.
    fn searched(&mut self) {
        self.left = self.held;
    }

    /// There are `count` connections now: a flood may come and go between two looks.
    pub(crate) fn note_connections(&mut self, count: usize) {
        self.most = self.most.max(count);
    }

    /// Whether a flood of connections, of which `count` are left, or of bytes has subsided.
    fn has_subsided(&mut self, count: usize) -> bool {
        let by_count = self.most >= FLOOD && count < self.most / SUBSIDED;
        let by_bytes = self.most_held >= FLOOD_BYTES && self.held < self.most_held / SUBSIDED;
        if by_count || by_bytes {
            (self.most, self.most_held) = (count, self.held);
        }
        by_count || by_bytes
    }
}

impl Gateway {
    /// Counts anew what a connection holds. It may be gone afterwards.
    pub(crate) fn account(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let now = connection.footprint();
        let before = std::mem::replace(&mut connection.accounted, now);
        self.memory.note(before, now);
        let limit = self.resolved.settings.buffer_limit;
        if now > before && self.memory.calls_for_relief(limit) {
            self.relieve();
        }
    }

    /// After a flood: what it took is given back.
    pub(crate) fn give_memory_back(&mut self) {
        let count = self.connections.len();
        let subsided = self.memory.has_subsided(count);
        // Those who stayed longest may have had the last places: looked at again when they are gone.
        if subsided || self.connections.capacity() > SUBSIDED * count.max(FLOOD) {
            self.connections.shrink_to_fit();
        }
        if subsided {
            self.scratch.lent.clear();
            heap::trim();
        }
    }

    /// Before a rest: what was kept for the next request is given back where it is worth it.
    pub(crate) fn give_spare_back(&mut self) {
        self.scratch.lent.clear();
        http2::give_spare_back();
        heap::trim_spare(SPARE_AT_REST);
    }

    /// Whether more is held than may be.
    pub(crate) fn is_under_pressure(&self) -> bool {
        self.memory.held() > self.resolved.settings.buffer_limit
    }

    /// Whether nothing should be read that nobody waits for.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.memory.held() > self.resolved.settings.buffer_limit / READ_AHEAD_PART
    }

    /// Whether this connection's head must not grow now.
    pub(crate) fn head_is_too_much(&self, key: usize) -> bool {
        let unread = |connection: &Connection| connection.input.unread().len();
        self.is_under_pressure() && self.connections.get(key).map_or(0, unread) > ALWAYS_TAKEN
    }

    /// Whether it helps to end those who hold `together`.
    pub(crate) fn is_worth_ending(&self, together: usize) -> bool {
        together > self.resolved.settings.buffer_limit / TRIFLE
    }

    fn relieve(&mut self) {
        let limit = self.resolved.settings.buffer_limit;
        let enough = limit - limit / RELIEF;
        self.forget_contexts(enough);
        let all = self.connections.iter();
        let (unread, unfinished) = all.fold((0, 0), |(unread, unfinished), (_, one)| {
            (unread + one.unread(), unfinished + one.refusable())
        });
        if unfinished > unread {
            self.refuse_messages(enough);
            self.cut_readers(enough);
        } else {
            self.cut_readers(enough);
            self.refuse_messages(enough);
        }
        self.memory.searched();
    }

    fn cut_readers(&mut self, enough: usize) {
        let mut waiting: Vec<(Duration, usize, usize)> = self
            .connections
            .iter()
            .filter_map(|(key, one)| Some((one.stalled_since?, key, one.unread())))
            .collect();
        waiting.sort_unstable();
        let mut together = waiting.iter().map(|(.., unread)| unread).sum();
        let now = self.clock.now();
        for (since, key, unread) in waiting {
            if self.memory.held() <= enough || !self.is_worth_ending(together) {
                break;
            }
            together -= unread;
            self.log_cut(key, now.saturating_sub(since));
            self.handle_client_gone(key);
        }
    }

    fn log_cut(&mut self, key: usize, waited: Duration) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let address = connection.client().shown();
        let waited = waited.as_secs_f64();
        self.warn_of_client(format_args!(
            "Buffers are full (buffer_limit): cut off ip={address}, which took nothing for {waited:.1} s"
        ));
    }
}

impl Connection {
    /// Bytes that would be free if a client that takes nothing of its answer were cut.
    fn unread(&self) -> usize {
        self.stalled_since.map_or(0, |_| self.output.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_found_nobody_is_not_repeated_for_every_byte() {
        let mut memory = MemoryBudget::default();
        memory.note(0, 640);
        assert!(!memory.calls_for_relief(640));
        memory.note(0, 1);
        assert!(memory.calls_for_relief(640));
        memory.searched();
        memory.note(0, 10);
        assert!(!memory.calls_for_relief(640));
        memory.note(0, 1);
        assert!(memory.calls_for_relief(640));
        // What became less counts from there.
        memory.searched();
        memory.note(600, 0);
        memory.note(0, 599);
        assert!(memory.calls_for_relief(640));
    }

    #[test]
    fn a_flood_has_subsided_once() {
        let mut memory = MemoryBudget::default();
        memory.note(0, FLOOD_BYTES);
        memory.note_connections(FLOOD);
        assert!(!memory.has_subsided(FLOOD));
        memory.note(FLOOD_BYTES, FLOOD_BYTES / SUBSIDED - 1);
        assert!(memory.has_subsided(FLOOD), "of bytes");
        assert!(!memory.has_subsided(FLOOD));
        memory.note_connections(FLOOD);
        assert!(memory.has_subsided(FLOOD / SUBSIDED - 1), "of connections");
        assert!(!memory.has_subsided(0));
    }

    #[test]
    fn the_sum_follows_what_each_holds() {
        let mut memory = MemoryBudget::default();
        memory.note(0, 100);
        memory.note(0, 50);
        memory.note(100, 20);
        assert_eq!(memory.held(), 70);
        memory.note(50, 0);
        memory.note(20, 0);
        assert_eq!(memory.held(), 0);
    }
}
