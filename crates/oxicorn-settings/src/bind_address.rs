//! Where the server listens, as `bind` writes it.
//!
//! `HOST`, `HOST:PORT`, `:PORT`, `[v6]:PORT`, each with `tcp://` in front or not; `unix:PATH` and `unix://PATH`; a name in
//! the abstract namespace after `unix:@` or `unix:` and a NUL; `fd://N` for a socket that is already open; before each of
//! them a [`Scheme`], for what is spoken there. Nothing is resolved here: a host is a name until the listener is made.

use std::fmt;

use crate::value::Quoted;

/// The port where an address names none.
pub(crate) const DEFAULT_PORT: u16 = 8000;

/// One address to listen on. `Display` gives the form of the line `Listening at: ...` for HTTP without TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BindAddress {
    /// A host (name or address in lower case, without brackets; empty: every interface) and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port; 0: any.
        port: u16,
    },
    /// A path in the file system.
    Unix {
        /// The path.
        path: String,
    },
    /// A name in Linux' abstract namespace, without the NUL it starts with.
    Abstract {
        /// The name.
        name: String,
    },
    /// A socket the process has inherited.
    Descriptor(i32),
}

impl BindAddress {
    /// Whether only this machine reaches it. A descriptor may be anything.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                let is_loopback = |address: std::net::IpAddr| address.is_loopback();
                host == "localhost" || host.parse().is_ok_and(is_loopback)
            }
            Self::Unix { .. } | Self::Abstract { .. } => true,
            Self::Descriptor(_) => false,
        }
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindAddressError {
    /// The part after the colon is no number from 0 to 65535.
    Port(String),
    /// The part after `fd://` is no descriptor.
    Descriptor(String),
    /// Nothing after `unix:`.
    EmptyPath,
    /// A path without `unix:` before it.
    Path(String),
    /// A number that is no host; a port stands behind a colon.
    PortAlone(String),
    /// `*`, which is no host.
    Star(String),
    /// An address for a browser.
    Url(String),
    /// An IPv6 address without brackets, as it has to be written.
    Ipv6(String),
    /// A scheme that says nothing here; the address with the one that is meant, if that is known.
    Scheme(String, Option<String>),
}

impl fmt::Display for BindAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(text) => write!(
                f,
                "{} is not a valid port number (0 to {})",
                Quoted(text),
                u16::MAX
            ),
            Self::Descriptor(text) => write!(f, "{} is not a valid file descriptor", Quoted(text)),
            Self::EmptyPath => f.write_str("the path of the unix socket is empty"),
            Self::Path(path) => write!(f, "for a unix socket write unix:{path}"),
            Self::PortAlone(port) => write!(f, "for a port on every interface write :{port}"),
            Self::Star(rest) => write!(f, "for every interface write {rest}"),
            Self::Url(rest) => write!(f, "write {rest}"),
            Self::Ipv6(address) => write!(f, "for an IPv6 address write {address}"),
            Self::Scheme(_, Some(meant)) => write!(f, "write {meant}"),
            Self::Scheme(scheme, None) => {
                let known = SCHEMES.map(|(prefix, _)| prefix).join(", ");
                write!(
                    f,
                    "{scheme}:// is no scheme of an address; they are {known}, and tcp://, unix:, fd://"
                )
            }
        }
    }
}

impl std::error::Error for BindAddressError {}

/// What is spoken at an address, as the scheme before it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
    /// uwsgi, whatever `protocol` says.
    Uwsgi,
    /// uwsgi in TLS, as nginx' `uwsgi_pass suwsgi://`.
    SecureUwsgi,
    /// FastCGI.
    FastCgi,
    /// FastCGI in TLS.
    SecureFastCgi,
    /// SCGI.
    Scgi,
    /// SCGI in TLS.
    SecureScgi,
}

/// Schemes as they are written before an address.
const SCHEMES: [(&str, Scheme); 8] = [
    ("http://", Scheme::Http),
    ("https://", Scheme::Https),
    ("uwsgi://", Scheme::Uwsgi),
    ("suwsgi://", Scheme::SecureUwsgi),
    ("fastcgi://", Scheme::FastCgi),
    ("fastcgi+tls://", Scheme::SecureFastCgi),
    ("scgi://", Scheme::Scgi),
    ("scgi+tls://", Scheme::SecureScgi),
];

/// What others write for one of them.
const OTHER_NAMES: [(&str, &str); 8] = [
    ("fcgi", "fastcgi://"),
    ("fcgis", "fastcgi+tls://"),
    ("fastcgis", "fastcgi+tls://"),
    ("uwsgi+tls", "suwsgi://"),
    ("sscgi", "scgi+tls://"),
    ("scgis", "scgi+tls://"),
    ("h2", "https://"),
    ("h2c", "http://"),
];

