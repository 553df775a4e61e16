//! The PROXY protocol, versions 1 and 2: who the client of a proxy in front is.
//!
//! Decides what the first bytes of a connection say. Refuses to know whom they may be believed
//! from: the caller asks only for peers it trusts (`proxy_allow_ips`).

use std::net::SocketAddr;

use crate::fault::PeerFault;

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
    let _ = (input, mode);
    todo!()
}
