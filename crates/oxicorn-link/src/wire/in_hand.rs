//! What a worker tells a new gateway: which calls it still has in hand of the gateways before.
//!
//! The gateway that placed them is dead and nobody waits for their responses, but each takes up room at the
//! worker and must not do so for ever. Each message names all there are; one that names none says that the
//! last one has ended.

use super::{Input, Malformed, len32};
use crate::StreamId;

/// One call of the application that goes on though its gateway is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallInHand<'a> {
    /// As its gateway named it.
    pub stream: StreamId,
    /// `METHOD target`, perhaps shortened.
    pub request_line: &'a [u8],
    /// The client's address as text; empty if it has none.
    pub client: &'a [u8],
}

impl<'a> CallInHand<'a> {
    /// Appends it to the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stream.0.to_ne_bytes());
        for text in [self.request_line, self.client] {
            out.extend_from_slice(&len32(text).to_ne_bytes());
            out.extend_from_slice(text);
        }
    }

    fn decode(input: &mut Input<'a>) -> Result<Self, Malformed> {
        let stream = StreamId(input.u64()?);
        let mut text = || {
            let len = input.u32()?;
            input.take(usize::try_from(len).map_err(|_| Malformed)?)
        };
        Ok(Self {
            stream,
            request_line: text()?,
            client: text()?,
        })
    }
}

/// The calls of a payload, checked one by one as they are asked for.
#[derive(Debug)]
pub struct CallsInHand<'a>(&'a [u8]);

impl<'a> CallsInHand<'a> {
    /// Begins to read a payload.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }
}

impl<'a> Iterator for CallsInHand<'a> {
    type Item = Result<CallInHand<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut input = Input(self.0);
        let call = CallInHand::decode(&mut input);
        self.0 = if call.is_ok() { input.0 } else { &[] };
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls() -> [CallInHand<'static>; 2] {
        [
            CallInHand {
                stream: StreamId::new(3, 2, 1),
                request_line: b"GET /slow HTTP/1.1",
                client: b"127.0.0.1",
            },
            CallInHand {
                stream: StreamId::new(1, 0, 7),
                request_line: b"",
                client: b"",
            },
        ]
    }

    #[test]
    fn calls_come_back_as_they_went_in() {
        let mut payload = Vec::new();
        for call in calls() {
            call.encode(&mut payload);
        }
        let read: Result<Vec<_>, _> = CallsInHand::new(&payload).collect();
        assert_eq!(read.unwrap(), calls());
        assert_eq!(CallsInHand::new(&[]).count(), 0);
    }

    #[test]
    fn a_payload_that_is_cut_anywhere_but_between_calls_is_refused_and_ends() {
        let [first, second] = calls();
        let mut payload = Vec::new();
        first.encode(&mut payload);
        let between = payload.len();
        second.encode(&mut payload);
        for cut in (1..payload.len()).filter(|cut| *cut != between) {
            let read: Vec<_> = CallsInHand::new(&payload[..cut]).collect();
            assert_eq!(read.last(), Some(&Err(Malformed)), "{cut}");
            assert!(read.len() <= 2, "{cut}");
        }
        payload[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        let read: Vec<_> = CallsInHand::new(&payload).collect();
        assert_eq!(read, [Err(Malformed)]);
    }
}
