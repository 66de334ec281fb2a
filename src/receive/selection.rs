//! Which receive connector takes a session (exchange-edge.md 1.1): of the connectors whose
//! binding matches the local address, the one with the most specific range around the peer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::IpRange;

use super::connector::Connector;

/// The receive connectors of one configuration.
#[derive(Debug)]
pub struct Selection {
    connectors: Vec<Arc<Connector>>,
}

/// A connector that would take a session, and the range that says so.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The connector.
    pub connector: &'a Arc<Connector>,
    /// Its range around the peer.
    pub range: IpRange,
    /// Whether its binding names the local address itself rather than all addresses.
    pub specific_binding: bool,
}

impl Selection {
    pub(crate) fn new(connectors: Vec<Arc<Connector>>) -> Self {
        Self { connectors }
    }

    /// All connectors, in the order of the file.
    pub fn connectors(&self) -> &[Arc<Connector>] {
        &self.connectors
    }

    /// The connector for a session from `peer` to `local`; none: no range covers the peer.
    pub fn choose(&self, local: SocketAddr, peer: IpAddr) -> Option<&Arc<Connector>> {
        let mut best: Option<Candidate<'_>> = None;
        for candidate in self.candidates(local, peer) {
            if best.as_ref().is_none_or(|b| candidate.rank() < b.rank()) {
                best = Some(candidate);
            }
        }
        best.map(|c| c.connector)
    }

    /// Everybody who could take the session, best first: the answer and its runners-up.
    pub fn ranked(&self, local: SocketAddr, peer: IpAddr) -> Vec<Candidate<'_>> {
        let mut all: Vec<_> = self.candidates(local, peer).collect();
        all.sort_by_key(Candidate::rank);
        all
    }

    fn candidates(&self, local: SocketAddr, peer: IpAddr) -> impl Iterator<Item = Candidate<'_>> {
        let (local_ip, peer) = (local.ip().to_canonical(), peer.to_canonical());
        self.connectors.iter().filter_map(move |connector| {
            let mut bound = connector.config.bindings.iter().filter(|b| b.port() == local.port());
            let specific_binding = bound.clone().any(|b| b.ip() == local_ip);
            let wildcard = bound.any(|b| b.ip().is_unspecified() && (b.is_ipv4() == local_ip.is_ipv4()));
            if !specific_binding && !wildcard {
                return None;
            }
            let range = connector
                .config
                .remote_ip_ranges
                .iter()
                .filter(|r| r.contains(peer))
                .min_by_key(|r| r.breadth())
                .copied()?;
            Some(Candidate { connector, range, specific_binding })
        })
    }
}

impl Candidate<'_> {
    /// Smaller is better: a binding to the address itself first, then fewer peers in the range.
    fn rank(&self) -> (bool, u128) {
        (!self.specific_binding, self.range.breadth())
    }
}

#[cfg(test)]
mod tests {
    use super::super::connector::tests::connector;
    use super::*;

    fn selection(list: &[(&str, &str, &[&str])]) -> Selection {
        Selection::new(list.iter().map(|(name, bind, ranges)| connector(name, bind, ranges)).collect())
    }

    fn chosen(s: &Selection, local: &str, peer: &str) -> Option<String> {
        s.choose(local.parse().unwrap(), peer.parse().unwrap()).map(|c| c.config.name.clone())
    }

    #[test]
    fn the_most_specific_range_wins() {
        // The example of exchange-edge.md 1.1.
        let s = selection(&[
            ("all", "0.0.0.0:25", &["0.0.0.0-255.255.255.255"]),
            ("net", "0.0.0.0:25", &["192.168.1.0-192.168.1.255"]),
            ("one", "0.0.0.0:25", &["192.168.1.75"]),
        ]);
        assert_eq!(chosen(&s, "10.0.0.1:25", "192.168.1.75").as_deref(), Some("one"));
        assert_eq!(chosen(&s, "10.0.0.1:25", "192.168.1.100").as_deref(), Some("net"));
        assert_eq!(chosen(&s, "10.0.0.1:25", "203.0.113.1").as_deref(), Some("all"));
        assert_eq!(s.ranked("10.0.0.1:25".parse().unwrap(), "192.168.1.75".parse().unwrap()).len(), 3);
    }

    #[test]
    fn a_binding_to_the_address_beats_the_wildcard_one() {
        let s =
            selection(&[("wild", "0.0.0.0:25", &["10.0.0.7"]), ("specific", "127.0.0.1:25", &["0.0.0.0/0"])]);
        assert_eq!(chosen(&s, "127.0.0.1:25", "10.0.0.7").as_deref(), Some("specific"));
        assert_eq!(chosen(&s, "127.0.0.2:25", "10.0.0.7").as_deref(), Some("wild"));
    }

    #[test]
    fn port_and_family_separate_connectors() {
        let s = selection(&[("v4", "0.0.0.0:25", &["0.0.0.0/0", "::/0"]), ("v6", "[::]:26", &["::/0"])]);
        assert_eq!(chosen(&s, "[::1]:25", "::1"), None);
        assert_eq!(chosen(&s, "[::1]:26", "::1").as_deref(), Some("v6"));
        assert_eq!(chosen(&s, "127.0.0.1:26", "127.0.0.1"), None);
        // A dual-stack listener reports IPv4 peers in mapped form.
        assert_eq!(chosen(&s, "[::ffff:127.0.0.1]:25", "::ffff:127.0.0.1").as_deref(), Some("v4"));
    }
}
