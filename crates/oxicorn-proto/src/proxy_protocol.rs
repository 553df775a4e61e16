//! The PROXY protocol, versions 1 and 2: who the client of a proxy in front is.
//!
//! Decides what the first bytes of a connection say. Refuses to know whom they may be believed
//! from: the caller asks only for peers it trusts (`proxy_allow_ips`), and keeps the answer for
//! every request of the connection.
//!
//! Theory of operation: a header starts with one of two signatures that no HTTP request starts
//! with. While the input is the beginning of one of them, more is needed; once it is not, there is
//! no header. Behind a signature there is no way back: what follows is a header or a fault. Version
//! 1 is judged when its line is complete or too long, version 2 by its fixed part and when all its
//! announced bytes are there. (Specification: haproxy.org, `doc/proxy-protocol.txt`, sections 2.1
//! and 2.2.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::fault::PeerFault;

/// Longest version 1 line with its CRLF (section 2.1).
const V1_LINE_MAX: usize = 107;
const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const V2_FIXED: usize = 16;
/// Most bytes after the fixed part. The format allows 65535; addresses take 36 and the largest
/// extension in use, a client certificate, a few thousand.
const V2_LENGTH_MAX: usize = 16 * 1024;

/// Which versions are understood (`proxy_protocol`, without `off`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The text line only.
    V1,
    /// The binary header only.
    V2,
    /// Whichever comes.
    Auto,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyHeader {
    /// The proxy speaks for itself (health check), or does not know: the socket's addresses hold.
    Local,
    /// The connection was made by `source` to `destination`.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where it wanted to go.
        destination: SocketAddr,
    },
}

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not to be told yet: read more.
    NeedMore,
    /// No PROXY header: the bytes belong to the protocol above. (It is optional.)
    Absent,
    /// A header.
    Header {
        /// How many bytes it took.
        consumed: usize,
        /// What it said.
        header: ProxyHeader,
    },
}

/// Reads the header at the front of a new connection's `input`.
pub fn parse(input: &[u8], mode: Mode) -> Result<Parsed, PeerFault> {
    let v1 = mode != Mode::V2 && agree(input, V1_SIGNATURE);
    let v2 = mode != Mode::V1 && agree(input, V2_SIGNATURE);
    if v1 && input.len() >= V1_SIGNATURE.len() {
        return parse_v1(input);
    }
    if v2 && input.len() >= V2_SIGNATURE.len() {
        return parse_v2(input);
    }
    Ok(if v1 || v2 {
        Parsed::NeedMore
    } else {
        Parsed::Absent
    })
}

/// Is the one the beginning of the other?
fn agree(input: &[u8], signature: &[u8]) -> bool {
    input
        .iter()
        .zip(signature)
        .all(|(byte, expected)| byte == expected)
}

fn parse_v1(input: &[u8]) -> Result<Parsed, PeerFault> {
    let window = &input[..input.len().min(V1_LINE_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        let full = window.len() == V1_LINE_MAX;
        return if full {
            Err(PeerFault::InvalidProxyLine)
        } else {
            Ok(Parsed::NeedMore)
        };
    };
    let line = window[..end]
        .strip_suffix(b"\r")
        .and_then(|line| str::from_utf8(line).ok());
    let header = line
        .and_then(read_line)
        .ok_or(PeerFault::InvalidProxyLine)?;
    Ok(Parsed::Header {
        consumed: end + 1,
        header,
    })
}

/// `PROXY TCP4|TCP6 source destination source-port destination-port`, one space each; or `PROXY
/// UNKNOWN` and anything.
fn read_line(line: &str) -> Option<ProxyHeader> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(ProxyHeader::Local);
    }
    let source = read_address(family, words.next()?)?;
    let destination = read_address(family, words.next()?)?;
    let source = SocketAddr::new(source, read_port(words.next()?)?);
    let destination = SocketAddr::new(destination, read_port(words.next()?)?);
    words.next().is_none().then_some(ProxyHeader::Proxied {
        source,
        destination,
    })
}

