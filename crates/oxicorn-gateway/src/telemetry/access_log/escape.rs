//! What a client may say in a log line without breaking it.
//!
//! Gunicorn escapes the double quote only; a header value can then end a quoted field with a
//! backslash before the quote, and a user name from `Authorization` can carry line feeds. Here a
//! quote and a backslash get a backslash before them and everything that is not printable ASCII
//! becomes `\xHH`, so that one request is one line, a quoted field ends where its quote stands, and
//! a terminal that shows the file obeys nobody. A line made of ordinary values is byte for byte
//! Gunicorn's.

/// Appends `value`, made harmless.
pub(crate) fn escape(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|&byte| is_special(byte)) {
        out.extend_from_slice(&rest[..at]);
        escape_byte(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn is_special(byte: u8) -> bool {
    !(b' '..=b'~').contains(&byte) || byte == b'"' || byte == b'\\'
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(value: &[u8]) -> String {
        let mut out = Vec::new();
        escape(value, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        assert_eq!(
            escaped(b"Mozilla/5.0 (X11; Linux) ~"),
            "Mozilla/5.0 (X11; Linux) ~"
        );
        assert_eq!(escaped(b""), "");
    }

    #[test]
    fn nothing_can_end_the_field_or_the_line() {
        assert_eq!(escaped(b"a\"b"), "a\\\"b");
        assert_eq!(escaped(b"a\\\" 200"), "a\\\\\\\" 200");
        assert_eq!(escaped(b"x\r\ny\x1b[2J\x7f"), "x\\x0d\\x0ay\\x1b[2J\\x7f");
        assert_eq!(escaped("é".as_bytes()), "\\xc3\\xa9");
    }
}
