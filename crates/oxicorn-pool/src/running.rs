//! The calls that run, as the scoreboard shows them: each by itself as long as there is room, and since when the oldest of
//! each application runs and waits.

use std::collections::BTreeSet;
use std::time::Duration;

use oxicorn_link::scoreboard::{CallGauge, POOL_CALLS, RunningCall};

use crate::broker::Broker;
use crate::calls::Call;
use crate::queue::{AppId, CallId};

/// Which call is shown where. Those that find no room wait for it, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Places {
    free: BTreeSet<usize>,
    /// Places below it have been used.
    used: usize,
    unshown: BTreeSet<CallId>,
}

impl Places {
    /// A place for a call that begins; `None`: there is none now.
    fn enter(&mut self, call: CallId) -> Option<usize> {
        if let Some(place) = self.free.pop_first() {
            return Some(place);
        }
        if self.used < POOL_CALLS {
            self.used += 1;
            return Some(self.used - 1);
        }
        self.unshown.insert(call);
        None
    }

    /// A call has ended that was shown there, or nowhere. Gives the one that gets its place.
    fn leave(&mut self, call: CallId, place: Option<usize>) -> Option<CallId> {
        let Some(place) = place else {
            self.unshown.remove(&call);
            return None;
        };
        let next = self.unshown.pop_first();
        if next.is_none() {
            self.free.insert(place);
        }
        next
    }
}

/// The calls of each application that run, by when they began.
#[derive(Debug, Default)]
pub(crate) struct Begun(Vec<BTreeSet<(Duration, CallId)>>);

impl Begun {
    fn of(&mut self, app: AppId) -> &mut BTreeSet<(Duration, CallId)> {
        if self.0.len() <= app {
            self.0.resize_with(app + 1, BTreeSet::new);
        }
        &mut self.0[app]
    }
}

impl Broker {
    /// A call runs from now on.
    pub(crate) fn show_running(&mut self, call: CallId) {
        let Some(entry) = self.calls.get_mut(&call) else {
            return;
        };
        let Some((begun, ..)) = entry.begun else {
            return;
        };
        self.begun.of(entry.app).insert((begun, call));
        entry.place = self.places.enter(call);
        self.write_place(call);
    }

    /// It runs no more.
    pub(crate) fn hide_running(&mut self, call: CallId, entry: &mut Call) {
        let Some((begun, ..)) = entry.begun else {
            return;
        };
        self.begun.of(entry.app).remove(&(begun, call));
        let place = entry.place.take();
        let next = self.places.leave(call, place);
        let next_entry = next.and_then(|next| self.calls.get_mut(&next));
        match (next, next_entry, place) {
            (Some(next), Some(found), _) => {
                found.place = place;
                self.write_place(next);
            }
            (_, _, Some(place)) => self.figures.running_calls.hide(place),
            _ => {}
        }
    }

    fn write_place(&self, call: CallId) {
        let Some(entry) = self.calls.get(&call) else {
            return;
        };
        let (Some((begun, worker, _)), Some(place)) = (entry.begun, entry.place) else {
            return;
        };
        let caller = self.callers.get(entry.caller);
        let worker = self.workers.get(&worker);
        let shown = RunningCall {
            name: format!("{}.{}", self.queue.path(entry.app), entry.action),
            worker: worker.map_or(0, |worker| worker.about.pid),
            caller: caller.and_then(|caller| caller.pid).unwrap_or(0),
            received: entry.received,
            begun,
        };
        self.figures.running_calls.show(place, &shown);
    }

    /// Since when the oldest call of an application waits, and since when it runs.
    pub(crate) fn oldest(&mut self, app: AppId) -> [(CallGauge, Option<Duration>); 2] {
        let waits = self.queue.oldest_waiting(app);
        let waits = waits.and_then(|call| self.calls.get(&call));
        let runs = self.begun.of(app).first();
        [
            (CallGauge::QueuedSince, waits.map(|call| call.received)),
            (CallGauge::RunningSince, runs.map(|(begun, _)| *begun)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_found_no_room_gets_the_first_place_that_is_free() {
        let mut places = Places::default();
        let count = POOL_CALLS as CallId;
        for (place, call) in (0..count).enumerate() {
            assert_eq!(places.enter(call), Some(place));
        }
        for call in count..count + 3 {
            assert_eq!(places.enter(call), None);
        }
        assert_eq!(places.leave(count, None), None);
        assert_eq!(places.leave(7, Some(7)), Some(count + 1));
        assert_eq!(places.leave(8, Some(8)), Some(count + 2));
        assert_eq!(places.leave(count + 1, Some(7)), None);
        assert_eq!(places.leave(3, Some(3)), None);
        assert_eq!(places.enter(1000), Some(3));
        assert_eq!(places.enter(1001), Some(7));
    }
}
