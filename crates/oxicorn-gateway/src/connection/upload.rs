//! What a connection knows of a body that is still coming.

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::exchange::upload::{HELD, Upload};

impl Connection {
    /// Whether the request was handed over and its body is still being read.
    pub(crate) fn is_uploading(&self) -> bool {
        let Some(exchange) = &self.exchange else {
            return false;
        };
        let upload = exchange.request.upload.as_ref();
        exchange.stage().is_served() && upload.is_some_and(|upload| !upload.complete)
    }

    /// Bytes that have moved in either direction, as far as the request's body still comes.
    pub(crate) fn moved(&self) -> u64 {
        let received = if self.is_uploading() {
            self.received
        } else {
            0
        };
        self.taken() + received
    }

    /// Whether the client has finished sending, nothing is on its way to it, and the application can be
    /// told that it is most likely gone.
    pub(crate) fn has_left(&self) -> bool {
        self.at_end && self.resolved.settings.stream_requests && self.output.is_empty()
    }

    /// Whether more of the body may be taken in.
    pub(crate) fn has_room_for_body(&self) -> bool {
        let held = |one: &Exchange| one.request.body.bytes().len();
        self.exchange.as_deref().map_or(0, held) < HELD
    }

    /// Whether more of it may be read: where memory is short, only what a worker takes at once.
    pub(crate) fn may_read_body(&self, is_short: bool) -> bool {
        let Some(Exchange { request, .. }) = self.exchange.as_deref() else {
            return false;
        };
        let awaited = request.upload.as_ref().is_some_and(Upload::is_awaited);
        if is_short {
            awaited && request.body.bytes().is_empty()
        } else {
            self.has_room_for_body()
        }
    }

    /// Whether the request goes ahead of its body.
    pub(crate) fn streams_body(&self) -> bool {
        let whole = |one: &Exchange| one.request.whole;
        self.resolved.settings.stream_requests && !self.exchange.as_deref().is_some_and(whole)
    }

    /// Whether the client is the one who makes everybody wait.
    pub(crate) fn owes_body(&self) -> bool {
        let Some(Exchange { request, .. }) = self.exchange.as_deref() else {
            return false;
        };
        let invited = |upload: &Upload| !upload.awaits_continue || request.body.len() > 0;
        self.is_uploading()
            && !self.reading_stopped
            && self.has_room_for_body()
            && request.upload.as_ref().is_some_and(invited)
    }
}
