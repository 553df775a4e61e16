//! The user name in an `Authorization: Basic` header (RFC 7617), for the `u` atom.
//!
//! Nothing is verified: it is what the client claims, as in every server's access log.

/// The name, if `value` is well-formed.
pub(super) fn user(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, credentials) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut pair = decode_base64(credentials.trim_ascii())?;
    let colon = pair.iter().position(|&byte| byte == b':')?;
    pair.truncate(colon);
    Some(pair)
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text
        .strip_suffix(b"==")
        .or_else(|| text.strip_suffix(b"="))
        .unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0;
        for &digit in group {
            bits = bits << 6 | u32::from(digit_value(digit)?);
        }
        let whole = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        let bits = bits << (6 * (4 - group.len())) << 8;
        bytes.extend_from_slice(&bits.to_be_bytes()[..whole]);
    }
    Some(bytes)
}

fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::user;

    #[test]
    fn finds_the_name_before_the_colon() {
        assert_eq!(
            user(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").as_deref(),
            Some(&b"Aladdin"[..])
        );
        assert_eq!(user(b"basic YTpi").as_deref(), Some(&b"a"[..]));
        assert_eq!(user(b"Basic OnA=").as_deref(), Some(&b""[..]));
    }

    #[test]
    fn says_nothing_of_what_is_not_well_formed() {
        for value in [
            &b"Bearer abc"[..],
            b"Basic",
            b"Basic ????",
            b"Basic YWJj",
            b"Basic Y",
        ] {
            assert_eq!(user(value), None);
        }
    }
}
