//! Invariant: an address set has the members a bit-by-bit comparison finds, however an address is
//! dressed; what a peer that is not trusted sends with an underscore never reaches the headers;
//! the scheme is https only if every scheme header says so with exactly its value, in any order.
//!
//! Input: which rules, an address of 16 bytes, a line of allowed addresses, a request head.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use oxicorn_proto::http1::{Connection, Event, HeaderMap, Rules, Strictness};
use oxicorn_proto::trust::{AddressSet, TrustRules};

/// A header's name and the value that means https: Gunicorn's default, and one a user might add.
const SCHEME_HEADERS: [(&str, &str); 4] = [
    ("X-FORWARDED-PROTOCOL", "ssl"),
    ("X-FORWARDED-PROTO", "https"),
    ("X-FORWARDED-SSL", "on"),
    ("FORWARDED_SCHEME", "https"),
];

/// See the head of the file.
pub fn header_trust(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let Some((octets, rest)) = rest.split_first_chunk::<16>() else {
        return;
    };
    let end = rest.iter().position(|byte| *byte == b'\n');
    let (line, head) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
    let entries: Vec<String> = String::from_utf8_lossy(line)
        .split(',')
        .map(|entry| entry.trim_end_matches('\n').to_owned())
        .collect();
    let peer = address(choice, *octets);
    let trusted = check_set(&entries, peer);
    check_head(head, choice, trusted);
}

/// One of the 16 bytes in any of the three shapes a peer's address has.
fn address(choice: u8, octets: [u8; 16]) -> IpAddr {
    let [.., a, b, c, d] = octets;
    match choice & 3 {
        0 => IpAddr::from([a, b, c, d]),
        1 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]),
        _ => IpAddr::from(octets),
    }
}

fn check_set(entries: &[String], peer: IpAddr) -> bool {
    let set = AddressSet::new(entries);
    let belongs = set.contains(peer);
    assert_eq!(belongs, entries.iter().any(|entry| matches(entry, peer)));
    if let IpAddr::V4(address) = peer {
        let dressed = IpAddr::V6(address.to_ipv6_mapped());
        assert_eq!(belongs, set.contains(dressed), "{peer} as {dressed}");
    }
    let rules = TrustRules::new(set, AddressSet::new(&[]), &[]);
    assert_eq!(rules.trusts_forwarder(Some(peer)), belongs);
    assert!(rules.trusts_forwarder(None), "a Unix socket");
    assert!(!rules.trusts_proxy(Some(peer)), "an empty set has nobody");
    belongs
}

/// Another reading of an entry: prefixes compared as text of binary digits.
fn matches(entry: &str, peer: IpAddr) -> bool {
    let entry = entry.trim();
    if entry == "*" {
        return true;
    }
    let (network, length) = entry.split_once('/').unwrap_or((entry, "full"));
    let Ok(network) = network.parse::<IpAddr>() else {
        return false;
    };
    let (ours, theirs) = (digits(network), digits(peer.to_canonical()));
    let length = match length {
        "full" => ours.len(),
        length => match length.parse::<u8>() {
            Ok(length) => usize::from(length),
            Err(_) => return false,
        },
    };
    ours.len() == theirs.len() && length <= ours.len() && ours[..length] == theirs[..length]
}

fn digits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
        IpAddr::V6(address) => format!("{:0128b}", Ipv6Addr::to_bits(address)),
    }
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The headers of `head` for a peer that is trusted or not, if it is accepted.
fn headers(head: &[u8], header_map: HeaderMap, trusted: bool) -> Option<Pairs> {
    let strictness = Strictness {
        header_map,
        forwarder_headers: vec!["FORWARDED_SCHEME".into(), "REMOTE_USER".into()],
        ..Strictness::default()
    };
    let mut connection = Connection::new(Arc::new(Rules {
        strictness,
        ..Rules::default()
    }));
    connection.set_forwarder_trusted(trusted);
    let polled = connection.poll_event(head).ok()?;
    (polled.event == Event::Head).then(|| {
        let headers = connection.head(&head[..polled.consumed]).headers();
        headers
            .map(|header| (header.name.to_vec(), header.value.to_vec()))
            .collect()
    })
}

fn check_head(head: &[u8], choice: u8, trusted: bool) {
    let underscored = |pairs: &Pairs| {
        pairs
            .iter()
            .filter(|(name, _)| name.contains(&b'_'))
            .count()
    };
    let forged = headers(head, HeaderMap::Drop, false);
    if let Some(forged) = &forged {
        assert_eq!(underscored(forged), 0, "an underscore from a stranger");
    }
    if let Some(refused) = headers(head, HeaderMap::Refuse, false) {
        assert_eq!(Some(&refused), forged.as_ref(), "nothing there to refuse");
    }
    let believed = headers(head, HeaderMap::Drop, true);
    // A trusted peer's head has the same ordinary headers, and named ones between them. (It may be
    // refused for what only it can say: nothing of this list is read for framing.)
    if let (Some(forged), Some(believed)) = (&forged, &believed) {
        let ordinary = believed.iter().filter(|(name, _)| !name.contains(&b'_'));
        assert!(ordinary.eq(forged.iter()), "trust changes no other header");
        assert!(believed.iter().all(|(name, _)| !name.contains(&b'_')
            || name.eq_ignore_ascii_case(b"FORWARDED_SCHEME")
            || name.eq_ignore_ascii_case(b"REMOTE_USER")));
    }
    let seen = if trusted { believed } else { forged };
    if let Some(seen) = seen {
        check_scheme(&seen, choice);
    }
}

fn check_scheme(pairs: &Pairs, choice: u8) {
    let known = &SCHEME_HEADERS[..usize::from(choice >> 2) % (SCHEME_HEADERS.len() + 1)];
    let rules = TrustRules::new(
        AddressSet::default(),
        AddressSet::default(),
        &known
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>(),
    );
    let read = |pairs: &mut dyn Iterator<Item = &(Vec<u8>, Vec<u8>)>| {
        rules.scheme(pairs.map(|(name, value)| (&name[..], &value[..])))
    };
    let scheme = read(&mut pairs.iter());
    assert_eq!(scheme, read(&mut pairs.iter().rev()), "order matters not");
    let says: Vec<bool> = pairs
        .iter()
        .filter_map(|(name, value)| {
            let secure = known
                .iter()
                .find(|(ours, _)| ours.as_bytes().eq_ignore_ascii_case(name));
            secure.map(|(_, secure)| secure.as_bytes() == value)
        })
        .collect();
    let all = |wanted| says.iter().all(|https| *https == wanted);
    match scheme {
        Ok(None) => assert!(says.is_empty()),
        Ok(Some(https)) => assert!(!says.is_empty() && all(https)),
        Err(_) => assert!(!all(true) && !all(false)),
    }
}
