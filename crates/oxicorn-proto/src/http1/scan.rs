//! Where the first byte stands that ends a name, a value or a target, or must not be in it.
//!
//! Theory of operation: a [`Class`] of bytes is asked of sixteen at once, by a loop without branches
//! that the compiler turns into a handful of vector instructions; the answer is a number with all
//! bits set in the place of each byte that belongs, so that the lowest bit tells the first one.

/// A set of bytes.
pub(super) trait Class {
    fn has(byte: u8) -> bool;
}

/// A set of which eight bytes in one word can be asked at once, without vectors: for what is short.
pub(super) trait WordClass: Class {
    /// Does any byte of the word belong?
    fn any_in(word: u64) -> bool;
}

/// Control bytes, HTAB included: what may end a field value.
pub(super) struct Control;
/// What may not stand in a field value: control bytes but HTAB (RFC 9110 section 5.5), so no CR, LF
/// or NUL.
pub(super) struct NotInValue;
/// What is neither letter nor hyphen, which most field names consist of.
pub(super) struct NotPlain;
/// What is neither letter, digit, hyphen nor dot, which nearly all hosts consist of.
pub(super) struct NotPlainHost;
/// What is not printable ASCII: what may end a method or a target.
pub(super) struct NotGraphic;
/// What may end a path: `?`, `#` and all that ends a target.
pub(super) struct PathEnd;

impl Class for Control {
    #[inline]
    fn has(byte: u8) -> bool {
        byte < 0x20 || byte == 0x7f
    }
}

impl Class for NotInValue {
    #[inline]
    fn has(byte: u8) -> bool {
        Control::has(byte) && byte != b'\t'
    }
}

impl Class for NotPlain {
    #[inline]
    fn has(byte: u8) -> bool {
        // Bit 5 makes letters lower case and nothing else a letter.
        (byte | 0x20).wrapping_sub(b'a') > b'z' - b'a' && byte != b'-'
    }
}

impl Class for NotPlainHost {
    #[inline]
    fn has(byte: u8) -> bool {
        !byte.is_ascii_alphanumeric() && byte != b'-' && byte != b'.'
    }
}

impl Class for NotGraphic {
    #[inline]
    fn has(byte: u8) -> bool {
        !(0x21..=0x7e).contains(&byte)
    }
}

impl Class for PathEnd {
    #[inline]
    fn has(byte: u8) -> bool {
        NotGraphic::has(byte) || byte == b'?' || byte == b'#'
    }
}

/// One in every byte.
const ONES: u64 = u64::MAX / 0xff;
/// The highest bit of every byte. Sums of what is without it do not reach into the next byte.
const HIGH: u64 = ONES << 7;

/// Sets the highest bit of every byte of `low` (in which none is set) that is at least `least`.
#[inline]
const fn at_least(low: u64, least: u8) -> u64 {
    low + ONES * (0x80 - least as u64)
}

/// Sets it of every byte that is not `byte`.
#[inline]
const fn other_than(low: u64, byte: u8) -> u64 {
    (low ^ (ONES * byte as u64)) + ONES * 0x7f
}

impl WordClass for NotInValue {
    #[inline]
    fn any_in(word: u64) -> bool {
        let low = word & !HIGH;
        let control = !at_least(low, 0x20) & other_than(low, b'\t');
        let delete = !other_than(low, 0x7f);
        !word & (control | delete) & HIGH != 0
    }
}

impl WordClass for NotPlain {
    #[inline]
    fn any_in(word: u64) -> bool {
        let low = word & !HIGH;
        let lower = low | (ONES * 0x20);
        let letter = at_least(lower, b'a') & !at_least(lower, b'z' + 1);
        let hyphen = !other_than(low, b'-');
        !word & (letter | hyphen) & HIGH != HIGH
    }
}

/// Place of the first byte of the class, if there is one.
///
/// The three words of the answer overlap: of two halves the compiler would make two searches byte by
/// byte, while what three words share stays in one vector register.
#[expect(
    clippy::inline_always,
    reason = "the hot path: a call costs as much as the answer"
)]
#[inline(always)]
fn find_in_block<C: Class>(block: &[u8; 16]) -> Option<usize> {
    let mut answer = [0; 16];
    for (flag, &byte) in answer.iter_mut().zip(block) {
        *flag = 0_u8.wrapping_sub(u8::from(C::has(byte)));
    }
    let first = |at: usize| {
        let word = u64::from_le_bytes(*answer[at..].first_chunk()?);
        (word != 0).then(|| at + word.trailing_zeros() as usize / 8)
    };
    first(0).or_else(|| first(4)).or_else(|| first(8))
}

/// Position of the first byte of the class at or after `from`. A caller that shows less than before
/// is told that there is none.
#[expect(
    clippy::inline_always,
    reason = "the hot path: a call costs as much as the answer"
)]
#[inline(always)]
pub(super) fn find<C: Class>(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut rest = bytes.get(from..)?;
    while let Some((block, after)) = rest.split_first_chunk::<16>() {
        if let Some(place) = find_in_block::<C>(block) {
            return Some(at + place);
        }
        at += 16;
        rest = after;
    }
    find_short::<C>(rest).map(|more| at + more)
}

/// [`find`] for what mostly stands in the first sixteen bytes: no loop is prepared for more.
#[expect(
    clippy::inline_always,
    reason = "the hot path: a call costs as much as the answer"
)]
#[inline(always)]
pub(super) fn find_near<C: Class>(bytes: &[u8]) -> Option<usize> {
    match bytes.first_chunk().and_then(find_in_block::<C>) {
        Some(place) => Some(place),
        None => find_far::<C>(bytes),
    }
}

