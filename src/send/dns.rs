//! Name service for the relay: MX and addresses of next hops, A records of block lists.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::words;
use crate::config::Dns;
use crate::smtp::Reply;

/// Why a name could not be turned into hosts to try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsFailure {
    /// NXDOMAIN, or a name that has neither MX nor address records.
    #[error("SMTPSEND.DNS.NonExistentDomain; nonexistent domain")]
    NonExistent,
    /// The domain says that it takes no mail (RFC 7505).
    #[error("the domain accepts no mail (null MX)")]
    NullMx,
    /// No usable answer now: SERVFAIL, refused, timeout.
    #[error("{0}")]
    Temporary(String),
}

impl DnsFailure {
    /// Whether asking again later is pointless.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Temporary(_))
    }

    /// The reply that stands for it in the queue and in a DSN (exchange-edge.md 2.4; RFC 7505
    /// section 4.2 for the null MX).
    pub fn reply(&self) -> Reply {
        match self {
            Self::NonExistent => words::reply(554, (5, 4, 4), &self.to_string()),
            Self::NullMx => words::reply(556, (5, 1, 10), "Recipient address has null MX"),
            Self::Temporary(why) => {
                words::reply(451, (4, 4, 0), &format!("DNS query failed. The error was: {why}"))
            }
        }
    }
}

/// Asks the configured name servers, with a cache that honours TTLs. Built once, shared by all.
pub struct Resolver {
    inner: Result<TokioResolver, String>,
    /// Turns equal smart hosts around, so that each gets its share.
    turn: AtomicUsize,
}

impl Resolver {
    /// A resolver for `[dns]`. Never fails: a system without name servers answers each question
    /// with a temporary failure, and mail waits instead of the relay refusing to start.
    pub fn new(dns: &Dns) -> Self {
        let inner = build(dns).map_err(|e| format!("no usable name server: {e}"));
        if let Err(why) = &inner {
            tracing::warn!("{why}");
        }
        Self { inner, turn: AtomicUsize::new(0) }
    }

    /// The mail exchangers of `domain`, best preference first and equal ones in random order
    /// (RFC 5321 section 5.1). A domain without MX records is its own, with preference 0.
    pub async fn mx(&self, domain: &str) -> Result<Vec<(u16, String)>, DnsFailure> {
        let lookup = match self.hickory()?.mx_lookup(absolute(domain)).await {
            Ok(lookup) => lookup,
            Err(e) if e.is_nx_domain() => return Err(DnsFailure::NonExistent),
            Err(e) if e.is_no_records_found() => return Ok(vec![(0, domain.to_owned())]),
            Err(e) => return Err(temporary(&e)),
        };
        // The answers also hold the CNAMEs that led to the records.
        let mut hosts: Vec<(u16, String)> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii())),
                _ => None,
            })
            .collect();
        if hosts.is_empty() {
            return Ok(vec![(0, domain.to_owned())]);
        }
        if hosts.iter().all(|(_, host)| host == ".") {
            return Err(DnsFailure::NullMx);
        }
        hosts.retain(|(_, host)| host != ".");
        for (_, host) in &mut hosts {
            host.truncate(host.trim_end_matches('.').len());
        }
        shuffle(&mut hosts);
        hosts.sort_by_key(|(preference, _)| *preference);
        Ok(hosts)
    }

    /// The addresses of a host, IPv4 before IPv6, each family in random order. IPv4 comes first
    /// because many receivers ask more of IPv6 senders (reverse names, SPF) than a relay at the
    /// edge of a network usually has.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        if let Ok(literal) = name.parse() {
            return Ok(vec![literal]);
        }
        let lookup = self.hickory()?.lookup_ip(absolute(name)).await.map_err(|e| failure(&e))?;
        let mut found: Vec<IpAddr> = lookup.iter().collect();
        if found.is_empty() {
            return Err(DnsFailure::NonExistent);
        }
        shuffle(&mut found);
        found.sort_by_key(IpAddr::is_ipv6);
        Ok(found)
    }

    /// The A records of a name, as block lists use them (RFC 5782).
    pub async fn ipv4(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsFailure> {
        let lookup = self.hickory()?.lookup(absolute(name), RecordType::A).await.map_err(|e| failure(&e))?;
        let found = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::A(a) => Some(a.0),
            _ => None,
        });
        Ok(found.collect())
    }

    /// Forgets every cached answer.
    pub fn clear_cache(&self) {
        if let Ok(resolver) = &self.inner {
            resolver.clear_cache();
        }
    }

    /// The next number of a round, for load balance.
    pub(super) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn hickory(&self) -> Result<&TokioResolver, DnsFailure> {
        self.inner.as_ref().map_err(|why| DnsFailure::Temporary(why.clone()))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

fn build(dns: &Dns) -> Result<TokioResolver, NetError> {
    let mut builder = if dns.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = dns.servers.iter().map(|server| {
            let mut udp = ConnectionConfig::udp();
            udp.port = server.port();
            let mut tcp = ConnectionConfig::tcp();
            tcp.port = server.port();
            NameServerConfig::new(server.ip(), true, vec![udp, tcp])
        });
        let config = ResolverConfig::from_parts(None, vec![], servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = dns.timeout.max(Duration::from_millis(100));
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    if !dns.servers.is_empty() {
        // Who names the servers wants their answers, not the machine's hosts file.
        options.use_hosts_file = ResolveHosts::Never;
    }
    builder.build()
}

/// A name of several labels is asked as it stands: the search list of this machine must never
/// turn a recipient's domain into another one. Only a single label goes through the list.
fn absolute(name: &str) -> String {
    if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.to_owned() }
}

fn failure(error: &NetError) -> DnsFailure {
    // NODATA counts as well: a host without addresses cannot be reached, however often we ask.
    if error.is_no_records_found() { DnsFailure::NonExistent } else { temporary(error) }
}

fn temporary(error: &NetError) -> DnsFailure {
    DnsFailure::Temporary(error.to_string())
}

/// Fisher and Yates, with the randomness the standard library seeds its hash maps with: good
/// enough to spread load, and no dependency.
pub(super) fn shuffle<T>(items: &mut [T]) {
    for i in (1..items.len()).rev() {
        let random = RandomState::new().build_hasher().finish();
        items.swap(i, (random % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
