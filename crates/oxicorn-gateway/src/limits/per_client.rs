//! How many connections each client address has.
//!
//! Decides whom a connection counts for: an IPv4 address, or the /64 network of an IPv6 one (which
//! is what one household is given). Nobody who speaks for others is counted: a Unix socket, a
//! trusted forwarder without a PROXY header.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv6 address that tell one network of clients from another.
const SUBSCRIBER_BITS: u32 = 64;

/// Whom a connection counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientNet(IpAddr);

impl ClientNet {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::MAX << (u128::BITS - SUBSCRIBER_BITS);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & network))
            }
        })
    }
}

/// The book. Its hashes are keyed at random: no choice of addresses makes it slow.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    connections: HashMap<ClientNet, u32>,
}

impl ClientCounts {
    /// One more connection, if there are fewer than `limit`.
    pub(crate) fn enter(&mut self, who: ClientNet, limit: u32) -> bool {
        let count = self.connections.entry(who).or_default();
        let enters = *count < limit;
        *count += u32::from(enters);
        enters
    }

    /// One less.
    pub(crate) fn leave(&mut self, who: ClientNet) {
        if let Entry::Occupied(mut entry) = self.connections.entry(who) {
            match entry.get_mut() {
                0 | 1 => drop(entry.remove()),
                count => *count -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> ClientNet {
        ClientNet::of(text.parse().expect("an address"))
    }

    #[test]
    fn counts_each_subscriber_for_itself_and_forgets_who_left() {
        let mut clients = ClientCounts::default();
        let (one, other) = (net("192.0.2.1"), net("192.0.2.2"));
        assert!(clients.enter(one, 2) && clients.enter(one, 2));
        assert!(!clients.enter(one, 2), "the third is one too many");
        assert!(clients.enter(other, 2));
        clients.leave(one);
        assert!(clients.enter(one, 2));
        clients.leave(one);
        clients.leave(one);
        clients.leave(other);
        clients.leave(other);
        assert!(clients.connections.is_empty());
    }

    #[test]
    fn an_ipv6_subscriber_is_its_network_and_mapped_addresses_are_ipv4() {
        assert_eq!(net("2001:db8:1:2::1"), net("2001:db8:1:2:ffff::9"));
        assert_ne!(net("2001:db8:1:2::1"), net("2001:db8:1:3::1"));
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
    }
}