impl Scheme {
    /// Of a listener that speaks this protocol, as `protocol` names it.
    pub(crate) fn of(protocol: &str, tls: bool) -> Self {
        match (protocol, tls) {
            ("uwsgi", false) => Self::Uwsgi,
            ("uwsgi", true) => Self::SecureUwsgi,
            ("fastcgi", false) => Self::FastCgi,
            ("fastcgi", true) => Self::SecureFastCgi,
            ("scgi", false) => Self::Scgi,
            ("scgi", true) => Self::SecureScgi,
            (_, false) => Self::Http,
            (_, true) => Self::Https,
        }
    }

    /// Whether TLS is spoken.
    pub const fn is_secure(self) -> bool {
        matches!(
            self,
            Self::Https | Self::SecureUwsgi | Self::SecureFastCgi | Self::SecureScgi
        )
    }

    /// What is spoken in TLS or without it, as `protocol` names it.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Http | Self::Https => "http",
            Self::Uwsgi | Self::SecureUwsgi => "uwsgi",
            Self::FastCgi | Self::SecureFastCgi => "fastcgi",
            Self::Scgi | Self::SecureScgi => "scgi",
        }
    }

    /// As it is written before an address.
    pub fn prefix(self) -> &'static str {
        let found = SCHEMES.iter().find(|(_, scheme)| *scheme == self);
        found.map_or("", |(prefix, _)| prefix)
    }
}

/// Reads one entry of `bind`: the address, and what is spoken there, if it says so.
pub(crate) fn parse_bind(text: &str) -> Result<(Option<Scheme>, BindAddress), BindAddressError> {
    let found = SCHEMES
        .iter()
        .find_map(|(prefix, scheme)| Some((*scheme, text.strip_prefix(prefix)?)));
    let Some((scheme, rest)) = found else {
        refuse_other_scheme(text)?;
        return Ok((None, BindAddress::parse(text)?));
    };
    // A URL has a slash behind its host; a path has none that means nothing.
    let address = if rest.starts_with("unix:") {
        rest
    } else {
        rest.strip_suffix('/').unwrap_or(rest)
    };
    Ok((Some(scheme), BindAddress::parse(address)?))
}

/// A scheme that is none of ours would be taken for a host, and the rest for a port.
fn refuse_other_scheme(text: &str) -> Result<(), BindAddressError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(());
    };
    let is_word = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_word || ["tcp", "unix", "fd"].contains(&scheme) {
        return Ok(());
    }
    let lower = scheme.to_ascii_lowercase();
    let known = SCHEMES.iter().map(|(prefix, _)| *prefix);
    let meant = OTHER_NAMES
        .iter()
        .find_map(|(name, prefix)| (*name == lower).then_some(*prefix))
        .or_else(|| {
            known
                .clone()
                .find(|prefix| prefix.strip_suffix("://") == Some(&lower))
        });
    let meant = meant.map(|prefix| format!("{prefix}{rest}"));
    Err(BindAddressError::Scheme(scheme.into(), meant))
}

impl BindAddress {
    /// Reads one address of `bind`.
    pub fn parse(text: &str) -> Result<Self, BindAddressError> {
        refuse_slip(text)?;
        Self::parse_with_port(text, DEFAULT_PORT)
    }

    /// The same with another default port (that of `StatsD` is 8125).
    pub fn parse_with_port(text: &str, default_port: u16) -> Result<Self, BindAddressError> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return parse_unix(rest.strip_prefix("//").unwrap_or(rest));
        }
        if let Some(number) = text.strip_prefix("fd://") {
            return parse_descriptor(number);
        }
        parse_tcp(text.strip_prefix("tcp://").unwrap_or(text), default_port)
    }

    /// The form of the line `Listening at: ...`.
    pub fn listening_at(&self, scheme: Scheme) -> String {
        match self {
            Self::Tcp { host, port } => {
                let scheme = scheme.prefix();
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                let (open, close) = if host.contains(':') {
                    ("[", "]")
                } else {
                    ("", "")
                };
                format!("{scheme}{open}{host}{close}:{port}")
            }
            Self::Unix { path } => format!("unix:{path}"),
            Self::Abstract { name } => format!("unix:@{name}"),
            Self::Descriptor(number) => format!("fd://{number}"),
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.listening_at(Scheme::Http))
    }
}

