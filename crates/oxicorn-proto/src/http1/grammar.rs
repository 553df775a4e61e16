//! The byte classes of RFC 9110 and 9112, as one table and the few checks made of it.
//!
//! Theory of operation: short things (methods, hosts) are looked up byte by byte in [`CLASS`]; long
//! things (names, values, targets) are scanned eight or sixteen bytes at a time, because the only
//! question about them is where the first byte stands that must not be there. Eight at a time is
//! integer arithmetic on a word; sixteen is a loop without branches that the compiler turns into
//! vector instructions.

use std::net::Ipv6Addr;

use crate::fault::LocalMisuse;

/// `tchar` (RFC 9110 section 5.6.2).
pub(super) const TOKEN: u8 = 1;
/// Lower case or `#`: token bytes no registered method has.
pub(super) const UNCONVENTIONAL: u8 = 2;
/// `_`, which an environ cannot tell from `-`.
pub(super) const UNDERSCORE: u8 = 4;
/// A byte of `reg-name` (RFC 3986 section 3.2.2), `%` included.
const REG_NAME: u8 = 8;
/// `%`.
const ESCAPE: u8 = 16;

/// What each byte may be part of.
pub(super) static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = class(byte);
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

const fn class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => TOKEN | REG_NAME | UNCONVENTIONAL,
        b'_' => TOKEN | REG_NAME | UNDERSCORE,
        b'#' => TOKEN | UNCONVENTIONAL,
        b'0'..=b'9' | b'A'..=b'Z' => TOKEN | REG_NAME,
        b'^' | b'`' | b'|' => TOKEN,
        b'(' | b')' | b',' | b';' | b'=' => REG_NAME,
        b'%' => TOKEN | REG_NAME | ESCAPE,
        _ if is_common_mark(byte) => TOKEN | REG_NAME,
        _ => 0,
    }
}

const fn is_common_mark(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'~'
    )
}

/// The classes of all bytes together, or 0 if one of them (or all, in an empty name) is no `tchar`.
#[inline]
pub(super) fn token_classes(bytes: &[u8]) -> u8 {
    let mut any = 0;
    let mut all = TOKEN;
    for &byte in bytes {
        let class = CLASS[usize::from(byte)];
        any |= class;
        all &= class;
    }
    if bytes.is_empty() { 0 } else { any * all }
}

/// `token` (RFC 9110 section 5.6.2).
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    let unusual = |byte: u8| !(byte | 0x20).is_ascii_lowercase() && byte != b'-';
    if contains(bytes, unusual) {
        token_classes(bytes) != 0
    } else {
        !bytes.is_empty()
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = ONES << 7;

/// The high bit of each byte of `word` below `bound` (up to 128). Borrows can set bits above a true
/// one, so only "any" and "the lowest" may be asked.
#[inline]
const fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * bound as u64) & !word & HIGHS
}

/// The same for bytes equal to `byte`.
#[inline]
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// The high bit of each byte of `word` that is neither letter nor hyphen, which most field names
/// consist of. Exact: no sum here carries into the next byte.
#[inline]
const fn not_plain(word: u64) -> u64 {
    let low = word & !HIGHS;
    let lower = low | (ONES * 0x20);
    let from_a = lower + ONES * (0x80 - b'a' as u64);
    let past_z = lower + ONES * (0x7f - b'z' as u64);
    let no_hyphen = (low ^ (ONES * b'-' as u64)) + ONES * 0x7f;
    ((!from_a | past_z) & no_hyphen | word) & HIGHS
}

/// Position of the first byte at or after `from` for which `flag` sets a bit in its word.
#[inline]
fn find(bytes: &[u8], from: usize, flag: impl Fn(u64) -> u64) -> Option<usize> {
    let mut at = from;
    let mut rest = bytes.get(from..)?;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let flagged = flag(u64::from_le_bytes(*word));
        if flagged != 0 {
            return Some(at + flagged.trailing_zeros() as usize / 8);
        }
        at += 8;
        rest = after;
    }
    rest.iter()
        .position(|&byte| flag(ONES * u64::from(byte)) != 0)
        .map(|more| at + more)
}

/// Does any byte of the block satisfy `wanted`? Without an early end on purpose.
#[inline]
fn any_of<const N: usize>(block: &[u8; N], wanted: impl Fn(u8) -> bool) -> bool {
    block.iter().fold(false, |any, &byte| any | wanted(byte))
}

/// The first byte at or after `from` that may not stand in a field name, unless it is one of the
/// less usual bytes of a token: the caller looks at it.
#[inline]
pub(super) fn find_not_plain(bytes: &[u8], from: usize) -> Option<usize> {
    find(bytes, from, not_plain)
}

/// The first control byte at or after `from`, HTAB included: what may end a field value.
#[inline]
pub(super) fn find_control(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut rest = bytes.get(from..)?;
    while let Some((block, after)) = rest.split_first_chunk::<16>()
        && !any_of(block, |byte| byte < 0x20 || byte == 0x7f)
    {
        at += 16;
        rest = after;
    }
    find(bytes, at, |word| below(word, 0x20) | equal(word, 0x7f))
}

