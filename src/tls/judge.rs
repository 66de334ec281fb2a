//! Judging a peer's certificate after the handshake: chain first, then name (exchange-edge.md 3.4
//! and 3.5). Exchange's levels map to it: `EncryptionOnly` asks nothing, `CertificateValidation`
//! the chain, `DomainValidation` the name as well.

use std::fmt;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::certificate::CertificateFacts;
use super::facts::TlsFacts;
use super::roots::Roots;
use super::{names, provider};
use crate::config::DomainPattern;

/// Why a peer's certificate does not satisfy a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateProblem {
    /// Exchange's status word: `UntrustedRoot`, `Expired`, `NotYetValid`, `SubjectMismatch`,
    /// `EmptyCertificate`, `WrongUsage`, `InvalidSignature`, `WeakKey`, `InvalidCertificate`.
    pub word: &'static str,
    /// The same for a person, with the names found.
    pub detail: String,
}

impl CertificateProblem {
    fn new(word: &'static str, detail: impl Into<String>) -> Self {
        Self { word, detail: detail.into() }
    }
}

/// As in the queue's last error (exchange-edge.md 2.6).
impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "454 4.7.5 Certificate validation failure, Reason:{}", self.word)
    }
}

impl std::error::Error for CertificateProblem {}

/// Judges a next hop: its chain must lead to a trusted root, and its certificate must carry a
/// name within `tls_domain`, if one is given. Returns the certificate's name that matched.
pub fn judge_server(
    facts: &TlsFacts,
    roots: &Roots,
    tls_domain: Option<&DomainPattern>,
    now: SystemTime,
) -> Result<Option<String>, CertificateProblem> {
    let certificate = chain(&facts.peer_chain, roots, Purpose::Server, now)?;
    tls_domain.map(|domain| carries(&certificate, std::slice::from_ref(domain))).transpose()
}

/// Judges a next hop that was named by its address: the certificate must carry that address
/// (RFC 6125 section 1.7.2 leaves addresses to iPAddress entries).
pub fn judge_server_address(
    facts: &TlsFacts,
    roots: &Roots,
    address: IpAddr,
    now: SystemTime,
) -> Result<Option<String>, CertificateProblem> {
    let certificate = chain(&facts.peer_chain, roots, Purpose::Server, now)?;
    if certificate.addresses.contains(&address.to_canonical()) {
        return Ok(Some(address.to_string()));
    }
    let found = list(certificate.addresses.iter());
    Err(CertificateProblem::new(
        "SubjectMismatch",
        format!("the certificate does not carry the address {address}; it carries {found}"),
    ))
}

/// Judges a next hop that must be what it is called: a host or domain name, or an address, with or
/// without brackets.
pub fn judge_server_named(
    facts: &TlsFacts,
    roots: &Roots,
    name: &str,
    now: SystemTime,
) -> Result<Option<String>, CertificateProblem> {
    let name = name.trim_matches(['[', ']']);
    if let Ok(address) = name.parse() {
        return judge_server_address(facts, roots, address, now);
    }
    // A name that is none matches nothing, rather than everything.
    let pattern = DomainPattern::parse(name).map_err(|e| {
        CertificateProblem::new(
            "SubjectMismatch",
            format!("no certificate can carry the name of the next hop: {e}"),
        )
    })?;
    judge_server(facts, roots, Some(&pattern), now)
}

/// Judges a client now; see [`judge_client_at`].
pub fn judge_client(
    facts: &TlsFacts,
    roots: &Roots,
    domains: &[DomainPattern],
) -> Result<Option<String>, CertificateProblem> {
    judge_client_at(facts, roots, domains, SystemTime::now())
}

/// Judges a client: its chain must lead to a trusted root and be fit for clients, and its
/// certificate must carry a name within one of `domains`, if any are given.
pub fn judge_client_at(
    facts: &TlsFacts,
    roots: &Roots,
    domains: &[DomainPattern],
    now: SystemTime,
) -> Result<Option<String>, CertificateProblem> {
    let certificate = chain(&facts.peer_chain, roots, Purpose::Client, now)?;
    if domains.is_empty() { Ok(None) } else { carries(&certificate, domains).map(Some) }
}

/// Judges a chain of our own, leaf first, as a peer would that trusts `roots`.
pub fn judge_own(
    sent: &[CertificateDer<'static>],
    roots: &Roots,
    purpose: Purpose,
    now: SystemTime,
) -> Result<(), CertificateProblem> {
    chain(sent, roots, purpose, now).map(|_| ())
}

/// What a certificate is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A server's (serverAuth).
    Server,
    /// A client's (clientAuth).
    Client,
}