/// What people write who mean something else: a resolver would take it for a strange host.
fn refuse_slip(text: &str) -> Result<(), BindAddressError> {
    if let Some(rest) = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
    {
        return Err(BindAddressError::Url(rest.trim_end_matches('/').into()));
    }
    if text.starts_with(['/', '.', '~']) {
        return Err(BindAddressError::Path(text.into()));
    }
    if let Some(rest) = text.strip_prefix('*')
        && (rest.is_empty() || rest.starts_with(':'))
    {
        let rest = if rest.is_empty() { "0.0.0.0" } else { rest };
        return Err(BindAddressError::Star(rest.into()));
    }
    if let Some(address) = in_brackets(text.strip_prefix("tcp://").unwrap_or(text)) {
        return Err(BindAddressError::Ipv6(address));
    }
    // A larger number would be an IPv4 address, in a way of writing that only resolvers know.
    if text.parse::<u16>().is_ok() {
        return Err(BindAddressError::PortAlone(text.into()));
    }
    Ok(())
}

/// `::1` and `::1:8000` as they have to be written. That the second is an address too, with another last group, is not what
/// anybody means who gives a port of four digits or less in decimal.
fn in_brackets(text: &str) -> Option<String> {
    if text.starts_with('[') || text.matches(':').count() < 2 {
        return None;
    }
    let is_address = |text: &str| {
        let text = text.split('%').next().unwrap_or(text);
        text.parse::<std::net::Ipv6Addr>().is_ok()
    };
    if let Some((host, port)) = text.rsplit_once(':')
        && is_address(host)
        && port.len() > 1
        && port.parse::<u16>().is_ok()
    {
        return Some(format!("[{host}]:{port}"));
    }
    is_address(text).then(|| format!("[{text}]:{DEFAULT_PORT}"))
}

fn parse_unix(path: &str) -> Result<BindAddress, BindAddressError> {
    if let Some(name) = path.strip_prefix(['@', '\0']) {
        return Ok(BindAddress::Abstract { name: name.into() });
    }
    if path.is_empty() {
        return Err(BindAddressError::EmptyPath);
    }
    Ok(BindAddress::Unix { path: path.into() })
}

fn parse_descriptor(number: &str) -> Result<BindAddress, BindAddressError> {
    match number.trim().parse() {
        Ok(number) if number >= 0 => Ok(BindAddress::Descriptor(number)),
        _ => Err(BindAddressError::Descriptor(number.into())),
    }
}

fn parse_tcp(text: &str, default_port: u16) -> Result<BindAddress, BindAddressError> {
    let (host, port) = split_host(text);
    let port = match port {
        None => default_port,
        Some(digits) => digits
            .trim()
            .parse()
            .map_err(|_| BindAddressError::Port(digits.into()))?,
    };
    let host = if text.is_empty() { "0.0.0.0" } else { host };
    Ok(BindAddress::Tcp {
        host: host.to_lowercase(),
        port,
    })
}

