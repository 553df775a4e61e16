//! Head of a request, as the gateway writes it for the worker.
//!
//! ```text
//! version u8 | scheme u8 | body place u8 | client family u8 | server family u8 | proxy u8
//! client port u16 | server port u16 | proxy source port u16 | proxy destination port u16
//! method length u16 | client length u16 | server length u16
//! proxy protocol length u16 | proxy source length u16 | proxy destination length u16 | 0 u16
//! request target length u32 | path length u32 | query length u32
//! headers length u32 | variables length u32 | deadline u32 | queued u32 | body length u64
//! then: method, client, server, proxy protocol, source, destination, target, path, query,
//!       headers, variables, inline body
//! ```
//!
//! The path is already percent-decoded and the addresses are text, because the gateway makes the
//! text once for a connection and the worker needs nothing but text.

use super::{HeaderList, Input, Malformed, len32};

/// Name of the variable that says that TLS is spoken with the client: the version's number and that of the cipher suite,
/// two bytes each, the high one first.
pub const TLS: &[u8] = b"oxicorn.tls";

/// Name of the variable that holds the trailers of a body that came whole: an encoded [`HeaderList`].
/// (Those of a streamed body come with its end.)
pub const TRAILERS: &[u8] = b"oxicorn.trailers";

/// Name of the variable that says how long the request was with proxies before it came here: microseconds, a number of
/// four bytes in the machine's order.
pub const PROXY_TIME: &[u8] = b"oxicorn.proxy_time";

/// Whether a variable is for the worker alone and not for environs.
pub fn is_for_the_worker(name: &[u8]) -> bool {
    [TLS, TRAILERS, PROXY_TIME].contains(&name)
}

/// HTTP version of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Version {
    /// HTTP/1.0
    Http10 = 10,
    /// HTTP/1.1
    Http11 = 11,
    /// HTTP/2
    Http2 = 20,
    /// HTTP/3
    Http3 = 30,
}

impl Version {
    fn from_u8(number: u8) -> Result<Self, Malformed> {
        match number {
            10 => Ok(Self::Http10),
            11 => Ok(Self::Http11),
            20 => Ok(Self::Http2),
            30 => Ok(Self::Http3),
            _ => Err(Malformed),
        }
    }
}

/// Scheme of the request, after trusted headers were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scheme {
    /// `http`
    Http = 0,
    /// `https`
    Https = 1,
    /// `ws`: a WebSocket handshake
    Ws = 2,
    /// `wss`
    Wss = 3,
}

impl Scheme {
    fn from_u8(number: u8) -> Result<Self, Malformed> {
        match number {
            0 => Ok(Self::Http),
            1 => Ok(Self::Https),
            2 => Ok(Self::Ws),
            3 => Ok(Self::Wss),
            _ => Err(Malformed),
        }
    }

    /// As in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// One end of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// An IP address as text, without brackets.
    Ip {
        /// Address.
        host: &'a [u8],
        /// Port.
        port: u16,
    },
    /// A Unix socket; the path is empty for an unnamed one and starts with NUL for an abstract one.
    Unix {
        /// Path.
        path: &'a [u8],
    },
}

impl<'a> Address<'a> {
    fn family(&self) -> u8 {
        match self {
            Self::Ip { .. } => 0,
            Self::Unix { .. } => 1,
        }
    }

    fn text(&self) -> &'a [u8] {
        match self {
            Self::Ip { host, .. } => host,
            Self::Unix { path } => path,
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Ip { port, .. } => *port,
            Self::Unix { .. } => 0,
        }
    }

    fn from_parts(family: u8, text: &'a [u8], port: u16) -> Result<Self, Malformed> {
        match family {
            0 => Ok(Self::Ip { host: text, port }),
            1 => Ok(Self::Unix { path: text }),
            _ => Err(Malformed),
        }
    }

    /// Whether it is a Unix socket.
    pub const fn is_unix(&self) -> bool {
        matches!(self, Self::Unix { .. })
    }
}

/// What a PROXY protocol header said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyInfo<'a> {
    /// `TCP4` or `TCP6`.
    pub protocol: &'a [u8],
    /// Client as the proxy saw it.
    pub source: &'a [u8],
    /// Its port.
    pub source_port: u16,
    /// Address of the proxy the client connected to.
    pub destination: &'a [u8],
    /// Its port.
    pub destination_port: u16,
}

