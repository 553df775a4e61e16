//! A claimed request on its way to the application, by way of the worker class where that overrides `handle_request`.

use std::sync::{Arc, OnceLock};

use oxicorn_link::StreamId;
use oxicorn_link::wire::flags;
use pyo3::prelude::*;

use super::call::Application;
use super::environ::Constants;
use super::handed::HandedRequest;
use crate::worker::calls::Beginning;
use crate::worker::responder::Responder;
use crate::worker::{Claim, WorkerContext};

/// The application of a worker, and what it is answered with.
pub(crate) struct Bridge {
    context: Py<WorkerContext>,
    responder: Arc<Responder>,
    application: Application,
    /// `_hand_request` of a class that overrides `handle_request`.
    handler: OnceLock<Py<PyAny>>,
}

impl Bridge {
    /// `multithread`: several requests are served at a time.
    pub(crate) fn new(
        context: &Bound<'_, WorkerContext>,
        responder: &Arc<Responder>,
        application: &Bound<'_, PyAny>,
        multithread: bool,
    ) -> PyResult<Self> {
        let worker = context.get().worker()?.bind(context.py());
        let constants = Constants::of(worker, multithread)?;
        let access = Arc::clone(context.get().access());
        Ok(Self {
            context: context.clone().unbind(),
            responder: Arc::clone(responder),
            application: Application::new(application, worker, constants, access)?,
            handler: OnceLock::new(),
        })
    }

    pub(crate) fn context(&self) -> &WorkerContext {
        self.context.get()
    }

    pub(crate) fn responder(&self) -> &Arc<Responder> {
        &self.responder
    }

    /// The class overrides `handle_request`: `handler` is called with each request instead.
    pub(crate) fn hand_requests_to(&self, handler: Py<PyAny>) {
        let _ = self.handler.set(handler);
    }

    /// Serves a request that was claimed with `payload`.
    pub(crate) fn serve(
        self: &Arc<Self>,
        py: Python<'_>,
        claim: &Claim,
        payload: &[u8],
    ) -> PyResult<()> {
        let spilled;
        let payload = if claim.flags & flags::SPILLED == 0 {
            payload
        } else {
            spilled = self.responder.read_spilled(py, claim.stream)?;
            &spilled
        };
        let beginning = Beginning {
            since: claim.since,
            waited: claim.waited,
        };
        let result = match self.handler.get() {
            None => self.call(py, claim.stream, beginning, payload, None),
            Some(handler) => {
                let request =
                    HandedRequest::new(Arc::clone(self), claim.stream, beginning, payload);
                self.hand_over(&Bound::new(py, request)?, handler.bind(py))
            }
        };
        self.context().end_if_forked(py, result.as_ref().err())?;
        result
    }

    /// `request`: the object that stands for it already, if one does.
    pub(super) fn call(
        &self,
        py: Python<'_>,
        stream: StreamId,
        beginning: Beginning,
        payload: &[u8],
        request: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.application
            .serve(py, &self.responder, stream, beginning, payload, request)
    }

    /// Gives a request to the class, which overrides how one is handled.
    fn hand_over(
        &self,
        handed: &Bound<'_, HandedRequest>,
        handler: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = handed.py();
        let given = HandedRequest::give_to(handed, handler);
        self.context().end_if_forked(py, given.as_ref().err())?;
        match handed.get().take() {
            Some(payload) => {
                let stream = handed.get().stream;
                self.application
                    .refuse(py, &self.responder, stream, &payload, given)
            }
            None => self.application.tell(py, given),
        }
    }
}
