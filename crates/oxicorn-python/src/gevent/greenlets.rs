//! The greenlets that serve requests, and how they wait for the link.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use oxicorn_link::{DescriptorError, Descriptors, StreamId};
use pyo3::intern;
use pyo3::prelude::*;

use crate::locks::lock;
use crate::worker::link::WorkerLink;
use crate::worker::wait::{News, WAIT, Wait, Waiter};

/// First and longest pause of a greenlet that finds the ring of responses full. The gateway empties it without waiting
/// for any client, so it is a matter of microseconds, or of a gateway that is just being replaced.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Greenlets {
    /// What serves which request; an entry is there from the claim to the end of the call.
    serving: Mutex<HashMap<StreamId, Entry>>,
    /// `gevent.hub.Waiter` of those that wait for events.
    waiting: Mutex<HashMap<StreamId, Py<PyAny>>>,
    gevent: Gevent,
}

/// What is called of gevent, and the worker.
#[derive(Debug)]
struct Gevent {
    waiter_class: Py<PyAny>,
    exit_class: Py<PyAny>,
    sleep: Py<PyAny>,
    /// `hub.loop.run_callback`
    run_callback: Py<PyAny>,
    worker: Py<PyAny>,
}

#[derive(Debug)]
struct Entry {
    greenlet: Py<PyAny>,
    /// One that was killed before its start would never run, and its request never end.
    started: bool,
}

impl Greenlets {
    /// Of `hub`, which runs in this thread.
    pub(super) fn new(worker: &Bound<'_, PyAny>, hub: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = worker.py();
        let gevent = py.import("gevent")?;
        Ok(Self {
            serving: Mutex::default(),
            waiting: Mutex::default(),
            gevent: Gevent {
                waiter_class: py.import("gevent.hub")?.getattr("Waiter")?.unbind(),
                exit_class: gevent.getattr("GreenletExit")?.unbind(),
                sleep: gevent.getattr("sleep")?.unbind(),
                run_callback: hub.getattr("loop")?.getattr("run_callback")?.unbind(),
                worker: worker.clone().unbind(),
            },
        })
    }

    /// `greenlet` will serve the request of `stream`.
    pub(super) fn enter(&self, stream: StreamId, greenlet: Py<PyAny>) {
        let entry = Entry {
            greenlet,
            started: false,
        };
        lock(&self.serving).insert(stream, entry);
    }

    /// It runs.
    pub(super) fn note_start(&self, stream: StreamId) {
        if let Some(entry) = lock(&self.serving).get_mut(&stream) {
            entry.started = true;
        }
    }

    /// The call is over: whether it was the last one.
    pub(super) fn strike_out(&self, stream: StreamId) -> bool {
        let mut serving = lock(&self.serving);
        let struck_out = serving.remove(&stream);
        let idle = serving.is_empty();
        drop(serving);
        drop(struck_out);
        idle
    }

    /// Calls that are not over.
    pub(super) fn active(&self) -> usize {
        lock(&self.serving).len()
    }

    /// The greenlets that run, to be ended.
    pub(super) fn started(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        lock(&self.serving)
            .values()
            .filter(|entry| entry.started)
            .map(|entry| entry.greenlet.clone_ref(py))
            .collect()
    }

    /// Has the hub call something when it has done what lies before.
    pub(super) fn call_soon(&self, py: Python<'_>, what: &Py<PyAny>) -> PyResult<()> {
        self.gevent.run_callback.bind(py).call1((what,)).map(drop)
    }

    /// All that wait look again: the gateway they wait for may be gone.
    pub(super) fn wake_all(&self, py: Python<'_>) -> PyResult<()> {
        let waiting: Vec<_> = lock(&self.waiting)
            .values()
            .map(|waiter| waiter.clone_ref(py))
            .collect();
        waiting
            .iter()
            .try_for_each(|waiter| self.switch_soon(waiter.bind(py)))
    }

    fn switch_soon(&self, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiter.py();
        let switch = waiter.getattr(intern!(py, "switch"))?;
        self.gevent
            .run_callback
            .bind(py)
            .call1((switch, py.None()))
            .map(drop)
    }

    fn sleep(&self, py: Python<'_>, duration: Duration) -> PyResult<()> {
        let sleep = self.gevent.sleep.bind(py);
        sleep.call1((duration.as_secs_f64(),)).map(drop)
    }

    fn expire(&self, py: Python<'_>, stream: StreamId) -> PyResult<()> {
        let greenlet = lock(&self.serving)
            .get(&stream)
            .filter(|entry| entry.started)
            .map(|entry| entry.greenlet.clone_ref(py));
        let Some(greenlet) = greenlet else {
            return Ok(());
        };
        let worker = self.gevent.worker.bind(py);
        worker
            .call_method1(intern!(py, "request_expired"), (greenlet,))
            .map(drop)
    }
}

impl Wait for Greenlets {
    fn for_events<'a>(
        &'a self,
        _py: Python<'_>,
        _link: &WorkerLink,
        stream: StreamId,
    ) -> Box<dyn Waiter + 'a> {
        Box::new(Event {
            greenlets: self,
            stream,
        })
    }

    fn for_room<'a>(
        &'a self,
        _py: Python<'_>,
        _link: &WorkerLink,
        _len: usize,
    ) -> Box<dyn Waiter + 'a> {
        Box::new(Room {
            greenlets: self,
            pause: FIRST_PAUSE,
        })
    }

    fn hand_out(&self, py: Python<'_>, _link: &WorkerLink, news: &[News]) -> PyResult<()> {
        for one in news {
            let waiter = lock(&self.waiting)
                .get(&one.stream)
                .map(|waiter| waiter.clone_ref(py));
            if let Some(waiter) = waiter {
                self.switch_soon(waiter.bind(py))?;
            }
            if one.expired {
                self.expire(py, one.stream)?;
            }
        }
        Ok(())
    }

    fn send_descriptor(
        &self,
        py: Python<'_>,
        descriptors: &Descriptors,
        stream: StreamId,
        file: BorrowedFd<'_>,
    ) -> PyResult<Result<(), DescriptorError>> {
        let began = Instant::now();
        loop {
            match descriptors.send(stream, file, Duration::ZERO) {
                Err(DescriptorError::Full) if began.elapsed() < WAIT => {
                    self.sleep(py, FIRST_PAUSE)?;
                }
                other => return Ok(other),
            }
        }
    }

    fn tells_of_expiry(&self) -> bool {
        true
    }

    fn is_exit(&self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance(py, self.gevent.exit_class.bind(py))
    }
}

/// A greenlet waits for events about its stream.
struct Event<'a> {
    greenlets: &'a Greenlets,
    stream: StreamId,
}

impl Waiter for Event<'_> {
    /// The hub looks for events, and at each beat of the sentinel for the gateway, so no time is set.
    fn wait(&mut self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.greenlets.gevent.waiter_class.bind(py).call0()?;
        let waiting = &self.greenlets.waiting;
        lock(waiting).insert(self.stream, waiter.clone().unbind());
        let switched = waiter.call_method0(intern!(py, "get"));
        let entry = lock(waiting).remove(&self.stream);
        drop(entry);
        switched.map(drop)
    }
}

/// A greenlet waits for room in the ring. Nobody rings for that: it looks again in ever longer pauses.
struct Room<'a> {
    greenlets: &'a Greenlets,
    pause: Duration,
}

impl Waiter for Room<'_> {
    fn wait(&mut self, py: Python<'_>) -> PyResult<()> {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        self.greenlets.sleep(py, pause)
    }
}
