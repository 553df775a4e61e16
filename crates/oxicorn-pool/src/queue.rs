//! Who gets which call: decides, performs nothing.
//!
//! Each application has one queue. A call is placed where it begins at once: at a worker that has the application and a
//! free lane; else it waits. A lane that becomes free takes the call that has waited longest among those its worker can
//! take. Nothing is ever placed ahead, because calls are long; so none waits behind another while a worker is free, and a
//! worker that dies has nothing but what runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::control::Application;

/// A call, by the broker's number.
pub(crate) type CallId = u64;
/// A worker, by the arbiter's number.
pub(crate) type WorkerId = u32;
/// An application, by its place in the list of all that were ever named.
pub(crate) type AppId = usize;

/// Why a call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No worker has the application, and none will.
    NoWorkers,
    /// So many calls wait for it already.
    Full(usize),
}

/// What became of a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It runs there, on this lane.
    Placed(WorkerId, usize),
    /// It waits.
    Queued,
    /// It is not taken.
    Refused(Refusal),
}

#[derive(Debug)]
struct App {
    path: String,
    /// Whether it has workers, or will have.
    expected: bool,
    /// Why it could not be loaded, if it could not.
    failure: Option<String>,
    /// In the order in which they came.
    waiting: VecDeque<CallId>,
    /// How many calls run.
    running: usize,
}

/// What a lane is busy with.
#[derive(Clone, Copy, Debug)]
struct Running {
    call: CallId,
    app: AppId,
}

#[derive(Debug)]
struct Worker {
    /// And how many calls of each it may run at once.
    apps: Vec<(AppId, usize)>,
    lanes: Vec<Option<Running>>,
    takes_calls: bool,
}

impl Worker {
    fn running(&self) -> usize {
        self.lanes.iter().flatten().count()
    }

    fn free_lane(&self) -> Option<usize> {
        let free = self.lanes.iter().position(Option::is_none);
        free.filter(|_| self.takes_calls)
    }

    fn has(&self, app: AppId) -> bool {
        self.apps.iter().any(|(held, _)| *held == app)
    }

    /// The applications of which it may run another call, if a lane is free.
    fn can_take(&self) -> impl Iterator<Item = AppId> + '_ {
        let running = |app: AppId| {
            let lanes = self.lanes.iter().flatten();
            lanes.filter(|one| one.app == app).count()
        };
        let apps = self.apps.iter();
        apps.filter(move |(app, most)| *most >= self.lanes.len() || running(*app) < *most)
            .map(|(app, _)| *app)
    }
}

/// Applications, workers, and what waits and runs.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    apps: Vec<App>,
    by_path: HashMap<String, AppId>,
    workers: BTreeMap<WorkerId, Worker>,
    limit: usize,
    /// Applications whose numbers have changed.
    changed: BTreeSet<AppId>,
}

