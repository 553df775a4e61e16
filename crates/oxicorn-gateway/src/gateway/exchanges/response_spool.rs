//! Puts what slow clients have not read yet into files, see [`crate::exchange::response_spool`].

use std::io;

use crate::exchange::response_spool::{IN_MEMORY, ResponseSpool};
use crate::gateway::Gateway;
use crate::gateway::log_throttle::Standing;

impl Gateway {
    /// A message of a thread's was taken; the output's buffer was `mark` bytes long before. What it brought goes to a
    /// file if too much waits in memory.
    pub(crate) fn spool_response(&mut self, client: usize, mark: usize) {
        let Some(connection) = self.connections.get_mut(client) else {
            return;
        };
        let settings = &connection.resolved.settings;
        let limit = settings.response_spool;
        let most = settings.response_buffer / IN_MEMORY;
        let output = &mut connection.output;
        if limit == 0 || output.held() <= most || output.bytes().len() <= mark {
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
