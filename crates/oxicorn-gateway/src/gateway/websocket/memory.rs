//! Which WebSockets give way where memory is short: see [`crate::session::websocket`].

use oxicorn_proto::websocket::CloseCode;

use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::gateway::clients::memory_budget::ALWAYS_TAKEN;

/// What the client is told.
const FULL: &[u8] = b"the server is short of memory";

impl Connection {
    /// See `refusable` of the WebSocket.
    pub(crate) fn refusable(&self) -> usize {
        self.websocket.as_ref().map_or(0, |one| one.refusable())
    }
}

impl Gateway {
    /// Takes their compressors from WebSockets that have one of their own, until no more than `enough` is
    /// held: what they send next is compressed as if it were the first.
    pub(crate) fn forget_contexts(&mut self, enough: usize) {
        let has = |one: &Connection| {
            let websocket = one.websocket.as_ref();
            websocket.is_some_and(|websocket| websocket.has_context())
        };
        let all = self.connections.iter();
        let keys: Vec<_> = all
            .filter(|(_, one)| has(one))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            if self.memory.held() <= enough {
                return;
            }
            let connection = self.connections.get_mut(key);
            if let Some(websocket) = connection.and_then(|one| one.websocket.as_mut()) {
                websocket.forget_context();
            }
            self.account(key);
        }
    }

    /// Ends the WebSockets with the largest messages that are not complete, until no more than `enough`
    /// is held or what is left of them is not what fills the memory.
    pub(crate) fn refuse_messages(&mut self, enough: usize) {
        let mut largest: Vec<(usize, usize)> = self
            .connections
            .iter()
            .map(|(key, connection)| (connection.refusable(), key))
            .filter(|(held, _)| *held > ALWAYS_TAKEN)
            .collect();
        largest.sort_unstable();
        let mut together = largest.iter().map(|(held, _)| held).sum();
        for (held, key) in largest.into_iter().rev() {
            if self.memory.held() <= enough || !self.is_worth_ending(together) {
                return;
            }
            together -= held;
            self.log_refused_message(key, held);
            self.fail_websocket(key, CloseCode::TRY_AGAIN_LATER, FULL);
        }
    }

    fn log_refused_message(&mut self, key: usize, held: usize) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let address = connection.client().shown();
        self.warn_of_client(format_args!(
            "Buffers are full (buffer_limit): closed the WebSocket of ip={address}, whose message is not \
             complete after {held} bytes"
        ));
    }
}
