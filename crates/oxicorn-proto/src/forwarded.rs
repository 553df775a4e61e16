//! Who the client is that `X-Forwarded-For` names.
//!
//! Each proxy appends the address it was called from, so the list is read from its end: the first address that is no
//! proxy of ours is the client's, and what stands before it may be anything the client wrote. That is uvicorn's rule.
//! Whether the peer may send the header at all is for the caller to know (see [`crate::trust`]).

use crate::trust::AddressSet;

/// The client in a list `CLIENT, PROXY, PROXY`: its address as it is written, and its port, 0 if there is none. Where
/// all are proxies of ours the first one is taken. `None`: the list names nobody.
pub fn client<'a>(list: &'a [u8], proxies: &AddressSet) -> Option<(&'a [u8], u16)> {
    let mut entries = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let mut found = entries.clone().rev().map(host_and_port);
    let client = found.find(|(host, _)| !is_proxy(host, proxies));
    let (host, port) = client.or_else(|| entries.next().map(host_and_port))?;
    (!host.is_empty()).then_some((host, port))
}

/// What is no address is nobody we know, but where everybody is trusted.
fn is_proxy(host: &[u8], proxies: &AddressSet) -> bool {
    let address = std::str::from_utf8(host)
        .ok()
        .and_then(|host| host.parse().ok());
    address.map_or(proxies.is_everybody(), |address| proxies.contains(address))
}

/// `ADDRESS`, `IPV4:PORT`, `[IPV6]` or `[IPV6]:PORT`; what is none of them is a host as it stands.
fn host_and_port(entry: &[u8]) -> (&[u8], u16) {
    let number = |port: &[u8]| -> Option<u16> { std::str::from_utf8(port).ok()?.parse().ok() };
    if let Some(inside) = entry.strip_prefix(b"[") {
        let Some(end) = inside.iter().position(|&byte| byte == b']') else {
            return (entry, 0);
        };
        let (host, rest) = (&inside[..end], &inside[end + 1..]);
        return match rest.split_first() {
            None => (host, 0),
            Some((b':', port)) => (host, number(port).unwrap_or(0)),
            Some(_) => (entry, 0),
        };
    }
    let mut parts = entry.split(|&byte| byte == b':');
    if let (Some(host), Some(port), None) = (parts.next(), parts.next(), parts.next())
        && let Some(port) = number(port)
    {
        return (host, port);
    }
    (entry, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(list: &str, proxies: &[&str]) -> Option<(String, u16)> {
        let proxies: Vec<String> = proxies.iter().map(|&entry| entry.to_owned()).collect();
        client(list.as_bytes(), &AddressSet::new(&proxies))
            .map(|(host, port)| (String::from_utf8_lossy(host).into_owned(), port))
    }

    #[test]
    fn takes_the_last_address_that_is_no_proxy() {
        let proxies = ["127.0.0.1", "10.0.0.0/8"];
        for (list, host, port) in [
            ("203.0.113.9", "203.0.113.9", 0),
            ("evil, 203.0.113.9", "203.0.113.9", 0),
            ("1.1.1.1, 203.0.113.9, 10.1.2.3", "203.0.113.9", 0),
            (
                "1.1.1.1,10.0.0.1,203.0.113.9,10.1.2.3,127.0.0.1",
                "203.0.113.9",
                0,
            ),
            // Nobody else: then the first.
            ("10.1.2.3, 10.0.0.1", "10.1.2.3", 0),
            ("203.0.113.9:4711", "203.0.113.9", 4711),
            ("203.0.113.9:port", "203.0.113.9:port", 0),
            ("203.0.113.9:70000", "203.0.113.9:70000", 0),
            ("10.1.2.3:80, 2001:db8::1", "2001:db8::1", 0),
            ("[2001:db8::1]", "2001:db8::1", 0),
            ("[2001:db8::1]:4711", "2001:db8::1", 4711),
            ("[2001:db8::1]:port", "2001:db8::1", 0),
            ("[2001:db8::1", "[2001:db8::1", 0),
            ("[2001:db8::1]4711", "[2001:db8::1]4711", 0),
            ("1.1.1.1, unknown", "unknown", 0),
        ] {
            assert_eq!(found(list, &proxies), Some((host.into(), port)), "{list}");
        }
    }

    #[test]
    fn takes_the_first_where_everybody_is_trusted() {
        assert_eq!(
            found("unknown, 1.1.1.1", &["*"]),
            Some(("unknown".into(), 0))
        );
    }

    #[test]
    fn finds_nobody_in_an_empty_list() {
        assert_eq!(found("", &["127.0.0.1"]), None);
        assert_eq!(found(" ", &["*"]), None);
        assert_eq!(found("1.1.1.1,", &["127.0.0.1"]), None);
    }
}
