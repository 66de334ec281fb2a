//! From a send connector and a domain to the endpoints to try, in order
//! (exchange-edge.md 2.4; RFC 5321 section 5.1).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{DnsFailure, RemoteMta, Resolver, words};
use crate::config::{Host, LmtpTarget, Routing, SendConnector, SmartHost, ascii_domain};
use crate::smtp::Reply;

/// Endpoints of one next hop that are tried at most; more only delay the retry.
pub const MAX_TARGETS: usize = 32;

/// How long the MX query of a smart host may outlast its address query: some name servers inside
/// a network never answer for MX, and a smart host is usually a plain host name.
const MX_GRACE: Duration = Duration::from_secs(1);

/// One endpoint to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name, or the address in brackets.
    pub host: String,
    /// Where to connect; `0.0.0.0:0` for a Unix socket.
    pub address: SocketAddr,
    /// MX preference; none for a host from the configuration.
    pub preference: Option<u16>,
    /// The name its certificate must carry when the connector names none: the smart host as
    /// configured, or the recipient's domain with DNS routing (exchange-edge.md 2.1). An MX name
    /// is no proof, because nobody signed the record.
    pub tls_name: String,
    /// An LMTP server's Unix socket.
    pub socket: Option<Arc<Path>>,
}

impl Target {
    /// A TCP endpoint whose certificate is to carry its own name.
    pub fn new(host: &str, address: SocketAddr) -> Self {
        Self { host: host.to_owned(), address, preference: None, tls_name: host.to_owned(), socket: None }
    }

    /// A Unix socket.
    pub fn unix(path: &Path) -> Self {
        Self {
            host: "localhost".to_owned(),
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            preference: None,
            tls_name: "localhost".to_owned(),
            socket: Some(path.into()),
        }
    }

    /// As a DSN names it.
    pub fn remote(&self) -> RemoteMta {
        let ip = self.socket.is_none().then(|| self.address.ip());
        RemoteMta { name: self.host.clone(), ip }
    }

    /// As `LastError` names it: `ip:port`, or `unix:` and the path.
    pub fn endpoint(&self) -> String {
        match &self.socket {
            Some(path) => format!("unix:{}", path.display()),
            None => self.address.to_string(),
        }
    }
}

/// The endpoints to try for a queue, in order. Equal MX preferences and the addresses of one host
/// are shuffled; smart hosts take turns in being first. A Maildir connector has none.
pub async fn targets(
    connector: &SendConnector,
    next_hop_domain: &str,
    resolver: &Resolver,
) -> Result<Vec<Target>, DnsFailure> {
    let mut found = match &connector.routing {
        Routing::Maildir(_) => return Ok(Vec::new()),
        Routing::Lmtp(LmtpTarget::Unix(path)) => return Ok(vec![Target::unix(path)]),
        Routing::Lmtp(LmtpTarget::Tcp(host, port)) => {
            let mut found = Vec::new();
            host_targets(host, *port, false, resolver, &mut found).await.map_err(|e| for_configured(&e))?;
            found
        }
        Routing::SmartHosts(hosts) => smart_host_targets(hosts, connector.port, resolver).await?,
        Routing::Dns => mx_targets(next_hop_domain, connector.port, resolver).await?,
    };
    if let Some(source) = connector.source_ip {
        found.retain(|target| target.address.is_ipv4() == source.is_ipv4());
        if found.is_empty() {
            return Err(DnsFailure::Temporary(format!("no address can be reached from source_ip {source}")));
        }
    }
    found.truncate(MAX_TARGETS);
    Ok(found)
}

/// Drops ourselves, and every host that is no better than ourselves, from an ordered list
/// (RFC 5321 section 5.1). `is_own` tells whether a host name or endpoint is this server.
/// A list that led nowhere but here is a loop, and the error is the reply that says so.
pub fn without_ourselves(
    mut targets: Vec<Target>,
    is_own: impl Fn(&Target) -> bool,
) -> Result<Vec<Target>, Reply> {
    let Some(own) = targets.iter().find(|t| is_own(t)).map(|t| t.preference) else {
        return Ok(targets);
    };
    // Smart hosts have no preference: those that are not us are still worth a try.
    targets.retain(|t| if own.is_some() { t.preference < own } else { !is_own(t) });
    if targets.is_empty() { Err(words::own(words::OWN_ADDRESS)) } else { Ok(targets) }
}