/// Where the request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPlace {
    /// There is none.
    None,
    /// Behind the head, in the same message.
    Inline,
    /// The whole content (`len` bytes from the start) of the descriptor sent before.
    Descriptor {
        /// Bytes.
        len: u64,
    },
    /// Comes in events, as far as the worker gives credit: at first there is none, and never more than
    /// [`REQUEST_WINDOW`](crate::window::REQUEST_WINDOW).
    Streamed {
        /// Content-Length, if the client told.
        len: Option<u64>,
    },
}

/// `Streamed` without a length.
const UNKNOWN_LEN: u64 = u64::MAX;

impl BodyPlace {
    fn parts(self, inline: usize) -> (u8, u64) {
        match self {
            Self::None => (0, 0),
            Self::Inline => (1, inline as u64),
            Self::Descriptor { len } => (2, len),
            Self::Streamed { len } => (3, len.unwrap_or(UNKNOWN_LEN)),
        }
    }

    fn from_parts(place: u8, len: u64, inline: usize) -> Result<Self, Malformed> {
        match place {
            0 if inline == 0 => Ok(Self::None),
            1 if len == inline as u64 => Ok(Self::Inline),
            2 if inline == 0 => Ok(Self::Descriptor { len }),
            3 if inline == 0 => Ok(Self::Streamed {
                len: (len != UNKNOWN_LEN).then_some(len),
            }),
            _ => Err(Malformed),
        }
    }
}

/// Everything about a request but its headers and its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// HTTP version.
    pub version: Version,
    /// Scheme.
    pub scheme: Scheme,
    /// Method, as the client wrote it (at most 65535 bytes).
    pub method: &'a [u8],
    /// The target of the request line, as the client wrote it.
    pub request_target: &'a [u8],
    /// Path, percent-decoded.
    pub path: &'a [u8],
    /// Query string without the question mark.
    pub query_string: &'a [u8],
    /// Who asks, after trust rules.
    pub client: Address<'a>,
    /// The listener that was asked.
    pub server: Address<'a>,
    /// PROXY protocol header of the connection.
    pub proxy: Option<ProxyInfo<'a>>,
    /// Where the body is.
    pub body: BodyPlace,
    /// Milliseconds from placing until the request is too old; 0: never.
    pub deadline_ms: u32,
    /// Microseconds the request had waited when it was placed.
    pub queued_us: u32,
}

/// Bytes before the method.
const FIXED: usize = 64;
/// Ports and lengths of short texts; two bytes of nothing; lengths of long texts.
const SHORTS_AT: usize = 6;
const RESERVED_AT: usize = 26;
const LONGS_AT: usize = 28;
/// Where the lengths of headers and variables stand, which are known last.
const HEADERS_LEN_AT: usize = 40;
const VARIABLES_LEN_AT: usize = 44;
const TIMES_AT: usize = 48;
const BODY_LEN_AT: usize = 56;

/// Writes a request into a buffer: `begin`, any number of `header`, then any number of `variable`,
/// then `finish`.
#[must_use = "the request is not complete before finish"]
pub struct RequestEncoder<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    headers: usize,
    variables: Option<usize>,
    body: BodyPlace,
}

impl<'b> RequestEncoder<'b> {
    /// Appends the head to `out` (which need not be empty).
    #[inline]
    pub fn begin(out: &'b mut Vec<u8>, head: &RequestHead<'_>) -> Self {
        let start = out.len();
        out.reserve(FIXED + head.request_target.len() + head.path.len() + 256);
        out.extend_from_slice(&fixed_part(head));
        for text in [head.method, head.client.text(), head.server.text()] {
            out.extend_from_slice(short(text));
        }
        if let Some(proxy) = &head.proxy {
            for text in [proxy.protocol, proxy.source, proxy.destination] {
                out.extend_from_slice(short(text));
            }
        }
        for text in [head.request_target, head.path, head.query_string] {
            out.extend_from_slice(text);
        }
        let headers = out.len();
        Self {
            out,
            start,
            headers,
            variables: None,
            body: head.body,
        }
    }

