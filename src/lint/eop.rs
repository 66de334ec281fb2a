//! What belongs to Exchange Online: names and addresses (exchange-edge.md 8.6, 8.8).

use std::net::IpAddr;

use crate::config::{Host, IpRange, ReceiveConnector, Routing, SendConnector, lies_below};

/// Names below these are Exchange Online's: worldwide, DNSSEC-signed, US government, China.
const NAMES: [&str; 4] = [
    "mail.protection.outlook.com",
    "mx.microsoft",
    "mail.protection.office365.us",
    "mail.protection.partner.outlook.cn",
];

/// Where it sends from, and takes mail.
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
    let name = name.strip_suffix('.').unwrap_or(name);
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known) || lies_below(name, known))
}

fn ranges() -> impl Iterator<Item = IpRange> {
    RANGES.iter().filter_map(|range| IpRange::parse(range).ok())
}

/// Whether `address` is one of Exchange Online's.
pub(super) fn is_its_address(address: IpAddr) -> bool {
    ranges().any(|range| range.contains(address))
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
    connector.remote_ip_ranges.iter().any(|range| ranges().any(|its| range.overlaps(&its)))
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
    fn addresses_are_told_by_its_ranges() {
        assert_eq!(ranges().count(), RANGES.len(), "each can be read");
        for address in ["40.92.0.1", "40.107.3.4", "52.103.255.255", "104.47.1.2", "2a01:111:f403::1"] {
            assert!(is_its_address(address.parse().unwrap()), "{address}");
        }
        assert!(!is_its_address("192.0.2.1".parse().unwrap()));
    }
}
