//! Gunicorn's `access_log_format`, understood once instead of for every line.
//!
//! The format is a Python `%` format over a mapping: `%(name)s`, with Python's flags, width and
//! precision, and `%%`. Decides which atom a name is; a name nobody knows gives `-`, as Gunicorn's
//! `SafeAtoms` does. Does not know where the values come from (see `atoms`).

use std::fmt;

/// Gunicorn's default `access_log_format`.
pub const DEFAULT_FORMAT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// A compiled format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Vec<u8>),
    Value(Atom, Shape),
}

/// Flags, width and precision of one conversion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) left: bool,
    pub(super) zeros: bool,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
}

/// What a conversion shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Atom {
    Client,
    User,
    Time,
    RequestLine,
    Method,
    Path,
    QueryString,
    Protocol,
    Status,
    Bytes,
    Seconds,
    Milliseconds,
    Microseconds,
    DecimalSeconds,
    Process,
    RequestHeader(Vec<u8>),
    ResponseHeader(Vec<u8>),
    Environ(Variable),
    RequestId,
    TraceId,
    ProxyTime,
    QueueTime,
    /// A variable of the environ that only the worker knows.
    Foreign,
    /// `l`, and every name that means nothing.
    Nothing,
}

/// An environ variable, by the name the application would see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    /// `HTTP_…`, `CONTENT_TYPE`, `CONTENT_LENGTH`; the name in lower case with `_` for `-`.
    Header(Vec<u8>),
    RequestMethod,
    QueryString,
    RawUri,
    ServerProtocol,
    PathInfo,
    RemoteAddr,
    RemotePort,
    ServerName,
    ServerPort,
    UrlScheme,
}

/// The most a width or precision may ask for.
const WIDTH_LIMIT: usize = 1024;

/// Why a format cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatFault {
    /// It ends within a conversion.
    Unfinished,
    /// A conversion without `(name)`.
    MissingName,
    /// A conversion type that does not fit: text is `s`, numbers are `s` or `d`.
    UnsuitableConversion(char),
    /// A width or precision beyond reason.
    TooWide,
}

impl fmt::Display for FormatFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => f.write_str("access log format ends within a conversion"),
            Self::MissingName => f.write_str("access log format has a % without (name)"),
            Self::UnsuitableConversion(kind) => {
                write!(
                    f,
                    "access log format has an unsuitable conversion %({kind})"
                )
            }
            Self::TooWide => write!(f, "access log format has a width over {WIDTH_LIMIT}"),
        }
    }
}

impl std::error::Error for FormatFault {}

