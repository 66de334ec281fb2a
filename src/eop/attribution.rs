//! Whose mail it is (exchange-edge.md 8.5): by the name of a verified client certificate, else by
//! address and sender domain, else nobody's.

use std::fmt;
use std::net::IpAddr;

use super::{StandIn, replies};
use crate::smtp::Address;
use crate::tls::{CertificateFacts, certificate_name_matches};

/// What a session shows of itself.
#[derive(Debug)]
pub enum Shown<'a> {
    /// No TLS.
    Plain,
    /// TLS without a certificate of the client's.
    NoCertificate,
    /// A certificate that does not verify, with the word for why.
    Unverified(&'a str),
    /// A certificate that verifies.
    Verified(CertificateFacts),
}

/// The decision about a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribution {
    /// The tenant's own mail, from its servers.
    Originating {
        /// The inbound connector that matched.
        connector: String,
        /// By what: the certificate's name, or the address.
        by: String,
        /// It may go to any domain. Otherwise the text says why not.
        relay: Result<(), String>,
    },
    /// Submitted by the tenant's cloud mailboxes.
    Cloud,
    /// Anybody's mail, for the tenant's recipients.
    Incoming {
        /// Why nothing matched.
        why: String,
        /// It looks like a server of the tenant's that was not recognised.
        claims: bool,
    },
}

impl Attribution {
    /// How a recipient outside the tenant is refused; none: it may be relayed to.
    pub(super) fn relay_refusal(&self) -> Option<&'static str> {
        match self {
            Self::Cloud | Self::Originating { relay: Ok(()), .. } => None,
            Self::Originating { relay: Err(_), .. } => Some(replies::ATTR36),
            Self::Incoming { claims: true, .. } => Some(replies::NOT_ATTRIBUTED),
            Self::Incoming { claims: false, .. } => Some(replies::RELAY_DENIED),
        }
    }
}

impl fmt::Display for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Originating { connector, by, relay } => {
                write!(f, "Originating, inbound connector '{connector}' by {by}")?;
                match relay {
                    Ok(()) => f.write_str(", may relay"),
                    Err(why) => write!(f, ", may not relay (ATTR36): {why}"),
                }
            }
            Self::Cloud => f.write_str("Originating, from the tenant's cloud mailboxes"),
            Self::Incoming { why, .. } => write!(f, "Incoming: {why}"),
        }
    }
}

impl StandIn {
    /// Attributes a transaction. An error is the refusal of a connector that matched but requires
    /// TLS.
    pub fn attribute(
        &self,
        peer: IpAddr,
        shown: &Shown<'_>,
        sender: Option<&Address>,
    ) -> Result<Attribution, (Attribution, &'static str)> {
        let domain = sender.map_or("", Address::domain);
        let accepted = sender.is_some() && self.is_accepted(domain);
        let no_such_domain = if sender.is_some() {
            format!("{domain} is no accepted domain")
        } else {
            "the sender is null".to_owned()
        };
        if let Shown::Verified(certificate) = shown
            && let Some((connector, name)) = self.certificate_match(certificate)
        {
            let relay = if accepted || self.accepted.hold_certificate_name(name) {
                Ok(())
            } else {
                Err(format!("{no_such_domain}, and {name} of the certificate is in none"))
            };
            let (connector, by) = (connector.to_owned(), format!("certificate name '{name}'"));
            return Ok(Attribution::Originating { connector, by, relay });
        }
        let mut by_address = self.by_address(peer).peekable();
        let listed = by_address.peek().is_some();
        if accepted && let Some(connector) = by_address.next() {
            let attribution = Attribution::Originating {
                connector: connector.name.clone(),
                by: format!("address {peer} and sender domain {domain}"),
                relay: Ok(()),
            };
            let needs_tls = connector.require_tls && matches!(shown, Shown::Plain);
            return if needs_tls { Err((attribution, replies::NEED_STARTTLS)) } else { Ok(attribution) };
        }
        let certificate = match shown {
            Shown::Plain => "the session has no TLS and so no certificate".to_owned(),
            Shown::NoCertificate => "no certificate was shown".to_owned(),
            Shown::Unverified(word) => format!("the certificate does not verify ({word})"),
            Shown::Verified(facts) => {
                let name = facts.first_name().unwrap_or_default();
                format!("no inbound connector has a name of the certificate ('{name}')")
            }
        };
        let address = if listed {
            format!("{peer} is on an inbound connector, but {no_such_domain}")
        } else {
            format!("{peer} is on no inbound connector")
        };
        let claims = accepted || listed || !matches!(shown, Shown::Plain | Shown::NoCertificate);
        Ok(Attribution::Incoming { why: format!("{certificate}; {address}"), claims })
    }

    /// The inbound connector that names this certificate, and the name that matched.
    fn certificate_match<'a>(&'a self, certificate: &'a CertificateFacts) -> Option<(&'a str, &'a str)> {
        self.by_certificate().find_map(|(connector, pattern)| {
            let name = certificate.all_names().find(|name| certificate_name_matches(pattern, name))?;
            Some((connector.name.as_str(), name))
        })
    }
}
