//! An IP address or network, as `forwarded_allow_ips` and its like write it.

use core::net::{IpAddr, Ipv4Addr};
use std::fmt;

/// A network; an address is the network of itself alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u32,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkFault {
    /// The part before the slash is no address.
    Address,
    /// The part after the slash is neither a length nor a mask.
    Mask,
    /// The address has bits behind the mask: it is probably a host's, and the network would be another than meant.
    HostBits,
}

impl fmt::Display for NetworkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "is no IP address",
            Self::Mask => "has no valid mask",
            Self::HostBits => "has host bits set",
        })
    }
}

impl Network {
    /// Reads `ADDRESS`, `ADDRESS/LENGTH` or, for IPv4, `ADDRESS/MASK`.
    pub(crate) fn parse(text: &str) -> Result<Self, NetworkFault> {
        let (address, mask) = match text.split_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let address: IpAddr = without_zone(address)
            .parse()
            .map_err(|_| NetworkFault::Address)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match mask {
            None => width,
            Some(mask) => parse_mask(mask, address.is_ipv4(), width).ok_or(NetworkFault::Mask)?,
        };
        if bits(address)
            .unbounded_shl(128 - width)
            .unbounded_shl(prefix)
            != 0
        {
            return Err(NetworkFault::HostBits);
        }
        Ok(Self { address, prefix })
    }
}

/// `ADDRESS` or `ADDRESS/LENGTH`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alone = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == alone {
            return write!(f, "{}", self.address);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The address without the interface it is local to: `fe80::1%eth0` is looked for on every interface.
fn without_zone(address: &str) -> &str {
    match address.split_once('%') {
        Some((address, zone)) if address.contains(':') && !zone.is_empty() => address,
        _ => address,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn parse_mask(mask: &str, ipv4: bool, width: u32) -> Option<u32> {
    if !mask.is_empty() && mask.bytes().all(|byte| byte.is_ascii_digit()) {
        return mask.parse().ok().filter(|prefix| *prefix <= width);
    }
    if !ipv4 {
        return None;
    }
    let mask = mask.parse::<Ipv4Addr>().ok()?.to_bits();
    // Also the inverted form that access lists of routers use.
    prefix_of_mask(mask).or_else(|| prefix_of_mask(!mask))
}

fn prefix_of_mask(mask: u32) -> Option<u32> {
    (mask.leading_ones() + mask.trailing_zeros() == 32).then(|| mask.leading_ones())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_networks() {
        let cases = [
            ("127.0.0.1", Ok("127.0.0.1")),
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("10.0.0.1/32", Ok("10.0.0.1")),
            ("10.0.0.0/255.0.0.0", Ok("10.0.0.0/8")),
            ("10.0.0.0/0.255.255.255", Ok("10.0.0.0/8")),
            ("::1", Ok("::1")),
            ("fd00::/8", Ok("fd00::/8")),
            ("::/0", Ok("::/0")),
            ("fe80::1%eth0", Ok("fe80::1")),
            ("fe80::1%", Err(NetworkFault::Address)),
            ("10.0.0.1%eth0", Err(NetworkFault::Address)),
            ("10.0.0.1/24", Err(NetworkFault::HostBits)),
            ("fd00::1/8", Err(NetworkFault::HostBits)),
            ("10.0.0.0/33", Err(NetworkFault::Mask)),
            ("10.0.0.0/255.0.255.0", Err(NetworkFault::Mask)),
            ("::/ffff::", Err(NetworkFault::Mask)),
            ("10.0.0.0/", Err(NetworkFault::Mask)),
            ("localhost", Err(NetworkFault::Address)),
            ("010.0.0.1", Err(NetworkFault::Address)),
            ("", Err(NetworkFault::Address)),
        ];
        for (text, expected) in cases {
            let result = Network::parse(text).map(|network| network.to_string());
            assert_eq!(
                result.as_deref(),
                expected.as_ref().map(|text| *text),
                "{text:?}"
            );
        }
    }
}