fn read_address(family: &str, word: &str) -> Option<IpAddr> {
    match family {
        "TCP4" => word.parse().ok().map(IpAddr::V4),
        "TCP6" => word.parse().ok().map(IpAddr::V6),
        _ => None,
    }
}

/// Digits only: a sign or a leading zero is not in the grammar.
fn read_port(word: &str) -> Option<u16> {
    let canonical = word == "0" || word.starts_with(|first: char| matches!(first, '1'..='9'));
    canonical.then(|| word.parse().ok())?
}

fn parse_v2(input: &[u8]) -> Result<Parsed, PeerFault> {
    let Some((fixed, rest)) = input.split_at_checked(V2_FIXED) else {
        return Ok(Parsed::NeedMore);
    };
    let [.., version_command, family, high, low] = fixed else {
        return Err(PeerFault::InvalidProxyHeader);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if version_command >> 4 != 2 || length > V2_LENGTH_MAX {
        return Err(PeerFault::InvalidProxyHeader);
    }
    let Some(payload) = rest.get(..length) else {
        return Ok(Parsed::NeedMore);
    };
    let header = match version_command & 0xf {
        // Whatever the rest says, it is skipped.
        0 => Some(ProxyHeader::Local),
        1 => read_payload(*family, payload),
        _ => None,
    };
    let header = header.ok_or(PeerFault::InvalidProxyHeader)?;
    Ok(Parsed::Header {
        consumed: V2_FIXED + length,
        header,
    })
}

/// Addresses and extensions of the PROXY command. TCP over IP, or unspecified; datagrams and unix
/// sockets do not carry HTTP to us.
fn read_payload(family: u8, payload: &[u8]) -> Option<ProxyHeader> {
    match family {
        0x00 => Some(ProxyHeader::Local),
        0x11 => read_addresses::<4, Ipv4Addr>(payload),
        0x21 => read_addresses::<16, Ipv6Addr>(payload),
        _ => None,
    }
}

/// Two addresses of `N` bytes, two ports, extensions.
fn read_addresses<const N: usize, A>(payload: &[u8]) -> Option<ProxyHeader>
where
    A: From<[u8; N]> + Into<IpAddr>,
{
    let (source, rest) = payload.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, extensions) = rest.split_first_chunk::<2>()?;
    let join = |address: [u8; N], port: [u8; 2]| {
        SocketAddr::new(A::from(address).into(), u16::from_be_bytes(port))
    };
    has_whole_extensions(extensions).then(|| ProxyHeader::Proxied {
        source: join(*source, *source_port),
        destination: join(*destination, *destination_port),
    })
}

