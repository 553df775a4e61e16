//! Credit: how much of a body may be under way that the other end has not asked for.
//!
//! Decides nothing but arithmetic; who sends which message is the ends' business. Both directions
//! work alike: a sender starts with a known window and may spend it; the receiver gives credit as
//! the bytes leave its buffers, in pieces large enough that credit messages stay rare.

/// Bytes of a response's body that a worker may send before the gateway gives credit.
pub const RESPONSE_WINDOW: u32 = 1 << 20;

/// The largest piece of a response's body in one message. The larger the pieces, the fewer system calls
/// and wake-ups; two are a window, so that one can be sent while the next is written.
pub const RESPONSE_PIECE: usize = RESPONSE_WINDOW as usize / 2;

/// The longest head of a response, and the longest trailers: no credit counts for them.
pub const RESPONSE_HEAD: usize = 256 << 10;

/// Bytes of what a client sends that may be under way to a worker: of a WebSocket from the start, of a request's body from
/// the first credit on, which a worker gives when the application asks for the body.
pub const REQUEST_WINDOW: u32 = 64 << 10;

/// A receiver gives credit as soon as this part of the window has left its buffers.
const CREDIT_PART: u32 = 4;

/// Bytes that may have left the worker's buffers without the gateway knowing: less is not credited.
pub const REQUEST_CREDIT: u32 = REQUEST_WINDOW / CREDIT_PART;

/// What a piece of a WebSocket message counts beside its bytes, so that there is a bound on very many
/// very small ones too.
const WEBSOCKET_PIECE: usize = 64;

/// What a piece of a WebSocket message takes of a window, in either direction. The windows are those
/// of bodies.
pub const fn websocket_cost(len: usize) -> usize {
    len.saturating_add(WEBSOCKET_PIECE)
}

/// How long a piece may be that takes no more than `available`; `None`: not even an empty one.
pub const fn websocket_room(available: u64) -> Option<u64> {
    available.checked_sub(WEBSOCKET_PIECE as u64)
}

/// Whether a WebSocket message of so many bytes is more than a window, so that credit was given for
/// parts of it that nobody had taken. When the whole is taken that is said at once, however little
/// credit is due: until then the sender counts it as held.
pub const fn is_large_message(len: usize) -> bool {
    len > REQUEST_WINDOW as usize
}

/// The sender's side of one body.
#[derive(Clone, Copy, Debug)]
pub struct SendWindow {
    available: u64,
}

impl SendWindow {
    /// A full window.
    pub const fn new(window: u32) -> Self {
        Self {
            available: window as u64,
        }
    }

    /// Bytes that may be sent now.
    pub const fn available(&self) -> u64 {
        self.available
    }

    /// `bytes` were sent. More than was available is the caller's fault and counts as all.
    pub const fn spend(&mut self, bytes: usize) {
        self.available = self.available.saturating_sub(bytes as u64);
    }

    /// A credit message came.
    pub const fn credit(&mut self, bytes: u32) {
        self.available = self.available.saturating_add(bytes as u64);
    }
}

/// The receiver's side of one body.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveWindow {
    window: u32,
    /// What the sender may still send without being in the wrong.
    allowed: u64,
    /// What has left our buffers since the last credit.
    freed: u64,
}

/// The sender sent more than its window allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowExceeded;

impl ReceiveWindow {
    /// A full window.
    pub const fn new(window: u32) -> Self {
        Self {
            window,
            allowed: window as u64,
            freed: 0,
        }
    }

    /// `bytes` came.
    pub const fn receive(&mut self, bytes: usize) -> Result<(), WindowExceeded> {
        match self.allowed.checked_sub(bytes as u64) {
            Some(rest) => {
                self.allowed = rest;
                Ok(())
            }
            None => Err(WindowExceeded),
        }
    }

    /// `bytes` left our buffers. Returns the credit to give now, if it is enough to be worth a
    /// message.
    pub fn release(&mut self, bytes: usize) -> Option<u32> {
        self.freed += bytes as u64;
        if self.freed < u64::from(self.window / CREDIT_PART) {
            return None;
        }
        Some(self.give())
    }

    /// The same, worth a message or not.
    pub fn release_at_once(&mut self, bytes: usize) -> Option<u32> {
        self.freed += bytes as u64;
        (self.freed > 0).then(|| self.give())
    }

    fn give(&mut self) -> u32 {
        let credit = u32::try_from(self.freed).unwrap_or(u32::MAX);
        self.freed -= u64::from(credit);
        self.allowed += u64::from(credit);
        credit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_pieces_of_a_websocket_fill_a_window_too() {
        let mut window = SendWindow::new(130);
        for left in [66, 2] {
            assert_eq!(websocket_room(window.available()), Some(left));
            window.spend(websocket_cost(0));
        }
        assert_eq!(websocket_room(window.available()), None);
    }

    #[test]
    fn sender_stops_at_the_window_and_goes_on_with_credit() {
        let mut window = SendWindow::new(100);
        window.spend(100);
        assert_eq!(window.available(), 0);
        window.credit(30);
        assert_eq!(window.available(), 30);
    }

    #[test]
    fn receiver_refuses_what_exceeds_the_window() {
        let mut window = ReceiveWindow::new(100);
        assert_eq!(window.receive(100), Ok(()));
        assert_eq!(window.receive(1), Err(WindowExceeded));
    }

    #[test]
    fn receiver_gives_credit_in_pieces() {
        let mut window = ReceiveWindow::new(100);
        window.receive(100).unwrap();
        assert_eq!(window.release(24), None);
        assert_eq!(window.release(1), Some(25));
        assert_eq!(window.receive(25), Ok(()));
        assert_eq!(window.receive(1), Err(WindowExceeded));
    }

    #[test]
    fn receiver_gives_at_once_what_is_asked_for() {
        let mut window = ReceiveWindow::new(100);
        window.receive(100).unwrap();
        assert_eq!(window.release_at_once(0), None);
        assert_eq!(window.release(3), None);
        assert_eq!(window.release_at_once(1), Some(4));
        assert_eq!(window.receive(4), Ok(()));
        assert_eq!(window.receive(1), Err(WindowExceeded));
    }
}
