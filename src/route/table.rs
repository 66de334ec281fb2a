//! Choosing the send connector of a recipient (exchange-edge.md 2.3).

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{
    AcceptedDomain, AcceptedDomainType, DomainPattern, LmtpTarget, Routing, SendConnector, Space,
};
use crate::smtp::Address;

use super::accepted::{lower, suffixes};
use super::stand_in::{StandIn, StandInRoutes};

/// Where a delivery queue sends: with the connector's name, its identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Exchange's `NextHopDomain`: the smart hosts, the destination domain, or the store.
    pub domain: String,
}

/// What the table says of one recipient and message size.
#[derive(Debug, Clone)]
pub enum Decision {
    /// This connector, to this next hop.
    Via {
        /// The connector.
        connector: Arc<SendConnector>,
        /// Its next hop for the recipient.
        next_hop: NextHop,
    },
    /// No address space matches: the Unreachable queue.
    Unreachable,
    /// Address spaces match, but each connector's size limit is below the message.
    TooLarge {
        /// The largest of those limits, in bytes.
        limit: u64,
    },
}

/// All enabled send connectors, indexed by address space.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, Vec<Entry>>,
    with_subdomains: HashMap<String, Vec<Entry>>,
    any: Vec<Entry>,
    /// Of an `[eop]` instance; `--` is then kept apart, in the two maps below.
    stand_in: Option<Box<StandIn>>,
    accepted_exact: HashMap<String, Vec<Entry>>,
    accepted_with_subdomains: HashMap<String, Vec<Entry>>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    cost: u8,
    pub(super) connector: Arc<SendConnector>,
}

impl RouteTable {
    /// Indexes `connectors`; `accepted` is what `--` stands for.
    pub fn new(connectors: &[SendConnector], accepted: &[AcceptedDomain]) -> Self {
        Self::with_stand_in(connectors, accepted, None)
    }

    /// The same for an instance that may stand in for Exchange Online. That chooses a connector for
    /// the exact domain, then one for all accepted domains, then one with a wildcard
    /// (exchange-edge.md 8.1).
    pub fn with_stand_in(
        connectors: &[SendConnector],
        accepted: &[AcceptedDomain],
        stand_in: Option<StandInRoutes>,
    ) -> Self {
        let apart = stand_in.is_some();
        let stand_in = stand_in.map(|routes| Box::new(StandIn::new(routes, accepted)));
        let mut table = Self { stand_in, ..Self::default() };
        for connector in connectors.iter().filter(|c| c.enabled) {
            let connector = Arc::new(connector.clone());
            if let Some(stand_in) = &mut table.stand_in
                && connector.route_all_messages_via_on_premises
            {
                stand_in.on_premises.push(Entry { cost: 1, connector: Arc::clone(&connector) });
            }
            for space in &connector.address_spaces {
                let entry = Entry { cost: space.cost, connector: Arc::clone(&connector) };
                match &space.space {
                    Space::Any => table.any.push(entry),
                    Space::Domain(pattern) => table.add(pattern, false, entry),
                    Space::AcceptedDomains => {
                        let ours = accepted.iter().filter(|d| d.kind != AcceptedDomainType::ExternalRelay);
                        for d in ours {
                            table.add(&d.domain, apart, entry.clone());
                        }
                    }
                }
            }
        }
        let lists = table.exact.values_mut().chain(table.with_subdomains.values_mut());
        let lists = lists.chain(table.accepted_exact.values_mut());
        let lists = lists.chain(table.accepted_with_subdomains.values_mut());
        for list in lists.chain(std::iter::once(&mut table.any)) {
            list.sort_by(|a, b| (a.cost, &a.connector.name).cmp(&(b.cost, &b.connector.name)));
        }
        table
    }

    fn add(&mut self, pattern: &DomainPattern, apart: bool, entry: Entry) {
        let map = match (pattern.with_subdomains(), apart) {
            (false, false) => &mut self.exact,
            (true, false) => &mut self.with_subdomains,
            (false, true) => &mut self.accepted_exact,
            (true, true) => &mut self.accepted_with_subdomains,
        };
        map.entry(pattern.name().to_owned()).or_default().push(entry);
    }

    /// The same as [`decide`](Self::decide), for a message that came in over the receive connector
    /// `source`.
    pub fn decide_from(&self, source: &str, recipient: &Address, size: u64) -> Decision {
        let Some(stand_in) = &self.stand_in else { return self.decide(recipient, size) };
        let domain = lower(recipient.domain());
        if (stand_in.has_mailbox)(recipient) {
            return via(&stand_in.mailboxes, &domain);
        }
        let outward = stand_in.is_outward(source, &domain);
        let mut through = stand_in.on_premises.iter().filter(|_| outward);
        match through.find(|entry| size <= entry.connector.max_message_size) {
            Some(entry) => via(&entry.connector, &domain),
            None => self.decide(recipient, size),
        }
    }

    /// The connector and next hop for `recipient` of a message of `size` bytes.
    pub fn decide(&self, recipient: &Address, size: u64) -> Decision {
        let domain = lower(recipient.domain());
        let mut largest = None;
        for entry in self.matching(&domain) {
            let limit = entry.connector.max_message_size;
            if size <= limit {
                return via(&entry.connector, &domain);
            }
            largest = largest.max(Some(limit));
        }
        largest.map_or(Decision::Unreachable, |limit| Decision::TooLarge { limit })
    }

