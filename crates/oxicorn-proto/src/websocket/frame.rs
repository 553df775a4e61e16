//! The head of a frame (RFC 6455 section 5.2), read byte by byte and written, and the mask.

use super::{Fault, Kind};

/// Most bytes of a control frame's payload (RFC 6455 section 5.5).
pub const CONTROL_MAX: usize = 125;

/// Longest head of a client's frame: two bytes, eight of length, four of mask.
const HEAD_MAX: usize = 14;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// Control frames that are no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Data(Kind),
    Close,
    Control(Control),
}

impl Opcode {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Data(Kind::Text) => 0x1,
            Self::Data(Kind::Binary) => 0x2,
            Self::Close => 0x8,
            Self::Control(Control::Ping) => 0x9,
            Self::Control(Control::Pong) => 0xa,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0x0 => Self::Continuation,
            0x1 => Self::Data(Kind::Text),
            0x2 => Self::Data(Kind::Binary),
            0x8 => Self::Close,
            0x9 => Self::Control(Control::Ping),
            0xa => Self::Control(Control::Pong),
            _ => return None,
        })
    }

    pub(super) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Control(_))
    }
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) last: bool,
    /// RSV1: the message is compressed.
    pub(super) compressed: bool,
    pub(super) opcode: Opcode,
    pub(super) len: u64,
    pub(super) mask: Mask,
}

/// As much of a head as has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadReader {
    bytes: [u8; HEAD_MAX],
    have: u8,
}

impl HeadReader {
    /// Takes from the front of `input` what belongs to the head. Each byte is judged when it is
    /// there, whatever comes after it.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<(usize, Option<FrameHead>), Fault> {
        let mut used = 0;
        loop {
            let have = usize::from(self.have);
            let needed = self.needed()?;
            if have == needed {
                let head = self.head();
                self.have = 0;
                return head.map(|head| (used, Some(head)));
            }
            let take = (needed - have).min(input.len() - used);
            if take == 0 {
                return Ok((used, None));
            }
            self.bytes[have..have + take].copy_from_slice(&input[used..used + take]);
            self.have += u8::try_from(take).unwrap_or_default();
            used += take;
        }
    }

    /// How long the head is, as far as is known: one more byte is asked for until then.
    fn needed(&self) -> Result<usize, Fault> {
        let [first, second, ..] = self.bytes;
        if self.have == 0 {
            return Ok(1);
        }
        let opcode = judge_first(first)?;
        if self.have == 1 {
            return Ok(2);
        }
        let len = second & !MASKED;
        if second & MASKED == 0 {
            return Err(Fault::Unmasked);
        }
        if opcode.is_control() && usize::from(len) > CONTROL_MAX {
            return Err(Fault::LongControl);
        }
        Ok(match len {
            126 => 8,
            127 => 14,
            _ => 6,
        })
    }

    /// The complete head.
    fn head(&self) -> Result<FrameHead, Fault> {
        let [first, second, rest @ ..] = &self.bytes;
        let opcode = judge_first(*first)?;
        let [b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13] = *rest;
        let (len, mask) = match second & !MASKED {
            126 => {
                let len = u16::from_be_bytes([b2, b3]);
                if len < 126 {
                    return Err(Fault::LengthNotMinimal);
                }
                (u64::from(len), [b4, b5, b6, b7])
            }
            127 => {
                let len = u64::from_be_bytes([b2, b3, b4, b5, b6, b7, b8, b9]);
                if len >> 63 != 0 {
                    return Err(Fault::LengthTooLarge);
                }
                if u16::try_from(len).is_ok() {
                    return Err(Fault::LengthNotMinimal);
                }
                (len, [b10, b11, b12, b13])
            }
            len => (u64::from(len), [b2, b3, b4, b5]),
        };
        Ok(FrameHead {
            last: first & FIN != 0,
            compressed: first & RSV1 != 0,
            opcode,
            len,
            mask: Mask(mask),
        })
    }
}

/// What the first byte alone says. RSV1 is for the decoder to judge, which knows what was agreed.
fn judge_first(first: u8) -> Result<Opcode, Fault> {
    if first & RSV2_RSV3 != 0 {
        return Err(Fault::ReservedBit);
    }
    let opcode = Opcode::from_number(first & 0x0f).ok_or(Fault::ReservedOpcode)?;
    if opcode.is_control() && first & FIN == 0 {
        return Err(Fault::FragmentedControl);
    }
    Ok(opcode)
}

