//! Who may see the dashboard, and who may change something from it.
//!
//! With a token: who sends it as a bearer (RFC 6750), and they may both. The page itself, which has no figures in it, is
//! for everybody, because it is what asks for the token; it sends it with each request, so that no other page can have
//! it sent (there is no cookie).
//!
//! Without one: whoever reaches the listener may look, and nobody may change anything. The listener is a loopback address
//! or a unix socket then, and pages of others are kept out by the name they came by: a page whose name was made to mean
//! this machine (DNS rebinding) still says its name.

use std::net::IpAddr;

use oxicorn_proto::message::RequestHead;

use super::Dashboard;

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// No token, or another one.
    Token,
    /// Asked for by a name that is not this machine's.
    Name,
    /// To change something takes a token.
    ReadOnly,
}

impl Denied {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Token => "send the dashboard_token: Authorization: Bearer TOKEN\n",
            Self::Name => {
                "without a dashboard_token ask for localhost, or an address of this machine\n"
            }
            Self::ReadOnly => "read-only: set dashboard_token to allow changes\n",
        }
    }
}

impl Dashboard {
    pub(super) fn allows_looking(&self, head: &RequestHead<'_>) -> Result<(), Denied> {
        match &self.token {
            Some(token) => match bearer(head) {
                Some(found) if is_same(found, token.as_bytes()) => Ok(()),
                _ => Err(Denied::Token),
            },
            None if is_local_name(value(head, b"host").unwrap_or_default()) => Ok(()),
            None => Err(Denied::Name),
        }
    }

    pub(super) fn allows_changing(&self, head: &RequestHead<'_>) -> Result<(), Denied> {
        match self.token {
            Some(_) => self.allows_looking(head),
            None => Err(Denied::ReadOnly),
        }
    }
}

fn value<'a>(head: &RequestHead<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let found = (head.headers()).find(|header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| header.value)
}

fn bearer<'a>(head: &RequestHead<'a>) -> Option<&'a [u8]> {
    let (scheme, token) = value(head, b"authorization")?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// In a time that does not tell how much of it is right.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).map(|(one, other)| one ^ other);
    one.len() == other.len() && differences.fold(0, |all, each| all | each) == 0
}

/// Names of this machine, and addresses: no name was made to mean something else then.
fn is_local_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_known() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:9464", true),
            ("shop.localhost:1", true),
            ("127.0.0.1:9464", true),
            ("[::1]:9464", true),
            ("[::1]", true),
            ("evil.example", false),
            ("evil.example:9464", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local_name(host.as_bytes()), expected, "{host}");
        }
    }

    #[test]
    fn tokens_are_the_same_or_not() {
        assert!(is_same(b"abc", b"abc"));
        assert!(!is_same(b"abd", b"abc") && !is_same(b"ab", b"abc") && !is_same(b"abcd", b"abc"));
    }
}
