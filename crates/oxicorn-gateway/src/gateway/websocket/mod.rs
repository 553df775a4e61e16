//! What a connection does that speaks WebSocket: see [`crate::session::websocket`].

mod accept;
mod ending;
mod from_client;
mod from_worker;
mod memory;

pub(crate) use accept::recognise;

use std::time::Duration;

use slab::Slab;

use crate::connection::Connection;
use crate::limits::min_rate::RateSpan;
use crate::session::websocket::{
    FAULT_TIMEOUT, PIECE, READ_SIZE, SHORT_READ, Shared, State, UNCOUNTED, WebSocket,
};

/// The WebSocket that a connection speaks.
fn speaking(connections: &mut Slab<Connection>, key: usize) -> Option<&mut WebSocket> {
    let connection = connections.get_mut(key)?;
    if !connection.is_talking() {
        return None;
    }
    connection.websocket.as_deref_mut()
}

impl Connection {
    /// Output waits for the client: a span begins, if none is under way.
    pub(crate) fn set_websocket_write_deadline(&mut self, now: Duration) {
        let demand = self.resolved.settings.timeouts.demand_on_reader();
        let taken = self.taken();
        if let Some(websocket) = &mut self.websocket
            && websocket.write_due.is_none()
        {
            websocket.write_due = demand.deadline(now);
            websocket.write_span = RateSpan::begin(taken);
            self.deadline = websocket.deadline();
        }
    }

    /// The span is over: `false` if the client took too little in it, else the next begins.
    fn next_span_of_writing(&mut self, now: Duration) -> bool {
        let demand = self.resolved.settings.timeouts.demand_on_reader();
        let taken = self.taken();
        let Some(websocket) = &mut self.websocket else {
            return true;
        };
        let meets = websocket.write_span.meets(demand, taken);
        websocket.write_span = RateSpan::begin(taken);
        websocket.write_due = demand.deadline(now);
        self.deadline = websocket.deadline();
        meets
    }

    /// No output waits.
    pub(crate) fn clear_websocket_write_deadline(&mut self) {
        if let Some(websocket) = &mut self.websocket
            && websocket.write_due.take().is_some()
        {
            self.deadline = websocket.deadline();
        }
    }
}
