//! Domain names and the patterns that stand for them.

use std::fmt;

/// `contoso.com` (that name only) or `*.contoso.com` (that name and all below it, as in
/// Exchange). Held in lower-case A-label form, without the final dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DomainPattern {
    name: Box<str>,
    with_subdomains: bool,
}

/// Why a text is no domain pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Nothing there.
    #[error("a domain name is missing")]
    Empty,
    /// A `*` anywhere but as the whole first label.
    #[error("`*` may only stand as the whole first label, as in `*.contoso.com`")]
    Wildcard,
    /// Not a host name (RFC 1123 section 2.1, IDNA).
    #[error("`{0}` is not a domain name")]
    Invalid(String),
}

impl DomainPattern {
    /// Reads a pattern; U-labels become A-labels.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        let (with_subdomains, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Ok(Self { name: ascii_domain(name)?.into(), with_subdomains })
    }

    /// The name without the `*.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether all names below are covered too.
    pub fn with_subdomains(&self) -> bool {
        self.with_subdomains
    }

    /// Whether `domain` (ASCII form, any case) is covered.
    pub fn matches(&self, domain: &str) -> bool {
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        domain.eq_ignore_ascii_case(&self.name) || (self.with_subdomains && lies_below(domain, &self.name))
    }
}

/// Whether `name` is a name below `domain`, and not `domain` itself. Both in ASCII form, in any case,
/// and without a final dot.
pub fn lies_below(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.as_bytes(), domain.as_bytes());
    let Some((front, end)) = name.len().checked_sub(domain.len()).map(|at| name.split_at(at)) else {
        return false;
    };
    front.last() == Some(&b'.') && end.eq_ignore_ascii_case(domain)
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.with_subdomains {
            f.write_str("*.")?;
        }
        f.write_str(&self.name)
    }
}

/// A domain name in lower-case A-label form (IDNA 2008, UTS 46), checked label by label.
pub fn ascii_domain(name: &str) -> Result<String, DomainError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(DomainError::Empty);
    }
    if name.contains('*') {
        return Err(DomainError::Wildcard);
    }
    let ascii = idna::domain_to_ascii(name).map_err(|_| DomainError::Invalid(name.into()))?;
    let good = ascii.len() <= 253
        && ascii.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        });
    if good { Ok(ascii) } else { Err(DomainError::Invalid(name.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_the_name_and_all_below() {
        let p = DomainPattern::parse("*.Contoso.com").unwrap();
        assert!(p.matches("contoso.com"));
        assert!(p.matches("A.b.CONTOSO.com"));
        assert!(!p.matches("notcontoso.com"));
        assert!(!p.matches("com"));
        assert_eq!(p.to_string(), "*.contoso.com");
    }

    #[test]
    fn an_exact_name_covers_itself_only() {
        let p = DomainPattern::parse("bücher.example").unwrap();
        assert_eq!(p.name(), "xn--bcher-kva.example");
        assert!(!p.matches("a.xn--bcher-kva.example"));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "*", "*contoso.com", "a.*.b", "a..b", "-a.b", "a b"] {
            assert!(DomainPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
