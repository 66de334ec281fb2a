//! Does a certificate carry a name we ask for? (exchange-edge.md 3.4)

use super::certificate::CertificateFacts;
use crate::config::{DomainPattern, ascii_domain};

/// Whether `name`, as a certificate spells it, satisfies `pattern`.
///
/// A certificate's `*.x` stands for exactly one label (RFC 6125 section 6.4.3). Our own `*.x`
/// covers x and all below it, and a certificate for `*.x` or `*.y.x` lies within that.
pub fn certificate_name_matches(pattern: &DomainPattern, name: &str) -> bool {
    let (wildcard, name) = match name.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    // What is no host name matches nothing, whatever it ends in.
    let Ok(name) = ascii_domain(name) else { return false };
    if pattern.with_subdomains() || !wildcard {
        return pattern.matches(&name);
    }
    pattern.name().split_once('.').is_some_and(|(_, parent)| parent == name)
}

/// The first name of the certificate that satisfies one of the patterns.
pub(super) fn find<'a>(facts: &'a CertificateFacts, patterns: &[DomainPattern]) -> Option<&'a str> {
    facts.all_names().find(|name| patterns.iter().any(|pattern| certificate_name_matches(pattern, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        certificate_name_matches(&DomainPattern::parse(pattern).unwrap(), name)
    }

    #[test]
    fn exact_names_match_in_any_case() {
        assert!(matches("mail.protection.outlook.com", "MAIL.protection.outlook.com"));
        assert!(matches("mail.protection.outlook.com", "mail.protection.outlook.com."));
        assert!(matches("bücher.example", "xn--bcher-kva.example"));
        assert!(matches("bücher.example", "Bücher.example"));
        assert!(!matches("mail.protection.outlook.com", "x.mail.protection.outlook.com"));
        assert!(!matches("outlook.com", "xoutlook.com"));
    }

    #[test]
    fn a_certificates_wildcard_is_one_label() {
        assert!(matches("mx.contoso.com", "*.contoso.com"));
        assert!(!matches("a.mx.contoso.com", "*.contoso.com"));
        assert!(!matches("contoso.com", "*.contoso.com"));
        assert!(!matches("mx.contoso.com", "m*.contoso.com"));
        assert!(!matches("mx.contoso.com", "*"));
        assert!(!matches("mx.contoso.com", "*.*.com"));
        assert!(!matches("mx.contoso.com", ""));
    }

    #[test]
    fn our_wildcard_covers_the_name_and_all_below() {
        for good in ["contoso.com", "a.contoso.com", "a.b.contoso.com", "*.contoso.com", "*.b.contoso.com"] {
            assert!(matches("*.contoso.com", good), "{good}");
        }
        for bad in
            ["com", "*.com", "xcontoso.com", "contoso.com.evil.test", "a b.contoso.com", "a\0.contoso.com"]
        {
            assert!(!matches("*.contoso.com", bad), "{bad}");
        }
    }
}