impl Queue {
    /// How many calls may wait for one application; 0: any number.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn app(&self, path: &str) -> Option<AppId> {
        self.by_path.get(path).copied()
    }

    pub(crate) fn path(&self, app: AppId) -> &str {
        &self.apps[app].path
    }

    /// Every application with whether it has or will have workers, and how many calls wait for it.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (&str, bool, usize)> {
        let each = self.apps.iter();
        each.map(|app| (app.path.as_str(), app.expected, app.waiting.len()))
    }

    /// Gives an application whose numbers have changed since it was given last: it, its calls that wait, and those that run.
    pub(crate) fn next_change(&mut self) -> Option<(AppId, usize, usize)> {
        let app = self.changed.pop_first()?;
        let found = &self.apps[app];
        Some((app, found.waiting.len(), found.running))
    }

    /// The call that has waited longest for the application.
    pub(crate) fn oldest_waiting(&self, app: AppId) -> Option<CallId> {
        self.apps[app].waiting.front().copied()
    }

    /// Why the application could not be loaded, if it could not.
    pub(crate) fn failure(&self, path: &str) -> Option<&str> {
        self.apps[self.app(path)?].failure.as_deref()
    }

    fn name(&mut self, path: &str) -> AppId {
        if let Some(&app) = self.by_path.get(path) {
            return app;
        }
        self.apps.push(App {
            path: path.to_owned(),
            expected: true,
            failure: None,
            waiting: VecDeque::new(),
            running: 0,
        });
        let app = self.apps.len() - 1;
        self.by_path.insert(path.to_owned(), app);
        app
    }

    /// These are all applications there are, and whether each has or will have workers. Gives the calls that wait in vain.
    pub(crate) fn expect(&mut self, all: &[Application]) -> Vec<CallId> {
        for app in &mut self.apps {
            app.expected = false;
            app.failure = None;
        }
        for Application {
            path,
            expected,
            failure,
        } in all
        {
            let app = self.name(path);
            self.apps[app].expected = *expected;
            self.apps[app].failure.clone_from(failure);
        }
        let mut in_vain = Vec::new();
        for app in 0..self.apps.len() {
            if !self.apps[app].expected && !self.has_worker(app) {
                in_vain.extend(self.apps[app].waiting.drain(..));
                self.changed.insert(app);
            }
        }
        in_vain
    }

    fn has_worker(&self, app: AppId) -> bool {
        let mut workers = self.workers.values();
        workers.any(|worker| worker.takes_calls && worker.has(app))
    }

    /// A worker that takes no calls yet: applications, and how many calls of each it may run at once.
    pub(crate) fn add_worker<'a>(
        &mut self,
        worker: WorkerId,
        apps: impl Iterator<Item = (&'a String, usize)>,
        lanes: usize,
    ) {
        let apps = apps.map(|(path, most)| (self.name(path), most)).collect();
        let lanes = vec![None; lanes];
        self.workers.insert(
            worker,
            Worker {
                apps,
                lanes,
                takes_calls: false,
            },
        );
    }

    /// Of its applications it has these, and no others.
    pub(crate) fn keep_apps(&mut self, worker: WorkerId, paths: &[String]) {
        let kept: Vec<AppId> = paths.iter().map(|path| self.name(path)).collect();
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.apps.retain(|(app, _)| kept.contains(app));
        }
    }

    /// It takes calls from now on, or no more.
    pub(crate) fn set_takes_calls(&mut self, worker: WorkerId, takes_calls: bool) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.takes_calls = takes_calls;
        }
    }

    /// Gives what ran there.
    pub(crate) fn remove_worker(&mut self, worker: WorkerId) -> Vec<CallId> {
        let removed = self.workers.remove(&worker);
        let running = removed.map_or_else(Vec::new, |worker| worker.lanes);
        let running: Vec<Running> = running.into_iter().flatten().collect();
        for one in &running {
            self.has_ended(one.app);
        }
        running.iter().map(|one| one.call).collect()
    }

    pub(crate) fn is_idle(&self, worker: WorkerId) -> bool {
        let found = self.workers.get(&worker);
        found.is_none_or(|worker| worker.running() == 0)
    }

    pub(crate) fn running(&self, worker: WorkerId) -> impl Iterator<Item = CallId> + '_ {
        let lanes = self.workers.get(&worker).map(|worker| &worker.lanes);
        lanes.into_iter().flatten().flatten().map(|one| one.call)
    }

    pub(crate) fn running_at(&self, worker: WorkerId, lane: usize) -> Option<CallId> {
        let running = self.workers.get(&worker)?.lanes.get(lane)?;
        running.map(|one| one.call)
    }

    fn has_begun(&mut self, app: AppId) {
        self.apps[app].running += 1;
        self.changed.insert(app);
    }

    fn has_ended(&mut self, app: AppId) {
        self.apps[app].running -= 1;
        self.changed.insert(app);
    }

    /// A new call: to the worker with the least to do, if one is free.
    pub(crate) fn enter(&mut self, call: CallId, app: AppId) -> Fate {
        let able = self.workers.iter_mut().filter_map(|(&id, worker)| {
            let lane = worker.free_lane()?;
            let is_able = worker.can_take().any(|able| able == app);
            is_able.then(|| (worker.running(), id, lane, worker))
        });
        if let Some((_, id, lane, worker)) = able.min_by_key(|(running, ..)| *running) {
            worker.lanes[lane] = Some(Running { call, app });
            self.has_begun(app);
            return Fate::Placed(id, lane);
        }
        let is_hopeless = !self.apps[app].expected && !self.has_worker(app);
        let waiting = &mut self.apps[app].waiting;
        if is_hopeless {
            return Fate::Refused(Refusal::NoWorkers);
        }
        if self.limit > 0 && waiting.len() >= self.limit {
            return Fate::Refused(Refusal::Full(self.limit));
        }
        waiting.push_back(call);
        self.changed.insert(app);
        Fate::Queued
    }

    /// A call that was placed and not begun: before all others, or to who is free.
    pub(crate) fn enter_again(&mut self, call: CallId, app: AppId) -> Fate {
        let limit = std::mem::take(&mut self.limit);
        let fate = self.enter(call, app);
        self.limit = limit;
        if fate == Fate::Queued {
            let waiting = &mut self.apps[app].waiting;
            waiting.pop_back();
            waiting.push_front(call);
        }
        fate
    }

    /// A call that waits is not wanted any more.
    pub(crate) fn leave(&mut self, call: CallId, app: AppId) {
        self.apps[app].waiting.retain(|waiting| *waiting != call);
        self.changed.insert(app);
    }

    /// A lane's call has ended.
    pub(crate) fn end(&mut self, worker: WorkerId, lane: usize) {
        if let Some(worker) = self.workers.get_mut(&worker)
            && let Some(running) = worker.lanes.get_mut(lane)
            && let Some(ended) = running.take()
        {
            self.has_ended(ended.app);
        }
    }

    /// The next call for a free lane of this worker.
    pub(crate) fn next_for(&mut self, worker: WorkerId) -> Option<(usize, CallId)> {
        let worker = self.workers.get_mut(&worker)?;
        let lane = worker.free_lane()?;
        let apps = &mut self.apps;
        // Calls are numbered in the order in which they came.
        let heads = worker.can_take().filter_map(|app| {
            let head = apps[app].waiting.front()?;
            Some((*head, app))
        });
        let (call, app) = heads.min()?;
        apps[app].waiting.pop_front();
        worker.lanes[lane] = Some(Running { call, app });
        self.has_begun(app);
        Some((lane, call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps(expected: &[(&str, bool)]) -> Vec<Application> {
        let app = |&(path, expected): &(&str, bool)| Application {
            path: path.to_owned(),
            expected,
            failure: None,
        };
        expected.iter().map(app).collect()
    }

    /// A worker whose lanes are for all of its applications.
    fn add_worker(queue: &mut Queue, worker: WorkerId, paths: &[&str], lanes: usize) {
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        queue.add_worker(worker, paths.iter().map(|path| (path, lanes)), lanes);
    }

    /// Worker 1 has both applications and two lanes, worker 2 has "b" and one.
    fn two_workers() -> Queue {
        let mut queue = Queue::default();
        queue.expect(&apps(&[("a", true), ("b", true)]));
        add_worker(&mut queue, 1, &["a", "b"], 2);
        add_worker(&mut queue, 2, &["b"], 1);
        for worker in [1, 2] {
            queue.set_takes_calls(worker, true);
        }
        queue
    }

    #[test]
    fn calls_go_to_who_is_free_and_wait_only_when_nobody_is() {
        let mut queue = two_workers();
        let [a, b] = ["a", "b"].map(|path| queue.app(path).expect("it is named"));
        assert_eq!(queue.enter(1, a), Fate::Placed(1, 0));
        // Worker 2 has nothing to do, worker 1 has.
        assert_eq!(queue.enter(2, b), Fate::Placed(2, 0));
        assert_eq!(queue.enter(3, b), Fate::Placed(1, 1));
        for call in 4..=6 {
            assert_eq!(
                queue.enter(call, if call == 5 { a } else { b }),
                Fate::Queued
            );
        }
        queue.end(2, 0);
        assert_eq!(queue.next_for(2), Some((0, 4)));
        queue.end(1, 0);
        // The oldest of both queues.
        assert_eq!(queue.next_for(1), Some((0, 5)));
        assert_eq!(queue.next_for(1), None);
        queue.end(1, 1);
        assert_eq!(queue.next_for(1), Some((1, 6)));
    }

    #[test]
    fn a_queue_has_a_bound_and_who_leaves_makes_room() {
        let mut queue = two_workers();
        queue.set_limit(1);
        let b = queue.app("b").expect("it is named");
        for call in 1..=3 {
            assert!(matches!(queue.enter(call, b), Fate::Placed(..)));
        }
        assert_eq!(queue.enter(4, b), Fate::Queued);
        assert_eq!(queue.enter(5, b), Fate::Refused(Refusal::Full(1)));
        queue.leave(4, b);
        assert_eq!(queue.enter(6, b), Fate::Queued);
    }

    #[test]
    fn a_dead_worker_gives_back_what_ran_and_the_rest_waits_for_others() {
        let mut queue = two_workers();
        let a = queue.app("a").expect("it is named");
        for call in 1..=3 {
            queue.enter(call, a);
        }
        assert_eq!(queue.remove_worker(1), [1, 2]);
        assert_eq!(queue.next_for(2), None);
        add_worker(&mut queue, 3, &["a"], 1);
        assert_eq!(queue.next_for(3), None);
        queue.set_takes_calls(3, true);
        assert_eq!(queue.next_for(3), Some((0, 3)));
    }

    #[test]
    fn without_workers_to_come_calls_fail() {
        let mut queue = two_workers();
        let a = queue.app("a").expect("it is named");
        queue.remove_worker(1);
        assert_eq!(queue.enter(1, a), Fate::Queued);
        assert_eq!(queue.expect(&apps(&[("a", false), ("b", true)])), [1]);
        assert_eq!(queue.enter(2, a), Fate::Refused(Refusal::NoWorkers));
    }

    #[test]
    fn numbers_of_an_application_follow_its_calls() {
        let mut queue = two_workers();
        let [a, b] = ["a", "b"].map(|path| queue.app(path).expect("it is named"));
        assert_eq!(queue.next_change(), None);
        for call in 1..=3 {
            queue.enter(call, a);
        }
        queue.enter(4, b);
        assert_eq!(queue.next_change(), Some((a, 1, 2)));
        assert_eq!(queue.next_change(), Some((b, 0, 1)));
        assert_eq!(queue.next_change(), None);
        queue.end(1, 0);
        queue.end(1, 0);
        assert_eq!(queue.next_change(), Some((a, 1, 1)));
        queue.next_for(1);
        assert_eq!(queue.next_change(), Some((a, 0, 2)));
        queue.remove_worker(1);
        assert_eq!(queue.next_change(), Some((a, 0, 0)));
        queue.enter(5, a);
        queue.leave(5, a);
        assert_eq!(queue.next_change(), Some((a, 0, 0)));
        queue.enter(6, a);
        queue.expect(&[]);
        assert_eq!(queue.next_change(), Some((a, 0, 0)));
    }

    #[test]
    fn an_application_with_a_bound_of_its_own_leaves_lanes_to_the_others() {
        let mut queue = Queue::default();
        queue.expect(&apps(&[("a", true), ("b", true)]));
        let paths = ["a".to_owned(), "b".to_owned()];
        queue.add_worker(1, paths.iter().zip([1, 2]), 3);
        queue.set_takes_calls(1, true);
        let [a, b] = ["a", "b"].map(|path| queue.app(path).expect("it is named"));
        assert_eq!(queue.enter(1, a), Fate::Placed(1, 0));
        assert_eq!(queue.enter(2, a), Fate::Queued);
        assert_eq!(queue.next_for(1), None);
        assert_eq!(queue.enter(3, b), Fate::Placed(1, 1));
        assert_eq!(queue.enter(4, b), Fate::Placed(1, 2));
        assert_eq!(queue.enter(5, b), Fate::Queued);
        queue.end(1, 1);
        // The older one has no right to the lane.
        assert_eq!(queue.next_for(1), Some((1, 5)));
        queue.end(1, 0);
        assert_eq!(queue.next_for(1), Some((0, 2)));
    }

    #[test]
    fn who_retires_gets_nothing_more() {
        let mut queue = two_workers();
        let a = queue.app("a").expect("it is named");
        queue.enter(1, a);
        queue.set_takes_calls(1, false);
        assert!(!queue.is_idle(1));
        queue.end(1, 0);
        assert!(queue.is_idle(1));
        assert_eq!(queue.enter(2, a), Fate::Queued);
        assert_eq!(queue.next_for(1), None);
    }
}
