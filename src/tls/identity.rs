//! One certificate of ours with its chain and key.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::certificate::CertificateFacts;
use super::{TlsError, provider};

/// A loaded certificate: the chain that is always sent whole, the key, and what the leaf says.
pub struct Identity {
    name: Option<String>,
    key: Arc<CertifiedKey>,
    /// What the leaf says.
    pub facts: CertificateFacts,
}

impl Identity {
    /// Loads a chain (leaf first) and its key from PEM files. Key and leaf must belong together.
    pub fn load(name: &str, chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let certificates = read_certificates(chain)?;
        let private = read_key(key)?;
        Self::build(Some(name.to_owned()), certificates, private, chain, key)
    }

    /// Takes a chain and key from memory.
    pub fn from_parts(
        name: Option<String>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let nowhere = Path::new("(memory)");
        Self::build(name, chain, key, nowhere, nowhere)
    }

    fn build(
        name: Option<String>,
        certificates: Vec<CertificateDer<'static>>,
        private: PrivateKeyDer<'static>,
        chain: &Path,
        key: &Path,
    ) -> Result<Self, TlsError> {
        let bad = |reason| TlsError::BadCertificate { file: chain.to_owned(), reason };
        let Some((leaf, rest)) = certificates.split_first() else {
            return Err(TlsError::NoCertificate { file: chain.to_owned() });
        };
        let facts = CertificateFacts::read(leaf).map_err(bad)?;
        webpki::EndEntityCert::try_from(leaf)
            .map_err(|error| bad(format!("the first certificate cannot be used for TLS: {error}")))?;
        let signing = provider()
            .key_provider
            .load_private_key(private)
            .map_err(|error| TlsError::BadKey { file: key.to_owned(), reason: error.to_string() })?;
        let belongs = |leaf: &CertificateDer<'static>| {
            !matches!(
                CertifiedKey::new(vec![leaf.clone()], signing.clone()).keys_match(),
                Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch))
            )
        };
        if !belongs(leaf) {
            let hint = if rest.iter().any(belongs) {
                "; it belongs to a later one: the leaf must come first"
            } else {
                ""
            };
            return Err(TlsError::Mismatch { chain: chain.to_owned(), key: key.to_owned(), hint });
        }
        Ok(Self { name, key: Arc::new(CertifiedKey::new(certificates, signing)), facts })
    }

    /// Without a name to be chosen by.
    pub(super) fn unnamed(self) -> Self {
        Self { name: None, ..self }
    }

    /// The name of its `[[certificates]]` entry; none for the self-made one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Leaf and intermediates as they are sent.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// Always this one, whatever the peer hints at: Exchange sends its certificate likewise.
    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.key.clone()))
    }
}

#[cfg(test)]
impl Identity {
    pub(super) fn resolver_key(&self) -> Arc<dyn rustls::sign::SigningKey> {
        self.key.key.clone()
    }
}

/// Never shows the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("subject", &self.facts.subject)
            .field("thumbprint", &self.facts.thumbprint)
            .finish_non_exhaustive()
    }
}

/// All certificates of a PEM file; at least one.
pub(super) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, pem::Error> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(TlsError::NoCertificate { file: file.to_owned() }),
        Ok(certificates) => Ok(certificates),
        Err(pem::Error::Io(error)) => {
            Err(TlsError::Read { file: file.to_owned(), reason: error.to_string() })
        }
        Err(error) => Err(TlsError::BadCertificate { file: file.to_owned(), reason: error.to_string() }),
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| match error {
        pem::Error::Io(error) => TlsError::Read { file: file.to_owned(), reason: error.to_string() },
        pem::Error::NoItemsFound => TlsError::NoKey { file: file.to_owned() },
        error => TlsError::BadKey { file: file.to_owned(), reason: error.to_string() },
    })
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
