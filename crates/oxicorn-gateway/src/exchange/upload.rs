//! The body of a request that a worker gets before it is complete.
//!
//! Decides when such a request is handed over, and what of its body goes on when. It is handed over as
//! soon as the client makes us wait. What has come by the time it is placed goes with it if that is all;
//! else nothing of the body does, and it follows in events once the worker asks for it by giving credit.
//! (Not before, be it only the end of an empty body: until the worker has taken the request it may be given to
//! another one, and knows nothing of what it is told about it.)
//!
//! ```text
//!   socket -> input -> proto -> request.body (at most about HELD) -> events, as credit allows
//! ```
//!
//! With enough held back the client's socket is not read, so a slow application slows its client down;
//! where memory is short nothing is read that no worker waits for. Nor is it the client who is slow then.
//! The first credit is also when a client that awaits `100 Continue` gets it.
//!
//! What came in one turn goes on together: a chunk of one byte must not cost a message.

use oxicorn_link::window::{REQUEST_WINDOW, SendWindow};

/// Bytes of a body held for a worker that has not asked for them; the client waits then.
pub(crate) const HELD: usize = REQUEST_WINDOW as usize;

/// Bytes of a body in one event.
pub(crate) const PIECE: usize = 32 * 1024;

/// How much of a body nobody wants is read so that the connection can be kept.
pub(crate) const UNWANTED: u64 = 1024 * 1024;

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What the worker wants; `None` before it has asked for the body. It may not have taken the request
    /// until then, and what is said about it would find nobody who listens.
    pub(crate) window: Option<SendWindow>,
    /// Nothing of the body is missing here.
    pub(crate) complete: bool,
    /// The request was placed without its body.
    pub(crate) streamed: bool,
    /// The client sends nothing before it is told that the body is wanted.
    pub(crate) awaits_continue: bool,
}

impl Upload {
    pub(crate) fn new(awaits_continue: bool) -> Self {
        Self {
            window: None,
            complete: false,
            streamed: false,
            awaits_continue,
        }
    }

    /// Whether the worker waits for bytes that have not come.
    pub(crate) fn is_awaited(&self) -> bool {
        let wanted = |window: &SendWindow| window.available() > 0;
        self.window.as_ref().is_some_and(wanted) && !self.complete
    }

    /// The credit a worker can give is bounded, whatever it says: so are the events that wait for it.
    pub(crate) fn credit(&mut self, bytes: u32) {
        let window = self.window.get_or_insert_with(|| SendWindow::new(0));
        let most = u64::from(REQUEST_WINDOW).saturating_sub(window.available());
        let bytes = u64::from(bytes).min(most);
        window.credit(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}
