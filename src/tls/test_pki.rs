//! A certificate authority for tests: root, intermediate, and leaves of any kind.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Identity, Roots};

const DAY: Duration = Duration::from_hours(24);

/// What a leaf is to look like.
pub(crate) struct Leaf<'a> {
    pub(crate) names: &'a [&'a str],
    /// None: the first name.
    pub(crate) common_name: Option<&'a str>,
    pub(crate) usages: &'a [ExtendedKeyUsagePurpose],
    /// Days of validity before and after now; negative values put it out of date.
    pub(crate) valid: (i32, i32),
    /// Sends the intermediate along.
    pub(crate) whole_chain: bool,
    pub(crate) name: &'a str,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Self {
            names: &["edge01.lab.test"],
            common_name: None,
            usages: &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            valid: (1, 30),
            whole_chain: true,
            name: "edge",
        }
    }
}

/// Root and intermediate.
pub(crate) struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca("Lab Root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(ca("Lab Intermediate"), KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, intermediate }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_certificates([self.root.der().clone()])
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub(crate) fn identity(&self, leaf: &Leaf<'_>) -> Identity {
        let (chain, key) = self.issue(leaf);
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity::from_parts(Some(leaf.name.into()), chain, private).unwrap()
    }

    /// Chain and key as PEM texts.
    pub(crate) fn pem(&self, leaf: &Leaf<'_>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(leaf).signed_by(&key, &self.intermediate).unwrap();
        let chain = certificate.pem()
            + if leaf.whole_chain { self.intermediate.pem() } else { String::new() }.as_str();
        (chain, key.serialize_pem())
    }

    fn issue(&self, leaf: &Leaf<'_>) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(leaf).signed_by(&key, &self.intermediate).unwrap();
        let mut chain = vec![certificate.der().clone()];
        if leaf.whole_chain {
            chain.push(self.intermediate.der().clone());
        }
        (chain, key)
    }
}

/// A certificate that vouches for itself.
pub(crate) fn self_signed(leaf: &Leaf<'_>, is_ca: bool) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = params(leaf);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let certificate = params.self_signed(&key).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Identity::from_parts(Some(leaf.name.into()), vec![certificate.der().clone()], private).unwrap()
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn params(leaf: &Leaf<'_>) -> CertificateParams {
    let names: Vec<String> = leaf.names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common = leaf.common_name.or(leaf.names.first().copied());
    if let Some(common) = common {
        params.distinguished_name.push(DnType::CommonName, common);
    }
    params.extended_key_usages = leaf.usages.to_vec();
    params.not_before = day(-leaf.valid.0).into();
    params.not_after = day(leaf.valid.1).into();
    params
}

fn day(offset: i32) -> SystemTime {
    let distance = DAY * offset.unsigned_abs();
    if offset < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
}