/// Host and the text after its colon. An address with colons in it needs brackets, as everywhere; without them the text
/// after the first colon is taken for the port and refused by name.
fn split_host(text: &str) -> (&str, Option<&str>) {
    if let Some(bracketed) = text.strip_prefix('[')
        && let Some((host, rest)) = bracketed.split_once(']')
    {
        return match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => (host, Some(rest)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> BindAddress {
        BindAddress::Tcp {
            host: host.into(),
            port,
        }
    }

    fn unix(path: &str) -> BindAddress {
        BindAddress::Unix { path: path.into() }
    }

    fn abstract_name(name: &str) -> BindAddress {
        BindAddress::Abstract { name: name.into() }
    }

    fn no_port(text: &str) -> BindAddressError {
        BindAddressError::Port(text.into())
    }

    #[test]
    fn reads_every_form() {
        let cases = [
            ("127.0.0.1:8000", tcp("127.0.0.1", 8000)),
            ("localhost", tcp("localhost", 8000)),
            ("HOST:1", tcp("host", 1)),
            (":8000", tcp("", 8000)),
            ("", tcp("0.0.0.0", 8000)),
            ("h:0", tcp("h", 0)),
            ("[::1]:80", tcp("::1", 80)),
            ("[::1]", tcp("::1", 8000)),
            ("tcp://1.2.3.4:5", tcp("1.2.3.4", 5)),
            ("tcp://[FE80::1%eth0]:9", tcp("fe80::1%eth0", 9)),
            ("tcp://h", tcp("h", 8000)),
            ("unix:/a/b", unix("/a/b")),
            ("unix:///a/b", unix("/a/b")),
            ("unix://a", unix("a")),
            ("unix:a", unix("a")),
            ("unix:\0name", abstract_name("name")),
            ("unix:@name", abstract_name("name")),
            ("fd://3", BindAddress::Descriptor(3)),
        ];
        for (text, expected) in cases {
            assert_eq!(BindAddress::parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn a_scheme_says_what_is_spoken() {
        let cases = [
            (
                "https://[::1]:8443",
                (Some(Scheme::Https), tcp("::1", 8443)),
            ),
            (
                "http://0.0.0.0:80/",
                (Some(Scheme::Http), tcp("0.0.0.0", 80)),
            ),
            ("https://unix:/a/", (Some(Scheme::Https), unix("/a/"))),
            (
                "http://fd://3",
                (Some(Scheme::Http), BindAddress::Descriptor(3)),
            ),
            ("https://:1", (Some(Scheme::Https), tcp("", 1))),
            ("uwsgi://unix:/a", (Some(Scheme::Uwsgi), unix("/a"))),
            (
                "fastcgi://[::1]:9000",
                (Some(Scheme::FastCgi), tcp("::1", 9000)),
            ),
            ("suwsgi://:1", (Some(Scheme::SecureUwsgi), tcp("", 1))),
            ("scgi://unix:/a", (Some(Scheme::Scgi), unix("/a"))),
            ("scgi+tls://:1", (Some(Scheme::SecureScgi), tcp("", 1))),
            (
                "fastcgi+tls://:1",
                (Some(Scheme::SecureFastCgi), tcp("", 1)),
            ),
            (":1", (None, tcp("", 1))),
            ("tcp://:1", (None, tcp("", 1))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_bind(text), Ok(expected), "{text:?}");
        }
        assert_eq!(parse_bind("http://a:1/b"), Err(no_port("1/b")));
        assert_eq!(
            parse_bind("https://*:1"),
            Err(BindAddressError::Star(":1".into()))
        );
    }

    #[test]
    fn another_scheme_is_named_with_what_is_meant() {
        let cases = [
            ("fcgi://:9000", "write fastcgi://:9000"),
            ("HTTP://a:1", "write http://a:1"),
            (
                "ftp://:1",
                "ftp:// is no scheme of an address; they are http://, https://, uwsgi://, suwsgi://, fastcgi://, \
                fastcgi+tls://, scgi://, scgi+tls://, and tcp://, unix:, fd://",
            ),
        ];
        for (text, reason) in cases {
            let error = parse_bind(text).expect_err(text);
            assert_eq!(error.to_string(), reason);
        }
    }

    #[test]
    fn a_scheme_is_a_protocol_with_tls_or_without() {
        for (_, scheme) in SCHEMES {
            assert_eq!(Scheme::of(scheme.protocol(), scheme.is_secure()), scheme);
        }
    }

    #[test]
    fn refuses_what_names_no_socket() {
        let descriptor = |text: &str| BindAddressError::Descriptor(text.into());
        let cases = [
            ("::1", BindAddressError::Ipv6("[::1]:8000".into())),
            ("::1:80", BindAddressError::Ipv6("[::1]:80".into())),
            (
                "fe80::1%eth0:80",
                BindAddressError::Ipv6("[fe80::1%eth0]:80".into()),
            ),
            ("tcp://::1:80", BindAddressError::Ipv6("[::1]:80".into())),
            ("a:b:c", no_port("b:c")),
            ("h:", no_port("")),
            ("a:b", no_port("b")),
            ("a:99999", no_port("99999")),
            ("a:-1", no_port("-1")),
            ("[::1]x", no_port("x")),
            ("[::1", no_port(":1")),
            ("http://x:1/", BindAddressError::Url("x:1".into())),
            ("/a/b.sock", BindAddressError::Path("/a/b.sock".into())),
            ("./b.sock", BindAddressError::Path("./b.sock".into())),
            ("8499", BindAddressError::PortAlone("8499".into())),
            ("*:8499", BindAddressError::Star(":8499".into())),
            ("*", BindAddressError::Star("0.0.0.0".into())),
            ("fd://x", descriptor("x")),
            ("fd://-1", descriptor("-1")),
            ("unix:", BindAddressError::EmptyPath),
        ];
        for (text, expected) in cases {
            assert_eq!(BindAddress::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn prints_what_the_log_line_shows() {
        let cases = [
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            (":80", "http://0.0.0.0:80"),
            ("[::1]:80", "http://[::1]:80"),
            ("unix:/a", "unix:/a"),
            ("unix:\0a", "unix:@a"),
            ("fd://3", "fd://3"),
        ];
        for (text, expected) in cases {
            assert_eq!(BindAddress::parse(text).expect(text).to_string(), expected);
        }
        let secure = BindAddress::parse("[::1]:443").expect("an address");
        assert_eq!(secure.listening_at(Scheme::Https), "https://[::1]:443");
        assert_eq!(
            secure.listening_at(Scheme::SecureFastCgi),
            "fastcgi+tls://[::1]:443"
        );
    }
}
