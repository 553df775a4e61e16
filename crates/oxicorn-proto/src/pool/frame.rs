//! The header of a frame: `GD`, version, kind, length of the payload, id, in network order.

/// Bytes of a header.
pub const HEADER_LENGTH: usize = 16;
/// Most bytes of a payload (Gunicorn: `MAX_MESSAGE_SIZE`).
pub const PAYLOAD_MAX: usize = 64 * 1024 * 1024;
const MAGIC: [u8; 2] = *b"GD";
const VERSION: u8 = 1;
/// The bit of the kind that says that a descriptor comes along.
const WITH_DESCRIPTOR: u8 = 0x80;

/// Why bytes are no frame; the connection they came from cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The first bytes are not `GD`.
    Magic,
    /// A version other than 1.
    Version(u8),
    /// A kind nobody knows.
    Kind(u8),
    /// The payload is longer than [`PAYLOAD_MAX`].
    TooLong(usize),
    /// The payload ends within a value.
    Truncated,
    /// A value's type is unknown.
    Tag(u8),
    /// A text is not UTF-8.
    Utf8,
    /// A key of a dictionary is no text.
    Key,
    /// A container has more than `ITEMS_MAX` items.
    TooMany(usize),
    /// Containers lie in each other deeper than `DEPTH_MAX`.
    TooDeep,
    /// Bytes follow the value.
    Trailing,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A call: `app_path`, `action`, `args`, `kwargs`.
    Request = 0x01,
    /// Its result.
    Response = 0x02,
    /// Its failure: `error`.
    Error = 0x03,
    /// A part of a stream: `data`.
    Chunk = 0x04,
    /// The end of a stream.
    End = 0x05,
    /// An operation on the stash: `op`, `table`, `key`, `value`, `pattern`.
    Stash = 0x10,
    /// A question about the pool.
    Status = 0x11,
    /// More or fewer workers: `op`, `count`.
    Manage = 0x12,
    /// The caller does not want this call's result any more. oxicorn's own; no payload, no answer.
    Cancel = 0x20,
    /// A question for the memory in which a caller sees the stash. oxicorn's own; no payload.
    View = 0x21,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Request,
            0x02 => Self::Response,
            0x03 => Self::Error,
            0x04 => Self::Chunk,
            0x05 => Self::End,
            0x10 => Self::Stash,
            0x11 => Self::Status,
            0x12 => Self::Manage,
            0x20 => Self::Cancel,
            0x21 => Self::View,
            _ => return None,
        })
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Bytes of payload that follow, at most [`PAYLOAD_MAX`].
    pub length: usize,
    /// Which call it belongs to, unique on its connection.
    pub id: u64,
    /// The descriptor of a memory file comes with the first byte of this header: oxicorn's own, never sent to whoever did
    /// not send one or ask for one ([`Kind::View`]).
    pub descriptor: bool,
}

impl Header {
    /// Reads a header; `None`: not all of it is there yet. A fault is found with the first wrong byte.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, Fault> {
        if input.iter().zip(MAGIC).any(|(&is, should)| is != should) {
            return Err(Fault::Magic);
        }
        if let Some(&version) = input.get(2)
            && version != VERSION
        {
            return Err(Fault::Version(version));
        }
        let Some(&kind) = input.get(3) else {
            return Ok(None);
        };
        let descriptor = kind & WITH_DESCRIPTOR != 0;
        let kind = Kind::from_byte(kind & !WITH_DESCRIPTOR).ok_or(Fault::Kind(kind))?;
        let Some((length, rest)) = input[4..].split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > PAYLOAD_MAX {
            return Err(Fault::TooLong(length));
        }
        Ok(rest.first_chunk().map(|id| Self {
            kind,
            length,
            id: u64::from_be_bytes(*id),
            descriptor,
        }))
    }

    /// The bytes of the header.
    pub fn encode(self) -> Result<[u8; HEADER_LENGTH], Fault> {
        let length = u32::try_from(self.length).map_err(|_| Fault::TooLong(self.length))?;
        if self.length > PAYLOAD_MAX {
            return Err(Fault::TooLong(self.length));
        }
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[3] = self.kind as u8 | if self.descriptor { WITH_DESCRIPTOR } else { 0 };
        bytes[4..8].copy_from_slice(&length.to_be_bytes());
        bytes[8..].copy_from_slice(&self.id.to_be_bytes());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BinaryProtocol.encode_header(1, 0x0102030405060708, 5)` of Gunicorn 27.0.1.
    const GUNICORNS: [u8; 16] = *b"GD\x01\x01\0\0\0\x05\x01\x02\x03\x04\x05\x06\x07\x08";

    #[test]
    fn is_gunicorns_header() {
        let header = Header {
            kind: Kind::Request,
            length: 5,
            id: 0x0102_0304_0506_0708,
            descriptor: false,
        };
        assert_eq!(header.encode(), Ok(GUNICORNS));
        assert_eq!(Header::parse(&GUNICORNS), Ok(Some(header)));
        for end in 0..HEADER_LENGTH {
            assert_eq!(Header::parse(&GUNICORNS[..end]), Ok(None));
        }
    }

    #[test]
    fn tells_that_a_descriptor_comes_along() {
        let header = Header {
            kind: Kind::Chunk,
            length: 0,
            id: 1,
            descriptor: true,
        };
        let bytes = header.encode().expect("it is short");
        assert_eq!(Header::parse(&bytes), Ok(Some(header)));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Header::parse(b"H"), Err(Fault::Magic));
        assert_eq!(Header::parse(b"GD\x02"), Err(Fault::Version(2)));
        assert_eq!(Header::parse(b"GD\x01\x06"), Err(Fault::Kind(6)));
        let long = PAYLOAD_MAX + 1;
        assert_eq!(
            Header::parse(b"GD\x01\x01\x04\0\0\x01"),
            Err(Fault::TooLong(long))
        );
        let header = Header {
            kind: Kind::End,
            length: long,
            id: 0,
            descriptor: false,
        };
        assert_eq!(header.encode(), Err(Fault::TooLong(long)));
    }
}
