//! The model of `[eop]`: an instance that stands in for Exchange Online Protection.

use std::time::Duration;

use super::domain::DomainPattern;
use super::range::IpRange;

/// The send connector that stands for the cloud mailboxes.
pub const CLOUD_MAILBOXES: &str = "Cloud mailboxes";

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
    /// At STARTTLS.
    StartTls,
    /// At MAIL.
    Mail,
    /// At RCPT.
    Rcpt,
    /// At the end of data.
    Data,
}

impl FaultAt {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
        }
    }
}

/// What happens instead of behaving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultAction {
    /// This reply line; `%ip` is the peer's address.
    Reply(String),
    /// The connection is closed without a word.
    Drop,
    /// Nothing is said for this long; then it behaves.
    Stall(Duration),
    /// Our direction is closed, the peer's is read and ignored.
    HalfClose,
    /// The connection is reset (RST).
    Reset,
    /// STARTTLS is neither offered nor known.
    NoStartTls,
    /// The handshake is refused after the 220.
    BrokenHandshake,
    /// Another certificate is shown: the name of a `[[certificates]]` entry.
    Certificate(String),
}

/// One of `[[eop.faults]]`.
#[derive(Debug, Clone)]
pub struct EopFault {
    /// Recipients it strikes, with `*` for any text; none: all.
    pub recipient: Option<String>,
    /// Envelope senders it strikes, with `*` for any text and `<>` for the null sender; none: all.
    pub sender: Option<String>,
    /// Peers it strikes; empty: all.
    pub remote_ip_ranges: Vec<IpRange>,
    /// Where it strikes.
    pub at: FaultAt,
    /// What happens.
    pub action: FaultAction,
    /// How often; 0 = always.
    pub times: u32,
}