impl Format {
    /// Compiles `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, FormatFault> {
        let mut parser = Parser {
            rest: text.as_bytes(),
        };
        let mut format = Self { pieces: Vec::new() };
        let mut literal = Vec::new();
        while let Some(byte) = parser.next() {
            if byte != b'%' {
                literal.push(byte);
            } else if parser.skip(b'%') {
                literal.push(b'%');
            } else {
                format.push_literal(&mut literal);
                format.pieces.push(parser.conversion()?);
            }
        }
        format.push_literal(&mut literal);
        Ok(format)
    }

    fn push_literal(&mut self, literal: &mut Vec<u8>) {
        if !literal.is_empty() {
            self.pieces.push(Piece::Literal(std::mem::take(literal)));
        }
    }

    /// Whether lines need the headers of the response, which are not kept otherwise.
    pub(crate) fn shows_response_headers(&self) -> bool {
        let shows = |piece: &Piece| matches!(piece, Piece::Value(Atom::ResponseHeader(_), _));
        self.pieces.iter().any(shows)
    }

    /// The keys of the environ that lines show and an application may change; `None` if a line shows
    /// a variable that is only known there.
    pub(crate) fn shown_variables(&self) -> Option<Vec<&'static str>> {
        let mut shown = Vec::new();
        for piece in &self.pieces {
            let Piece::Value(atom, _) = piece else {
                continue;
            };
            if let Some(key) = atom.variable()? {
                shown.push(key);
            }
        }
        shown.sort_unstable();
        shown.dedup();
        Some(shown)
    }
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        self.rest = &self.rest[usize::from(found)..];
        found
    }

    /// After the `%`: `(name)`, flags, width, precision, type.
    fn conversion(&mut self) -> Result<Piece, FormatFault> {
        let atom = Atom::named(&self.name()?);
        let mut shape = Shape::default();
        loop {
            match self.rest.first() {
                Some(b'-') => shape.left = true,
                Some(b'0') => shape.zeros = true,
                Some(b' ' | b'+' | b'#') => {}
                _ => break,
            }
            self.next();
        }
        shape.width = self.number()?;
        if self.skip(b'.') {
            shape.precision = Some(self.number()?);
        }
        match self.next() {
            None => Err(FormatFault::Unfinished),
            Some(b's') => Ok(Piece::Value(
                atom,
                Shape {
                    zeros: false,
                    ..shape
                },
            )),
            Some(b'd' | b'i' | b'u') if atom.is_number() => Ok(Piece::Value(
                atom,
                Shape {
                    precision: None,
                    ..shape
                },
            )),
            Some(other) => Err(FormatFault::UnsuitableConversion(char::from(other))),
        }
    }

    /// Python counts parentheses within the name.
    fn name(&mut self) -> Result<Vec<u8>, FormatFault> {
        if !self.skip(b'(') {
            return Err(FormatFault::MissingName);
        }
        let mut depth = 1;
        let mut name = Vec::new();
        loop {
            let byte = self.next().ok_or(FormatFault::Unfinished)?;
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(name);
            }
            name.push(byte);
        }
    }

    fn number(&mut self) -> Result<usize, FormatFault> {
        let mut value = 0;
        while let Some(digit @ b'0'..=b'9') = self.rest.first().copied() {
            self.next();
            value = value * 10 + usize::from(digit - b'0');
            if value > WIDTH_LIMIT {
                return Err(FormatFault::TooWide);
            }
        }
        Ok(value)
    }
}

impl Atom {
    fn named(name: &[u8]) -> Self {
        match name {
            b"h" => Self::Client,
            b"u" => Self::User,
            b"t" => Self::Time,
            b"r" => Self::RequestLine,
            b"m" => Self::Method,
            b"U" => Self::Path,
            b"q" => Self::QueryString,
            b"H" => Self::Protocol,
            b"s" => Self::Status,
            b"B" | b"b" => Self::Bytes,
            b"f" => Self::Environ(Variable::Header(b"referer".to_vec())),
            b"a" => Self::Environ(Variable::Header(b"user_agent".to_vec())),
            b"T" => Self::Seconds,
            b"M" => Self::Milliseconds,
            b"D" => Self::Microseconds,
            b"L" => Self::DecimalSeconds,
            b"p" => Self::Process,
            b"request_id" => Self::RequestId,
            b"trace_id" => Self::TraceId,
            b"proxy_time" => Self::ProxyTime,
            b"queue_time" => Self::QueueTime,
            [b'{', name @ .., b'}', kind] => Self::looked_up(&name.to_ascii_lowercase(), *kind),
            _ => Self::Nothing,
        }
    }

    /// `{name}i`, `{name}o`, `{name}e`.
    fn looked_up(name: &[u8], kind: u8) -> Self {
        match kind.to_ascii_lowercase() {
            b'i' => Self::RequestHeader(name.to_vec()),
            b'o' => Self::ResponseHeader(name.to_vec()),
            b'e' => Variable::named(name).map_or(Self::Foreign, Self::Environ),
            _ => Self::Nothing,
        }
    }

    /// The variable behind the atom, if there is one that may be replaced by middleware.
    #[expect(clippy::option_option, reason = "none, and none that can be known")]
    fn variable(&self) -> Option<Option<&'static str>> {
        Some(match self {
            Self::Foreign => return None,
            Self::Client => Some("REMOTE_ADDR"),
            Self::RequestLine | Self::Method => Some("REQUEST_METHOD"),
            Self::Path => Some("PATH_INFO"),
            Self::QueryString => Some("QUERY_STRING"),
            Self::Environ(variable) => variable.key(),
            _ => None,
        })
    }

    fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Bytes | Self::Seconds | Self::Milliseconds | Self::Microseconds
        )
    }
}