/// Appends the head of a server's frame, which has no mask.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    opcode: Opcode,
    last: bool,
    compressed: bool,
    len: usize,
) {
    let first = opcode.number() | if last { FIN } else { 0 } | if compressed { RSV1 } else { 0 };
    let len = len as u64;
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.extend_from_slice(&[first, short]),
        (_, Ok(medium)) => {
            out.extend_from_slice(&[first, 126]);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// The masking key, turned so that its first byte is the next one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    /// Appends `masked` to `out` without its mask.
    pub(super) fn append(&mut self, masked: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(masked);
        self.apply(&mut out[start..]);
    }

    /// Takes the mask off.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let mut words = bytes.chunks_exact_mut(8);
        for word in &mut words {
            let masked = u64::from_ne_bytes(word.try_into().unwrap_or_default());
            word.copy_from_slice(&(masked ^ wide).to_ne_bytes());
        }
        for (byte, key) in words.into_remainder().iter_mut().zip(self.0.iter().cycle()) {
            *byte ^= key;
        }
        self.skip(bytes.len());
    }

    /// So many bytes were unmasked.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.0.rotate_left(bytes % 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of `bytes`, fed one by one; with it how many bytes it took to know.
    fn read(bytes: &[u8]) -> Result<Option<FrameHead>, (usize, Fault)> {
        let mut reader = HeadReader::default();
        for (at, byte) in bytes.iter().enumerate() {
            match reader.read(&[*byte]) {
                Ok((1, Some(head))) => {
                    assert_eq!(at + 1, bytes.len(), "complete too early");
                    return Ok(Some(head));
                }
                Ok((used, None)) => assert_eq!(used, 1),
                Ok(other) => panic!("{other:?}"),
                Err(fault) => return Err((at + 1, fault)),
            }
        }
        Ok(None)
    }

    #[test]
    fn heads_of_all_lengths() {
        for (len, bytes) in [
            (0, &[0x82, 0x80, 1, 2, 3, 4][..]),
            (125, &[0x82, 0xfd, 1, 2, 3, 4]),
            (126, &[0x82, 0xfe, 0, 126, 1, 2, 3, 4]),
            (65535, &[0x82, 0xfe, 255, 255, 1, 2, 3, 4]),
            (65536, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]),
        ] {
            let expected = FrameHead {
                last: true,
                compressed: false,
                opcode: Opcode::Data(Kind::Binary),
                len,
                mask: Mask([1, 2, 3, 4]),
            };
            assert_eq!(read(bytes), Ok(Some(expected)));
            for short in 0..bytes.len() {
                assert_eq!(read(&bytes[..short]), Ok(None));
            }
        }
    }

    #[test]
    fn heads_that_cannot_be_are_refused_at_the_byte_that_says_so() {
        for (bytes, at, fault) in [
            (&[0x91][..], 1, Fault::ReservedBit),
            (&[0xa1], 1, Fault::ReservedBit),
            (&[0x83], 1, Fault::ReservedOpcode),
            (&[0x87], 1, Fault::ReservedOpcode),
            (&[0x8b], 1, Fault::ReservedOpcode),
            (&[0x8f], 1, Fault::ReservedOpcode),
            (&[0x09], 1, Fault::FragmentedControl),
            (&[0x08], 1, Fault::FragmentedControl),
            (&[0x81, 0x05], 2, Fault::Unmasked),
            (&[0x89, 0xfe], 2, Fault::LongControl),
            (&[0x88, 0xff], 2, Fault::LongControl),
            (
                &[0x81, 0xfe, 0, 125, 1, 2, 3, 4],
                8,
                Fault::LengthNotMinimal,
            ),
            (
                &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4],
                14,
                Fault::LengthNotMinimal,
            ),
            (
                &[0x81, 0xff, 128, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
                14,
                Fault::LengthTooLarge,
            ),
        ] {
            assert_eq!(read(bytes), Err((at, fault)), "{bytes:x?}");
        }
    }

    #[test]
    fn heads_are_written_in_the_shortest_form() {
        for (len, expected) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65535, &[0x81, 126, 255, 255]),
            (65536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_head(&mut out, Opcode::Data(Kind::Text), true, false, len);
            assert_eq!(out, expected);
        }
        let mut out = Vec::new();
        write_head(&mut out, Opcode::Continuation, false, false, 1);
        write_head(&mut out, Opcode::Data(Kind::Binary), false, true, 1);
        assert_eq!(out, [0x00, 1, 0x42, 1]);
    }

    #[test]
    fn the_mask_goes_on_where_it_stopped() {
        let plain: Vec<u8> = (0..100).collect();
        let mut masked = plain.clone();
        for (byte, key) in masked.iter_mut().zip([9, 8, 7, 6].iter().cycle()) {
            *byte ^= key;
        }
        for cut in 0..plain.len() {
            let mut mask = Mask([9, 8, 7, 6]);
            let mut out = Vec::new();
            mask.append(&masked[..cut], &mut out);
            mask.append(&masked[cut..], &mut out);
            assert_eq!(out, plain, "{cut}");
        }
    }
}
