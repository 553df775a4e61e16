//! Percent-encoding (RFC 3986 section 2.1), as paths have it.

/// Appends `path` with its percent-encoded bytes decoded; what is not two hexadecimal digits after
/// a `%` stays as it is.
pub fn decode(path: &[u8], out: &mut Vec<u8>) {
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

/// Value of a hexadecimal digit.
#[inline]
pub(crate) const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            decode(path, &mut out);
            assert_eq!(out, decoded);
        }
    }
}