impl Variable {
    /// Its key, but for headers: nobody replaces those.
    const fn key(&self) -> Option<&'static str> {
        Some(match self {
            Self::Header(_) => return None,
            Self::RequestMethod => "REQUEST_METHOD",
            Self::QueryString => "QUERY_STRING",
            Self::RawUri => "RAW_URI",
            Self::ServerProtocol => "SERVER_PROTOCOL",
            Self::PathInfo => "PATH_INFO",
            Self::RemoteAddr => "REMOTE_ADDR",
            Self::RemotePort => "REMOTE_PORT",
            Self::ServerName => "SERVER_NAME",
            Self::ServerPort => "SERVER_PORT",
            Self::UrlScheme => "wsgi.url_scheme",
        })
    }

    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"content_type" | b"content_length" => Self::Header(name.to_vec()),
            b"request_method" => Self::RequestMethod,
            b"query_string" => Self::QueryString,
            b"raw_uri" => Self::RawUri,
            b"server_protocol" => Self::ServerProtocol,
            b"path_info" => Self::PathInfo,
            b"remote_addr" => Self::RemoteAddr,
            b"remote_port" => Self::RemotePort,
            b"server_name" => Self::ServerName,
            b"server_port" => Self::ServerPort,
            b"wsgi.url_scheme" => Self::UrlScheme,
            _ => Self::Header(name.strip_prefix(b"http_")?.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Piece {
        let mut pieces = Format::parse(text).expect("a good format").pieces;
        assert_eq!(pieces.len(), 1, "{text}");
        pieces.remove(0)
    }

    #[test]
    fn understands_the_default() {
        let format = Format::parse(DEFAULT_FORMAT).expect("the default");
        assert_eq!(format.pieces.len(), 18);
        assert!(!format.shows_response_headers());
    }

    #[test]
    fn looks_names_up_without_regard_to_case() {
        let plain = Shape::default();
        let header = Atom::RequestHeader(b"x-forwarded-for".to_vec());
        assert_eq!(only("%({X-Forwarded-For}i)s"), Piece::Value(header, plain));
        let host = Atom::Environ(Variable::Header(b"host".to_vec()));
        assert_eq!(only("%({HTTP_HOST}e)s"), Piece::Value(host, plain));
        assert_eq!(only("%({custom}e)s"), Piece::Value(Atom::Foreign, plain));
        assert_eq!(only("%(zz)s"), Piece::Value(Atom::Nothing, plain));
        assert!(
            Format::parse("%({etag}o)s")
                .expect("good")
                .shows_response_headers()
        );
    }

    #[test]
    fn knows_which_variables_lines_show() {
        let shown = |text| Format::parse(text).expect("good").shown_variables();
        assert_eq!(
            shown(DEFAULT_FORMAT),
            Some(vec!["REMOTE_ADDR", "REQUEST_METHOD"])
        );
        assert_eq!(shown("%(U)s %({Path_Info}e)s"), Some(vec!["PATH_INFO"]));
        assert_eq!(shown("%(s)s %({etag}o)s %(a)s"), Some(vec![]));
        assert_eq!(shown("%(h)s %({app.user}e)s"), None);
    }

    #[test]
    fn takes_python_widths() {
        let shape = Shape {
            left: true,
            zeros: false,
            width: 12,
            precision: Some(3),
        };
        assert_eq!(only("%(m)-12.3s"), Piece::Value(Atom::Method, shape));
        let shape = Shape {
            zeros: true,
            width: 8,
            ..Shape::default()
        };
        assert_eq!(only("%(D)08d"), Piece::Value(Atom::Microseconds, shape));
        assert_eq!(only("100%%"), Piece::Literal(b"100%".to_vec()));
    }

    #[test]
    fn names_what_is_wrong() {
        let cases = [
            ("%", FormatFault::MissingName),
            ("%s", FormatFault::MissingName),
            ("%(h", FormatFault::Unfinished),
            ("%(h)", FormatFault::Unfinished),
            ("%(h)d", FormatFault::UnsuitableConversion('d')),
            ("%(h)99999s", FormatFault::TooWide),
        ];
        for (text, fault) in cases {
            assert_eq!(Format::parse(text), Err(fault), "{text}");
        }
    }
}