/// Verifies the chain and returns the leaf's facts.
fn chain(
    sent: &[CertificateDer<'static>],
    roots: &Roots,
    purpose: Purpose,
    now: SystemTime,
) -> Result<CertificateFacts, CertificateProblem> {
    let Some((leaf, intermediates)) = sent.split_first() else {
        return Err(CertificateProblem::new("EmptyCertificate", "the peer sent no certificate"));
    };
    let certificate = CertificateFacts::read(leaf)
        .map_err(|reason| CertificateProblem::new("InvalidCertificate", reason))?;
    // Of these the handshake's signature was not checked either (see `verifier`): not even one that
    // is trusted itself says anything of the peer.
    let subject = &certificate.subject;
    if certificate.weak_key {
        return Err(CertificateProblem::new("WeakKey", format!("the RSA key of `{subject}` is too short")));
    }
    let parsed = EndEntityCert::try_from(leaf).map_err(|error| {
        CertificateProblem::new("InvalidCertificate", format!("`{subject}` cannot be verified: {error}"))
    })?;
    if roots.contains(leaf) {
        // The very certificate is trusted, as in Windows' store: no chain to build. The library
        // would refuse it as a leaf if it says that it is a CA, as many self-made ones do.
        return in_date(certificate, purpose, now);
    }
    let usage = match purpose {
        Purpose::Server => KeyUsage::server_auth(),
        Purpose::Client => KeyUsage::client_auth(),
    };
    let time = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let algorithms = provider().signature_verification_algorithms.all;
    match parsed.verify_for_usage(algorithms, roots.anchors(), intermediates, time, usage, None, None) {
        Ok(_) => Ok(certificate),
        Err(error) => Err(explain(&error, &certificate, roots, intermediates.len(), now)),
    }
}

fn in_date(
    certificate: CertificateFacts,
    purpose: Purpose,
    now: SystemTime,
) -> Result<CertificateFacts, CertificateProblem> {
    let fit = match purpose {
        Purpose::Server => certificate.for_servers,
        Purpose::Client => certificate.for_clients,
    };
    if let Some(problem) = date_problem(&certificate, now) {
        Err(problem)
    } else if fit {
        Ok(certificate)
    } else {
        Err(wrong_usage(&certificate))
    }
}

fn date_problem(certificate: &CertificateFacts, now: SystemTime) -> Option<CertificateProblem> {
    let subject = &certificate.subject;
    if now > certificate.not_after {
        let at = crate::log::time::rfc3339(certificate.not_after);
        return Some(CertificateProblem::new("Expired", format!("`{subject}` expired at {at}")));
    }
    (now < certificate.not_before).then(|| {
        let at = crate::log::time::rfc3339(certificate.not_before);
        CertificateProblem::new("NotYetValid", format!("`{subject}` is not valid before {at}"))
    })
}

fn wrong_usage(certificate: &CertificateFacts) -> CertificateProblem {
    let subject = &certificate.subject;
    CertificateProblem::new(
        "WrongUsage",
        format!("the extended key usage of `{subject}` does not allow what it is used for"),
    )
}

/// Puts the library's error into Exchange's words.
fn explain(
    error: &Error,
    certificate: &CertificateFacts,
    roots: &Roots,
    intermediates: usize,
    now: SystemTime,
) -> CertificateProblem {
    // A date of the leaf itself is the plainest thing to say, whatever else is wrong.
    if let Some(problem) = date_problem(certificate, now) {
        return problem;
    }
    let subject = &certificate.subject;
    let issuer = &certificate.issuer;
    match error {
        Error::CertExpired { .. } => CertificateProblem::new(
            "Expired",
            format!("a certificate in the chain of `{subject}` has expired"),
        ),
        Error::CertNotValidYet { .. } => CertificateProblem::new(
            "NotYetValid",
            format!("a certificate in the chain of `{subject}` is not valid yet"),
        ),
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => wrong_usage(certificate),
        Error::UnknownIssuer | Error::CaUsedAsEndEntity if certificate.self_signed => {
            CertificateProblem::new(
                "UntrustedRoot",
                format!("`{subject}` is self-signed and not among the trusted roots"),
            )
        }
        Error::UnknownIssuer => {
            let hint = match (roots.is_empty(), intermediates) {
                (true, _) => "no trusted roots are configured".to_owned(),
                (false, 0) => "the peer sent no intermediate certificates".to_owned(),
                (false, count) => format!("the peer sent {count} more certificates"),
            };
            CertificateProblem::new(
                "UntrustedRoot",
                format!("no chain from `{subject}`, issued by `{issuer}`, to a trusted root; {hint}"),
            )
        }
        Error::InvalidSignatureForPublicKey => CertificateProblem::new(
            "InvalidSignature",
            format!("a signature in the chain of `{subject}` does not verify"),
        ),
        other => CertificateProblem::new(
            "InvalidCertificate",
            format!("the chain of `{subject}`, issued by `{issuer}`, is not acceptable: {other}"),
        ),
    }
}

fn carries(certificate: &CertificateFacts, domains: &[DomainPattern]) -> Result<String, CertificateProblem> {
    if let Some(name) = names::find(certificate, domains) {
        return Ok(name.to_owned());
    }
    let (wanted, found) = (list(domains.iter()), list(certificate.all_names()));
    Err(CertificateProblem::new(
        "SubjectMismatch",
        format!("the certificate does not carry {wanted}; it carries {found}"),
    ))
}

/// A few items for a log line; a certificate may hold thousands of names.
fn list<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    const SHOWN: usize = 10;
    let all: Vec<String> = items.map(|item| item.to_string()).collect();
    match all.len() {
        0 => "none".into(),
        count if count > SHOWN => format!("{} and {} more", all[..SHOWN].join(", "), count - SHOWN),
        _ => all.join(", "),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
