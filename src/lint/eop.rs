//! What belongs to Exchange Online: names and addresses (exchange-edge.md 8.6, 8.8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Host, IpRange, ReceiveConnector, Routing, SendConnector};

/// Names below these are Exchange Online's: worldwide, DNSSEC-signed, US government, China.
const NAMES: [&str; 4] = [
    "mail.protection.outlook.com",
    "mx.microsoft",
    "mail.protection.office365.us",
    "mail.protection.partner.outlook.cn",
];

/// An address out of each range Exchange Online sends from.
const SENDERS: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(40, 92, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(40, 107, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(52, 100, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(104, 47, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2a01, 0x111, 0xf400, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2a01, 0x111, 0xf403, 0, 0, 0, 0, 1)),
];

/// The ranges themselves.
const RANGES: [&str; 6] = [
    "40.92.0.0/15",
    "40.107.0.0/16",
    "52.100.0.0/14",
    "104.47.0.0/17",
    "2a01:111:f400::/48",
    "2a01:111:f403::/48",
];

/// Whether `name` is a host of Exchange Online.
pub(super) fn is_its_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    NAMES
        .iter()
        .any(|known| name.strip_suffix(known).is_some_and(|front| front.is_empty() || front.ends_with('.')))
}

/// Whether `address` is one of Exchange Online's.
pub(super) fn is_its_address(address: IpAddr) -> bool {
    RANGES.iter().any(|range| IpRange::parse(range).is_ok_and(|range| range.contains(address)))
}

/// Whether a send connector leads to Exchange Online.
pub(super) fn is_next_hop_of(connector: &SendConnector) -> bool {
    let Routing::SmartHosts(hosts) = &connector.routing else { return false };
    hosts.iter().any(|host| match &host.host {
        Host::Name(name) => is_its_name(name),
        Host::Address(address) => is_its_address(*address),
    })
}

/// Whether Exchange Online may connect to a receive connector.
pub(super) fn reaches(connector: &ReceiveConnector) -> bool {
    connector.remote_ip_ranges.iter().any(|range| SENDERS.iter().any(|address| range.contains(*address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_by_whole_labels() {
        for name in
            ["contoso-com.mail.protection.outlook.com", "MAIL.protection.outlook.com.", "x.a-v1.mx.microsoft"]
        {
            assert!(is_its_name(name), "{name}");
        }
        for name in
            ["evilmail.protection.outlook.com", "outlook.com", "mail.protection.outlook.com.evil.test"]
        {
            assert!(!is_its_name(name), "{name}");
        }
    }

    #[test]
    fn each_address_lies_in_its_range() {
        assert!(SENDERS.iter().all(|address| is_its_address(*address)));
        assert!(!is_its_address("192.0.2.1".parse().unwrap()));
    }
}
