//! The four forms of a request target (RFC 9112 section 3.2), told apart and taken apart.
//!
//! Decides which form a target has and which methods may use it. Refuses to know the Host header:
//! whether the two agree is asked where both are known.

use std::ops::Range;

use super::grammar::split_authority;
use crate::fault::PeerFault;

/// Pieces of a target, as ranges in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// Still encoded.
    pub(super) path: Range<usize>,
    /// Without the `?`.
    pub(super) query: Range<usize>,
    /// Of absolute form only.
    pub(super) authority: Option<Authority>,
}

/// Where an absolute target points.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) range: Range<usize>,
    pub(super) https: bool,
}

/// Takes `target`, in which the caller found only printable ASCII, apart. `path_end`: where the
/// caller found the first `?` or `#`, else the target's end.
#[inline]
pub(super) fn split_target(
    method: &[u8],
    target: &[u8],
    path_end: usize,
) -> Result<Target, PeerFault> {
    if target.first() == Some(&b'/') && method != b"CONNECT" {
        return Ok(split_path(target, 0, path_end));
    }
    split_unusual(method, target).ok_or(PeerFault::InvalidRequestTarget)
}

/// Path from `start` to `path_end`, query and fragment. A fragment has no place in a target;
/// Gunicorn drops it, and so do we: it cannot change which bytes are the path and which the query.
#[inline]
fn split_path(target: &[u8], start: usize, path_end: usize) -> Target {
    let mut query = target.len()..target.len();
    if target.get(path_end) == Some(&b'?') {
        let from = path_end + 1;
        let len = memchr::memchr(b'#', &target[from..]).unwrap_or(target.len() - from);
        query = from..from + len;
    }
    Target {
        path: start..path_end,
        query,
        authority: None,
    }
}

fn split_unusual(method: &[u8], target: &[u8]) -> Option<Target> {
    if method == b"CONNECT" {
        return authority_form(target);
    }
    if target == b"*" {
        return (method == b"OPTIONS").then(|| split_path(target, 0, target.len()));
    }
    absolute_form(target)
}

/// `uri-host ":" port`, both of them there (RFC 9112 section 3.2.3).
fn authority_form(target: &[u8]) -> Option<Target> {
    match split_authority(target)? {
        (host, Some(port)) if !host.is_empty() && !port.is_empty() => Some(Target::default()),
        _ => None,
    }
}

/// `http://` or `https://`, an authority with a host, and what a path or a query starts (RFC 9112
/// section 3.2.2). Another scheme is somebody else's request.
fn absolute_form(target: &[u8]) -> Option<Target> {
    let https = has_prefix(target, b"https://");
    if !https && !has_prefix(target, b"http://") {
        return None;
    }
    let start = if https { 8 } else { 7 };
    let after = |from: usize, wanted: fn(&u8) -> bool| {
        let len = target[from..].iter().position(wanted);
        len.map_or(target.len(), |len| from + len)
    };
    let end = after(start, |byte| matches!(byte, b'/' | b'?' | b'#'));
    let path_end = after(end, |byte| matches!(byte, b'?' | b'#'));
    let (host, _) = split_authority(&target[start..end])?;
    let authority = Some(Authority {
        range: start..end,
        https,
    });
    (!host.is_empty()).then(|| Target {
        authority,
        ..split_path(target, end, path_end)
    })
}

fn has_prefix(target: &[u8], prefix: &[u8]) -> bool {
    target
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Do two authorities name the same place, the scheme's own port being as good as none?
pub(crate) fn same_authority(one: &[u8], other: &[u8], https: bool) -> bool {
    match (split_authority(one), split_authority(other)) {
        (Some((host, port)), Some((other_host, other_port))) => {
            host.eq_ignore_ascii_case(other_host)
                && effective_port(port, https) == effective_port(other_port, https)
        }
        _ => false,
    }
}

fn effective_port(port: Option<&[u8]>, https: bool) -> &[u8] {
    match port {
        None | Some(b"") if https => b"443",
        None | Some(b"") => b"80",
        Some(port) => port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'t>(method: &[u8], target: &'t [u8]) -> Option<(&'t [u8], &'t [u8])> {
        let is_end = |byte: &u8| matches!(byte, b'?' | b'#');
        let path_end = target.iter().position(is_end).unwrap_or(target.len());
        let split = split_target(method, target, path_end).ok()?;
        Some((&target[split.path], &target[split.query]))
    }

    #[test]
    fn forms_are_taken_apart() {
        type Case = (&'static [u8], &'static [u8], (&'static [u8], &'static [u8]));
        let cases: [Case; 15] = [
            (b"GET", b"/", (b"/", b"")),
            (b"GET", b"/a?b=c", (b"/a", b"b=c")),
            (b"GET", b"/a?b?c", (b"/a", b"b?c")),
            (b"GET", b"/a#f?q", (b"/a", b"")),
            (b"GET", b"/a?q#f", (b"/a", b"q")),
            (b"GET", b"/?", (b"/", b"")),
            (b"GET", b"//host/a", (b"//host/a", b"")),
            (b"GET", b"http://h", (b"", b"")),
            (b"GET", b"http://h?q", (b"", b"q")),
            (b"GET", b"HTTPS://h:1/a?b", (b"/a", b"b")),
            (b"GET", b"http://[::1]:1/", (b"/", b"")),
            (b"OPTIONS", b"*", (b"*", b"")),
            (b"CONNECT", b"h:443", (b"", b"")),
            (b"CONNECT", b"[::1]:443", (b"", b"")),
            (b"GET", b"/http://x", (b"/http://x", b"")),
        ];
        for (method, target, expected) in cases {
            assert_eq!(
                parts(method, target),
                Some(expected),
                "{}",
                target.escape_ascii()
            );
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let cases: [(&[u8], &[u8]); 14] = [
            (b"GET", b"*"),
            (b"GET", b"a"),
            (b"GET", b""),
            (b"GET", b"?q"),
            (b"GET", b"h:443"),
            (b"GET", b"ftp://h/"),
            (b"GET", b"http:/h"),
            (b"GET", b"http://"),
            (b"GET", b"http:///a"),
            (b"GET", b"http://u@h/"),
            (b"CONNECT", b"/"),
            (b"CONNECT", b"h"),
            (b"CONNECT", b"h:"),
            (b"CONNECT", b"http://h:1/"),
        ];
        for (method, target) in cases {
            assert_eq!(parts(method, target), None, "{}", target.escape_ascii());
        }
    }

    #[test]
    fn default_ports_are_no_difference() {
        assert!(same_authority(b"A.example", b"a.example:80", false));
        assert!(same_authority(b"a.example:", b"a.example:443", true));
        assert!(!same_authority(b"a.example:443", b"a.example", false));
        assert!(!same_authority(b"a.example", b"b.example", false));
    }
}
