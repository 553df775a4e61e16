//! Raw deflate for messages (RFC 7692 section 7.2), and where its memory is.
//!
//! Theory of operation: a compressor is some 260 KiB and a decompressor some 45 KiB, much more than
//! everything else of a connection. So none has its own unless a context to keep was agreed on (and
//! then only from its first compressed message on): it borrows one of [`Codecs`] for the time of a
//! message and gives it back clean.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Fault;

/// What a sender takes off the end of a message and a receiver puts back (RFC 7692 section 7.2.1).
const TAIL: [u8; TAIL_LEN] = [0, 0, 0xff, 0xff];

/// Length of what is put back.
pub(super) const TAIL_LEN: usize = 4;

/// Compression level: half the time of zlib's default for a few per cent more bytes.
const LEVEL: u32 = 3;

/// What they take.
pub(super) const INFLATER: usize = 45 * 1024;
pub(super) const DEFLATER: usize = 260 * 1024;

/// Codecs of each kind that are kept while nobody uses them.
const SPARE: usize = 4;

/// Bytes inflated or deflated at a time.
const STEP: usize = 16 * 1024;

/// The codecs that all connections share.
#[derive(Debug, Default)]
pub struct Codecs {
    inflaters: Vec<Decompress>,
    /// With their window bits.
    deflaters: Vec<(u8, Compress)>,
    /// What a compressor made, before it is known how long it is.
    pub(super) made: Vec<u8>,
}

impl Codecs {
    pub(super) fn inflater(&mut self) -> Decompress {
        self.inflaters
            .pop()
            .unwrap_or_else(|| Decompress::new(false))
    }

    pub(super) fn keep_inflater(&mut self, mut inflater: Decompress) {
        if self.inflaters.len() < SPARE {
            inflater.reset(false);
            self.inflaters.push(inflater);
        }
    }

    pub(super) fn deflater(&mut self, bits: u8) -> Compress {
        let kept = self.deflaters.iter().position(|(kept, _)| *kept == bits);
        kept.map_or_else(
            || Compress::new_with_window_bits(Compression::new(LEVEL), false, bits),
            |at| self.deflaters.swap_remove(at).1,
        )
    }

    pub(super) fn keep_deflater(&mut self, bits: u8, mut deflater: Compress) {
        if self.deflaters.len() < SPARE {
            deflater.reset();
            self.deflaters.push((bits, deflater));
        }
    }
}

/// What came of a step of inflating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inflated {
    /// Bytes of the input used.
    pub(super) used: usize,
    /// There is nothing to be had any more without more input.
    pub(super) dry: bool,
}

/// Inflates some of `input` and appends at most `room` bytes to `out`, on a fault what came before
/// it.
pub(super) fn inflate(
    inflater: &mut Decompress,
    input: &[u8],
    room: usize,
    out: &mut Vec<u8>,
) -> Result<Inflated, Fault> {
    let start = out.len();
    let before = (inflater.total_in(), inflater.total_out());
    out.resize(start + room.min(STEP), 0);
    let status = inflater.decompress(input, &mut out[start..], FlushDecompress::Sync);
    let made = difference(inflater.total_out(), before.1);
    let used = difference(inflater.total_in(), before.0);
    let full = start + made == out.len();
    out.truncate(start + made);
    match status.map_err(|_| Fault::InvalidDeflate)? {
        // A block that says it is the last one (RFC 7692 section 7.2.3.4): what follows is a new
        // stream.
        Status::StreamEnd => {
            inflater.reset(false);
            let dry = used == input.len();
            Ok(Inflated { used, dry })
        }
        Status::Ok | Status::BufError => Ok(Inflated { used, dry: !full }),
    }
}

/// The end of a message: as [`inflate`] with what the sender took off. `sent` counts how much of
/// that has been given already.
pub(super) fn inflate_tail(
    inflater: &mut Decompress,
    sent: &mut usize,
    room: usize,
    out: &mut Vec<u8>,
) -> Result<Inflated, Fault> {
    let step = inflate(inflater, &TAIL[*sent..], room, out)?;
    *sent += step.used;
    Ok(step)
}

/// Appends `piece` to `out`, compressed; of the last piece of a message everything without the
/// tail.
pub(super) fn deflate(deflater: &mut Compress, mut piece: &[u8], last: bool, out: &mut Vec<u8>) {
    let flush = if last {
        FlushCompress::Sync
    } else {
        FlushCompress::None
    };
    loop {
        let start = out.len();
        let before = (deflater.total_in(), deflater.total_out());
        out.resize(start + STEP, 0);
        // The compressor has no errors but those of its caller, and none of them can be made here.
        let status = deflater.compress(piece, &mut out[start..], flush);
        debug_assert!(status.is_ok(), "{status:?}");
        let made = difference(deflater.total_out(), before.1);
        piece = &piece[difference(deflater.total_in(), before.0)..];
        out.truncate(start + made);
        if made < STEP && piece.is_empty() || status.is_err() {
            break;
        }
    }
    if last && out.ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
}

fn difference(after: u64, before: u64) -> usize {
    usize::try_from(after - before).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deflated(codecs: &mut Codecs, pieces: &[&[u8]]) -> Vec<u8> {
        let mut deflater = codecs.deflater(15);
        let mut out = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            deflate(&mut deflater, piece, at + 1 == pieces.len(), &mut out);
        }
        codecs.keep_deflater(15, deflater);
        out
    }

    fn inflated(codecs: &mut Codecs, mut input: &[u8], room: usize) -> Result<Vec<u8>, Fault> {
        let mut inflater = codecs.inflater();
        let mut out = Vec::new();
        loop {
            let step = inflate(&mut inflater, input, room, &mut out)?;
            input = &input[step.used..];
            if step.dry && input.is_empty() {
                break;
            }
        }
        let mut sent = 0;
        while !inflate_tail(&mut inflater, &mut sent, room, &mut out)?.dry || sent < TAIL.len() {}
        codecs.keep_inflater(inflater);
        Ok(out)
    }

    #[test]
    fn what_was_deflated_comes_back() {
        let mut codecs = Codecs::default();
        let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for pieces in [
            &[&b""[..]][..],
            &[b"Hello"],
            &[b"He", b"", b"llo"],
            &[&long[..50_001], &long[50_001..]],
        ] {
            let packed = deflated(&mut codecs, pieces);
            for room in [1, 7, STEP * 2] {
                assert_eq!(inflated(&mut codecs, &packed, room), Ok(pieces.concat()));
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let mut codecs = Codecs::default();
        for packed in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            // Without compression, with a last block, and in two blocks (RFC 7692 section 7.2.3).
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ] {
            assert_eq!(inflated(&mut codecs, packed, 100), Ok(b"Hello".to_vec()));
        }
        assert_eq!(
            deflated(&mut codecs, &[b"Hello"]),
            [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        let mut codecs = Codecs::default();
        let refused = inflated(&mut codecs, &[0xff; 20], 100);
        assert_eq!(refused, Err(Fault::InvalidDeflate));
    }

    #[test]
    fn few_are_kept() {
        let mut codecs = Codecs::default();
        let many: Vec<_> = (0..SPARE + 3).map(|_| codecs.inflater()).collect();
        for one in many {
            codecs.keep_inflater(one);
        }
        assert_eq!(codecs.inflaters.len(), SPARE);
    }
}
