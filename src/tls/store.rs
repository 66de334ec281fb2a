//! All our certificates, and which one a connector shows (exchange-edge.md 3.3).

use std::sync::Arc;
use std::time::SystemTime;

use super::TlsError;
use super::certificate::CertificateFacts;
use super::identity::Identity;
use super::names::certificate_name_matches;
use super::self_signed;
use crate::config::{Config, DomainPattern};

/// The loaded certificates. Replaced whole on a reload.
#[derive(Debug, Clone)]
pub struct CertificateStore {
    /// In order of preference.
    identities: Vec<Arc<Identity>>,
    /// The only one is self-made: it stands for every name.
    self_made: bool,
}

impl CertificateStore {
    /// Loads every `[[certificates]]` entry. When there is none, a self-signed one is loaded from
    /// `<spool>/self-signed/`, made there at the first start.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        Self::read(config, || self_signed::load_or_make(&config.server.spool, &config.server.hostname))
    }

    /// The same for a look only: a missing self-signed certificate is made in memory.
    pub fn inspect(config: &Config) -> Result<Self, TlsError> {
        Self::read(config, || self_signed::in_memory(&config.server.hostname))
    }

    fn read(
        config: &Config,
        self_made: impl FnOnce() -> Result<Identity, TlsError>,
    ) -> Result<Self, TlsError> {
        if config.certificates.is_empty() {
            return Ok(Self { self_made: true, ..Self::new([self_made()?], SystemTime::now()) });
        }
        let identities: Result<Vec<Identity>, TlsError> = config
            .certificates
            .iter()
            .map(|entry| Identity::load(&entry.name, &entry.chain, &entry.key))
            .collect();
        Ok(Self::new(identities?, SystemTime::now()))
    }

    /// A store of these, for tests and tools.
    pub fn new(identities: impl IntoIterator<Item = Identity>, now: SystemTime) -> Self {
        let mut identities: Vec<Arc<Identity>> = identities.into_iter().map(Arc::new).collect();
        // CA-issued before self-signed, newest first. One that is out of date comes last: peers
        // that do not look still get encryption.
        identities.sort_by_key(|identity| {
            let facts = &identity.facts;
            (!facts.valid_at(now), facts.self_signed, std::cmp::Reverse(facts.not_before))
        });
        Self { identities, self_made: false }
    }

    /// The certificate for a connector.
    ///
    /// With a `name`, that of the `[[certificates]]` entry so called, or else one whose
    /// `<I>issuer<S>subject`, subject, common name or subject alternative name it is; none when
    /// there is no such certificate, in which case Exchange offers no STARTTLS. Without a name,
    /// one that covers `fqdn`.
    pub fn choose(&self, name: Option<&str>, fqdn: &str) -> Option<Arc<Identity>> {
        let chosen = match name {
            Some(name) => self
                .find(|identity| identity.name() == Some(name))
                .or_else(|| self.find(|identity| is_called(&identity.facts, name))),
            None => self.find(|identity| self.self_made || covers(&identity.facts, fqdn)),
        };
        chosen.cloned()
    }

    /// Whether a certificate is good for the host `fqdn`; the self-made one is for all.
    pub fn is_good_for(&self, identity: &Identity, fqdn: &str) -> bool {
        self.self_made || covers(&identity.facts, fqdn)
    }

    /// All of them, in order of preference.
    pub fn identities(&self) -> &[Arc<Identity>] {
        &self.identities
    }

    fn find(&self, fits: impl Fn(&Identity) -> bool) -> Option<&Arc<Identity>> {
        self.identities.iter().find(|identity| fits(identity))
    }
}

fn is_called(facts: &CertificateFacts, name: &str) -> bool {
    facts.exchange_name() == name
        || facts.subject.eq_ignore_ascii_case(name)
        || facts.all_names().any(|carried| carried.eq_ignore_ascii_case(name))
        || covers(facts, name)
}

/// Whether the certificate is good for the host `fqdn`.
fn covers(facts: &CertificateFacts, fqdn: &str) -> bool {
    DomainPattern::parse(fqdn).is_ok_and(|pattern| {
        !pattern.with_subdomains() && facts.all_names().any(|name| certificate_name_matches(&pattern, name))
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
