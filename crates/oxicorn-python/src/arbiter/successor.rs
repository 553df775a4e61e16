//! Two arbiters on the same listeners (USR2): starting the other one, noticing its end, taking its place.

use oxicorn_arbiter::Event;
use oxicorn_gateway::control::ToGateway;
use oxicorn_settings::BindAddress;
use pyo3::prelude::*;

use super::actions::kind_of;
use super::fork::{self, Side};
use super::gateway::{GatewayLogging, gateway_settings};
use super::generation::with_settings;
use super::listeners::Listener;
use super::supervisor::Supervisor;
use super::{Outcome, SuccessorChild, log};
use crate::worker::WorkerKind;

impl Supervisor<'_> {
    pub(crate) fn start_successor(&mut self) -> PyResult<Option<Outcome>> {
        let mut listeners = Vec::with_capacity(self.listeners.len());
        for listener in &self.listeners {
            listeners.push(listener.socket.try_clone()?);
        }
        let monitoring = self.monitoring.as_ref();
        let monitoring = monitoring
            .map(|listener| listener.socket.try_clone())
            .transpose()?;
        match fork::fork(&self.server) {
            Ok(Side::Parent(pid)) => {
                self.successor = Some(pid);
                self.server.set_successor(pid)?;
                self.tell(Event::SuccessorStarted);
                self.tell_settings()?;
                Ok(None)
            }
            Ok(Side::Child(signals)) => {
                let child = SuccessorChild {
                    listeners,
                    monitoring,
                    signals,
                };
                Ok(Some(Outcome::Successor(child)))
            }
            Err(error) => {
                log::write_exception(&self.server, "Cannot fork the successor", &error);
                self.tell(Event::SuccessorFailed);
                Ok(None)
            }
        }
    }

    pub(crate) fn promote(&mut self) -> PyResult<()> {
        self.server.promote()?;
        let title = self.title("master");
        let _ = oxicorn_os::title::set(&title);
        self.tell_settings()
    }

    /// Tells the gateway the settings in force again: what else decides about them has changed.
    pub(crate) fn tell_settings(&self) -> PyResult<()> {
        let py = self.server.py();
        if let Some(file) = self.generations.get(self.arbiter.serving()) {
            let settings = self.gateway_settings(file.cfg.bind(py))?;
            self.tell_gateway(&ToGateway::Settings(Box::new(settings)));
        }
        Ok(())
    }

    pub(crate) fn look_for_predecessor(&mut self) -> PyResult<()> {
        if self.arbiter.shares_listeners() && self.server.is_abandoned()? {
            self.tell(Event::PredecessorGone);
        }
        Ok(())
    }

    /// Whether somebody beside this server has the listeners, who must find them as they were.
    pub(crate) fn shares_listeners(&self) -> bool {
        let came_along = |listener: &Listener| matches!(listener.bind, BindAddress::Descriptor(_));
        self.arbiter.shares_listeners() || self.listeners.iter().any(came_along)
    }

    /// What `cfg` and the state of things mean for the gateway.
    pub(crate) fn gateway_settings(
        &self,
        cfg: &Bound<'_, PyAny>,
    ) -> PyResult<oxicorn_gateway::Settings> {
        let logging = GatewayLogging::of(&self.server)?;
        let mut result = gateway_settings(cfg, logging)?;
        let kind = with_settings(cfg, kind_of)?;
        // Workers that accept connections themselves have them too.
        result.listeners_are_shared = self.shares_listeners() || kind == WorkerKind::Direct;
        result.out_of_rotation = self.server.out_of_rotation()?;
        Ok(result)
    }
}