/// The first byte at or after `from` that is not printable ASCII: what may end a request target.
/// (Adding one carries 0x7f and everything above into the high bit.)
#[inline]
pub(super) fn find_non_graphic(bytes: &[u8], from: usize) -> Option<usize> {
    find(bytes, from, |word| {
        below(word, 0x21) | (word.wrapping_add(ONES) | word) & HIGHS
    })
}

/// `field-content` and HTAB (RFC 9110 section 5.5): no other control byte, so no CR, LF or NUL.
#[inline]
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    !contains(bytes, |byte| byte < 0x20 && byte != b'\t' || byte == 0x7f)
}

/// Does any byte satisfy `wanted`, which `a` does not? Block by block, the rest once more as a
/// block: the last sixteen bytes, or what there is, filled up.
#[inline]
fn contains(bytes: &[u8], wanted: impl Fn(u8) -> bool + Copy) -> bool {
    let (blocks, rest) = bytes.as_chunks::<16>();
    if blocks.iter().any(|block| any_of(block, wanted)) {
        return true;
    }
    if let Some(last) = bytes.last_chunk::<16>() {
        return !rest.is_empty() && any_of(last, wanted);
    }
    let mut padded = [b'a'; 16];
    padded[..rest.len()].copy_from_slice(rest);
    any_of(&padded, wanted)
}

/// Are they the same but for case? `known` is in lower case and `name` a token, in which setting
/// bit 5 turns letters into lower case and makes nothing else look like a letter or a hyphen.
#[inline]
pub(super) fn same_name<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else {
        return false;
    };
    let mut difference = 0;
    for (byte, expected) in name.iter().zip(known) {
        difference |= (byte | 0x20) ^ expected;
    }
    difference == 0
}

/// The position after the first LF at or after `from`. A caller that shows less than before is told
/// that there is none.
#[inline]
pub(super) fn find_line_feed(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr(b'\n', bytes.get(from..)?).map(|at| from + at + 1)
}

/// Without `OWS` at either end (RFC 9110 section 5.6.3).
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list (RFC 9110 section 5.6.1), trimmed, empty ones included.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// `1*DIGIT`; `None` is not a number, `Some(None)` one beyond 64 bits.
#[expect(
    clippy::option_option,
    reason = "the two failures have different statuses"
)]
pub(crate) fn decimal(digits: &[u8]) -> Option<Option<u64>> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    }))
}

/// `uri-host [ ":" port ]` split at the port's colon (RFC 9110 section 4.2.3, RFC 3986 section
/// 3.2.2), or `None` if it is something else. User information is something else.
pub(super) fn split_authority(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let end = if authority.first() == Some(&b'[') {
        authority.iter().position(|&byte| byte == b']')? + 1
    } else {
        authority
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at_checked(end)?;
    let port = match rest {
        [] => None,
        [b':', port @ ..] if port.len() <= 5 && port.iter().all(u8::is_ascii_digit) => Some(port),
        _ => return None,
    };
    is_host(host).then_some((host, port))
}

fn is_host(host: &[u8]) -> bool {
    if let [b'[', address @ .., b']'] = host {
        return is_ipv6(address);
    }
    let (mut any, mut all) = (0, REG_NAME);
    for &byte in host {
        let class = CLASS[usize::from(byte)];
        any |= class;
        all &= class;
    }
    all != 0 && (any & ESCAPE == 0 || has_whole_escapes(host))
}

/// A literal of IP version 6; a zone or a future version has no place in a Host.
fn is_ipv6(address: &[u8]) -> bool {
    str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Each `%` is followed by two hexadecimal digits.
fn has_whole_escapes(name: &[u8]) -> bool {
    name.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| {
            name.get(at + 1..at + 3)
                .is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
        })
}

/// Value of a hexadecimal digit.
#[inline]
pub(super) const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Is it a token (RFC 9110 section 5.6.2)? Names of headers, of the application's too.
pub fn check_field_name(name: &[u8]) -> Result<(), LocalMisuse> {
    if is_token(name) {
        Ok(())
    } else {
        Err(LocalMisuse::InvalidFieldName)
    }
}

/// Is it free of control bytes (RFC 9110 section 5.5)? Values of headers and reason phrases.
pub fn check_field_value(value: &[u8]) -> Result<(), LocalMisuse> {
    if is_field_value(value) {
        Ok(())
    } else {
        Err(LocalMisuse::InvalidFieldValue)
    }
}

/// Appends `path` with its percent-encoded bytes decoded; what is not two hexadecimal digits after
/// a `%` stays as it is.
pub fn percent_decode(path: &[u8], out: &mut Vec<u8>) {
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let decoded = match escape {
            [_, high, low, ..] => hex_value(*high).zip(hex_value(*low)),
            _ => None,
        };
        let taken = if let Some((high, low)) = decoded {
            out.push(high << 4 | low);
            3
        } else {
            out.push(b'%');
            1
        };
        rest = &escape[taken..];
    }
    out.extend_from_slice(rest);
}

