//! Which domains this relay takes mail for.

use std::collections::HashMap;

use crate::config::{AcceptedDomain, AcceptedDomainType};
use crate::smtp::Address;

/// The accepted domains of one configuration, looked up by the most specific entry.
#[derive(Debug, Default)]
pub struct AcceptedDomains {
    /// Names that cover everything below them too.
    with_subdomains: HashMap<String, AcceptedDomainType>,
    exact: HashMap<String, AcceptedDomainType>,
    default: Option<String>,
}

impl AcceptedDomains {
    /// Indexes the list. The default domain is the first authoritative one, else the first.
    pub fn new(list: &[AcceptedDomain]) -> Self {
        let mut this = Self::default();
        for entry in list {
            let name = entry.domain.name().to_owned();
            if entry.domain.with_subdomains() {
                this.with_subdomains.insert(name, entry.kind);
            } else {
                this.exact.insert(name, entry.kind);
            }
        }
        this.default = list
            .iter()
            .find(|d| d.kind == AcceptedDomainType::Authoritative)
            .or(list.first())
            .map(|d| d.domain.name().to_owned());
        this
    }

    /// Type of the accepted domain that covers `domain`; none: we do not take mail for it.
    pub fn class(&self, domain: &str) -> Option<AcceptedDomainType> {
        let domain = lower(domain);
        if let Some(kind) = self.exact.get(&domain) {
            return Some(*kind);
        }
        if self.with_subdomains.is_empty() {
            return None;
        }
        suffixes(&domain).find_map(|suffix| self.with_subdomains.get(suffix)).copied()
    }

    /// Whether a name in a certificate, `*.` or not, is one of these domains or lies below one: what
    /// Exchange Online asks of a certificate that is to relay (exchange-edge.md 8.5).
    pub fn hold_certificate_name(&self, name: &str) -> bool {
        suffixes(name.strip_prefix("*.").unwrap_or(name)).any(|name| self.class(name).is_some())
    }

    /// The domain that stands for this relay in `postmaster@`.
    pub fn default_domain(&self) -> Option<&str> {
        self.default.as_deref()
    }
}

/// Whether a local part asks a next hop to relay onward: source-routing leftovers that some
/// servers still honour (`user%other@here`, `other!user@here`, `"user@other"@here`).
pub fn asks_for_onward_relay(address: &Address) -> bool {
    let local = address.local_part();
    local.contains(['%', '!', '@'])
}

/// Lower-case A-label form without the final dot; a name that is no valid IDN stays as it is.
pub(super) fn lower(domain: &str) -> String {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.is_ascii() {
        return domain.to_ascii_lowercase();
    }
    crate::config::ascii_domain(domain).unwrap_or_else(|_| domain.to_lowercase())
}

/// `a.b.c`, `b.c`, `c`: the names that could cover `domain`, longest first.
pub(super) fn suffixes(domain: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(domain);
    std::iter::from_fn(move || {
        let this = rest?;
        rest = this.split_once('.').map(|(_, tail)| tail);
        Some(this)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DomainPattern;

    fn domains(list: &[(&str, AcceptedDomainType)]) -> AcceptedDomains {
        let list: Vec<_> = list
            .iter()
            .map(|(d, kind)| AcceptedDomain { domain: DomainPattern::parse(d).unwrap(), kind: *kind })
            .collect();
        AcceptedDomains::new(&list)
    }

    #[test]
    fn the_most_specific_entry_decides() {
        use AcceptedDomainType::*;
        let d = domains(&[
            ("*.contoso.com", InternalRelay),
            ("contoso.com", Authoritative),
            ("*.eu.contoso.com", ExternalRelay),
        ]);
        assert_eq!(d.class("Contoso.COM"), Some(Authoritative));
        assert_eq!(d.class("a.contoso.com"), Some(InternalRelay));
        assert_eq!(d.class("a.eu.contoso.com"), Some(ExternalRelay));
        assert_eq!(d.class("eu.contoso.com"), Some(ExternalRelay));
        assert_eq!(d.class("notcontoso.com"), None);
        assert_eq!(d.class("com"), None);
        assert_eq!(d.default_domain(), Some("contoso.com"));
    }

    #[test]
    fn names_of_certificates_may_lie_below_a_domain() {
        let d = domains(&[("contoso.com", AcceptedDomainType::Authoritative)]);
        for name in ["contoso.com", "*.contoso.com", "a.edge.CONTOSO.com", "edge.contoso.com."] {
            assert!(d.hold_certificate_name(name), "{name}");
        }
        for name in ["notcontoso.com", "com", "*.com", "", "contoso.com.evil.test"] {
            assert!(!d.hold_certificate_name(name), "{name}");
        }
    }

    #[test]
    fn u_labels_match_their_a_labels() {
        let d = domains(&[("bücher.example", AcceptedDomainType::Authoritative)]);
        assert!(d.class("BÜCHER.example").is_some());
        assert!(d.class("xn--bcher-kva.example").is_some());
    }

    #[test]
    fn onward_relay_tricks_are_seen() {
        for text in ["a%b.example@c.example", "b.example!a@c.example", "\"a@b.example\"@c.example"] {
            assert!(asks_for_onward_relay(&Address::parse(text).unwrap()), "{text}");
        }
        assert!(!asks_for_onward_relay(&Address::parse("\"a b\"@c.example").unwrap()));
    }
}
