//! The byte classes of RFC 9110 and 9112, as one table and the few checks made of it.
//!
//! Theory of operation: short things (methods, hosts) are looked up byte by byte in [`CLASS`]; long
//! things (names, values, targets) are scanned by [`scan`](super::scan), because the only question
//! about them is where the first byte stands that must not be there.

use std::net::Ipv6Addr;

use super::scan::{NotInValue, NotPlain, NotPlainHost, any, find, find_near};
use crate::fault::LocalMisuse;

/// `tchar` (RFC 9110 section 5.6.2).
pub(super) const TOKEN: u8 = 1;
/// Lower case or `#`: token bytes no registered method has.
pub(super) const UNCONVENTIONAL: u8 = 2;
/// `_`, which an environ cannot tell from `-`.
pub(super) const UNDERSCORE: u8 = 4;
/// A byte of `reg-name` (RFC 3986 section 3.2.2), `%` included.
const REG_NAME: u8 = 8;

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
        b'0'..=b'9' | b'A'..=b'Z' | b'-' | b'.' => TOKEN | REG_NAME,
        b'^' | b'`' | b'|' => TOKEN,
        b'(' | b')' | b',' | b';' | b'=' => REG_NAME,
        _ if is_common_mark(byte) => TOKEN | REG_NAME,
        _ => 0,
    }
}

const fn is_common_mark(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'~')
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
    if any::<NotPlain>(bytes) {
        token_classes(bytes) != 0
    } else {
        !bytes.is_empty()
    }
}

/// `field-content` and HTAB (RFC 9110 section 5.5): no other control byte, so no CR, LF or NUL.
#[inline]
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    !any::<NotInValue>(bytes)
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
#[inline(never)]
pub(super) fn split_authority(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (host, rest) = authority.split_at_checked(host_end(authority)?)?;
    match rest {
        [] => Some((host, None)),
        [b':', port @ ..] if is_port(port) => Some((host, Some(port))),
        _ => None,
    }
}

/// Are the first `len` of `bytes` what [`split_authority`] would split? The bytes behind are looked
/// at without being judged, so that sixteen can be asked at once where the authority is shorter.
#[inline]
pub(super) fn is_authority(bytes: &[u8], len: usize) -> bool {
    match find_near::<NotPlainHost>(bytes) {
        Some(end) if end < len => match &bytes[end..len] {
            [b':', port @ ..] => is_port(port),
            _ => split_authority(&bytes[..len]).is_some(),
        },
        _ => true,
    }
}

/// `*DIGIT` (RFC 3986 section 3.2.3), of five at the most.
#[inline]
fn is_port(port: &[u8]) -> bool {
    match port.split_first_chunk() {
        Some((four, [])) => are_digits(*four),
        Some((four, [fifth])) => are_digits(*four) && fifth.is_ascii_digit(),
        Some(_) => false,
        None => port.iter().all(u8::is_ascii_digit),
    }
}

/// Four at once: the upper half of each byte is 3, also when 6 is added to it.
#[inline]
fn are_digits(bytes: [u8; 4]) -> bool {
    const UPPER_HALVES: u32 = 0xf0f0_f0f0;
    const ZEROES: u32 = 0x3030_3030;
    let number = u32::from_le_bytes(bytes);
    let above = number.wrapping_add(0x0606_0606);
    ((number ^ ZEROES) | (above ^ ZEROES)) & UPPER_HALVES == 0
}

/// Where a well-formed host ends: before the first byte that can be in none.
fn host_end(authority: &[u8]) -> Option<usize> {
    match find::<NotPlainHost>(authority, 0) {
        None => Some(authority.len()),
        Some(end) if authority[end] == b':' => Some(end),
        Some(_) => unusual_host_end(authority),
    }
}

fn unusual_host_end(authority: &[u8]) -> Option<usize> {
    if let [b'[', rest @ ..] = authority {
        let len = rest.iter().position(|&byte| byte == b']')?;
        return is_ipv6(&rest[..len]).then_some(len + 2);
    }
    let is_outside = |byte: &u8| CLASS[usize::from(*byte)] & REG_NAME == 0;
    let end = authority.iter().position(is_outside);
    let end = end.unwrap_or(authority.len());
    has_whole_escapes(&authority[..end]).then_some(end)
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
            for behind in [&b""[..], b"\r\n", b"@:/[%x1234567890abcdef"] {
                let more = [authority, behind].concat();
                assert!(is_authority(&more, authority.len()), "{more:?}");
            }
        }
        for authority in bad {
            assert!(
                split_authority(authority).is_none(),
                "{}",
                authority.escape_ascii()
            );
            for behind in [&b""[..], b"\r\n", b"]:1234567890abcdef"] {
                let more = [authority, behind].concat();
                assert!(!is_authority(&more, authority.len()), "{more:?}");
            }
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
    fn first_line_of_anything() {
        assert_eq!(first_line(b"\r\nGET / HTTP/1.1\r\nHost"), b"GET / HTTP/1.1");
        assert_eq!(first_line(b"GET"), b"GET");
        assert_eq!(first_line(b""), b"");
    }
}
