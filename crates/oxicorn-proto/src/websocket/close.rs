//! Close codes and the payload of a close frame (RFC 6455 sections 5.5.1 and 7.4).

use super::Fault;
use super::frame::CONTROL_MAX;

/// Most bytes of a reason: a control frame less the code.
pub const REASON_MAX: usize = CONTROL_MAX - 2;

/// Why a WebSocket ends (RFC 6455 section 7.4.1 and IANA's registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The peer goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// Against the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// Never on the wire: a close without a code.
    pub const NONE: Self = Self(1005);
    /// Never on the wire: the connection ended without a close.
    pub const ABNORMAL: Self = Self(1006);
    /// Data that is not what its message says it is.
    pub const INVALID_DATA: Self = Self(1007);
    /// Against a policy.
    pub const POLICY: Self = Self(1008);
    /// A message too big to be processed.
    pub const TOO_BIG: Self = Self(1009);
    /// The server failed.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The server restarts: come again.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// The server has too much to do for this one.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Whether a frame may carry it: 1004 to 1006 and 1015 say things that are not sent, what
    /// nobody has registered means nothing, 3000 to 4999 belong to libraries and applications.
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// The code of a close frame's payload; what follows it is the reason.
pub(super) fn read(payload: &[u8]) -> Result<Option<CloseCode>, Fault> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Fault::TruncatedCloseCode),
        [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
    };
    if !code.may_be_sent() {
        return Err(Fault::InvalidCloseCode);
    }
    str::from_utf8(reason)
        .map(|_| Some(code))
        .map_err(|_| Fault::InvalidCloseReason)
}

/// As much of `reason` as a frame may carry, cut at a character.
pub(super) fn cut(reason: &[u8]) -> &[u8] {
    let Some(most) = reason.get(..REASON_MAX) else {
        return reason;
    };
    match str::from_utf8(most) {
        Err(error) => &most[..error.valid_up_to()],
        Ok(_) => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_sent() {
        for code in [1000, 1003, 1007, 1011, 1012, 1014, 3000, 4999] {
            assert_eq!(
                read(&u16::to_be_bytes(code)),
                Ok(Some(CloseCode(code))),
                "{code}"
            );
        }
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535,
        ] {
            assert_eq!(
                read(&u16::to_be_bytes(code)),
                Err(Fault::InvalidCloseCode),
                "{code}"
            );
        }
    }

    #[test]
    fn payloads_of_a_close() {
        assert_eq!(read(b""), Ok(None));
        assert_eq!(read(b"\x03"), Err(Fault::TruncatedCloseCode));
        assert_eq!(read(b"\x03\xe8bye"), Ok(Some(CloseCode::NORMAL)));
        assert_eq!(read(b"\x03\xe8\xff"), Err(Fault::InvalidCloseReason));
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(cut(b"short"), b"short");
        let long = format!("{}ü", "x".repeat(REASON_MAX - 1));
        assert_eq!(cut(long.as_bytes()).len(), REASON_MAX - 1);
        assert_eq!(cut("x".repeat(500).as_bytes()).len(), REASON_MAX);
    }
}