#[inline(never)]
fn find_far<C: Class>(bytes: &[u8]) -> Option<usize> {
    find::<C>(bytes, 0)
}

/// In less than sixteen bytes: their first eight and their last eight are one block. What those
/// share is answered by the first already.
#[inline(never)]
fn find_short<C: Class>(bytes: &[u8]) -> Option<usize> {
    let Some((first, last)) = bytes.first_chunk::<8>().zip(bytes.last_chunk::<8>()) else {
        return bytes.iter().position(|&byte| C::has(byte));
    };
    let mut block = [0; 16];
    block[..8].copy_from_slice(first);
    block[8..].copy_from_slice(last);
    let place = find_in_stored::<C>(&block)?;
    Some(if place < 8 {
        place
    } else {
        place + bytes.len() - 16
    })
}

/// Not inlined: a block that lies in registers would be asked byte by byte.
#[inline(never)]
fn find_in_stored<C: Class>(block: &[u8; 16]) -> Option<usize> {
    find_in_block::<C>(block)
}

/// Does any byte belong to the class? Where is not asked, so that the last block may share bytes with the
/// one before it.
#[inline]
pub(super) fn any<C: WordClass>(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<16>() else {
        return any_in_short::<C>(bytes);
    };
    let (blocks, _) = bytes.as_chunks::<16>();
    let mut all = blocks.iter().chain([last]);
    all.any(|block| find_in_block::<C>(block).is_some())
}

/// In less than sixteen bytes, of which some are asked twice.
#[inline(never)]
fn any_in_short<C: WordClass>(bytes: &[u8]) -> bool {
    if let Some((first, last)) = bytes.first_chunk::<8>().zip(bytes.last_chunk::<8>()) {
        return C::any_in(u64::from_le_bytes(*first)) | C::any_in(u64::from_le_bytes(*last));
    }
    if let Some((first, last)) = bytes.first_chunk::<4>().zip(bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return C::any_in(u64::from(first) << 32 | u64::from(last));
    }
    match *bytes {
        [] => false,
        [a] => C::any_in(ONES * u64::from(a)),
        [a, .., b] => {
            let middle = bytes[bytes.len() / 2];
            C::any_in(u64::from_le_bytes([a, middle, b, a, a, a, a, a]))
        }
    }
}

/// The position after the first LF at or after `from`. A caller that shows less than before is told
/// that there is none.
#[inline]
pub(super) fn find_line_feed(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr(b'\n', bytes.get(from..)?).map(|at| from + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of inputs of every length, among bytes that do not belong.
    fn is_found_everywhere<C: Class>(others: &[u8]) {
        for len in [1, 3, 4, 7, 8, 15, 16, 17, 33] {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    for &other in others {
                        let mut bytes = vec![other; len];
                        bytes[at] = byte;
                        let expected = C::has(byte).then_some(at);
                        assert_eq!(find::<C>(&bytes, 0), expected, "{byte:#x} at {at} of {len}");
                        assert_eq!(find_near::<C>(&bytes), expected);
                        assert_eq!(find::<C>(&bytes, at), expected);
                        assert_eq!(find::<C>(&bytes, at + 1), None);
                    }
                }
            }
        }
    }

    /// The same of what is only asked whether it is there.
    fn is_noticed_everywhere<C: WordClass>(others: &[u8]) {
        for len in 1..=33 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    for &other in others {
                        let mut bytes = vec![other; len];
                        bytes[at] = byte;
                        assert_eq!(any::<C>(&bytes), C::has(byte), "{byte:#x} at {at} of {len}");
                    }
                }
            }
        }
        assert!(!any::<C>(b""));
    }

    #[test]
    fn classes_are_noticed_everywhere() {
        is_noticed_everywhere::<NotInValue>(b"\xa0\t ~");
        is_noticed_everywhere::<NotPlain>(b"aZ-");
    }

    #[test]
    fn classes_are_found_everywhere() {
        is_found_everywhere::<Control>(b"\xa0 ");
        is_found_everywhere::<NotInValue>(b"\xa0\t");
        is_found_everywhere::<NotPlain>(b"aZ-");
        is_found_everywhere::<NotPlainHost>(b"a9.");
        is_found_everywhere::<NotGraphic>(b"/~!");
        is_found_everywhere::<PathEnd>(b"/>@");
    }

    #[test]
    fn the_first_of_several_is_found() {
        assert_eq!(find::<Control>(b"a\r\n", 0), Some(1));
        assert_eq!(find::<Control>(&[b'\n'; 40], 17), Some(17));
        assert_eq!(find::<Control>(b"", 0), None);
        assert_eq!(find::<Control>(b"a", 2), None, "less than before");
    }

    #[test]
    fn classes_are_what_they_say() {
        for byte in 0..=u8::MAX {
            assert_eq!(
                NotInValue::has(byte),
                byte.is_ascii_control() && byte != b'\t'
            );
            assert_eq!(
                NotPlain::has(byte),
                !byte.is_ascii_alphabetic() && byte != b'-'
            );
            assert_eq!(Control::has(byte), byte.is_ascii_control());
            assert_eq!(NotGraphic::has(byte), !(0x21..=0x7e).contains(&byte));
        }
    }
}