/// The first line of `input` as far as it has come, without its end and the empty line a peer may
/// send before it: what a log can say of a request that was refused.
pub fn first_line(input: &[u8]) -> &[u8] {
    let input = input.strip_prefix(b"\r\n").unwrap_or(input);
    let end = memchr::memchr2(b'\r', b'\n', input).unwrap_or(input.len());
    &input[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_the_rfcs_set() {
        let expected =
            b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        for byte in 0..=u8::MAX {
            assert_eq!(
                is_token(&[b'a', byte]),
                expected.contains(&byte),
                "{byte:#x}"
            );
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn token_classes_tell_of_every_byte() {
        assert_eq!(token_classes(b"X_Y") & UNDERSCORE, UNDERSCORE);
        assert_eq!(token_classes(b"X-Y") & UNDERSCORE, 0);
        assert_eq!(token_classes(b"GEt") & UNCONVENTIONAL, UNCONVENTIONAL);
        assert_eq!(token_classes(b"a_ b"), 0);
    }

    #[test]
    fn names_are_the_same_but_for_case() {
        assert!(same_name(b"Content-LENGTH", b"content-length"));
        assert!(!same_name(b"content-lengt", b"content-length"));
        for byte in (0..=u8::MAX).filter(|byte| CLASS[usize::from(*byte)] & TOKEN != 0) {
            assert_eq!(same_name(&[byte], b"a"), byte.eq_ignore_ascii_case(&b'a'));
            assert_eq!(same_name(&[byte], b"-"), byte == b'-');
        }
    }

    #[test]
    fn plain_is_letters_and_hyphens() {
        for byte in 0..=u8::MAX {
            let plain = byte.is_ascii_alphabetic() || byte == b'-';
            for at in 0..8 {
                for others in [b'a', b'Z', b'-'] {
                    let mut name = [others; 8];
                    name[at] = byte;
                    assert_eq!(
                        find_not_plain(&name, 0),
                        (!plain).then_some(at),
                        "{byte:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn field_value_is_checked_at_every_position_and_length() {
        for len in 1..40 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'\xa0'; len];
                    value[at] = byte;
                    let good = byte == b'\t' || byte >= 0x20 && byte != 0x7f;
                    assert_eq!(is_field_value(&value), good, "{byte:#x} at {at} of {len}");
                    let control = byte < 0x20 || byte == 0x7f;
                    assert_eq!(find_control(&value, 0), control.then_some(at));
                    let graphic = (0x21..=0x7e).contains(&byte);
                    let mut target = vec![b'/'; len];
                    target[at] = byte;
                    assert_eq!(find_non_graphic(&target, 0), (!graphic).then_some(at));
                }
            }
        }
    }

    #[test]
    fn authority_forms() {
        let good: [&[u8]; 9] = [
            b"a",
            b"a.example:8000",
            b"[::1]",
            b"[::1]:443",
            b"127.0.0.1:80",
            b"a_b",
            b"a:",
            b"",
            b"%C3%A4",
        ];
        let bad: [&[u8]; 14] = [
            b"a b",
            b"u@a",
            b"a/b",
            b"a:b",
            b"a:1:2",
            b"[::1",
            b"[x]",
            b"::1",
            b"a:123456",
            b"[::1]x",
            b"%zz",
            b"%4",
            b"a\\b",
            b"[fe80::1%251]",
        ];
        for authority in good {
            assert!(
                split_authority(authority).is_some(),
                "{}",
                authority.escape_ascii()
            );
        }
        for authority in bad {
            assert!(
                split_authority(authority).is_none(),
                "{}",
                authority.escape_ascii()
            );
        }
    }

    #[test]
    fn decimal_knows_its_bounds() {
        assert_eq!(decimal(b"18446744073709551615"), Some(Some(u64::MAX)));
        assert_eq!(decimal(b"18446744073709551616"), Some(None));
        for bad in [&b""[..], b"+1", b"-1", b"1 ", b"0x1", b"1_0", b"\xd9\xa1"] {
            assert_eq!(decimal(bad), None);
        }
    }

    #[test]
    fn percent_decoding_leaves_what_is_no_escape() {
        for (path, decoded) in [
            (&b"/a%20b"[..], &b"/a b"[..]),
            (b"/%C3%a4", b"/\xc3\xa4"),
            (b"/100%", b"/100%"),
            (b"/%2", b"/%2"),
            (b"/%zz%41", b"/%zzA"),
            (b"/%%41", b"/%A"),
            (b"/%2541", b"/%41"),
            (b"", b""),
        ] {
            let mut out = Vec::new();
            percent_decode(path, &mut out);
            assert_eq!(out, decoded);
        }
    }

    #[test]
    fn first_line_of_anything() {
        assert_eq!(first_line(b"\r\nGET / HTTP/1.1\r\nHost"), b"GET / HTTP/1.1");
        assert_eq!(first_line(b"GET"), b"GET");
        assert_eq!(first_line(b""), b"");
    }
}
