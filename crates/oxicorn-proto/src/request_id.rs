//! Which ids of requests are taken over from others.
//!
//! An id goes into logs, responses, and from the application's logs into whatever reads them, so what is taken over is
//! short and has only bytes that mean nothing to any of them. Whether the peer may name requests at all is for the
//! caller to know (see [`crate::trust`]).

/// Bytes of the longest id that is taken over: twice a UUID with what proxies put around it.
pub const LONGEST: usize = 128;

/// Whether an id is taken over as it is: 1 to [`LONGEST`] letters, digits and `-_.~:;=+/@`, which the ids of nginx,
/// `HAProxy`, Envoy, Heroku and AWS (`Root=1-67891233-abcdef012345678912345678`) are made of.
pub fn is_acceptable(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~:;=+/@".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(is_plain)
}

/// A new id: a UUID of version 4 (RFC 9562 section 5.4) made of these random bytes.
pub fn new(random: [u8; 16]) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = random;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (number, byte) in bytes.into_iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_ids_that_proxies_make() {
        for id in [
            &b"7f3c1c9a4f0b4a7b8a1d2c3e4f5a6b7c"[..],
            b"550e8400-e29b-41d4-a716-446655440000",
            b"Root=1-67891233-abcdef012345678912345678;Self=1-2",
            b"7F000001:C3A8_0A000001:1F90_5F3B:0001",
            b"a",
            &[b'x'; LONGEST],
        ] {
            assert!(is_acceptable(id), "{}", String::from_utf8_lossy(id));
        }
    }

    #[test]
    fn refuses_what_could_mean_something_elsewhere() {
        for id in [
            &b""[..],
            b"a b",
            b"a,b",
            b"a\tb",
            b"\"a\"",
            b"<script>",
            b"a\\b",
            b"${jndi:ldap}",
            b"%0a",
            b"\xc3\xa9",
            b"a\x7f",
            &[b'x'; LONGEST + 1],
        ] {
            assert!(!is_acceptable(id), "{}", String::from_utf8_lossy(id));
        }
    }

    #[test]
    fn makes_uuids_of_version_4() {
        assert_eq!(&new([0xff; 16]), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(&new([0; 16]), b"00000000-0000-4000-8000-000000000000");
        assert!(is_acceptable(&new(*b"0123456789abcdef")));
    }
}
