//! The model of `[eop]`: an instance that stands in for Exchange Online Protection.

use super::domain::DomainPattern;
use super::range::IpRange;

/// `[eop]`
#[derive(Debug, Clone)]
pub struct Eop {
    /// `contoso` of `contoso.mail.protection.outlook.com` and `contoso.onmicrosoft.com`.
    pub tenant: String,
    /// The tenant's domains.
    pub accepted_domains: Vec<DomainPattern>,
    /// Cloud mailboxes.
    pub mailboxes: Vec<String>,
    /// Recipients known to the directory and delivered on-premises.
    pub on_premises_recipients: Vec<String>,
    /// Other recipients of accepted domains are refused.
    pub directory_edge_blocking: bool,
    /// How on-premises mail is attributed to the tenant.
    pub inbound_connectors: Vec<EopInboundConnector>,
    /// What to answer instead of behaving.
    pub faults: Vec<EopFault>,
}

/// One of `[[eop.inbound_connectors]]`.
#[derive(Debug, Clone)]
pub struct EopInboundConnector {
    /// Unique name.
    pub name: String,
    /// Name the client certificate must carry.
    pub tls_sender_certificate_name: Option<DomainPattern>,
    /// Peers, where no certificate attributes.
    pub sender_ip_addresses: Vec<IpRange>,
    /// Whether plain text is refused.
    pub require_tls: bool,
}

/// Where in a session a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAt {
    /// Instead of the banner.
    Connect,
    /// At EHLO or HELO.
    Ehlo,
    /// At MAIL.
    Mail,
    /// At RCPT.
    Rcpt,
    /// At the end of data.
    Data,
}

/// One of `[[eop.faults]]`.
#[derive(Debug, Clone)]
pub struct EopFault {
    /// Recipients it strikes, with `*` for any text; none: all.
    pub recipient: Option<String>,
    /// Envelope senders it strikes, with `*` for any text; none: all.
    pub sender: Option<String>,
    /// Where: by default at RCPT with `recipient`, at MAIL with `sender`.
    pub at: FaultAt,
    /// The whole reply line; `%ip` is the peer's address.
    pub reply: String,
    /// How often; 0 = always.
    pub times: u32,
}
