//! Clients that leave while nothing of theirs is read.
//!
//! A socket that is read tells when its client is gone. One whose client waits for a worker (it has sent
//! enough for now, see `upload`) is not, and the application would never hear of it: so all of those are
//! looked at once a second, with one system call. Who has only finished sending is still there.

use oxicorn_os::poll;

use crate::exchange::Stage;
use crate::gateway::Gateway;

impl Gateway {
    /// To be called once a second.
    pub(crate) fn check_unread(&mut self) {
        let unread: Vec<(usize, _)> = self
            .connections
            .iter()
            .filter(|(_, one)| {
                one.stage()
                    .is_some_and(|stage| stage.is_served() || stage == Stage::Talking)
            })
            .filter(|(_, one)| one.reading_stopped)
            .filter_map(|(key, one)| Some((key, one.transport.descriptor().ok()?)))
            .collect();
        let mut gone = Vec::new();
        let descriptors = unread.iter().map(|(_, descriptor)| *descriptor);
        // Where it fails it is tried again; a client that is written to is noticed anyway.
        let _ = poll::each_hung_up(descriptors, |place| gone.push(unread[place].0));
        for key in gone {
            self.handle_client_gone(key);
        }
    }
}
