//! What is told of what happened: logs, metrics, probes, traces.

pub(crate) mod access_log;
pub(crate) mod error_log;
pub(crate) mod log_files;
pub(crate) mod log_writer;
pub(crate) mod metrics;
pub(crate) mod statsd;
pub(crate) mod tracing;
