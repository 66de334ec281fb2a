//! IP ranges as Exchange writes them: one address, `lo-hi`, or CIDR; IPv4 and IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A closed range of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpRange {
    low: IpAddr,
    high: IpAddr,
}

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not an address, range or network.
    #[error("`{0}` is no IP address, `low-high` range or CIDR network")]
    Syntax(String),
    /// `high` below `low`.
    #[error("the range `{0}` ends before it starts")]
    Reversed(String),
    /// One end IPv4, the other IPv6.
    #[error("the range `{0}` mixes IPv4 and IPv6")]
    Mixed(String),
    /// Host bits set behind the prefix.
    #[error("`{text}` has host bits set; the network is `{network}`")]
    HostBits {
        /// As written.
        text: String,
        /// What was probably meant.
        network: String,
    },
}

impl IpRange {
    /// Reads a range. An IPv6 zone id (`%11`) is dropped.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let syntax = || RangeError::Syntax(text.to_owned());
        let addr = |s: &str| {
            let s = s.trim();
            s.split_once('%').map_or(s, |(a, _)| a).parse::<IpAddr>().map_err(|_| syntax())
        };
        if text.contains('/') {
            let net: IpNet = text.trim().parse().map_err(|_| syntax())?;
            if net.network() != net.addr() {
                return Err(RangeError::HostBits { text: text.into(), network: net.trunc().to_string() });
            }
            return Ok(Self { low: net.network(), high: net.broadcast() });
        }
        let Some((low, high)) = text.split_once('-') else {
            let one = addr(text)?;
            return Ok(Self { low: one, high: one });
        };
        let (low, high) = (addr(low)?, addr(high)?);
        if low.is_ipv4() != high.is_ipv4() {
            return Err(RangeError::Mixed(text.into()));
        }
        if high < low {
            return Err(RangeError::Reversed(text.into()));
        }
        Ok(Self { low, high })
    }

    /// All of IPv4.
    pub fn all_v4() -> Self {
        Self { low: Ipv4Addr::UNSPECIFIED.into(), high: Ipv4Addr::BROADCAST.into() }
    }

    /// All of IPv6.
    pub fn all_v6() -> Self {
        Self { low: Ipv6Addr::UNSPECIFIED.into(), high: Ipv6Addr::from(u128::MAX).into() }
    }

    /// Its first and last address.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        (self.low, self.high)
    }

    /// Whether it is a range of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.low.is_ipv4()
    }

    /// Whether `ip` lies inside. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.low.is_ipv4() && self.low <= ip && ip <= self.high
    }

    /// Addresses inside, less one (so that all of IPv6 fits). Fewer is more specific.
    pub fn breadth(&self) -> u128 {
        bits(self.high) - bits(self.low)
    }

    /// The shortest way to write it: an address, a CIDR network where it is one, else `low-high`.
    pub fn notation(&self) -> String {
        let width = if self.is_ipv4() { 32 } else { 128 };
        let host_bits = 128 - self.breadth().leading_zeros();
        let host_mask = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |bit| bit - 1);
        let network = self.breadth() == host_mask && bits(self.low) & host_mask == 0;
        if network && host_bits > 0 {
            format!("{}/{}", self.low, width - host_bits)
        } else {
            self.to_string()
        }
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.low.is_ipv4() == other.low.is_ipv4() && self.low <= other.high && other.low <= self.high
    }

    /// Whether the two share an address without one lying inside the other: a configuration
    /// error on one binding.
    pub fn crosses(&self, other: &Self) -> bool {
        let nested = (self.low <= other.low && other.high <= self.high)
            || (other.low <= self.low && self.high <= other.high);
        self.overlaps(other) && !nested
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpRange {
        IpRange::parse(text).unwrap()
    }

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(range("192.0.2.1-192.0.2.9").to_string(), "192.0.2.1-192.0.2.9");
        assert_eq!(range("192.0.2.0/30").to_string(), "192.0.2.0-192.0.2.3");
        assert_eq!(range("fe80::1%11").to_string(), "fe80::1");
        assert_eq!(range("::/0"), IpRange::all_v6());
        assert_eq!(range("0.0.0.0-255.255.255.255"), IpRange::all_v4());
    }

    #[test]
    fn mistakes_are_named() {
        assert!(matches!(IpRange::parse("192.0.2.9-192.0.2.1"), Err(RangeError::Reversed(_))));
        assert!(matches!(IpRange::parse("192.0.2.9-::1"), Err(RangeError::Mixed(_))));
        assert!(matches!(IpRange::parse("192.0.2.9/24"), Err(RangeError::HostBits { .. })));
        assert!(matches!(IpRange::parse("contoso.com"), Err(RangeError::Syntax(_))));
    }

    #[test]
    fn networks_are_shown_as_such() {
        for text in ["0.0.0.0/0", "::/0", "192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "10.0.0.1-10.0.0.2"] {
            assert_eq!(range(text).notation(), text);
        }
        assert_eq!(range("10.0.0.1-10.0.0.4").notation(), "10.0.0.1-10.0.0.4");
    }

    #[test]
    fn partial_overlap_is_told_from_nesting() {
        assert!(range("10.0.0.1-10.0.0.5").crosses(&range("10.0.0.4-10.0.0.9")));
        assert!(!range("10.0.0.0/8").crosses(&range("10.0.0.4-10.0.0.9")));
        assert!(!range("10.0.0.0/8").crosses(&range("10.0.0.0/8")));
        assert!(!range("::/0").crosses(&range("0.0.0.0/0")));
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_self() {
        assert!(range("10.0.0.0/8").contains("::ffff:10.1.2.3".parse().unwrap()));
    }
}