    /// Entries that cover `domain`, best first: exact name, longest parent, everything; then
    /// cost, then name.
    fn matching<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = &'a Entry> {
        let exact = self.exact.get(domain).into_iter().flatten();
        let parents = suffixes(domain).filter_map(|s| self.with_subdomains.get(s)).flatten();
        // Both are empty but for a stand-in.
        let ours = self.accepted_exact.get(domain).into_iter().flatten();
        let apart = Some(&self.accepted_with_subdomains).filter(|map| !map.is_empty());
        let below =
            apart.into_iter().flat_map(move |map| suffixes(domain).filter_map(|s| map.get(s))).flatten();
        exact.chain(ours).chain(below).chain(parents).chain(&self.any)
    }
}

fn via(connector: &Arc<SendConnector>, domain: &str) -> Decision {
    Decision::Via {
        next_hop: NextHop { domain: next_hop_domain(connector, domain) },
        connector: Arc::clone(connector),
    }
}

/// Exchange's `NextHopDomain` of a connector for one recipient domain (exchange-edge.md 9.5).
fn next_hop_domain(connector: &SendConnector, domain: &str) -> String {
    match &connector.routing {
        Routing::Dns => domain.to_owned(),
        Routing::SmartHosts(hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        Routing::Maildir(template) => template.clone(),
        Routing::Lmtp(LmtpTarget::Unix(path)) => format!("unix:{}", path.display()),
        Routing::Lmtp(LmtpTarget::Tcp(host, port)) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AddressSpace, DomainPattern, Host, ProtocolLogging, SendTls, SmartHost};
    use std::time::Duration;

    fn connector(name: &str, spaces: &[&str], max: u64) -> SendConnector {
        let space = |text: &&str| {
            let (space, cost) = text.split_once(';').unwrap_or((text, "1"));
            let space = match space {
                "*" => Space::Any,
                "--" => Space::AcceptedDomains,
                other => Space::Domain(DomainPattern::parse(other).unwrap()),
            };
            AddressSpace { space, cost: cost.parse().unwrap() }
        };
        SendConnector {
            name: name.into(),
            address_spaces: spaces.iter().map(space).collect(),
            routing: Routing::SmartHosts(vec![
                SmartHost { host: Host::Address("10.10.10.100".parse().unwrap()), port: None },
                SmartHost { host: Host::Name("relay.contoso.com".into()), port: Some(2525) },
            ]),
            port: 25,
            fqdn: "edge.contoso.com".into(),
            source_ip: None,
            tls: SendTls::Opportunistic,
            tls_domain: None,
            tls_certificate_name: None,
            auth: None,
            max_message_size: max,
            max_connections: 40,
            max_messages_per_connection: 0,
            connection_inactivity_timeout: Duration::from_mins(10),
            protocol_logging: ProtocolLogging::None,
            trusted: false,
            enabled: true,
            route_all_messages_via_on_premises: false,
        }
    }

    fn name(table: &RouteTable, recipient: &str, size: u64) -> String {
        match table.decide(&Address::parse(recipient).unwrap(), size) {
            Decision::Via { connector, .. } => connector.name.clone(),
            Decision::Unreachable => "unreachable".into(),
            Decision::TooLarge { limit } => format!("over {limit}"),
        }
    }

    #[test]
    fn specificity_then_cost_then_name() {
        let table = RouteTable::new(
            &[
                connector("any", &["*;1"], 1000),
                connector("sub", &["*.contoso.com;1"], 1000),
                connector("exact", &["contoso.com;50"], 1000),
                connector("deep", &["*.a.contoso.com;9"], 1000),
                connector("b", &["fabrikam.com;5"], 1000),
                connector("a", &["fabrikam.com;5"], 1000),
                connector("cheap", &["fabrikam.com;4"], 100),
            ],
            &[],
        );
        assert_eq!(name(&table, "x@contoso.com", 1), "exact");
        assert_eq!(name(&table, "x@b.contoso.com", 1), "sub");
        assert_eq!(name(&table, "x@b.a.contoso.com", 1), "deep");
        assert_eq!(name(&table, "x@example.net", 1), "any");
        assert_eq!(name(&table, "x@Fabrikam.com", 1), "cheap");
        assert_eq!(name(&table, "x@fabrikam.com", 500), "a");
    }

    #[test]
    fn the_accepted_domains_space_leaves_out_external_relays() {
        let domain = |d: &str, kind| AcceptedDomain { domain: DomainPattern::parse(d).unwrap(), kind };
        let accepted = [
            domain("contoso.com", AcceptedDomainType::Authoritative),
            domain("*.relay.example", AcceptedDomainType::InternalRelay),
            domain("outside.example", AcceptedDomainType::ExternalRelay),
        ];
        let table =
            RouteTable::new(&[connector("in", &["--"], 1000), connector("out", &["*"], 1000)], &accepted);
        assert_eq!(name(&table, "x@contoso.com", 1), "in");
        assert_eq!(name(&table, "x@a.relay.example", 1), "in");
        assert_eq!(name(&table, "x@outside.example", 1), "out");
    }

    #[test]
    fn size_limits_and_missing_routes_are_told_apart() {
        let mut off = connector("off", &["*"], 1000);
        off.enabled = false;
        let table = RouteTable::new(&[connector("c", &["contoso.com"], 1000), off], &[]);
        assert_eq!(name(&table, "x@contoso.com", 1001), "over 1000");
        assert_eq!(name(&table, "x@example.net", 1), "unreachable");
    }

    #[test]
    fn queue_names_show_addresses_in_brackets() {
        let table = RouteTable::new(&[connector("c", &["*"], 1000)], &[]);
        let Decision::Via { next_hop, .. } = table.decide(&Address::parse("a@b.c").unwrap(), 1) else {
            panic!("no route")
        };
        assert_eq!(next_hop.domain, "[10.10.10.100],relay.contoso.com:2525");
    }
}
