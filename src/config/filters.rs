//! Who may talk to the relay: the model of `[connection_filter]`, `[recipient_filter]` and
//! `[sender_filter]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use super::domain::DomainPattern;
use super::range::IpRange;

/// `[connection_filter]`: filtering by the peer's address.
#[derive(Debug, Clone, Default)]
pub struct ConnectionFilter {
    /// Peers that are never refused.
    pub ip_allow_list: Vec<IpRange>,
    /// Peers that always are.
    pub ip_block_list: Vec<BlockedRange>,
    /// More of them, one a line.
    pub ip_block_list_file: Option<PathBuf>,
    /// Recipients that blocked peers may still write to.
    pub bypassed_recipients: Vec<String>,
    /// DNS block lists, in order of asking.
    pub block_list_providers: Vec<ListProvider>,
    /// DNS allow lists, in order of asking.
    pub allow_list_providers: Vec<ListProvider>,
}

/// An entry of the IP block list.
#[derive(Debug, Clone)]
pub struct BlockedRange {
    /// The peers.
    pub range: IpRange,
    /// When it ends; none: never.
    pub expires: Option<SystemTime>,
    /// Why it is there.
    pub comment: Option<String>,
}

/// A DNS block or allow list.
#[derive(Debug, Clone)]
pub struct ListProvider {
    /// Name in the agent log.
    pub name: String,
    /// Zone to look up in.
    pub lookup_domain: String,
    /// Which answers count.
    pub matching: ListMatch,
    /// Text behind `550 5.7.1 `; `{0}` is the peer's address. None: Exchange's.
    pub rejection_response: Option<String>,
}

/// Which answers of a DNS list count as a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListMatch {
    /// Any address.
    Any,
    /// An address with one of these bits set.
    Bitmask(IpAddr),
    /// One of these addresses.
    Addresses(Vec<IpAddr>),
}

/// `[recipient_filter]`
#[derive(Debug, Clone, Default)]
pub struct RecipientFilter {
    /// Unknown recipients of authoritative domains are refused.
    pub validate: bool,
    /// The known ones, one a line.
    pub recipients_file: Option<PathBuf>,
    /// Recipients that are refused whether known or not.
    pub blocked_recipients: Vec<String>,
}

/// `[sender_filter]`
#[derive(Debug, Clone, Default)]
pub struct SenderFilter {
    /// Envelope senders that are refused.
    pub blocked_senders: Vec<String>,
    /// Domains whose senders are refused.
    pub blocked_domains: Vec<DomainPattern>,
    /// Whether the null sender is refused.
    pub block_blank_sender: bool,
}
