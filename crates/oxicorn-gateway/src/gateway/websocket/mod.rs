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
use crate::session::websocket::{
    FAULT_TIMEOUT, Look, PIECE, READ_SIZE, SHORT_READ, State, UNCOUNTED, WebSocket,
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
        if let Some(websocket) = &mut self.websocket {
            websocket.begin_writing(demand, taken, now);
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
        let meets = websocket.next_span_of_writing(demand, taken, now);
        self.deadline = websocket.deadline();
        meets
    }

    /// No output waits.
    pub(crate) fn clear_websocket_write_deadline(&mut self) {
        if let Some(websocket) = &mut self.websocket
            && websocket.end_writing()
        {
            self.deadline = websocket.deadline();
        }
    }
}
