//! The three servers of a lab, as configuration files a user can read and change.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::pki::LabCa;

/// The organisation's domain.
pub const DOMAIN: &str = "contoso.com";
/// Everybody else's.
pub const OUTSIDE: &str = "fabrikam.com";

/// Where the internal mailbox server connects from, so that the edge's internal connector takes
/// it; everything else on loopback counts as the internet.
const MAILBOX_SOURCE: &str = "127.0.0.3";
const EOP_SOURCE: &str = "127.0.0.2";

/// Files and addresses of a lab.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Its directory.
    pub dir: PathBuf,
    /// The edge.
    pub edge: SocketAddr,
    /// The stand-in for EOP.
    pub eop: SocketAddr,
    /// The internal mailbox server.
    pub mailbox: SocketAddr,
}

impl Topology {
    /// Makes certificates and configuration files below `dir`.
    pub fn create(dir: &Path) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
        std::fs::create_dir_all(dir.join("tls")).map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let tls = dir.join("tls");
        let ca = LabCa::create(&tls)?;
        ca.issue(&tls, "edge", &["edge.contoso.com", "mail.contoso.com"])?;
        ca.issue(&tls, "mailbox", &["mailbox.contoso.com"])?;
        ca.issue(&tls, "eop", &["mail.protection.outlook.com", "*.mail.protection.outlook.com"])?;
        let [edge, eop, mailbox] = free_addresses()?;
        let this = Self { dir, edge, eop, mailbox };
        for (name, text) in
            [("edge", this.edge_toml()), ("eop", this.eop_toml()), ("mailbox", this.mailbox_toml())]
        {
            let path = this.config(name);
            std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(this)
    }

    /// The configuration file of one of the three.
    pub fn config(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.toml"))
    }

    /// The CA certificate clients of the lab trust.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("tls/ca.pem")
    }

    /// Where one of the three keeps delivered mail for an address.
    pub fn maildir(&self, name: &str, local: &str, domain: &str) -> PathBuf {
        self.dir.join(name).join("mail").join(domain).join(local)
    }

    fn edge_toml(&self) -> String {
        let Self { edge, eop, mailbox, .. } = self;
        format!(
            r#"# The edge: between the internet (EOP) and the organisation.
{head}
[[accepted_domains]]
domain = "{DOMAIN}"
type = "authoritative"

# Everybody may send to our own domains; that is what a DMZ host is for.
[[receive_connectors]]
name = "Default Internet"
bindings = ["{edge}"]
tls = "opportunistic"
tls_certificate_name = "edge"

# The mailbox server may relay out. Its address is the more specific range, so this one wins.
[[receive_connectors]]
name = "From Internal Org"
bindings = ["{edge}"]
remote_ip_ranges = ["{MAILBOX_SOURCE}"]
tls = "required"
tls_certificate_name = "edge"
accept_any_recipient = true
tarpit_interval = "0s"

[[send_connectors]]
name = "To Internal Org"
address_spaces = ["--"]
smart_hosts = ["{mailbox}"]
tls = "validate_domain"
tls_domain = "mailbox.contoso.com"
max_messages_per_connection = 1

[[send_connectors]]
name = "To EOP"
address_spaces = ["*"]
smart_hosts = ["{eop}"]
tls = "validate_domain"
tls_domain = "mail.protection.outlook.com"
tls_certificate_name = "edge"
max_messages_per_connection = 1
"#,
            head = head("edge", "edge.contoso.com"),
        )
    }

    fn eop_toml(&self) -> String {
        let Self { edge, eop, .. } = self;
        format!(
            r#"# Stands for Exchange Online Protection: in front of the organisation, and its way out.
{head}
[[receive_connectors]]
name = "EOP Inbound"
bindings = ["{eop}"]
tls_certificate_name = "eop"

[[send_connectors]]
name = "To On-Premises"
address_spaces = ["--"]
smart_hosts = ["{edge}"]
source_ip = "{EOP_SOURCE}"
tls = "validate_domain"
tls_domain = "mail.contoso.com"
max_messages_per_connection = 1

# The rest of the world ends in Maildirs.
[[send_connectors]]
name = "Internet"
address_spaces = ["*"]
maildir = "eop/mail/%d/%u"

# Whose mail it takes, and for whom. Cloud mailboxes are Maildirs below eop/spool/eop.
[eop]
tenant = "contoso"
accepted_domains = ["{DOMAIN}"]
mailboxes = ["cloud@{DOMAIN}"]
directory_edge_blocking = false

[[eop.inbound_connectors]]
name = "From on-premises"
tls_sender_certificate_name = "edge.contoso.com"
"#,
            head = head("eop", "lab1pepf00000001.mail.protection.outlook.com"),
        )
    }

    fn mailbox_toml(&self) -> String {
        let Self { edge, mailbox, .. } = self;
        format!(
            r#"# The internal mailbox server.
{head}
[[accepted_domains]]
domain = "{DOMAIN}"
type = "authoritative"

[[receive_connectors]]
name = "Default Frontend"
bindings = ["{mailbox}"]
tls = "opportunistic"
tls_certificate_name = "mailbox"
accept_any_recipient = true
tarpit_interval = "0s"

[[send_connectors]]
name = "Mailboxes"
address_spaces = ["--"]
maildir = "mailbox/mail/%d/%u"

[[send_connectors]]
name = "To Edge"
address_spaces = ["*"]
smart_hosts = ["{edge}"]
source_ip = "{MAILBOX_SOURCE}"
tls = "validate_domain"
tls_domain = "edge.contoso.com"
max_messages_per_connection = 1
"#,
            head = head("mailbox", "mailbox.contoso.com"),
        )
    }
}

/// The part of a configuration that is alike in all three.
fn head(name: &str, hostname: &str) -> String {
    format!(
        r#"
[server]
hostname = "{hostname}"
spool = "{name}/spool"
log_dir = "{name}/log"

[tls]
trusted_roots = "tls/ca.pem"

[[certificates]]
name = "{name}"
chain = "tls/{name}.pem"
key = "tls/{name}.key"
"#
    )
}

/// 2525 and its neighbours where they are free, so that what users type stays the same; else
/// whatever the system gives.
fn free_addresses() -> Result<[SocketAddr; 3], String> {
    let mut held = Vec::new();
    let mut pick = |port: u16| {
        let at = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listener = at(port).or_else(|_| at(0)).map_err(|e| format!("no free port on loopback: {e}"))?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        // Held until all three are chosen, so that they differ.
        held.push(listener);
        Ok::<_, String>(address)
    };
    Ok([pick(2525)?, pick(2526)?, pick(2527)?])
}
