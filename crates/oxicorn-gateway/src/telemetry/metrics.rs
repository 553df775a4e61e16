//! What the gateway counts, in the scoreboard where everybody can read it.
//!
//! Knows which event is which metric. Without a scoreboard (one that cannot be attached) nothing is
//! counted and everything else works.

use std::os::fd::OwnedFd;
use std::time::Duration;

use oxicorn_link::AttachError;
use oxicorn_link::metric_store::MetricStore;
use oxicorn_link::scoreboard::{
    Counter, GatewayBlock, Gauge, HistogramKind, Method, Scoreboard, StatusClass,
};

/// This gateway thread's block of the scoreboard.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    block: Option<GatewayBlock>,
    scoreboard: Option<Scoreboard>,
    store: Option<MetricStore>,
}

impl Metrics {
    /// Takes the block of the first (and only) gateway thread over from whoever had it before.
    pub(crate) fn attach(scoreboard: &OwnedFd) -> Result<Self, AttachError> {
        let scoreboard = Scoreboard::attach(scoreboard)?;
        let block = scoreboard.gateway(0);
        if let Some(block) = &block {
            block.resume();
        }
        Ok(Self {
            block,
            scoreboard: Some(scoreboard),
            store: None,
        })
    }

    /// Together with the applications' own metrics.
    pub(crate) fn with_store(self, file: OwnedFd) -> Result<Self, AttachError> {
        Ok(Self {
            store: Some(MetricStore::attach(file)?),
            ..self
        })
    }

    /// The applications' own metrics, if there are any.
    pub(crate) fn store(&self) -> Option<&MetricStore> {
        self.store.as_ref().filter(|store| !store.is_empty())
    }

    /// Everybody's metrics.
    pub(crate) const fn scoreboard(&self) -> Option<&Scoreboard> {
        self.scoreboard.as_ref()
    }

    /// Counts a response to a request of this method.
    pub(crate) fn count_response(&self, method: &[u8], status: u16) {
        if let Some(block) = &self.block {
            block.add_response(Method::of(method), StatusClass::of(status));
        }
    }

    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    pub(crate) fn add(&self, counter: Counter, number: u64) {
        if let Some(block) = &self.block {
            block.add(counter, number);
        }
    }

    pub(crate) fn set(&self, gauge: Gauge, number: u64) {
        if let Some(block) = &self.block {
            block.set(gauge, number);
        }
    }

    pub(crate) fn record(&self, kind: HistogramKind, duration: Duration) {
        if let Some(block) = &self.block {
            block.record(kind, duration);
        }
    }
}
