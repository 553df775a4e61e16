//! What the hub calls: reads the rings, starts a greenlet for each request.
//!
//! A turn that has started something asks the hub for another turn behind the greenlets it has started, without
//! telling the gateway that this end sleeps: under load the two ends never pay for a wake-up. Only a turn that finds
//! nothing lets the doorbell be rung.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oxicorn_link::StreamId;
use oxicorn_os::time;
use pyo3::intern;
use pyo3::prelude::*;

use super::{Greenlets, HubCall};
use crate::forked;
use crate::worker::{Claim, LoopLink, Standing, WorkerContext};
use crate::wsgi::Bridge;

/// Requests started in one turn before what they have started runs.
const CLAIMS_PER_TURN: usize = 64;

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct GeventServer {
    pub(super) bridge: Arc<Bridge>,
    pub(super) greenlets: Arc<Greenlets>,
    link: Arc<LoopLink>,
    /// `gevent.Greenlet.spawn`
    spawn: Py<PyAny>,
    /// Called when the worker is told to stop, when it is released, and when nothing is left to do then.
    notify: OnceLock<Py<PyAny>>,
    /// `self.turn`
    turn: OnceLock<Py<PyAny>>,
    /// What `notify` was last called for.
    seen: AtomicU8,
}

impl GeventServer {
    fn take_requests(slf: &Bound<'_, Self>) -> PyResult<usize> {
        let py = slf.py();
        let this = slf.get();
        for count in 0..CLAIMS_PER_TURN {
            if !this.link.is_alive() {
                return Ok(count);
            }
            let mut payload = Vec::new();
            let Some(claimed) = this.link.claim(&mut payload) else {
                return Ok(count);
            };
            let claim = Claim {
                stream: claimed.stream,
                flags: claimed.flags,
                since: time::monotonic(),
                waited: Duration::ZERO,
            };
            Self::start(slf, claim, payload)?;
            this.bridge.context().count(py)?;
        }
        Ok(CLAIMS_PER_TURN)
    }

    /// Has a greenlet serve a request; it runs when the hub comes to it.
    fn start(slf: &Bound<'_, Self>, claim: Claim, payload: Vec<u8>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let stream = claim.stream;
        this.bridge.context().begin_request(claim.since);
        let call = HubCall {
            server: slf.clone().unbind(),
            claim,
            payload,
        };
        let greenlet = this.spawn.bind(py).call1((call,))?;
        this.greenlets.enter(stream, greenlet.unbind());
        Ok(())
    }

    /// The call for `stream` is over.
    pub(super) fn end_call(&self, py: Python<'_>, stream: StreamId) -> PyResult<()> {
        let idle = self.greenlets.strike_out(stream);
        if idle && self.standing() != Standing::Serving {
            self.notify(py)?;
        }
        Ok(())
    }

    fn standing(&self) -> Standing {
        self.link.standing(self.bridge.context().is_told())
    }

    fn notify(&self, py: Python<'_>) -> PyResult<()> {
        match self.notify.get() {
            Some(notify) => notify.bind(py).call0().map(drop),
            None => Ok(()),
        }
    }

    fn end_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        self.bridge.context().end_if_forked(py, error)
    }
}

#[pymethods]
impl GeventServer {
    /// Serves `application` in the worker of `context`, in greenlets of `hub`, which runs in this thread; the standard
    /// library is patched.
    #[new]
    fn new(
        context: &Bound<'_, WorkerContext>,
        application: &Bound<'_, PyAny>,
        hub: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = context.py();
        let (link, responder) = context.get().hub()?;
        let worker = context.get().worker()?.bind(py);
        let greenlets = Arc::new(Greenlets::new(worker, hub)?);
        responder.wait_by(Arc::clone(&greenlets) as _);
        Ok(Self {
            bridge: Arc::new(Bridge::new(context, responder, application, true)?),
            greenlets,
            link: Arc::clone(link),
            spawn: py.import("gevent")?.getattr("spawn")?.unbind(),
            notify: OnceLock::new(),
            turn: OnceLock::new(),
            seen: AtomicU8::new(Standing::Serving as u8),
        })
    }

    /// The class overrides `handle_request`: `handler` is called with each request instead.
    fn hand_requests_to(&self, handler: Py<PyAny>) {
        self.bridge.hand_requests_to(handler);
    }

    /// The descriptor that is readable when `wake` is to be called.
    fn fileno(&self) -> i32 {
        self.link.doorbell_number()
    }

    /// Begins to serve; `notify` is called when the worker is told to stop, when it is released, and when
    /// nothing is left to do after that.
    fn begin(slf: &Bound<'_, Self>, notify: Py<PyAny>) -> PyResult<()> {
        let this = slf.get();
        let _ = this.notify.set(notify);
        let _ = this.turn.set(slf.getattr("turn")?.unbind());
        this.link.set_running(true);
        Self::turn(slf)
    }

    /// The hub does not turn any more: nobody shall wait for that.
    fn end(&self) {
        self.link.set_running(false);
    }

    /// The doorbell has rung.
    fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        // The bell is the parent's.
        if forked::is_forked() {
            return Ok(());
        }
        slf.get().link.sleep_end();
        Self::turn(slf)
    }

    /// Does what there is to do, and sees to it that this is called again when there is more.
    fn turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // A copy of the hub in a forked process has nothing to do here.
        if forked::is_forked() {
            return Ok(());
        }
        let handled = py.check_signals();
        this.end_if_forked(py, handled.as_ref().err())?;
        handled?;
        let any_events = this.bridge.responder().take_events(py)?;
        let requests = Self::take_requests(slf)?;
        let standing = this.standing() as u8;
        if this.seen.swap(standing, Ordering::Relaxed) != standing {
            this.notify(py)?;
        }
        if !any_events && requests == 0 && this.link.has_lost_gateway(py) {
            // A new gateway has rung, or it is a beat of the sentinel.
            this.bridge.responder().introduce_calls();
            this.greenlets.wake_all(py)?;
        }
        if (requests > 0 || !this.link.sleep_begin())
            && let Some(turn) = this.turn.get()
        {
            this.greenlets.call_soon(py, turn)?;
        }
        Ok(())
    }

    /// Calls that are not over.
    fn active(&self) -> usize {
        self.greenlets.active()
    }

    /// Ends every call that runs, because the worker ends.
    fn cancel_all(&self, py: Python<'_>) -> PyResult<()> {
        self.bridge.responder().stop();
        for greenlet in self.greenlets.started(py) {
            let unblocking = pyo3::types::PyDict::new(py);
            unblocking.set_item(intern!(py, "block"), false)?;
            let kill = greenlet.bind(py).getattr(intern!(py, "kill"))?;
            kill.call((), Some(&unblocking))?;
        }
        Ok(())
    }
}
