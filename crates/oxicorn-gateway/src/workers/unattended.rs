//! Calls of the application that go on though nobody waits for them.
//!
//! A client leaves while its request is worked on; a response is complete and the application's call is
//! not (`close()`, a hook); the gateway that placed a request has died. Each takes up room at its worker,
//! so each may take as long as a request may (`timeout`), and then the arbiter is asked to replace the
//! worker. There is no connection to ask for the request line then: it is kept with the call, or
//! the worker tells it.
//!
//! Of the calls of a loop (asyncio's, gevent's hub) none is late: such a worker goes on with others meanwhile, and what it does
//! after its response (background tasks) is its own affair.

use std::time::Duration;

use oxicorn_link::StreamId;

use crate::telemetry::tracing::RequestIds;
use crate::transport::endpoint::Endpoint;
use crate::workers::calls::Call;

/// Bytes kept of a request line.
pub(crate) const LINE_KEPT: usize = 1024;

/// Calls of earlier gateways that one worker can have.
pub(crate) const INHERITED: usize = 4096;

/// What the log calls a request.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub(crate) line: Box<[u8]>,
    pub(crate) client: Endpoint,
    pub(crate) ids: RequestIds,
}

impl Label {
    pub(crate) fn new(request_line: &[u8], client: Endpoint, ids: RequestIds) -> Self {
        Self {
            line: request_line[..request_line.len().min(LINE_KEPT)].into(),
            client,
            ids,
        }
    }
}

/// A call that a worker has in hand of a gateway that is gone.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) stream: StreamId,
    /// When we heard of it.
    pub(crate) since: Duration,
    pub(crate) line: Box<[u8]>,
    pub(crate) client: Box<[u8]>,
    /// The arbiter knows that it takes too long.
    pub(crate) expired: bool,
}

impl Call {
    /// Whether nobody waits for it, and nobody needs to know how long it takes: the socket is the
    /// application's, or the worker is being replaced.
    pub(crate) const fn may_take_its_time(&self) -> bool {
        self.client.is_none() && (self.hijacked || self.expired)
    }
}
