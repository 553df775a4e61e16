//! One request and its response, as the client sees them.
//!
//! An exchange begins with the head of a request (or with what came instead of one) and is over when its
//! response has left. It knows no protocol: what the client speaks is the connection's affair, what a
//! worker does for it is a call ([`crate::workers::calls`]). Either half may end before the other, and what each
//! does to the other is decided in [`machine`] and nowhere else.

mod machine;
pub(crate) mod refusal;
pub(crate) mod response_spool;
pub(crate) mod upload;
#[cfg(test)]
mod walk;

use std::time::Duration;

pub(crate) use machine::{
    After, CallEffect, ClientEffect, Conclusion, Follows, Happened, LogEffect, Stage,
};

use crate::buffer::body::Body;
use crate::exchange::response_spool::ResponseSpool;
use crate::exchange::upload::Upload;
use crate::limits::min_rate::{MinRate, RateSpan};
use crate::telemetry::tracing::RequestTrace;
use crate::transport::endpoint::Endpoint;
use crate::workers::calls::CallId;

/// The client's half of a request and its response.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// What it waits for; changed by [`Exchange::on`] only.
    stage: Stage,
    /// The worker's half, as long as the client waits for it.
    pub(crate) call: Option<CallId>,
    pub(crate) request: Request,
    pub(crate) response: Response,
    /// When the client must have sent, or taken, enough.
    pub(crate) deadline: Option<Duration>,
    /// Where the span began whose end the deadline is.
    pub(crate) span: RateSpan,
}

/// The facts of the request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// A head was read.
    pub(crate) readable: bool,
    pub(crate) started: Duration,
    pub(crate) https: bool,
    /// Who sent it, if a web server speaks for its clients on this connection.
    pub(crate) client: Option<Endpoint>,
    pub(crate) body: Body,
    /// The request was handed over before its body was complete.
    pub(crate) upload: Option<Upload>,
    /// A worker that does not stream was chosen: it is handed over with all of its body.
    pub(crate) whole: bool,
    /// How long it waited for the worker that was given it last, or until it was refused.
    pub(crate) queued: Option<Duration>,
    /// Its id, its trace and what happened when, where any of that is wanted.
    pub(crate) trace: Option<Box<RequestTrace>>,
    /// How often a worker declined it.
    pub(crate) declines: u8,
    /// The trailers of its body, for the link.
    pub(crate) trailers: Vec<u8>,
}

/// The facts of the response.
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// 0 before there is one.
    pub(crate) status: u16,
    /// Bytes of its body.
    pub(crate) body_bytes: u64,
    /// Its end is told by closing.
    pub(crate) until_close: bool,
    /// The process that serves it.
    pub(crate) pid: u32,
    /// Its head, if the access log wants it.
    pub(crate) head: Vec<u8>,
    /// The worker writes the line in the access log.
    pub(crate) logged: bool,
    /// Where the part of it lies that memory has no room for.
    pub(crate) spool: Option<Box<ResponseSpool>>,
    /// Why the client did not get (all of) the application's answer.
    pub(crate) reason: Option<&'static str>,
}

impl Exchange {
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// A span is over: `false` if less than is demanded has moved in it, else the next begins.
    pub(crate) fn next_span(&mut self, demand: MinRate, moved: u64, now: Duration) -> bool {
        let meets = self.span.meets(demand, moved);
        self.begin_span(demand, moved, now);
        meets
    }

    /// From `now` on so much is demanded; `moved` bytes have moved before.
    pub(crate) fn begin_span(&mut self, demand: MinRate, moved: u64, now: Duration) {
        self.span = RateSpan::begin(moved);
        self.deadline = demand.deadline(now);
    }

    /// Bytes of memory it holds beside itself.
    pub(crate) fn memory(&self) -> usize {
        self.request.body.memory()
            + self.request.trailers.capacity()
            + self.response.head.capacity()
    }

    /// As new; the memory of what every exchange may need stays.
    pub(crate) fn clear(&mut self) {
        self.response.head.clear();
        *self = Self {
            response: Response {
                head: std::mem::take(&mut self.response.head),
                ..Response::default()
            },
            ..Self::default()
        };
    }
}
