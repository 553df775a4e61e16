//! Head of a response, as the worker writes it.
//!
//! `status u16 | reason length u16 | headers length u32 | reason | headers | first piece of body`

use super::{HeaderList, Input, Malformed, len32};

/// Bytes before the reason.
const FIXED: usize = 8;

/// Status line of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// Status code as the application gave it.
    pub status: u16,
    /// Reason phrase, may be empty. Cut at 65535 bytes.
    pub reason: &'a [u8],
}

/// Writes a response head into a buffer: `begin`, any number of `header`, `finish`.
#[must_use = "the head is not complete before finish"]
pub struct ResponseEncoder<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    headers: usize,
}

impl<'b> ResponseEncoder<'b> {
    /// Appends the status line to `out`.
    pub fn begin(out: &'b mut Vec<u8>, head: &ResponseHead<'_>) -> Self {
        let reason = &head.reason[..head.reason.len().min(usize::from(u16::MAX))];
        let start = out.len();
        let reason_len = u16::try_from(reason.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&head.status.to_ne_bytes());
        out.extend_from_slice(&reason_len.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(reason);
        let headers = out.len();
        Self {
            out,
            start,
            headers,
        }
    }

    /// Appends one header.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        HeaderList::encode_entry(self.out, name, value);
    }

    /// Completes the head. What the caller appends to the buffer afterwards is body.
    pub fn finish(self) {
        let len = len32(&self.out[self.headers..]);
        self.out[self.start + 4..self.start + FIXED].copy_from_slice(&len.to_ne_bytes());
    }
}

/// Appends one header to a finished head with nothing behind it.
pub fn append_header(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let before = head.len();
    HeaderList::encode_entry(head, name, value);
    let added = len32(&head[before..]);
    let [.., h0, h1, h2, h3] = head[..FIXED] else {
        return;
    };
    let len = u32::from_ne_bytes([h0, h1, h2, h3]).saturating_add(added);
    head[4..FIXED].copy_from_slice(&len.to_ne_bytes());
}

/// A decoded response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseView<'a> {
    /// Status line.
    pub head: ResponseHead<'a>,
    /// Headers in the application's order.
    pub headers: HeaderList<'a>,
    /// First piece of the body.
    pub body: &'a [u8],
}

impl<'a> ResponseView<'a> {
    /// Bytes a prefix must have for [`head_len`](Self::head_len).
    pub const PREFIX: usize = FIXED;

    /// Length of the head (all before the body) by the first [`PREFIX`](Self::PREFIX) bytes of a
    /// payload of `payload_len` bytes: lets the gateway copy head and body to different places.
    pub fn head_len(prefix: &[u8], payload_len: usize) -> Result<usize, Malformed> {
        let mut input = Input(prefix);
        let _status = input.u16()?;
        let reason = usize::from(input.u16()?);
        let headers = input.u32()? as usize;
        let len = headers.checked_add(FIXED + reason).ok_or(Malformed)?;
        if len <= payload_len {
            Ok(len)
        } else {
            Err(Malformed)
        }
    }

    /// Checks and takes a payload apart.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Input(payload);
        let status = input.u16()?;
        let reason_len = usize::from(input.u16()?);
        let headers_len = input.u32()? as usize;
        let reason = input.take(reason_len)?;
        let headers = HeaderList::decode(input.take(headers_len)?)?;
        Ok(Self {
            head: ResponseHead { status, reason },
            headers,
            body: input.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let head = ResponseHead {
            status: 200,
            reason: b"OK",
        };
        let mut encoder = ResponseEncoder::begin(&mut out, &head);
        encoder.header(b"Content-Type", b"text/plain");
        encoder.header(b"X-Empty", b"");
        encoder.finish();
        out
    }

    #[test]
    fn head_and_body_come_back() {
        let mut bytes = sample();
        let head_len = bytes.len();
        bytes.extend_from_slice(b"hello");
        let view = ResponseView::decode(&bytes).unwrap();
        assert_eq!(
            view.head,
            ResponseHead {
                status: 200,
                reason: b"OK"
            }
        );
        assert_eq!(view.headers.len(), 2);
        assert_eq!(view.body, b"hello");
        let prefix = &bytes[..ResponseView::PREFIX];
        assert_eq!(ResponseView::head_len(prefix, bytes.len()), Ok(head_len));
    }

    #[test]
    fn a_header_can_be_appended_to_a_finished_head() {
        let mut bytes = sample();
        append_header(&mut bytes, b"Content-Length", b"5");
        let view = ResponseView::decode(&bytes).unwrap();
        assert_eq!(view.headers.len(), 3);
        let last = view.headers.iter().last();
        assert_eq!(last, Some((&b"Content-Length"[..], &b"5"[..])));
    }

    #[test]
    fn head_longer_than_the_payload_is_refused() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert_eq!(ResponseView::decode(&bytes[..len]), Err(Malformed), "{len}");
        }
        assert_eq!(
            ResponseView::head_len(&bytes[..FIXED], bytes.len() - 1),
            Err(Malformed)
        );
    }
}
