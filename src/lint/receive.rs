//! Receive connectors and accepted domains: who may relay, and what Exchange Online meets.

use std::net::IpAddr;

use crate::config::{Config, IpRange, ReceiveConnector, ReceiveTls};

use super::{Findings, eop};

/// [`IpRange::breadth`] of a /20: one as broad does not hold just an organisation's own servers.
const MANY: u128 = (1 << 12) - 1;

/// Networks that are not part of the internet (RFC 1918, 6598, 3927, 4193, 4291, loopback).
const INTERNAL: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

pub(super) fn look(connector: &ReceiveConnector, findings: &mut Findings) {
    let subject = format!("receive connector `{}`", connector.name);
    let strangers = connector.remote_ip_ranges.iter().find(|range| is_of_the_internet(range));
    let from_eop = eop::reaches(connector);
    // A client certificate with a name of our own tells friends from strangers wherever they are.
    let names_friends = connector.tls == ReceiveTls::Mutual
        && !connector.tls_domains.is_empty()
        && !connector.tls_domains.iter().any(|domain| eop::is_its_name(domain.name()));
    if connector.accept_any_recipient && !names_friends {
        if let Some(range) = strangers {
            findings.add(
                "open-relay",
                &subject,
                format!("accept_any_recipient lets everyone in {} relay to any domain", range.notation()),
                "name the servers that may relay in remote_ip_ranges, or use tls = \"mutual\" with their names in tls_domains",
            );
        } else if from_eop {
            findings.add(
                "eop-any-tenant",
                &subject,
                "accept_any_recipient serves addresses of Exchange Online, which every tenant sends from: all of them may relay",
                "let Exchange Online deliver to accepted domains only, on a connector without accept_any_recipient",
            );
        }
    }
    if connector.trusted && strangers.is_some() {
        findings.add(
            "trusted-internet",
            &subject,
            "trusted = true believes X-MS-Exchange-Organization headers from the internet",
            "set it only on connectors for servers of the organisation",
        );
    }
    if connector.tls == ReceiveTls::Off && from_eop {
        findings.add(
            "eop-no-starttls",
            &subject,
            "Exchange Online may connect here and finds no STARTTLS; a connector there that always uses TLS fails with 450 4.4.317",
            "set tls = \"opportunistic\" or \"required\"",
        );
    }
    if connector.tls13_tickets && connector.tls != ReceiveTls::Off && from_eop {
        findings.add(
            "eop-tickets",
            &subject,
            "tls13_tickets = true sends TLS 1.3 session tickets, which Exchange Online has broken connections over",
            "leave tls13_tickets off",
        );
    }
}

pub(super) fn accepted_domains(config: &Config, findings: &mut Findings) {
    for domain in &config.accepted_domains {
        // `*.com` and the like: one label and everything below it.
        if domain.domain.with_subdomains() && !domain.domain.name().contains('.') {
            findings.add(
                "open-relay-domain",
                &format!("accepted domain `{}`", domain.domain),
                "it covers a whole top-level domain, so that anyone may relay to it",
                "name the organisation's own domains",
            );
        }
    }
}

fn is_of_the_internet(range: &IpRange) -> bool {
    range.breadth() >= MANY && !INTERNAL.iter().any(|net| lies_in(range, net))
}

fn lies_in(range: &IpRange, net: &str) -> bool {
    let ends: (IpAddr, IpAddr) = range.ends();
    IpRange::parse(net).is_ok_and(|net| net.contains(ends.0) && net.contains(ends.1))
}
