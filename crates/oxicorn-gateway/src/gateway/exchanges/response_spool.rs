//! Puts what slow clients have not read yet into files, see [`crate::exchange::response_spool`].

use std::io;

use crate::connection::Connection;
use crate::exchange::response_spool::{IN_MEMORY, ResponseSpool};
use crate::gateway::Gateway;
use crate::gateway::log_throttle::Standing;

impl Connection {
    /// Whether so much of a response waits in memory that more of it belongs into a file.
    #[inline]
    pub(crate) fn has_to_spool(&self) -> bool {
        let settings = &self.resolved.settings;
        settings.response_spool > 0 && self.output.held() > settings.response_buffer / IN_MEMORY
    }
}

impl Gateway {
    /// A message of a thread's was taken; the output's buffer was `mark` bytes long before. What it brought goes to a
    /// file, because too much waits in memory.
    pub(crate) fn spool_response(&mut self, client: usize, mark: usize) {
        let Some(connection) = self.connections.get_mut(client) else {
            return;
        };
        let limit = connection.resolved.settings.response_spool;
        let output = &mut connection.output;
        if output.bytes().len() <= mark {
            return;
        }
        let Some(exchange) = &mut connection.exchange else {
            return;
        };
        let place = &mut exchange.response.spool;
        if place.is_none() {
            match ResponseSpool::new(&connection.resolved.spool, self.spooled.clone()) {
                Ok(spool) => *place = Some(Box::new(spool)),
                Err(error) => return self.tell_of_full_spool(&error),
            }
        }
        let Some(spool) = place.as_mut().filter(|spool| !spool.is_full) else {
            return;
        };
        let count = output.bytes().len() - mark;
        match spool.append(&output.bytes()[mark..], limit) {
            Ok(at) => {
                output.spooled(mark, &spool.reader, at);
                self.credit(client, count);
            }
            Err(error) => {
                spool.is_full = true;
                self.tell_of_full_spool(&error);
            }
        }
    }

    fn tell_of_full_spool(&mut self, error: &io::Error) {
        self.warn_of_state(
            Standing::ResponsesWait,
            format_args!(
                "Slow clients make workers wait: a response cannot be put into a file any more ({error}; response_spool)"
            ),
        );
    }
}
