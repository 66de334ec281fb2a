//! Trust anchors.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use super::TlsError;
use crate::config::{Config, ReceiveTls, SendTls, TrustedRoots};

/// The trusted root certificates. Cheap to clone.
#[derive(Clone, Default)]
pub struct Roots {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    anchors: Vec<TrustAnchor<'static>>,
    /// SHA-256 of each certificate, to know one that is sent to us by itself.
    digests: HashSet<[u8; 32]>,
}

impl Roots {
    /// Loads the sources of `[tls] trusted_roots`. An empty set is an error only when a connector
    /// asks for verification.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let mut certificates = Vec::new();
        for source in &config.tls.trusted_roots {
            match source {
                TrustedRoots::System => certificates.extend(system()),
                TrustedRoots::File(file) => certificates.extend(from_file(file)?),
            }
        }
        let roots = Self::from_certificates(certificates);
        match verifying_rule(config) {
            Some(rule) if roots.is_empty() => Err(TlsError::NoRoots { rule }),
            _ => Ok(roots),
        }
    }

    /// Trusts exactly these. What cannot be a trust anchor is left out.
    pub fn from_certificates(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut inner = Inner::default();
        for certificate in certificates {
            if let Ok(anchor) = webpki::anchor_from_trusted_cert(&certificate)
                && inner.digests.insert(sha256(&certificate))
            {
                inner.anchors.push(anchor.to_owned());
            }
        }
        Self { inner: Arc::new(inner) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.anchors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inner.anchors.is_empty()
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.inner.anchors
    }

    /// Whether this very certificate is trusted.
    pub(super) fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        self.inner.digests.contains(&sha256(certificate))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.len())
    }
}

fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    out
}

/// The system's store. Single bad entries are the distribution's business; that nothing could be
/// read at all is ours to say.
fn system() -> Vec<CertificateDer<'static>> {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::warn!(%error, "a part of the system's root certificates cannot be read");
    }
    loaded.certs
}

/// A file the operator named: everything in it must be usable.
fn from_file(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = super::identity::read_certificates(file)?;
    for (index, certificate) in certificates.iter().enumerate() {
        webpki::anchor_from_trusted_cert(certificate).map_err(|error| TlsError::BadCertificate {
            file: file.to_owned(),
            reason: format!("certificate {} cannot be a trusted root: {error}", index + 1),
        })?;
    }
    Ok(certificates)
}

/// The first enabled connector whose rule needs trust anchors.
fn verifying_rule(config: &Config) -> Option<String> {
    let receiving = config.receive_connectors.iter().find(|connector| connector.tls == ReceiveTls::Mutual);
    if let Some(connector) = receiving {
        return Some(format!("receive connector `{}` (tls = \"mutual\")", connector.name));
    }
    config.send_connectors.iter().filter(|connector| connector.enabled).find_map(|connector| {
        let rule = match connector.tls {
            SendTls::ValidateCertificate => "validate_certificate",
            SendTls::ValidateDomain => "validate_domain",
            SendTls::Off | SendTls::Opportunistic | SendTls::Required => return None,
        };
        Some(format!("send connector `{}` (tls = \"{rule}\")", connector.name))
    })
}

/// Reads the certificates of a PEM text, for tests and tools.
impl TryFrom<&[u8]> for Roots {
    type Error = rustls::pki_types::pem::Error;

    fn try_from(pem: &[u8]) -> Result<Self, Self::Error> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        Ok(Self::from_certificates(certificates?))
    }
}

#[cfg(test)]
#[path = "roots_tests.rs"]
mod tests;