async fn smart_host_targets(
    hosts: &[SmartHost],
    default_port: u16,
    resolver: &Resolver,
) -> Result<Vec<Target>, DnsFailure> {
    let mut found = Vec::new();
    let mut failure = None;
    let first = if hosts.is_empty() { 0 } else { resolver.turn() % hosts.len() };
    for SmartHost { host, port } in hosts[first..].iter().chain(&hosts[..first]) {
        let port = port.unwrap_or(default_port);
        if let Err(e) = host_targets(host, port, true, resolver, &mut found).await {
            failure = Some(e);
        }
    }
    if found.is_empty() {
        Err(for_configured(&failure.unwrap_or(DnsFailure::NonExistent)))
    } else {
        Ok(found)
    }
}

/// A host from the configuration that does not resolve is our fault or that of our name server,
/// never a reason to return mail to its sender.
fn for_configured(failure: &DnsFailure) -> DnsFailure {
    DnsFailure::Temporary(failure.to_string())
}

/// Appends the endpoints of one configured host; `with_mx`: its mail exchangers, when it has any,
/// come instead of its own addresses, as with Exchange and Postfix.
async fn host_targets(
    host: &Host,
    port: u16,
    with_mx: bool,
    resolver: &Resolver,
    found: &mut Vec<Target>,
) -> Result<(), DnsFailure> {
    let name = match host {
        Host::Address(ip) => {
            found.push(Target::new(&format!("[{ip}]"), SocketAddr::new(*ip, port)));
            return Ok(());
        }
        Host::Name(name) => name,
    };
    // A single label (`mailhub`) never has MX records of its own.
    if !with_mx || !name.contains('.') {
        let addresses = resolver.addresses(name).await?;
        found.extend(addresses.into_iter().map(|ip| Target::new(name, SocketAddr::new(ip, port))));
        return Ok(());
    }
    let mx = resolver.mx(name);
    tokio::pin!(mx);
    let (early, addresses) = {
        let addresses = resolver.addresses(name);
        tokio::pin!(addresses);
        tokio::select! {
            biased;
            mx = &mut mx => (Some(mx), addresses.await),
            addresses = &mut addresses => (None, addresses),
        }
    };
    let exchangers = match early {
        Some(mx) => mx,
        None if addresses.is_ok() => tokio::time::timeout(MX_GRACE, mx)
            .await
            .unwrap_or_else(|_| Err(DnsFailure::Temporary("timeout".to_owned()))),
        None => mx.await,
    };
    let before = found.len();
    if let Ok(exchangers) = exchangers {
        for (_, exchanger) in exchangers.iter().filter(|(_, exchanger)| exchanger != name) {
            for ip in resolver.addresses(exchanger).await.unwrap_or_default() {
                found.push(Target {
                    tls_name: name.clone(),
                    ..Target::new(exchanger, SocketAddr::new(ip, port))
                });
            }
        }
    }
    if found.len() == before {
        found.extend(addresses?.into_iter().map(|ip| Target::new(name, SocketAddr::new(ip, port))));
    }
    Ok(())
}

async fn mx_targets(domain: &str, port: u16, resolver: &Resolver) -> Result<Vec<Target>, DnsFailure> {
    if let Some(ip) = address_literal(domain) {
        return Ok(vec![Target::new(&format!("[{ip}]"), SocketAddr::new(ip, port))]);
    }
    let domain = ascii_domain(domain).map_err(|_| DnsFailure::NonExistent)?;
    let mut found = Vec::new();
    let mut failure = DnsFailure::NonExistent;
    for (preference, host) in resolver.mx(&domain).await? {
        if found.len() >= MAX_TARGETS {
            break;
        }
        match resolver.addresses(&host).await {
            Ok(addresses) => found.extend(addresses.into_iter().map(|ip| Target {
                preference: Some(preference),
                tls_name: domain.clone(),
                ..Target::new(&host, SocketAddr::new(ip, port))
            })),
            // One exchanger that may yet resolve is enough for the mail to wait.
            Err(e @ DnsFailure::Temporary(_)) => failure = e,
            Err(_) => {}
        }
    }
    if found.is_empty() { Err(failure) } else { Ok(found) }
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
fn address_literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse().ok().map(IpAddr::V6),
        _ => inner.parse().ok().map(IpAddr::V4),
    }
}
