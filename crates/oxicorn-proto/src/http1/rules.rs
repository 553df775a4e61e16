//! What is accepted: the numeric bounds on input (limits) and the tolerance switches (strictness).
//!
//! Both have Gunicorn's names, meaning and defaults. They are plain values, shared by all
//! connections through an `Arc`; a reload makes new ones and leaves running connections theirs.
//! With the feature `serde` they can be sent to another process as they are.

/// Longest request line Gunicorn ever accepts; larger settings are cut down to it.
pub const REQUEST_LINE_MAX: usize = 8190;
/// What "no limit" on the request line means: unbounded input is never buffered.
pub const REQUEST_LINE_UNLIMITED: usize = 1 << 20;
/// Most header lines; 0 and larger settings mean this.
pub const FIELDS_MAX: usize = 32768;
/// Longest header line where the setting is 0.
pub const FIELD_SIZE_DEFAULT: usize = 8190;
/// No head is ever longer: positions in it are kept as 31-bit numbers.
pub(crate) const HEAD_SIZE_MAX: usize = 1 << 30;

/// Bounds on what a peer may send before it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
pub struct Limits {
    /// Bytes of the request line without its CRLF (`limit_request_line`); beyond: 414.
    pub request_line: usize,
    /// Number of header lines, those of the trailer section included (`limit_request_fields`);
    /// beyond: 431.
    pub fields: usize,
    /// Bytes of one header line with its CRLF (`limit_request_field_size`); beyond: 431.
    pub field_size: usize,
    /// Bytes of all header lines together, and of all trailers together; beyond: 431.
    pub head_size: usize,
    /// Bytes of one chunk-size line with its extensions; beyond: 400.
    pub chunk_line: usize,
    /// Bytes of chunk extensions in one body: without this bound one byte of body could cost a
    /// line's worth of reading, for ever.
    pub chunk_extensions: u64,
    /// Bytes of a decoded body (`limit_request_body`); `None`: as long as the peer likes.
    /// Beyond: 413.
    pub body: Option<u64>,
}

impl Limits {
    /// From Gunicorn's three settings, with its meaning of 0 and of too large values.
    pub fn from_settings(request_line: usize, fields: usize, field_size: usize) -> Self {
        let request_line = match request_line {
            0 => REQUEST_LINE_UNLIMITED,
            limit => limit.min(REQUEST_LINE_MAX),
        };
        let fields = if fields == 0 {
            FIELDS_MAX
        } else {
            fields.min(FIELDS_MAX)
        };
        let field_size = if field_size == 0 {
            FIELD_SIZE_DEFAULT
        } else {
            field_size
        };
        let head_size = fields
            .saturating_mul(field_size.saturating_add(2))
            .saturating_add(4);
        Self {
            request_line,
            fields,
            field_size,
            head_size: head_size.min(HEAD_SIZE_MAX / 2),
            chunk_line: field_size,
            chunk_extensions: 16 * 1024,
            body: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from_settings(4094, 100, 8190)
    }
}

/// What becomes of a header whose name has an underscore: in an environ it could not be told from
/// the same name with a hyphen (`header_map`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum HeaderMap {
    /// It is left out silently.
    #[default]
    Drop,
    /// The request is refused.
    Refuse,
    /// It is kept, and the application lives with the ambiguity.
    Dangerous,
}

/// The tolerance switches; the default is the strict side of each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, by Gunicorn's name"
)]
pub struct Strictness {
    /// What becomes of names with an underscore.
    pub header_map: HeaderMap,
    /// Accept headers continued on the next line; they are joined by one space.
    pub permit_obsolete_folding: bool,
    /// Accept and remove whitespace between a header name and its colon.
    pub strip_header_spaces: bool,
    /// Accept any token as method, not only 3 to 20 characters without lower case and `#`.
    pub permit_unconventional_http_method: bool,
    /// Accept `HTTP/d.d` with another major version than 1.
    pub permit_unconventional_http_version: bool,
    /// Accept CONNECT, whose peer takes an answer of 2xx for a tunnel to where it wanted to go.
    pub permit_connect: bool,
    /// Turn the method into upper case.
    pub casefold_http_method: bool,
    /// Names with an underscore that a trusted peer may send whatever `header_map` says; `*`: all.
    pub forwarder_headers: Vec<Box<str>>,
}

impl Default for Strictness {
    fn default() -> Self {
        Self {
            header_map: HeaderMap::Drop,
            permit_obsolete_folding: false,
            strip_header_spaces: false,
            permit_unconventional_http_method: false,
            permit_unconventional_http_version: false,
            permit_connect: false,
            casefold_http_method: false,
            forwarder_headers: vec!["SCRIPT_NAME".into(), "PATH_INFO".into()],
        }
    }
}

/// Everything a connection is judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
pub struct Rules {
    /// Numeric bounds.
    pub limits: Limits,
    /// Tolerance switches.
    pub strictness: Strictness,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_mean_what_they_mean_to_gunicorn() {
        let limits = Limits::default();
        assert_eq!(
            (limits.request_line, limits.fields, limits.field_size),
            (4094, 100, 8190)
        );
        assert_eq!(limits.head_size, 100 * 8192 + 4);
        let zero = Limits::from_settings(0, 0, 0);
        assert_eq!(zero.request_line, REQUEST_LINE_UNLIMITED);
        assert_eq!(
            (zero.fields, zero.field_size),
            (FIELDS_MAX, FIELD_SIZE_DEFAULT)
        );
        let huge = Limits::from_settings(usize::MAX, usize::MAX, usize::MAX);
        assert_eq!(
            (huge.request_line, huge.fields),
            (REQUEST_LINE_MAX, FIELDS_MAX)
        );
        assert!(huge.head_size < HEAD_SIZE_MAX, "positions still fit");
    }

    #[test]
    fn the_default_is_strict() {
        let Strictness {
            header_map,
            forwarder_headers,
            ..
        } = Strictness::default();
        assert_eq!(header_map, HeaderMap::Drop);
        assert_eq!(
            forwarder_headers,
            ["SCRIPT_NAME".into(), "PATH_INFO".into()]
        );
    }
}
