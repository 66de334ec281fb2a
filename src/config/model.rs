//! The configuration as the relay uses it: every value parsed, defaulted and checked.
//!
//! The types mirror the TOML file key by key; `load` is the only place that builds them, so a
//! `Config` in hand is known to be consistent. Durations and sizes are already numbers here.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::domain::DomainPattern;
use super::eop::Eop;
use super::filters::{ConnectionFilter, RecipientFilter, SenderFilter};
pub use super::host::{Host, SmartHost};
use super::range::IpRange;

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from; empty for one built in memory.
    pub path: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[admin]`, absent when the file has none.
    pub admin: Option<Admin>,
    /// `[[certificates]]`
    pub certificates: Vec<Certificate>,
    /// `[tls]`
    pub tls: Tls,
    /// `[[accepted_domains]]`
    pub accepted_domains: Vec<AcceptedDomain>,
    /// `[[receive_connectors]]`
    pub receive_connectors: Vec<ReceiveConnector>,
    /// `[[send_connectors]]`
    pub send_connectors: Vec<SendConnector>,
    /// `[transport]`
    pub transport: Transport,
    /// `[logging]`
    pub logging: Logging,
    /// `[dns]`
    pub dns: Dns,
    /// `[connection_filter]`
    pub connection_filter: ConnectionFilter,
    /// `[recipient_filter]`
    pub recipient_filter: RecipientFilter,
    /// `[sender_filter]`
    pub sender_filter: SenderFilter,
    /// `[eop]`, absent when the file has none.
    pub eop: Option<Eop>,
}

/// `[server]`: who this relay is and where it keeps things.
#[derive(Debug, Clone)]
pub struct Server {
    /// EHLO name, banner and `Received` name.
    pub hostname: String,
    /// Directory of the durable queue.
    pub spool: PathBuf,
    /// Directory of the Exchange-format logs.
    pub log_dir: PathBuf,
    /// User to become after binding, when started as root.
    pub user: Option<String>,
    /// How long running transactions may take to finish at shutdown.
    pub shutdown_grace: Duration,
}

/// `[admin]`: the operator's surface.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address of the web page and REST API.
    pub listen: Option<SocketAddr>,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Unix socket the command line talks to.
    pub socket: Option<PathBuf>,
}

/// One of `[[certificates]]`.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Name connectors refer to.
    pub name: String,
    /// PEM file: leaf first, then intermediates.
    pub chain: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// `[tls]`
#[derive(Debug, Clone)]
pub struct Tls {
    /// Where trust anchors come from.
    pub trusted_roots: Vec<TrustedRoots>,
    /// Lowest version accepted or offered anywhere.
    pub min_version: MinTlsVersion,
}

/// One source of trust anchors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedRoots {
    /// The operating system's store.
    System,
    /// A PEM file.
    File(PathBuf),
}

/// Lowest TLS version a connector takes part in. Older ones are refused and named in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MinTlsVersion {
    /// TLS 1.2 and 1.3
    Tls12,
    /// TLS 1.3 only
    Tls13,
}

/// One of `[[accepted_domains]]`.
#[derive(Debug, Clone)]
pub struct AcceptedDomain {
    /// `contoso.com`, or `*.contoso.com` for the domain and all below it.
    pub domain: DomainPattern,
    /// Who answers for its recipients.
    pub kind: AcceptedDomainType,
}

/// Type of an accepted domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptedDomainType {
    /// We know all its recipients; unknown ones are refused.
    Authoritative,
    /// Shared with another system inside; routed like authoritative ones.
    InternalRelay,
    /// Relayed to a system outside over a send connector of its own.
    ExternalRelay,
}

/// TLS rule of a receive connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveTls {
    /// STARTTLS is not offered.
    Off,
    /// Offered, not asked for.
    Opportunistic,
    /// MAIL is refused before STARTTLS.
    Required,
    /// Required, with a client certificate that verifies.
    Mutual,
}

/// What MAIL is answered with before a required STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRejection {
    /// `451 5.7.3 Must issue a STARTTLS command first`, as Exchange does.
    Exchange,
    /// `530 5.7.0 Must issue a STARTTLS command first`, as RFC 3207 has it.
    Rfc3207,
}

/// What to do with a bare CR or LF in message text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareLineFeeds {
    /// Refuse the message (Exchange's `BareLinefeedRejectionEnabled`).
    Reject,
    /// Turn each into CRLF.
    Normalize,
}

/// Which Exchange's refusal texts to answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyProfile {
    /// Exchange 2016 and 2019.
    Exchange2019,
    /// Exchange 2010 and 2013.
    Exchange2010,
}

/// How much of a connector's sessions goes to the protocol log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolLogging {
    /// Nothing.
    None,
    /// Every command and reply.
    Verbose,
}

/// One of `[[receive_connectors]]`.
#[derive(Debug, Clone)]
pub struct ReceiveConnector {
    /// Unique name.
    pub name: String,
    /// Addresses it listens on.
    pub bindings: Vec<SocketAddr>,
    /// Peers it serves; the most specific range over all connectors of a binding wins.
    pub remote_ip_ranges: Vec<IpRange>,
    /// TLS rule.
    pub tls: ReceiveTls,
    /// Certificate by name, subject or SAN; none: chosen by host name.
    pub tls_certificate_name: Option<String>,
    /// Names a client certificate must carry, with `tls = "mutual"`.
    pub tls_domains: Vec<DomainPattern>,
    /// Asks for a client certificate to record it, where `tls` does not need one.
    pub request_client_certificate: bool,
    /// Refusal of MAIL before a required STARTTLS.
    pub tls_rejection: TlsRejection,
    /// Lowest TLS version (never below `[tls] min_version`).
    pub min_tls_version: MinTlsVersion,
    /// Peers may relay to any domain.
    pub accept_any_recipient: bool,
    /// Name in banner, EHLO reply and `Received`; default `server.hostname`.
    pub fqdn: String,
    /// Whole banner line, starting with `220`; none: Exchange's.
    pub banner: Option<String>,
    /// Largest message in bytes; `u64::MAX` = unlimited.
    pub max_message_size: u64,
    /// Largest header in bytes.
    pub max_header_size: u64,
    /// Recipients a transaction.
    pub max_recipients_per_message: usize,
    /// Sessions at once, whole connector.
    pub max_inbound_connections: usize,
    /// Sessions at once from one address.
    pub max_inbound_connections_per_source: usize,
    /// Messages a minute from one address; 0 = no limit.
    pub message_rate_limit: u32,
    /// Absolute life of a session.
    pub connection_timeout: Duration,
    /// Longest silence of a client.
    pub connection_inactivity_timeout: Duration,
    /// Delay before error replies; zero = none.
    pub tarpit_interval: Duration,
    /// Protocol errors before the session is closed.
    pub max_protocol_errors: u32,
    /// `Received` fields a message may carry.
    pub max_hop_count: usize,
    /// `Received` fields naming this server it may carry; 0 = no check.
    pub max_local_hop_count: usize,
    /// Load balancers whose PROXY header is believed and required.
    pub proxy_protocol_from: Vec<IpRange>,
    /// Protocol log level.
    pub protocol_logging: ProtocolLogging,
    /// The header firewall lets organisation headers through.
    pub trusted: bool,
    /// Which refusal texts.
    pub reply_profile: ReplyProfile,
    /// Session tickets to TLS 1.3 clients.
    pub tls13_tickets: bool,
    /// Bare CR and LF in message text.
    pub bare_line_feeds: BareLineFeeds,
}

/// TLS rule of a send connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendTls {
    /// STARTTLS is never used.
    Off,
    /// Used when offered; any certificate.
    Opportunistic,
    /// Required; any certificate (`EncryptionOnly`).
    Required,
    /// Required; the chain must verify (`CertificateValidation`).
    ValidateCertificate,
    /// Required; chain and name must verify (`DomainValidation`).
    ValidateDomain,
}

impl SendTls {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Opportunistic => "opportunistic",
            Self::Required => "required",
            Self::ValidateCertificate => "validate_certificate",
            Self::ValidateDomain => "validate_domain",
        }
    }
}

/// An address space of a send connector: what it routes, at which cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSpace {
    /// What it covers.
    pub space: Space,
    /// 1 to 100, lowest wins between equally specific spaces.
    pub cost: u8,
}

/// What an address space covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// `--`: all authoritative and internal-relay accepted domains.
    AcceptedDomains,
    /// `*`: everything.
    Any,
    /// `contoso.com` (that domain only) or `*.contoso.com` (with all below).
    Domain(DomainPattern),
}

/// Where an LMTP server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LmtpTarget {
    /// `unix:/path`
    Unix(PathBuf),
    /// `host:port`
    Tcp(Host, u16),
}

/// How a send connector finds its next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// Fixed hosts, in order.
    SmartHosts(Vec<SmartHost>),
    /// MX, then A/AAAA, of the recipient's domain.
    Dns,
    /// Maildirs below a template with `%d` (domain) and `%u` (local part).
    Maildir(String),
    /// An LMTP server.
    Lmtp(LmtpTarget),
}

/// Credentials a send connector presents, only ever over TLS.
#[derive(Clone)]
pub enum Auth {
    /// AUTH PLAIN
    Plain(Credentials),
    /// AUTH LOGIN
    Login(Credentials),
    /// AUTH XOAUTH2 with client credentials.
    XOAuth2(OAuth2),
}

/// A user and the file with its password; the file is read when a session needs it.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// File holding the password (a final newline is dropped).
    pub password_file: PathBuf,
}

/// OAuth 2 client credentials.
#[derive(Debug, Clone)]
pub struct OAuth2 {
    /// Mailbox to send as.
    pub username: String,
    /// Token endpoint.
    pub token_url: String,
    /// Application id.
    pub client_id: String,
    /// File holding the client secret.
    pub client_secret_file: PathBuf,
    /// Scope to ask for.
    pub scope: String,
}

impl ReceiveConnector {
    /// Whether clients are asked for a certificate in the handshake.
    pub fn asks_for_client_certificates(&self) -> bool {
        self.tls == ReceiveTls::Mutual || self.request_client_certificate
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "plain",
            Self::Login(_) => "login",
            Self::XOAuth2(_) => "xoauth2",
        })
    }
}

/// One of `[[send_connectors]]`.
#[derive(Debug, Clone)]
pub struct SendConnector {
    /// Unique name.
    pub name: String,
    /// What it routes.
    pub address_spaces: Vec<AddressSpace>,
    /// Where it sends.
    pub routing: Routing,
    /// Port of next hops that name none.
    pub port: u16,
    /// EHLO name; default `server.hostname`.
    pub fqdn: String,
    /// Local address to connect from.
    pub source_ip: Option<IpAddr>,
    /// TLS rule.
    pub tls: SendTls,
    /// Name to find in the next hop's certificate; none: the next hop's own name.
    pub tls_domain: Option<DomainPattern>,
    /// Client certificate by name, subject or SAN.
    pub tls_certificate_name: Option<String>,
    /// Credentials.
    pub auth: Option<Auth>,
    /// Largest message in bytes; `u64::MAX` = unlimited.
    pub max_message_size: u64,
    /// Connections to one next hop.
    pub max_connections: usize,
    /// Messages on one connection; 0 = no limit.
    pub max_messages_per_connection: usize,
    /// Longest wait for the next hop within a session.
    pub connection_inactivity_timeout: Duration,
    /// Protocol log level.
    pub protocol_logging: ProtocolLogging,
    /// Organisation headers go out.
    pub trusted: bool,
    /// Takes part in routing.
    pub enabled: bool,
    /// Of an `[eop]` instance: mail of cloud senders to the internet goes this way (Exchange's
    /// centralised mail transport).
    pub route_all_messages_via_on_premises: bool,
}

impl SendConnector {
    /// The TLS rule in force: one with credentials needs TLS whatever it says.
    pub fn effective_tls(&self) -> SendTls {
        match self.tls {
            SendTls::Off | SendTls::Opportunistic if self.auth.is_some() => SendTls::Required,
            rule => rule,
        }
    }
}

/// `[transport]`: Exchange's queue timers.
#[derive(Debug, Clone)]
pub struct Transport {
    /// First, quick retries of a failed connection.
    pub queue_glitch_retry_count: u32,
    /// Time between them.
    pub queue_glitch_retry_interval: Duration,
    /// Retries after those.
    pub transient_failure_retry_count: u32,
    /// Time between them.
    pub transient_failure_retry_interval: Duration,
    /// Time between all later ones.
    pub outbound_connection_failure_retry_interval: Duration,
    /// Age at which a message is given up.
    pub message_expiration_timeout: Duration,
    /// Age at which its sender hears of the delay.
    pub delay_notification_timeout: Duration,
    /// Wait after a 4xx to one message.
    pub message_retry_interval: Duration,
    /// Connections out, all next hops together.
    pub max_outbound_connections: usize,
    /// Largest message in bytes, whatever a connector says; `u64::MAX` = unlimited.
    pub max_message_size: u64,
    /// Panics of its own handling after which a message is parked in the Poison queue.
    pub poison_threshold: u32,
}

/// `[logging]`
#[derive(Debug, Clone)]
pub struct Logging {
    /// Age at which a log file is deleted; zero = never.
    pub max_age: Duration,
    /// Bytes one log's directory may hold.
    pub max_directory_size: u64,
    /// Bytes one log file may hold.
    pub max_file_size: u64,
    /// Peers whose idle probes leave no trace.
    pub quiet_probes_from: Vec<IpRange>,
}

/// `[dns]`
#[derive(Debug, Clone)]
pub struct Dns {
    /// Servers to ask; empty = the system's.
    pub servers: Vec<SocketAddr>,
    /// Time for one query.
    pub timeout: Duration,
}
