//! Whom to believe: which peers may say what the client's scheme is, and who may send a PROXY
//! header.
//!
//! Decides by the address of the peer that opened the connection, nothing a request says can change
//! it. A peer on a Unix socket is trusted: whoever may open the socket file is local and was let in
//! by its permissions (Gunicorn's rule). Refuses to know sockets: the caller says who the peer is.

use std::net::IpAddr;

/// A set of addresses: `*`, single ones, networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    everybody: bool,
    networks: Vec<Network>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl AddressSet {
    /// Entries that are neither `*` nor an address nor a network name nobody (the settings table
    /// refuses them with a message).
    pub fn new(entries: &[String]) -> Self {
        Self {
            everybody: entries.iter().any(|entry| entry.trim() == "*"),
            networks: entries
                .iter()
                .filter_map(|entry| Network::parse(entry.trim()))
                .collect(),
        }
    }

    /// Whether everybody belongs to it.
    pub fn is_everybody(&self) -> bool {
        self.everybody
    }

    /// Whether `address` belongs to it; an IPv4 address in IPv6 clothes counts as IPv4, because a
    /// listener on `[::]` shows IPv4 clients so.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.everybody
            || self
                .networks
                .iter()
                .any(|network| network.contains(address))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Self { address, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

/// The trust settings, ready for use.
#[derive(Debug, Clone)]
pub struct TrustRules {
    forwarders: AddressSet,
    proxies: AddressSet,
    scheme_headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// A bit for each length that one of their names has: most headers are none of them by that alone.
    scheme_lengths: u64,
}

/// The bit of a name's length; all long ones share the last.
fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

/// The scheme headers of a request contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContradictorySchemes;

impl TrustRules {
    /// `scheme_headers`: a header's name and the value of it that means https
    /// (`secure_scheme_headers`).
    pub fn new(
        forwarders: AddressSet,
        proxies: AddressSet,
        scheme_headers: &[(String, String)],
    ) -> Self {
        let header = |(name, value): &(String, String)| {
            (
                name.to_ascii_lowercase().into_bytes(),
                value.clone().into_bytes(),
            )
        };
        let scheme_headers: Vec<_> = scheme_headers.iter().map(header).collect();
        let lengths = scheme_headers.iter().map(|(name, _)| length_bit(name));
        Self {
            forwarders,
            proxies,
            scheme_lengths: lengths.fold(0, |all, bit| all | bit),
            scheme_headers,
        }
    }

    /// Whether the peer's forwarding headers are believed. `None`: a Unix socket.
    pub fn trusts_forwarder(&self, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|address| self.forwarders.contains(address))
    }

    /// The peers whose forwarding headers are believed.
    pub fn forwarders(&self) -> &AddressSet {
        &self.forwarders
    }

    /// Whether the peer may begin a connection with a PROXY header.
    pub fn trusts_proxy(&self, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|address| self.proxies.contains(address))
    }

    /// What a trusted peer's headers say about the scheme: https or not. The value must be exactly
    /// the one that means https, as in Gunicorn; two headers that differ are a smuggling attempt or
    /// a broken proxy, and refused.
    pub fn scheme<'h>(
        &self,
        headers: impl Iterator<Item = (&'h [u8], &'h [u8])>,
    ) -> Result<Option<bool>, ContradictorySchemes> {
        let mut scheme = None;
        for (name, value) in headers {
            let Some((_, secure)) = self.scheme_header(name) else {
                continue;
            };
            let https = value == secure.as_slice();
            match scheme.replace(https) {
                Some(before) if before != https => return Err(ContradictorySchemes),
                _ => {}
            }
        }
        Ok(scheme)
    }

    #[inline]
    fn scheme_header(&self, name: &[u8]) -> Option<&(Vec<u8>, Vec<u8>)> {
        if self.scheme_lengths & length_bit(name) == 0 {
            return None;
        }
        self.scheme_headers
            .iter()
            .find(|(ours, _)| ours.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[&str]) -> AddressSet {
        AddressSet::new(
            &entries
                .iter()
                .map(|&entry| entry.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn knows_addresses_networks_and_everybody() {
        let some = set(&[
            "127.0.0.1",
            "10.1.0.0/16",
            "2001:db8::/32",
            "nonsense",
            "1.2.3.4/99",
        ]);
        for (address, belongs) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("1.2.3.4", false),
        ] {
            assert_eq!(some.contains(ip(address)), belongs, "{address}");
        }
        assert!(set(&["*"]).contains(ip("203.0.113.9")));
        assert!(set(&["0.0.0.0/0"]).contains(ip("203.0.113.9")));
        assert!(!set(&[]).contains(ip("127.0.0.1")));
    }

    /// Gunicorn's `secure_scheme_headers`.
    fn rules(forwarders: &[&str]) -> TrustRules {
        let scheme_headers = [
            ("X-FORWARDED-PROTOCOL", "ssl"),
            ("X-FORWARDED-PROTO", "https"),
            ("X-FORWARDED-SSL", "on"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        TrustRules::new(set(forwarders), set(&[]), &scheme_headers)
    }

    #[test]
    fn believes_scheme_headers_that_agree() {
        let rules = rules(&[]);
        let scheme = |headers: &[(&'static str, &'static str)]| {
            rules.scheme(
                headers
                    .iter()
                    .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
            )
        };
        assert_eq!(scheme(&[("Host", "x")]), Ok(None));
        assert_eq!(scheme(&[("x-forwarded-proto", "https")]), Ok(Some(true)));
        assert_eq!(scheme(&[("X-Forwarded-Proto", "HTTPS")]), Ok(Some(false)));
        assert_eq!(
            scheme(&[("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "on")]),
            Ok(Some(true))
        );
        assert_eq!(
            scheme(&[("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")]),
            Err(ContradictorySchemes)
        );
    }

    #[test]
    fn scheme_headers_have_names_of_any_length() {
        for name in ["S".to_owned(), "X-".repeat(32), "X-".repeat(100)] {
            let headers = [(name.clone(), "https".to_owned())];
            let rules = TrustRules::new(set(&[]), set(&[]), &headers);
            let other = "Y".repeat(name.len());
            let sent = [other.as_bytes(), name.as_bytes()].map(|name| (name, &b"https"[..]));
            assert_eq!(rules.scheme(sent[..1].iter().copied()), Ok(None));
            assert_eq!(rules.scheme(sent.into_iter()), Ok(Some(true)), "{name}");
        }
    }

    #[test]
    fn trusts_unix_sockets() {
        let rules = rules(&[]);
        assert!(rules.trusts_forwarder(None));
        assert!(!rules.trusts_forwarder(Some(ip("127.0.0.1"))));
    }
}
