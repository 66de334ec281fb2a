//! Certificates, server and client settings, peer verification, and the facts of a finished
//! handshake.
//!
//! Handshakes never judge a certificate: both sides take any chain and check only that the peer
//! holds its key. What a rule asks for is judged afterwards, on the facts ([`judge_server`],
//! [`judge_client`]), which works for resumed sessions too and keeps the reason for the log.

mod certificate;
mod client;
mod distinguished_name;
mod facts;
mod failure;
mod hello;
mod identity;
mod judge;
mod names;
mod recorded;
mod roots;
mod self_signed;
mod server;
mod store;
#[cfg(test)]
pub(crate) mod test_pki;
mod verifier;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

use crate::config::MinTlsVersion;

pub use certificate::{CertificateFacts, REMOTE_CERTIFICATE, SENDING_CERTIFICATE};
pub use client::ClientTls;
pub use facts::{Side, TlsFacts, TlsVersion};
pub use failure::HandshakeFailure;
pub use hello::OfferedVersions;
pub use identity::Identity;
pub use judge::{
    CertificateProblem, Purpose, judge_client, judge_client_at, judge_own, judge_server,
    judge_server_address, judge_server_named,
};
pub use names::certificate_name_matches;
pub use recorded::Recorded;
pub use roots::Roots;
pub use server::ServerTls;
pub use store::CertificateStore;
pub use watch::{CertificateFiles, EXPIRES_SOON, warn_of_expiry};

/// Why certificates, keys or trust anchors cannot be used. Names the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", file.display())]
    Write {
        /// Which.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A PEM file without a certificate.
    #[error("{} holds no certificate in PEM form", file.display())]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// A PEM file without a private key.
    #[error("{} holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1, not encrypted)", file.display())]
    NoKey {
        /// Which.
        file: PathBuf,
    },
    /// A certificate that cannot be used.
    #[error("{}: {reason}", file.display())]
    BadCertificate {
        /// Where it is.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A private key that cannot be used.
    #[error("{}: {reason}", file.display())]
    BadKey {
        /// Where it is.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not belong together.
    #[error("the key in {} does not belong to the first certificate in {}{hint}", key.display(), chain.display())]
    Mismatch {
        /// The certificates.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
        /// What may be the cause, with a leading separator; empty when unknown.
        hint: &'static str,
    },
    /// A rule asks for verification, and there is nothing to verify against.
    #[error(
        "{rule} asks for certificates to be verified, but `tls.trusted_roots` yields no trusted root certificate"
    )]
    NoRoots {
        /// The connector with that rule.
        rule: String,
    },
    /// The TLS library refuses the settings.
    #[error("TLS settings are unusable: {0}")]
    Settings(#[from] rustls::Error),
}

/// Makes aws-lc-rs the process's crypto provider. Our own settings name it anyway; this is for
/// libraries that ask for the default. May be called any number of times.
pub fn install_provider() {
    // An error means that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The one crypto provider, given to every builder by name.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// What may be negotiated under a minimum.
fn versions(min: MinTlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    static FROM_13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    match min {
        MinTlsVersion::Tls12 => &FROM_12,
        MinTlsVersion::Tls13 => &FROM_13,
    }
}

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod openssl_tests;
