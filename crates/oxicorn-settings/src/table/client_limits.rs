//! How long a client may take, and how much of the server it may hold. Gunicorn leaves that to a proxy in front, so
//! these are oxicorn's own.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    bound(
        "limit_request_body",
        &["--limit-request-body"],
        0,
        1 << 30,
        "How many bytes a request body may have; 0: any number. A longer one is answered with 413, before a worker \
         hears of it.",
    ),
    bound(
        "limit_connections",
        &["--limit-connections"],
        1,
        65_536,
        "How many client connections may be open at once, in the whole server. At the bound, and where the limit on \
         open files leaves room for fewer, the connections that have been idle longest are closed for new ones; if \
         none is idle, new ones wait in the kernel's backlog. Open files: `ulimit -Hn`, `LimitNOFILE` of systemd.",
    ),
    bound(
        "limit_client_connections",
        &["--limit-client-connections"],
        0,
        0,
        "How many connections one client address may have open at once; 0: any number. One more is answered with 503 \
         and closed. An IPv6 client is its /64 network. Behind a PROXY protocol header it is the address named there; \
         peers in `forwarded_allow_ips` that send none, and Unix sockets, speak for many clients and are not counted.",
    ),
    bound(
        "keepalive_requests",
        &["--keep-alive-requests"],
        0,
        0,
        "How many requests one connection may bring before it is closed; 0: any number.",
    ),
    bound(
        "keepalive_drain",
        &["--keep-alive-drain"],
        0,
        2,
        "How many seconds a kept connection may bring one more request after a graceful stop has begun: it is answered \
         with `Connection: close`, where closing at once would meet a request that is on its way. Never longer than \
         `keepalive` or half of `graceful_timeout`; 0 closes at once. A stop without such connections does not wait.",
    ),
    bound(
        "header_timeout",
        &["--header-timeout"],
        0,
        30,
        "How many seconds a client may take from the first byte of a request to the end of its headers; 0: as long as \
         it likes. Then it is answered with 408. A new connection may be silent for as long.",
    ),
    bound(
        "body_timeout",
        &["--body-timeout"],
        0,
        30,
        "Over how many seconds the rate of a request body is measured; 0: not at all. In every such span at least \
         `body_min_rate` bytes a second must come, and in any case one byte, or the request is answered with 408.",
    ),
    bound(
        "body_min_rate",
        &["--body-min-rate"],
        0,
        240,
        "How many bytes of a request body a second must come on average over `body_timeout`.",
    ),
    bound(
        "write_timeout",
        &["--write-timeout"],
        0,
        30,
        "Over how many seconds the rate is measured at which a client takes a response that waits for it; 0: not at \
         all. In every such span it must acknowledge at least `write_min_rate` bytes a second, and in any case one \
         byte, or the connection is cut.",
    ),
    bound(
        "write_min_rate",
        &["--write-min-rate"],
        0,
        240,
        "How many bytes of a response a second a client must take on average over `write_timeout`.",
    ),
    bound(
        "buffer_limit",
        &["--buffer-limit"],
        1 << 20,
        512 << 20,
        "How many bytes may be held for all clients together: heads, bodies, responses and WebSocket messages. Beyond \
         it bodies go to files at once, long heads are refused with 503, the clients that have taken nothing of their \
         response for longest are cut, and WebSockets whose messages are long and not complete are closed with 1013.",
    ),
];

/// A number with a bound below.
const fn bound(
    name: &'static str,
    flags: &'static [&'static str],
    least: i64,
    default: i64,
    doc: &'static str,
) -> Definition {
    Definition {
        name,
        section: Section::Security,
        flags: Flags::integer(flags),
        kind: Kind::Integer {
            least,
            most: i64::MAX,
        },
        default: Default::Int(default),
        doc,
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, refused};
    use crate::value::{Raw, Value};

    #[test]
    fn zero_lifts_a_bound_that_may_be_lifted() {
        for name in [
            "limit_request_body",
            "limit_client_connections",
            "keepalive_requests",
            "keepalive_drain",
            "header_timeout",
            "body_timeout",
            "body_min_rate",
            "write_timeout",
            "write_min_rate",
        ] {
            assert_eq!(accepted(name, Raw::Int(0)), Value::Int(0), "{name}");
            assert_eq!(
                refused(name, Raw::Int(-1)),
                "must be an integer, 0 or more",
                "{name}"
            );
        }
    }

    #[test]
    fn what_keeps_the_server_alive_cannot_be_lifted() {
        assert_eq!(
            refused("limit_connections", Raw::Int(0)),
            "must be an integer, 1 or more"
        );
        assert_eq!(
            refused("buffer_limit", Raw::Int(0)),
            "must be an integer, 1048576 or more"
        );
    }

    #[test]
    fn nobody_may_hold_anything_for_ever_by_default() {
        for name in [
            "limit_request_body",
            "limit_connections",
            "header_timeout",
            "body_timeout",
            "body_min_rate",
            "write_timeout",
            "write_min_rate",
            "buffer_limit",
        ] {
            let value = default_in(&[], name);
            assert!(matches!(value, Value::Int(1..)), "{name}: {value:?}");
        }
    }
}
