//! Payloads of a few fixed bytes: credit, reasons, pieces of files, WebSocket close.

use super::{AbortReason, CancelReason, Input, Malformed};

/// Credit for `bytes` more bytes of a body.
pub fn encode_credit(bytes: u32) -> [u8; 4] {
    bytes.to_ne_bytes()
}

/// Reads [`encode_credit`].
pub fn decode_credit(payload: &[u8]) -> Result<u32, Malformed> {
    Ok(u32::from_ne_bytes(
        payload.try_into().map_err(|_| Malformed)?,
    ))
}

/// Why a worker gives up.
pub fn encode_abort(reason: AbortReason) -> [u8; 1] {
    [reason.as_u8()]
}

/// Reads [`encode_abort`].
pub fn decode_abort(payload: &[u8]) -> Result<AbortReason, Malformed> {
    let [number] = payload else {
        return Err(Malformed);
    };
    AbortReason::from_u8(*number).ok_or(Malformed)
}

/// Why a response is not wanted any more.
pub fn encode_cancel(reason: CancelReason) -> [u8; 1] {
    [reason.as_u8()]
}

/// Reads [`encode_cancel`].
pub fn decode_cancel(payload: &[u8]) -> Result<CancelReason, Malformed> {
    let [number] = payload else {
        return Err(Malformed);
    };
    CancelReason::from_u8(*number).ok_or(Malformed)
}

/// Which piece of the file whose descriptor was sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// First byte.
    pub offset: u64,
    /// Number of bytes. The file may be shorter when it is read: the gateway must expect that.
    pub len: u64,
}

impl FilePart {
    /// As a payload.
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.len.to_ne_bytes());
        bytes
    }

    /// From a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input(payload);
        let part = Self {
            offset: input.u64()?,
            len: input.u64()?,
        };
        input.end()?;
        Ok(part)
    }
}

/// Code and reason of a WebSocket close (RFC 6455 section 7.4); the reason is not checked to be
/// UTF-8 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketClose<'a> {
    /// Status code.
    pub code: u16,
    /// Reason, at most 123 bytes on the wire of RFC 6455.
    pub reason: &'a [u8],
}

impl<'a> WebSocketClose<'a> {
    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.to_ne_bytes());
        out.extend_from_slice(self.reason);
    }

    /// From a payload.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Input(payload);
        Ok(Self {
            code: input.u16()?,
            reason: input.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_payloads_come_back() {
        assert_eq!(decode_credit(&encode_credit(70_000)), Ok(70_000));
        assert_eq!(
            decode_abort(&encode_abort(AbortReason::Declined)),
            Ok(AbortReason::Declined)
        );
        let cancel = encode_cancel(CancelReason::Expired);
        assert_eq!(decode_cancel(&cancel), Ok(CancelReason::Expired));
        let part = FilePart {
            offset: 1 << 40,
            len: 7,
        };
        assert_eq!(FilePart::decode(&part.encode()), Ok(part));
        let close = WebSocketClose {
            code: 1001,
            reason: b"bye",
        };
        let mut out = Vec::new();
        close.encode(&mut out);
        assert_eq!(WebSocketClose::decode(&out), Ok(close));
    }

    #[test]
    fn small_payloads_of_other_lengths_are_refused() {
        assert_eq!(decode_credit(b"123"), Err(Malformed));
        assert_eq!(decode_abort(b""), Err(Malformed));
        assert_eq!(decode_abort(b"\0"), Err(Malformed));
        assert_eq!(decode_cancel(b"\x01\x01"), Err(Malformed));
        assert_eq!(FilePart::decode(&[0; 17]), Err(Malformed));
        assert_eq!(WebSocketClose::decode(b"1"), Err(Malformed));
    }
}
