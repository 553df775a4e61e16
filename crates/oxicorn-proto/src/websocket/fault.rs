//! What a peer did against RFC 6455, by name: each with its one answer.

use std::error::Error;
use std::fmt;

use super::CloseCode;

/// Why a request that asks for a WebSocket does not get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFault {
    /// Sec-WebSocket-Version is not 13.
    UnsupportedVersion,
    /// There is no Sec-WebSocket-Key.
    MissingKey,
    /// Sec-WebSocket-Key is not base64 of 16 bytes, or there are two.
    InvalidKey,
    /// Sec-WebSocket-Protocol is not a list of tokens.
    InvalidSubprotocol,
    /// Sec-WebSocket-Extensions is against its grammar.
    InvalidExtensions,
    /// The request has a body.
    UnexpectedBody,
}

impl HandshakeFault {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 6] = [
        Self::UnsupportedVersion,
        Self::MissingKey,
        Self::InvalidKey,
        Self::InvalidSubprotocol,
        Self::InvalidExtensions,
        Self::UnexpectedBody,
    ];

    /// The one status it is answered with.
    pub const fn status(self) -> u16 {
        match self {
            Self::UnsupportedVersion => 426,
            _ => 400,
        }
    }

    /// In words.
    pub const fn message(self) -> &'static str {
        match self {
            Self::UnsupportedVersion => "Sec-WebSocket-Version is not 13",
            Self::MissingKey => "Sec-WebSocket-Key is missing",
            Self::InvalidKey => "Sec-WebSocket-Key is not base64 of 16 bytes",
            Self::InvalidSubprotocol => "Sec-WebSocket-Protocol is not a list of tokens",
            Self::InvalidExtensions => "Sec-WebSocket-Extensions is not a list of extensions",
            Self::UnexpectedBody => "a WebSocket handshake has no body",
        }
    }
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl Error for HandshakeFault {}

/// What a peer sent that it must not send. Nothing after it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A reserved bit that nothing agreed on gives a meaning.
    ReservedBit,
    /// An opcode that is not defined.
    ReservedOpcode,
    /// A frame of a client without a mask.
    Unmasked,
    /// A length in a longer form than it needs.
    LengthNotMinimal,
    /// A length of 64 bits.
    LengthTooLarge,
    /// A control frame that says it is not the last of its message.
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    LongControl,
    /// A continuation of nothing.
    UnexpectedContinuation,
    /// A new message in the middle of another.
    InterruptedMessage,
    /// Text that is not UTF-8.
    InvalidText,
    /// A close with one byte.
    TruncatedCloseCode,
    /// A close with a code that is not to be sent.
    InvalidCloseCode,
    /// A close with a reason that is not UTF-8.
    InvalidCloseReason,
    /// Compressed data that is none.
    InvalidDeflate,
    /// A message beyond the limit.
    MessageTooBig,
}

impl Fault {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 15] = [
        Self::ReservedBit,
        Self::ReservedOpcode,
        Self::Unmasked,
        Self::LengthNotMinimal,
        Self::LengthTooLarge,
        Self::FragmentedControl,
        Self::LongControl,
        Self::UnexpectedContinuation,
        Self::InterruptedMessage,
        Self::InvalidText,
        Self::TruncatedCloseCode,
        Self::InvalidCloseCode,
        Self::InvalidCloseReason,
        Self::InvalidDeflate,
        Self::MessageTooBig,
    ];

    /// The one code it is answered with.
    pub const fn code(self) -> CloseCode {
        match self {
            Self::InvalidText | Self::InvalidCloseReason | Self::InvalidDeflate => {
                CloseCode::INVALID_DATA
            }
            Self::MessageTooBig => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Short enough to be the reason of a close.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBit => "reserved bit without an extension",
            Self::ReservedOpcode => "unknown opcode",
            Self::Unmasked => "frame without a mask",
            Self::LengthNotMinimal => "length not in its shortest form",
            Self::LengthTooLarge => "length of 64 bits",
            Self::FragmentedControl => "fragmented control frame",
            Self::LongControl => "control frame of more than 125 bytes",
            Self::UnexpectedContinuation => "continuation of no message",
            Self::InterruptedMessage => "message within another",
            Self::InvalidText => "text is not UTF-8",
            Self::TruncatedCloseCode => "close code of one byte",
            Self::InvalidCloseCode => "invalid close code",
            Self::InvalidCloseReason => "close reason is not UTF-8",
            Self::InvalidDeflate => "invalid compressed data",
            Self::MessageTooBig => "message too big",
        })
    }
}

impl Error for Fault {}
