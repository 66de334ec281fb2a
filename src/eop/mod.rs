//! The stand-in for Exchange Online Protection (`[eop]`): whose mail a session brings, which
//! recipients it may have, how it says no, and the faults it commits on request
//! (exchange-edge.md 8; interface 6).
//!
//! Pure decisions: `receive` asks at each stage and does the talking, `route` and `queue` ask where
//! mail goes and what an error is called.

mod attribution;
pub mod catalogue;
mod directory;
pub mod errors;
mod faults;
mod magic;
mod replies;
mod routes;
mod visit;
mod words;

use std::net::IpAddr;

pub use attribution::{Attribution, Shown};
pub use directory::Directory;
pub use faults::Moment;
pub use magic::{is_magic, magic};
pub use routes::{mailbox_connector, routes};
pub use visit::{Strike, Visit};
pub use words::Words;

use crate::config::{Config, DomainPattern, EopInboundConnector, FaultAction};
use crate::route::AcceptedDomains;
use crate::smtp::Address;

/// What `[eop]` makes of an instance: one for each configuration.
#[derive(Debug)]
pub struct StandIn {
    tenant: String,
    accepted: AcceptedDomains,
    directory: Directory,
    connectors: Vec<EopInboundConnector>,
    faults: faults::Faults,
}

impl StandIn {
    /// The stand-in that `config` describes, if it does.
    pub fn new(config: &Config) -> Option<Self> {
        let eop = config.eop.as_ref()?;
        Some(Self {
            tenant: eop.tenant.clone(),
            accepted: AcceptedDomains::new(&config.accepted_domains),
            directory: Directory::new(eop),
            connectors: eop.inbound_connectors.clone(),
            faults: faults::Faults::new(&eop.faults),
        })
    }

    /// Names of the `[[certificates]]` entries that faults show.
    pub fn certificates(&self) -> impl Iterator<Item = &str> {
        self.faults.actions().filter_map(|action| match action {
            FaultAction::Certificate(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether a domain is the tenant's.
    fn is_accepted(&self, domain: &str) -> bool {
        self.accepted.class(domain).is_some()
    }

    /// The inbound connectors whose addresses a peer has.
    fn by_address(&self, peer: IpAddr) -> impl Iterator<Item = &EopInboundConnector> {
        self.connectors.iter().filter(move |c| c.sender_ip_addresses.iter().any(|r| r.contains(peer)))
    }

    /// The inbound connectors that go by certificate.
    fn by_certificate(&self) -> impl Iterator<Item = (&EopInboundConnector, &DomainPattern)> {
        self.connectors.iter().filter_map(|c| Some((c, c.tls_sender_certificate_name.as_ref()?)))
    }

    /// Why a session of that attribution may not send to `recipient`; none: it may.
    pub fn refusal(&self, attribution: &Attribution, recipient: &Address) -> Option<&'static str> {
        if is_magic(recipient) {
            return None;
        }
        // `user%other@here` would make the next hop relay for whoever asks.
        let onward = crate::route::asks_for_onward_relay(recipient);
        if self.is_accepted(recipient.domain()) && !onward {
            return (!self.directory.knows(recipient)).then_some(replies::RECIPIENT_REJECTED);
        }
        attribution.relay_refusal()
    }
}
