//! The two ends of a connection as text, made once when it is accepted.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use oxicorn_link::wire;
use oxicorn_os::sockets;

/// An address without a heap allocation; the longest is an IPv6 address that ends in IPv4 form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddressText {
    bytes: [u8; Self::CAPACITY],
    len: u8,
}

impl AddressText {
    const CAPACITY: usize = 46;

    fn new(address: IpAddr) -> Self {
        let mut bytes = [0; Self::CAPACITY];
        let mut rest = &mut bytes[..];
        write!(rest, "{address}").expect("no address is longer");
        let len = Self::CAPACITY - rest.len();
        Self {
            bytes,
            len: u8::try_from(len).expect("at most the capacity"),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// An IP address and port, as text and number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpEnd {
    pub(crate) address: IpAddr,
    pub(crate) text: AddressText,
    pub(crate) port: u16,
}

impl From<SocketAddr> for IpEnd {
    fn from(address: SocketAddr) -> Self {
        let ip = address.ip();
        Self {
            address: ip,
            text: AddressText::new(ip),
            port: address.port(),
        }
    }
}

/// One end of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    Ip(IpEnd),
    /// The path: empty if unnamed, beginning with NUL if abstract.
    Unix(Box<[u8]>),
}

impl Endpoint {
    pub(crate) fn new(address: sockets::Address) -> Self {
        match address {
            sockets::Address::Ip(address) => Self::Ip(address.into()),
            sockets::Address::Unix(path) => Self::Unix(path.into()),
        }
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(end) => Some(end.address),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Ip(end) => Some(end.port),
            Self::Unix(_) => None,
        }
    }

    /// The address as `REMOTE_ADDR` has it: nothing for a client on a Unix socket.
    pub(crate) fn text(&self) -> &[u8] {
        match self {
            Self::Ip(end) => end.text.as_bytes(),
            Self::Unix(path) => path,
        }
    }

    /// For people: as [`Self::text`], and something for a client on a Unix socket, too, which rarely has a path.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Ip(end) => String::from_utf8_lossy(end.text.as_bytes()).into_owned(),
            Self::Unix(path) if path.is_empty() => "unix".into(),
            Self::Unix(path) => {
                let path = String::from_utf8_lossy(path);
                format!("unix:{}", path.escape_debug())
            }
        }
    }

    /// For the link.
    pub(crate) fn wire(&self) -> wire::Address<'_> {
        match self {
            Self::Ip(end) => wire::Address::Ip {
                host: end.text.as_bytes(),
                port: end.port,
            },
            Self::Unix(path) => wire::Address::Unix { path },
        }
    }
}

/// What a PROXY header said about the connection before ours.
#[derive(Debug, Clone)]
pub(crate) struct Proxied {
    source: IpEnd,
    destination: IpEnd,
    /// The source again, as the connection's client.
    pub(crate) client: Endpoint,
}

impl Proxied {
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let source = IpEnd::from(source);
        Self {
            source,
            destination: destination.into(),
            client: Endpoint::Ip(source),
        }
    }

    /// For the link.
    pub(crate) fn wire(&self) -> wire::ProxyInfo<'_> {
        wire::ProxyInfo {
            protocol: if self.source.address.is_ipv4() {
                b"TCP4"
            } else {
                b"TCP6"
            },
            source: self.source.text.as_bytes(),
            source_port: self.source.port,
            destination: self.destination.text.as_bytes(),
            destination_port: self.destination.port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_address_has_room() {
        let longest = "1111:2222:3333:4444:5555:6666:7777:8888";
        let end = Endpoint::new(sockets::Address::Ip(
            format!("[{longest}]:1").parse().expect("one"),
        ));
        assert_eq!(end.text(), longest.as_bytes());
        let mapped: SocketAddr = "[::ffff:192.168.100.200]:65535".parse().expect("one");
        assert_eq!(
            Endpoint::new(sockets::Address::Ip(mapped)).text(),
            b"::ffff:192.168.100.200"
        );
    }
}
