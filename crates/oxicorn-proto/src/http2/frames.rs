//! Which frames pass on a connection, seen from beside it: a library reads and writes them, and does not tell of all.
//!
//! Only headers of frames are looked at (RFC 9113 section 4.1), and the error code of those that end something.

/// Bytes of a frame's header.
const HEADER: usize = 9;

/// Bytes of an error code.
const CODE: usize = 4;

/// A frame, once its header has passed, or its error code where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Bytes behind its header.
    pub length: usize,
    /// Its flags.
    pub flags: u8,
    /// The stream it belongs to; 0: the connection.
    pub stream: u32,
    /// The error code, of a frame that has one.
    pub code: u32,
}

impl Frame {
    /// The flag that means `END_STREAM`, or ACK.
    pub fn has_first_flag(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// The kinds of frames (RFC 9113 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names are those of the RFC")]
pub enum FrameKind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Other,
}

impl FrameKind {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Other,
        }
    }

    /// Bytes of the payload in front of the error code, and with it; `None`: there is none.
    const fn before_code(self) -> Option<usize> {
        match self {
            Self::Reset => Some(0),
            Self::GoAway => Some(CODE),
            _ => None,
        }
    }
}

/// Finds frames in bytes that pass, however they are cut.
#[derive(Clone, Debug, Default)]
pub struct FrameScanner {
    /// Bytes that are no frames' (a preface), or the rest of a payload.
    skip: usize,
    header: [u8; HEADER + 2 * CODE],
    filled: usize,
    wanted: usize,
}

impl FrameScanner {
    /// For bytes in which frames begin after `preface` others.
    pub fn after(preface: usize) -> Self {
        Self {
            skip: preface,
            wanted: HEADER,
            ..Self::default()
        }
    }

    /// `bytes` pass; `found` is told of each frame.
    pub fn pass(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        self.wanted = self.wanted.max(HEADER);
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (self.wanted - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled < self.wanted {
                return;
            }
            let frame = self.read();
            let more = frame
                .kind
                .before_code()
                .map_or(0, |before| (before + CODE).min(frame.length));
            if self.wanted < HEADER + more {
                self.wanted = HEADER + more;
                continue;
            }
            self.skip = frame.length - more;
            (self.filled, self.wanted) = (0, HEADER);
            found(frame);
        }
    }

    fn read(&self) -> Frame {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
        };
        let kind = FrameKind::of(self.header[3]);
        let code = kind.before_code().map_or(0, |before| {
            let at = HEADER + before;
            if self.filled >= at + CODE {
                number(&self.header[at..at + CODE])
            } else {
                0
            }
        });
        Frame {
            kind,
            length: number(&self.header[..3]) as usize,
            flags: self.header[4],
            stream: number(&self.header[5..HEADER]) & 0x7fff_ffff,
            code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FrameKind as F;
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short");
        let mut out = length.to_be_bytes()[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(payload);
        out
    }

    #[test]
    fn frames_are_found_at_any_cut() {
        let bytes = [
            b"PRI".to_vec(),
            frame(4, 0, 0, &[0; 12]),
            frame(3, 0, 7, &[0, 0, 0, 8]),
            frame(0, 1, 5, b"body"),
            frame(7, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 11, b'x']),
            frame(6, 0, 0, &[1; 8]),
            frame(3, 0, 9, &[1]),
            frame(77, 0, 1, b""),
        ]
        .concat();
        let mut whole = Vec::new();
        FrameScanner::after(3).pass(&bytes, |frame| whole.push(frame));
        let kinds: Vec<_> = whole.iter().map(|frame| frame.kind).collect();
        assert_eq!(
            kinds,
            [
                F::Settings,
                F::Reset,
                F::Data,
                F::GoAway,
                F::Ping,
                F::Reset,
                F::Other
            ]
        );
        assert_eq!((whole[1].stream, whole[1].code), (7, 8));
        assert_eq!((whole[2].length, whole[2].has_first_flag()), (4, true));
        assert_eq!(whole[3].code, 11);
        for size in 1..bytes.len() {
            let (mut scanner, mut found) = (FrameScanner::after(3), Vec::new());
            for piece in bytes.chunks(size) {
                scanner.pass(piece, |frame| found.push(frame));
            }
            assert_eq!(found, whole, "in pieces of {size}");
        }
    }
}
