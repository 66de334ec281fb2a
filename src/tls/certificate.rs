//! What a certificate says of itself.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::*;
use x509_parser::public_key::PublicKey;

use super::distinguished_name::{dotnet_name, value};
use crate::log::time::exchange_utc;

/// Context of the protocol log's line about our own certificate (exchange-edge.md 4.2).
pub const SENDING_CERTIFICATE: &str = "Sending certificate Subject Issuer name Serial number Thumbprint \
     Not before Not after Subject alternate names";

/// Context of the line about the peer's certificate (exchange-edge.md 4.2).
pub const REMOTE_CERTIFICATE: &str = "Remote certificate Subject Issuer name Serial number Thumbprint \
     Not before Not after Subject alternate names";

/// The smallest RSA key that proves anything (NIST SP 800-131A; webpki's limit too).
const MIN_RSA_BITS: usize = 2048;

/// A certificate, read but not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Subject as .NET prints it: `CN=edge01.lab.test, O=Lab`.
    pub subject: String,
    /// Issuer, likewise.
    pub issuer: String,
    /// Serial number in upper-case hex.
    pub serial: String,
    /// SHA-1 of the whole certificate in upper-case hex, as Windows identifies certificates.
    pub thumbprint: String,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// DNS names of the subject alternative name, in order.
    pub names: Vec<String>,
    /// IP addresses of the subject alternative name.
    pub addresses: Vec<IpAddr>,
    /// The (last) common name of the subject.
    pub common_name: Option<String>,
    /// Subject and issuer are the same.
    pub self_signed: bool,
    /// May be used by a TLS client: extended key usage absent, or with clientAuth.
    pub for_clients: bool,
    /// May be used by a TLS server, likewise.
    pub for_servers: bool,
    /// The key is RSA and too short to prove anything.
    pub weak_key: bool,
}

impl CertificateFacts {
    /// Reads a certificate; the error says what cannot be read.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) = parse_x509_certificate(der)
            .map_err(|error| format!("not a readable X.509 certificate: {error}"))?;
        let usage = certificate.extended_key_usage().ok().flatten().map(|extension| extension.value);
        let (names, addresses) = alternative_names(&certificate);
        Ok(Self {
            subject: dotnet_name(certificate.subject()),
            issuer: dotnet_name(certificate.issuer()),
            serial: hex(certificate.raw_serial()),
            thumbprint: hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
            names,
            addresses,
            // The last one is the most specific (RFC 6125 section 2.3.1).
            common_name: certificate.subject().iter_common_name().last().map(value),
            self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            for_clients: usage.is_none_or(|usage| usage.client_auth || usage.any),
            for_servers: usage.is_none_or(|usage| usage.server_auth || usage.any),
            weak_key: matches!(
                certificate.public_key().parsed(),
                Ok(PublicKey::RSA(key)) if key.key_size() < MIN_RSA_BITS
            ),
        })
    }

    /// All names it carries: the subject alternative names, then the common name if it is not one
    /// of them. Either may match (exchange-edge.md 3.4).
    pub fn all_names(&self) -> impl Iterator<Item = &str> {
        let common =
            self.common_name.as_deref().filter(|common| !self.names.iter().any(|name| name == common));
        self.names.iter().map(String::as_str).chain(common)
    }

    /// The first name it carries, for a log that wants one.
    pub fn first_name(&self) -> Option<&str> {
        self.common_name.as_deref().filter(|common| !common.is_empty()).or_else(|| self.all_names().next())
    }

    /// `<I>issuer<S>subject`: Exchange's `TlsCertificateName` (exchange-edge.md 3.3).
    pub fn exchange_name(&self) -> String {
        format!("<I>{}<S>{}", self.issuer, self.subject)
    }

    /// Data of the `Sending certificate …` line, with its leading blank (exchange-edge.md 4.2).
    pub fn exchange_fields(&self) -> String {
        format!(
            " {} {} {} {} {} {} {}",
            self.subject,
            self.issuer,
            self.serial,
            self.thumbprint,
            exchange_utc(self.not_before),
            exchange_utc(self.not_after),
            self.names.join(";")
        )
    }

    /// Whether `at` lies within its validity.
    pub fn valid_at(&self, at: SystemTime) -> bool {
        self.not_before <= at && at <= self.not_after
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return (names, addresses) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => {
                if let Ok(four) = <[u8; 4]>::try_from(*octets) {
                    addresses.push(IpAddr::from(four));
                } else if let Ok(sixteen) = <[u8; 16]>::try_from(*octets) {
                    addresses.push(IpAddr::from(sixteen));
                }
            }
            _ => {}
        }
    }
    (names, addresses)
}

fn time(at: ASN1Time) -> SystemTime {
    // Dates before 1970 occur in test certificates; any such date is long past.
    let since_epoch = Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0));
    UNIX_EPOCH.checked_add(since_epoch).unwrap_or(UNIX_EPOCH)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// Whether a certificate's key could prove possession at all, as far as the TLS library can tell:
/// it reads no X.509 v1 and accepts no short RSA keys.
pub(super) fn can_prove_possession(der: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(der).is_ok()
        && CertificateFacts::read(der).is_ok_and(|facts| !facts.weak_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::test_pki::{Leaf, Pki};

    #[test]
    fn a_certificate_is_read_as_windows_shows_it() {
        let pki = Pki::new();
        let identity = pki.identity(&Leaf { names: &["edge01.lab.test", "*.lab.test"], ..Leaf::default() });
        let facts = &identity.facts;
        assert_eq!(facts.subject, "CN=edge01.lab.test");
        assert_eq!(facts.issuer, "CN=Lab Intermediate");
        assert_eq!(facts.exchange_name(), "<I>CN=Lab Intermediate<S>CN=edge01.lab.test");
        assert_eq!(facts.thumbprint.len(), 40);
        assert_eq!(facts.names, ["edge01.lab.test", "*.lab.test"]);
        assert!(!facts.self_signed && facts.for_clients && facts.for_servers && !facts.weak_key);
        let fields = facts.exchange_fields();
        assert!(fields.starts_with(" CN=edge01.lab.test CN=Lab Intermediate "), "{fields}");
        assert!(fields.ends_with("Z edge01.lab.test;*.lab.test"), "{fields}");
        assert_eq!(facts.all_names().collect::<Vec<_>>(), ["edge01.lab.test", "*.lab.test"]);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(CertificateFacts::read(&CertificateDer::from(vec![0x30, 0x82, 1])).is_err());
        assert!(CertificateFacts::read(&CertificateDer::from(Vec::new())).is_err());
    }
}
