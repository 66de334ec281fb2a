//! Why a handshake failed, in Exchange's words and in ours.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CipherSuite, Error, PeerIncompatible};

use super::facts::cipher_name;
use super::hello::OfferedVersions;
use super::provider;

/// A handshake that came to nothing.
///
/// Prints as the protocol log's line (exchange-edge.md 3.5): `TLS negotiation failed with error
/// SocketError`, and what else is known in brackets behind it: `(the peer offered at most TLS
/// 1.1)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// Exchange's word: `SocketError` (the peer went away, or its versions and ours do not meet),
    /// `TimedOut`, `AlgorithmMismatch`, `NoCredentials`, `UnknownCredentials`, `UntrustedRoot`,
    /// `CertExpired`, `CertUnknown` (the peer refuses our certificate), `IllegalMessage`,
    /// `MessageAltered`.
    pub word: &'static str,
    /// The same for a person.
    pub detail: String,
    /// What the peer offered, as far as it can be told.
    pub offered: Option<OfferedVersions>,
}

impl HandshakeFailure {
    /// A failure found before any handshake.
    pub fn new(word: &'static str, detail: impl Into<String>) -> Self {
        Self { word, detail: detail.into(), offered: None }
    }

    /// The connector's certificate does not exist or cannot be used.
    pub fn no_credentials(detail: impl Into<String>) -> Self {
        Self::new("NoCredentials", detail)
    }

    pub(super) fn timed_out(offered: Option<OfferedVersions>) -> Self {
        Self { word: "TimedOut", detail: "the handshake took too long".into(), offered }
    }

    pub(super) fn of(error: &io::Error, offered: Option<OfferedVersions>) -> Self {
        let (word, detail) = match tls_error(error) {
            Some(error) => explain(error, offered.as_ref()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                ("SocketError", "the peer closed the connection during the handshake".into())
            }
            None => ("SocketError", error.to_string()),
        };
        let word = match &offered {
            // Whatever the library calls it: the versions did not meet.
            Some(offered) if offered.is_legacy() => "SocketError",
            _ => word,
        };
        Self { word, detail, offered }
    }
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS negotiation failed with error {}", self.word)?;
        match &self.offered {
            Some(offered) if offered.is_legacy() => write!(f, " ({offered})"),
            Some(offered) if self.detail.is_empty() => write!(f, " ({offered})"),
            Some(offered) => write!(f, " ({offered}: {})", self.detail),
            None if self.detail.is_empty() => Ok(()),
            None => write!(f, " ({})", self.detail),
        }
    }
}

impl std::error::Error for HandshakeFailure {}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn explain(error: &Error, offered: Option<&OfferedVersions>) -> (&'static str, String) {
    match error {
        Error::AlertReceived(alert) => alert_received(*alert),
        Error::PeerIncompatible(
            missing @ (PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
            | PeerIncompatible::NoEcPointFormatsInCommon),
        ) => {
            let suites = offered.map_or(&[][..], |offered| &offered.cipher_suites);
            ("AlgorithmMismatch", nothing_in_common(missing, suites))
        }
        Error::InvalidCertificate(_) => {
            ("MessageAltered", "the peer does not hold the key of the certificate it shows".into())
        }
        Error::PeerIncompatible(_) => ("SocketError", error.to_string()),
        Error::DecryptError => ("MessageAltered", error.to_string()),
        other => ("IllegalMessage", other.to_string()),
    }
}

/// What is missing, with the client's cipher suites where they are the reason. The library looks
/// for a key exchange group first, and names that for a client without any suite that needs one.
fn nothing_in_common(missing: &PeerIncompatible, suites: &[u16]) -> String {
    let ours = |suite: &u16| provider().cipher_suites.iter().any(|known| u16::from(known.suite()) == *suite);
    if !suites.is_empty() && !suites.iter().any(ours) {
        return format!("none of its {} cipher suites is ours: {}", suites.len(), suite_names(suites));
    }
    match missing {
        PeerIncompatible::NoKxGroupsInCommon => "no key exchange group in common".to_owned(),
        PeerIncompatible::NoCipherSuitesInCommon if !suites.is_empty() => {
            format!("none of its cipher suites goes with our certificate: {}", suite_names(suites))
        }
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "no signature algorithm in common".to_owned()
        }
        other => Error::PeerIncompatible(other.clone()).to_string(),
    }
}

/// The first few by name; old clients offer dozens.
fn suite_names(suites: &[u16]) -> String {
    const SHOWN: usize = 8;
    let names = suites.iter().take(SHOWN).map(|&suite| match cipher_name(CipherSuite::from(suite)) {
        "unknown" => format!("{suite:#06x}"),
        name => name.to_owned(),
    });
    let more = match suites.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.collect::<Vec<_>>().join(", ") + &more
}

/// What the peer told us before it went away (RFC 8446 section 6.2).
fn alert_received(alert: AlertDescription) -> (&'static str, String) {
    let (word, meaning) = match alert {
        AlertDescription::ProtocolVersion => ("SocketError", ", as it takes none of our TLS versions"),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            ("AlgorithmMismatch", ", as it takes none of our algorithms")
        }
        AlertDescription::UnknownCA => ("UntrustedRoot", ", as it does not trust our certificate's root"),
        AlertDescription::CertificateExpired => ("CertExpired", ", as our certificate is out of date for it"),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => ("CertUnknown", ", as it refuses our certificate"),
        AlertDescription::CertificateRequired => ("NoCredentials", ", as it wants a certificate of us"),
        _ => ("SocketError", ""),
    };
    (word, format!("the peer sent the alert {}{meaning}", alert_name(alert)))
}

/// `protocol_version`, as RFC 8446 spells it.
fn alert_name(alert: AlertDescription) -> String {
    let Some(camel) = alert.as_str() else { return u8::from(alert).to_string() };
    let mut name = String::new();
    let mut after_lower = false;
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_their_names() {
        assert_eq!(alert_name(AlertDescription::ProtocolVersion), "protocol_version");
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(alert_name(AlertDescription::Unknown(200)), "200");
    }

    #[test]
    fn the_line_is_exchanges() {
        let failure = HandshakeFailure::new("NoCredentials", "");
        assert_eq!(failure.to_string(), "TLS negotiation failed with error NoCredentials");
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(
            HandshakeFailure::of(&reset, None).to_string(),
            "TLS negotiation failed with error SocketError (connection reset)"
        );
    }
}