    /// Appends one header.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(self.variables.is_none(), "headers come before variables");
        HeaderList::encode_entry(self.out, name, value);
    }

    /// Appends one variable: something the application shall find in its environ or scope that is
    /// not a header (of a TLS client certificate, of a uwsgi packet).
    pub fn variable(&mut self, name: &[u8], value: &[u8]) {
        self.variables.get_or_insert(self.out.len());
        HeaderList::encode_entry(self.out, name, value);
    }

    /// Completes the request. `inline_body` is empty unless the body's place is
    /// [`BodyPlace::Inline`]; it may also be sent as the second part of
    /// [`place_request_parts`](crate::GatewayEnd::place_request_parts), see
    /// [`finish_without_body`](Self::finish_without_body).
    pub fn finish(self, inline_body: &[u8]) {
        let out = self.finish_without_body(inline_body.len());
        out.extend_from_slice(inline_body);
    }

    /// Completes the request but for an inline body of `inline_len` bytes that the caller will put
    /// behind it.
    pub fn finish_without_body(self, inline_len: usize) -> &'b mut Vec<u8> {
        debug_assert!(inline_len == 0 || self.body == BodyPlace::Inline);
        let variables = self.variables.unwrap_or(self.out.len());
        let headers_len = len32(&self.out[self.headers..variables]);
        let variables_len = len32(&self.out[variables..]);
        let (_, body_len) = self.body.parts(inline_len);
        let fixed = &mut self.out[self.start..self.start + FIXED];
        fixed[HEADERS_LEN_AT..VARIABLES_LEN_AT].copy_from_slice(&headers_len.to_ne_bytes());
        fixed[VARIABLES_LEN_AT..VARIABLES_LEN_AT + 4].copy_from_slice(&variables_len.to_ne_bytes());
        fixed[BODY_LEN_AT..].copy_from_slice(&body_len.to_ne_bytes());
        self.out
    }
}

/// A field of at most 65535 bytes; the rest is cut off (none of them gets near that).
fn short(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(usize::from(u16::MAX))]
}

fn len16(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

/// What comes before the method. The lengths of headers, variables and body are written when they are known.
fn fixed_part(head: &RequestHead<'_>) -> [u8; FIXED] {
    let (place, _) = head.body.parts(0);
    let proxy = head.proxy.unwrap_or_default();
    let bytes = [
        head.version as u8,
        head.scheme as u8,
        place,
        head.client.family(),
        head.server.family(),
        u8::from(head.proxy.is_some()),
    ];
    let shorts = [
        head.client.port(),
        head.server.port(),
        proxy.source_port,
        proxy.destination_port,
        len16(head.method),
        len16(head.client.text()),
        len16(head.server.text()),
        len16(proxy.protocol),
        len16(proxy.source),
        len16(proxy.destination),
    ];
    let longs = [
        len32(head.request_target),
        len32(head.path),
        len32(head.query_string),
    ];
    let times = [head.deadline_ms, head.queued_us];
    let mut fixed = [0; FIXED];
    fixed[..SHORTS_AT].copy_from_slice(&bytes);
    fixed[SHORTS_AT..RESERVED_AT].copy_from_slice(shorts.map(u16::to_ne_bytes).as_flattened());
    fixed[LONGS_AT..HEADERS_LEN_AT].copy_from_slice(longs.map(u32::to_ne_bytes).as_flattened());
    fixed[TIMES_AT..BODY_LEN_AT].copy_from_slice(times.map(u32::to_ne_bytes).as_flattened());
    fixed
}

/// A decoded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestView<'a> {
    /// Request line, addresses, body's place.
    pub head: RequestHead<'a>,
    /// Headers in the client's order, after policy.
    pub headers: HeaderList<'a>,
    /// Further variables.
    pub variables: HeaderList<'a>,
    /// The body if its place is [`BodyPlace::Inline`], else empty.
    pub body: &'a [u8],
}

