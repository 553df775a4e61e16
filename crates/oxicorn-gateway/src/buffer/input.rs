//! What a connection has received: the head being served, and what nobody has looked at yet.
//!
//! ```text
//!   [ gone | head of the current request | gone | not looked at .... ]
//!          start                    head_end   next
//! ```
//!
//! The head stays where it was received until its exchange is over: the request is encoded from it
//! when a worker has been chosen (and again if that one gives it back), and the access log reads it
//! at the end. The body goes through and away. Bytes are moved only to make room for a read.

/// Room for one read; the head of nearly every request is shorter.
pub(crate) const READ_SIZE: usize = 8 * 1024;

/// Room for one read of a long body.
pub(crate) const BODY_READ_SIZE: usize = 64 * 1024;

/// The buffer.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    head_end: usize,
    next: usize,
    /// Length at which the room that was last given is used up.
    room: usize,
}

impl Input {
    /// What nobody has looked at.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.next..]
    }

    /// The head of the current request.
    pub(crate) fn head(&self) -> &[u8] {
        &self.bytes[self.start..self.head_end]
    }

    /// `count` bytes are used up.
    pub(crate) fn consume(&mut self, count: usize) {
        self.next += count;
        debug_assert!(self.next <= self.bytes.len(), "consumed what was not there");
    }

    /// `count` bytes are the head of a request.
    pub(crate) fn consume_head(&mut self, count: usize) {
        self.start = self.next;
        self.consume(count);
        self.head_end = self.next;
    }

    /// The exchange is over; its head is not needed any more.
    pub(crate) fn forget_head(&mut self) {
        self.start = self.next;
        self.head_end = self.next;
        if self.next == self.bytes.len() {
            self.bytes.clear();
            (self.start, self.head_end, self.next) = (0, 0, 0);
        }
    }

    /// Of what was looked at only the head is still needed (if it is), for long: it gets memory of its
    /// own size. Nothing may be unread.
    pub(crate) fn keep_head(&mut self, needed: bool) {
        debug_assert!(self.unread().is_empty(), "bytes that nobody has looked at");
        self.bytes = if needed {
            self.head().to_vec()
        } else {
            Vec::new()
        };
        self.start = 0;
        self.head_end = self.bytes.len();
        self.next = self.bytes.len();
    }

    /// Nothing of it is needed any more.
    pub(crate) fn forget_all(&mut self) {
        self.next = self.bytes.len();
        self.forget_head();
    }

    /// The buffer, with room for `count` more bytes. Nothing but appending is allowed.
    pub(crate) fn room(&mut self, count: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < count {
            self.bytes.drain(self.head_end..self.next);
            self.bytes.drain(..self.start);
            self.head_end -= self.start;
            self.start = 0;
            self.next = self.head_end;
            self.bytes.reserve(count);
        }
        self.room = self.bytes.capacity();
        &mut self.bytes
    }

    /// Whether the last read filled all the room it was given: the client sends faster than is read.
    pub(crate) fn was_filled(&self) -> bool {
        self.room > 0 && self.bytes.len() >= self.room
    }

    /// Bytes of memory.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back what is beyond `spare` bytes, while nothing comes.
    pub(crate) fn shrink(&mut self, spare: usize) {
        self.bytes.shrink_to(self.bytes.len() + spare);
    }

    /// Whether it holds no memory.
    pub(crate) fn is_released(&self) -> bool {
        self.bytes.capacity() == 0
    }

    /// Takes the memory of a connection that waits for its next request.
    pub(crate) fn release(&mut self) -> Option<Vec<u8>> {
        let idle = self.bytes.is_empty() && self.bytes.capacity() > 0;
        idle.then(|| std::mem::take(&mut self.bytes))
    }

    /// Gives memory to a connection that has none.
    pub(crate) fn lend(&mut self, memory: Vec<u8>) {
        debug_assert!(
            self.is_released() && memory.is_empty(),
            "memory for who has some"
        );
        self.bytes = memory;
    }

    /// All bytes not looked at, for whoever takes the connection over.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        let unread = self.unread().to_vec();
        self.next = self.bytes.len();
        unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_head_while_the_body_passes_through() {
        let mut input = Input::default();
        input.room(8).extend_from_slice(b"..HEADbo");
        input.consume(2);
        input.consume_head(4);
        assert_eq!((input.head(), input.unread()), (&b"HEAD"[..], &b"bo"[..]));
        input.consume(2);
        input.room(1000).extend_from_slice(b"dyNEXT");
        assert_eq!(
            (input.head(), input.unread()),
            (&b"HEAD"[..], &b"dyNEXT"[..])
        );
        input.consume(2);
        input.forget_head();
        assert_eq!((input.head(), input.unread()), (&b""[..], &b"NEXT"[..]));
        assert!(input.release().is_none());
        input.consume_head(4);
        assert_eq!(input.head(), b"NEXT");
        input.forget_head();
        assert!(input.release().is_some());
        assert!(input.is_released());
    }
}
