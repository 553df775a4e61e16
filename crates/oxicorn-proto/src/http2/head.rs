//! A request's pseudo-header fields and fields, written as the head of an HTTP/1 request.

use super::FIELD_OVERHEAD;
use crate::fault::PeerFault;
use crate::http1::grammar::trim;
use crate::http1::{check_field_name, check_field_value, same_authority};

/// The pseudo-header fields of a request (RFC 9113 section 8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start<'a> {
    /// `:method`
    pub method: &'a [u8],
    /// `:authority`
    pub authority: Option<&'a [u8]>,
    /// `:path`; of a CONNECT that is a tunnel there is none.
    pub path: Option<&'a [u8]>,
    /// `:scheme` is https.
    pub https: bool,
}

/// What fields count as (RFC 9113 section 6.5.2).
pub fn list_size<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> usize {
    let size = |(name, value): (&[u8], &[u8])| name.len() + value.len() + FIELD_OVERHEAD;
    fields.into_iter().map(size).sum()
}

/// Appends the head as an HTTP/1.1 client would have sent it. Nothing in it can end a line too early. Where there is an
/// authority it is the Host, and a Host that differs is a fault (RFC 9113 section 8.3.1).
pub fn write_head<'a>(
    start: &Start<'a>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) -> Result<(), PeerFault> {
    let target = start.path.or(start.authority).unwrap_or_default();
    if start.method.is_empty() || target.is_empty() {
        return Err(PeerFault::InvalidRequestLine);
    }
    let mut bytes = start.method.iter().chain(target);
    if bytes.any(|byte| *byte <= b' ') {
        return Err(PeerFault::InvalidRequestTarget);
    }
    for part in [start.method, b" ", target, b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    if let Some(authority) = start.authority {
        write_field(b"host", authority, out)?;
    }
    let mut cookies: Vec<&[u8]> = Vec::new();
    for (name, value) in fields {
        match (name, start.authority) {
            (b"cookie", _) => {
                check(name, value)?;
                cookies.push(value);
            }
            (b"host", Some(authority)) => {
                check(name, value)?;
                if !same_authority(value, authority, start.https) {
                    return Err(PeerFault::HostMismatch);
                }
            }
            _ => write_field(name, value, out)?,
        }
    }
    if !cookies.is_empty() {
        // Section 8.2.3: pieces of a cookie that came apart.
        write_field(b"cookie", &cookies.join(&b"; "[..]), out)?;
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), PeerFault> {
    check(name, value)?;
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Section 8.2.1: no upper case, no controls, no whitespace at either end of a value.
fn check(name: &[u8], value: &[u8]) -> Result<(), PeerFault> {
    let lower = !name.iter().any(u8::is_ascii_uppercase);
    if check_field_name(name).is_err() || !lower {
        return Err(PeerFault::InvalidFieldName);
    }
    if check_field_value(value).is_err() || trim(value).len() != value.len() {
        return Err(PeerFault::InvalidFieldValue);
    }
    Ok(())
}

/// Turns the version in the request line of a head written here into `HTTP/2.0`, which is as long: so logs, and who
/// asks for the line, see what was spoken.
pub fn version_two(head: &mut [u8]) {
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return;
    };
    if let Some(version) = end.checked_sub(3).map(|start| &mut head[start..end]) {
        version.copy_from_slice(b"2.0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(start: &Start<'_>, fields: &[(&str, &str)]) -> Result<String, PeerFault> {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let mut out = Vec::new();
        write_head(start, fields, &mut out)?;
        version_two(&mut out);
        Ok(String::from_utf8(out).expect("text"))
    }

    const GET: Start<'_> = Start {
        method: b"GET",
        authority: Some(b"a.example"),
        path: Some(b"/a?b"),
        https: true,
    };

    #[test]
    fn pseudo_fields_become_a_request_line_and_a_host() {
        let head = write(&GET, &[("accept", "*/*"), ("x-empty", "")]).expect("good");
        assert_eq!(
            head,
            "GET /a?b HTTP/2.0\r\nhost: a.example\r\naccept: */*\r\nx-empty: \r\n\r\n"
        );
    }

    #[test]
    fn pieces_of_a_cookie_are_joined() {
        let head = write(&GET, &[("cookie", "a=1"), ("b", "2"), ("cookie", "c=3")]).expect("good");
        assert!(head.ends_with("b: 2\r\ncookie: a=1; c=3\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_host_beside_the_authority_must_be_the_same() {
        let head = write(&GET, &[("host", "A.example:443")]).expect("the same");
        assert_eq!(head.matches("host:").count(), 1);
        assert_eq!(
            write(&GET, &[("host", "b.example")]),
            Err(PeerFault::HostMismatch)
        );
        let without = Start {
            authority: None,
            ..GET
        };
        let head = write(&without, &[("host", "b.example")]).expect("a host");
        assert!(head.contains("host: b.example\r\n"));
    }

    #[test]
    fn nothing_can_end_a_line() {
        for (name, value) in [
            ("a", "b\r\nc: d"),
            ("a\r\n", "b"),
            ("a", "b\0"),
            ("a", " b"),
            ("a", "b\t"),
            ("", "b"),
            ("A", "b"),
            ("a:b", "c"),
        ] {
            assert!(write(&GET, &[(name, value)]).is_err(), "{name:?} {value:?}");
        }
        for path in ["", "/a b", "/a\r\nx: y"] {
            let start = Start {
                path: Some(path.as_bytes()),
                ..GET
            };
            assert!(write(&start, &[]).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_size_of_a_list_counts_an_overhead() {
        assert_eq!(list_size([(&b"ab"[..], &b"cde"[..]), (b"", b"")]), 37 + 32);
    }
}