impl<'a> RequestView<'a> {
    /// The trailers of a body that came whole.
    pub fn trailers(&self) -> Result<HeaderList<'a>, Malformed> {
        let mut variables = self.variables.iter();
        let found = variables.find(|(name, _)| *name == TRAILERS);
        found.map_or(Ok(HeaderList::default()), |(_, list)| {
            HeaderList::decode(list)
        })
    }

    /// How long it was with proxies, in microseconds, where they said it.
    pub fn proxy_time_us(&self) -> Option<u32> {
        let mut variables = self.variables.iter();
        let (_, value) = variables.find(|(name, _)| *name == PROXY_TIME)?;
        value.try_into().ok().map(u32::from_ne_bytes)
    }

    /// Checks and takes a payload apart.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Input(payload);
        let [
            version,
            scheme,
            place,
            client_family,
            server_family,
            has_proxy,
        ] = input.array()?;
        let [client_port, server_port, source_port, destination_port] = shorts(&mut input)?;
        let [method, client, server, protocol, source, destination] = shorts(&mut input)?;
        let _reserved = input.u16()?;
        let [
            target,
            path,
            query,
            headers,
            variables,
            deadline_ms,
            queued_us,
        ] = longs(&mut input)?;
        let body_len = input.u64()?;

        let method = input.take(method.into())?;
        let client = Address::from_parts(client_family, input.take(client.into())?, client_port)?;
        let server = Address::from_parts(server_family, input.take(server.into())?, server_port)?;
        let proxy = ProxyInfo {
            protocol: input.take(protocol.into())?,
            source: input.take(source.into())?,
            source_port,
            destination: input.take(destination.into())?,
            destination_port,
        };
        let request_target = input.take(target as usize)?;
        let path = input.take(path as usize)?;
        let query_string = input.take(query as usize)?;
        let headers = HeaderList::decode(input.take(headers as usize)?)?;
        let variables = HeaderList::decode(input.take(variables as usize)?)?;
        let body = input.0;
        let head = RequestHead {
            version: Version::from_u8(version)?,
            scheme: Scheme::from_u8(scheme)?,
            method,
            request_target,
            path,
            query_string,
            client,
            server,
            proxy: (has_proxy != 0).then_some(proxy),
            body: BodyPlace::from_parts(place, body_len, body.len())?,
            deadline_ms,
            queued_us,
        };
        Ok(Self {
            head,
            headers,
            variables,
            body,
        })
    }
}

fn shorts<const N: usize>(input: &mut Input<'_>) -> Result<[u16; N], Malformed> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = input.u16()?;
    }
    Ok(numbers)
}

fn longs<const N: usize>(input: &mut Input<'_>) -> Result<[u32; N], Malformed> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = input.u32()?;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample<'a>() -> RequestHead<'a> {
        RequestHead {
            version: Version::Http11,
            scheme: Scheme::Https,
            method: b"POST",
            request_target: b"/a%20b?x=1",
            path: b"/a b",
            query_string: b"x=1",
            client: Address::Ip {
                host: b"192.0.2.1",
                port: 50_123,
            },
            server: Address::Unix {
                path: b"/run/app.sock",
            },
            proxy: Some(ProxyInfo {
                protocol: b"TCP4",
                source: b"192.0.2.1",
                source_port: 1,
                destination: b"192.0.2.2",
                destination_port: 443,
            }),
            body: BodyPlace::Inline,
            deadline_ms: 30_000,
            queued_us: 12,
        }
    }

    fn encoded(head: &RequestHead<'_>, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = RequestEncoder::begin(&mut out, head);
        encoder.header(b"Host", b"example.org");
        encoder.header(b"X-Empty", b"");
        encoder.variable(b"SSL_CLIENT_VERIFY", b"NONE");
        encoder.finish(body);
        out
    }

    #[test]
    fn everything_comes_back() {
        let head = sample();
        let bytes = encoded(&head, b"body");
        let view = RequestView::decode(&bytes).unwrap();
        assert_eq!(view.head, head);
        assert_eq!(view.body, b"body");
        assert_eq!(
            view.headers.iter().last(),
            Some((&b"X-Empty"[..], &b""[..]))
        );
        assert_eq!(view.variables.len(), 1);
    }

    #[test]
    fn every_place_of_the_body_comes_back() {
        let places = [
            BodyPlace::None,
            BodyPlace::Inline,
            BodyPlace::Descriptor { len: 5 << 30 },
            BodyPlace::Streamed { len: None },
            BodyPlace::Streamed { len: Some(0) },
        ];
        for body in places {
            let bytes = encoded(&RequestHead { body, ..sample() }, b"");
            assert_eq!(RequestView::decode(&bytes).unwrap().head.body, body);
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = encoded(&sample(), b"body");
        for len in 0..bytes.len() {
            assert_eq!(RequestView::decode(&bytes[..len]), Err(Malformed), "{len}");
        }
    }

    #[test]
    fn bytes_behind_a_request_without_body_are_refused() {
        let mut bytes = encoded(
            &RequestHead {
                body: BodyPlace::None,
                ..sample()
            },
            b"",
        );
        bytes.push(0);
        assert_eq!(RequestView::decode(&bytes), Err(Malformed));
    }
}