/// Extensions (type, two bytes of length, value) are skipped, but must fill their space.
fn has_whole_extensions(mut rest: &[u8]) -> bool {
    while let [_, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((_, next)) = after.split_at_checked(length) else {
            return false;
        };
        rest = next;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(source: &str, destination: &str) -> ProxyHeader {
        ProxyHeader::Proxied {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
        }
    }

    fn v2(version_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([version_command, family]);
        header.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
        header.extend(payload);
        header
    }

    const TCP4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0, 80];

    /// The outcome of `header` followed by a request; the same one for every shorter input must be
    /// `NeedMore`.
    fn whole(header: &[u8], mode: Mode) -> Result<Parsed, PeerFault> {
        let mut input = header.to_vec();
        input.extend(b"GET / HTTP/1.1\r\n");
        let outcome = parse(&input, mode);
        if let Ok(Parsed::Header { consumed, .. }) = outcome {
            for len in 0..consumed {
                assert_eq!(parse(&input[..len], mode), Ok(Parsed::NeedMore), "{len}");
            }
        }
        outcome
    }

    #[test]
    fn lines_of_version_1() {
        for (line, header) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
                proxied("192.0.2.1:8080", "198.51.100.2:80"),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
                proxied("[2001:db8::1]:1", "[::1]:65535"),
            ),
            (
                "PROXY TCP4 192.0.2.1 198.51.100.2 0 0\r\n",
                proxied("192.0.2.1:0", "198.51.100.2:0"),
            ),
            ("PROXY UNKNOWN\r\n", ProxyHeader::Local),
            (
                "PROXY UNKNOWN ffff::1 ::1 65535 65535\r\n",
                ProxyHeader::Local,
            ),
        ] {
            let expected = Ok(Parsed::Header {
                consumed: line.len(),
                header,
            });
            assert_eq!(whole(line.as_bytes(), Mode::V1), expected);
            assert_eq!(whole(line.as_bytes(), Mode::Auto), expected);
        }
    }

    #[test]
    fn broken_lines_of_version_1() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 8080\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 8080 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 08080 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +80 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 80\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.2 1 80\r\n",
            "PROXY TCP4 ::1 ::1 1 80\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.1 1 80\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 80\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(
                parse(line.as_bytes(), Mode::V1),
                Err(PeerFault::InvalidProxyLine),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_line_of_version_1_is_bounded() {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(V1_LINE_MAX - 1, b'x');
        assert_eq!(parse(&line, Mode::Auto), Ok(Parsed::NeedMore));
        line.push(b'x');
        assert_eq!(parse(&line, Mode::Auto), Err(PeerFault::InvalidProxyLine));
    }

    #[test]
    fn headers_of_version_2() {
        let mut tcp6 = [0; 36];
        tcp6[15] = 1;
        tcp6[31] = 2;
        tcp6[33] = 7;
        tcp6[35] = 9;
        let mut extended = TCP4.to_vec();
        extended.extend([4, 0, 2, 0, 0, 0x20, 0, 0]);
        let addresses = proxied("192.0.2.1:8080", "198.51.100.2:80");
        for (bytes, header) in [
            (v2(0x21, 0x11, &TCP4), addresses),
            (v2(0x21, 0x11, &extended), addresses),
            (v2(0x21, 0x21, &tcp6), proxied("[::1]:7", "[::2]:9")),
            (v2(0x21, 0x00, &[1, 2, 3]), ProxyHeader::Local),
            (v2(0x20, 0x00, &[]), ProxyHeader::Local),
            (v2(0x20, 0x31, &[9; 216]), ProxyHeader::Local),
        ] {
            let expected = Ok(Parsed::Header {
                consumed: bytes.len(),
                header,
            });
            assert_eq!(whole(&bytes, Mode::V2), expected);
            assert_eq!(whole(&bytes, Mode::Auto), expected);
        }
    }

    #[test]
    fn broken_headers_of_version_2() {
        let mut overlong_extension = TCP4.to_vec();
        overlong_extension.extend([4, 0, 3, 0]);
        let mut cut_extension = TCP4.to_vec();
        cut_extension.extend([4, 0]);
        for bytes in [
            v2(0x11, 0x11, &TCP4),
            v2(0x22, 0x11, &TCP4),
            v2(0x21, 0x12, &TCP4),
            v2(0x21, 0x31, &[0; 216]),
            v2(0x21, 0x11, &TCP4[..11]),
            v2(0x21, 0x21, &TCP4),
            v2(0x21, 0x11, &overlong_extension),
            v2(0x21, 0x11, &cut_extension),
            v2(0x21, 0x11, &vec![0; V2_LENGTH_MAX + 1]),
        ] {
            assert_eq!(
                parse(&bytes, Mode::Auto),
                Err(PeerFault::InvalidProxyHeader)
            );
        }
    }

    #[test]
    fn what_is_no_header_is_left_alone() {
        for input in [&b"GET /"[..], b"POST", b"\r\nGET", b"PROXYX", b"x"] {
            assert_eq!(parse(input, Mode::Auto), Ok(Parsed::Absent));
        }
        for beginning in [&b""[..], b"P", b"PROXY", b"\r", b"\r\n\r\n\0"] {
            assert_eq!(parse(beginning, Mode::Auto), Ok(Parsed::NeedMore));
        }
        assert_eq!(parse(b"PROXY UNKNOWN\r\n", Mode::V2), Ok(Parsed::Absent));
        assert_eq!(parse(&v2(0x20, 0, &[]), Mode::V1), Ok(Parsed::Absent));
    }
}
