//! What a finished handshake came to, and how Exchange words it.

use std::fmt;

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, CommonState, HandshakeKind, NamedGroup, ProtocolVersion};

use super::certificate::CertificateFacts;

/// A negotiated TLS version. Prints as the logs and reports spell it: `TLS1_2`, `TLS1_3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246
    Tls12,
    /// RFC 8446
    Tls13,
}

impl TlsVersion {
    /// `TLS1_2` or `TLS1_3`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLS1_2",
            Self::Tls13 => "TLS1_3",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which end of a handshake we were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer connected to us.
    Server,
    /// We connected.
    Client,
}

/// A finished handshake.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// Negotiated version.
    pub version: TlsVersion,
    /// IANA name of the cipher suite: `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// IANA name of the key exchange group: `x25519`. None for a resumed TLS 1.2 session, which
    /// exchanges no keys.
    pub group: Option<&'static str>,
    /// The session continues an earlier one.
    pub resumed: bool,
    /// The name the client asked for (SNI): what it sent to us, or what we sent.
    pub server_name: Option<String>,
    /// The peer's certificates as it sent them, leaf first; those of the first session when
    /// resumed. Nothing about them is verified but that the peer holds the leaf's key.
    pub peer_chain: Vec<CertificateDer<'static>>,
}

impl TlsFacts {
    pub(super) fn of(connection: &CommonState, server_name: Option<String>) -> Self {
        let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                // Nothing else can be negotiated.
                _ => TlsVersion::Tls12,
            },
            cipher: suite.map_or("unknown", cipher_name),
            group: connection.negotiated_key_exchange_group().map(|group| group_name(group.name())),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            server_name,
            peer_chain: connection.peer_certificates().map(<[_]>::to_vec).unwrap_or_default(),
        }
    }

    /// The peer's own certificate, read; none when it sent none or one that cannot be read.
    pub fn peer_certificate(&self) -> Option<CertificateFacts> {
        self.peer_chain.first().and_then(|der| CertificateFacts::read(der).ok())
    }

    /// Exchange's line about a finished handshake (exchange-edge.md 4.2).
    ///
    /// The line has Schannel's names, which do not know everything. TLS 1.3 follows by analogy.
    /// `ChaCha20` has no name there, so the suite's own stands in. An AEAD suite has a MAC strength
    /// of 0, as with Schannel. Every key exchange we do is ephemeral Diffie-Hellman over a curve:
    /// `CALG_ECDH_EPHEM`, with 255 bits for x25519, also when ML-KEM is combined with it; 0 bits
    /// say that a resumed session exchanged no keys.
    pub fn exchange_line(&self, side: Side) -> String {
        let version = self.version;
        let side = match side {
            Side::Server => "SERVER",
            Side::Client => "CLIENT",
        };
        let (bulk, bulk_bits) = self.bulk();
        let hash = self.hash();
        let exchange_bits = self.exchange_bits();
        format!(
            "TLS protocol SP_PROT_{version}_{side} negotiation succeeded using bulk encryption algorithm {bulk} \
             with strength {bulk_bits} bits, MAC hash algorithm {hash} with strength 0 bits and key exchange \
             algorithm CALG_ECDH_EPHEM with strength {exchange_bits} bits"
        )
    }

    /// IANA's names of suite and group, for the line behind Exchange's: `TLS_AES_256_GCM_SHA384 x25519`.
    pub fn iana_names(&self) -> String {
        [self.cipher, self.group.unwrap_or_default()].join(" ").trim_end().to_owned()
    }

    /// Bulk cipher and its key length.
    fn bulk(&self) -> (&'static str, u16) {
        if self.cipher.contains("AES_256") {
            ("CALG_AES_256", 256)
        } else if self.cipher.contains("AES_128") {
            ("CALG_AES_128", 128)
        } else {
            (self.cipher, 256)
        }
    }

    fn hash(&self) -> &'static str {
        if self.cipher.ends_with("SHA384") { "CALG_SHA_384" } else { "CALG_SHA_256" }
    }

    fn exchange_bits(&self) -> u16 {
        match self.group {
            Some("x25519" | "X25519MLKEM768") => 255,
            Some("secp256r1" | "SecP256r1MLKEM768") => 256,
            Some("secp384r1") => 384,
            Some("secp521r1") => 521,
            _ => 0,
        }
    }
}

/// The name in IANA's TLS Cipher Suites registry.
pub(super) fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

/// The name in IANA's TLS Supported Groups registry.
fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "x25519",
        other => other.as_str().unwrap_or("unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: TlsVersion, cipher: &'static str, group: Option<&'static str>) -> TlsFacts {
        TlsFacts { version, cipher, group, resumed: false, server_name: None, peer_chain: Vec::new() }
    }

    #[test]
    fn the_line_is_exchanges() {
        // As in a genuine log, but for the names of the algorithms.
        let facts = facts(TlsVersion::Tls12, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some("secp256r1"));
        assert_eq!(
            facts.exchange_line(Side::Server),
            "TLS protocol SP_PROT_TLS1_2_SERVER negotiation succeeded using bulk encryption algorithm \
             CALG_AES_128 with strength 128 bits, MAC hash algorithm CALG_SHA_256 with strength 0 bits and \
             key exchange algorithm CALG_ECDH_EPHEM with strength 256 bits"
        );
    }

    #[test]
    fn newer_algorithms_are_named_too() {
        let line =
            facts(TlsVersion::Tls13, "TLS_AES_256_GCM_SHA384", Some("x25519")).exchange_line(Side::Client);
        assert!(line.contains("SP_PROT_TLS1_3_CLIENT") && line.contains("CALG_AES_256 with strength 256"));
        assert!(line.contains("CALG_SHA_384 with strength 0 bits") && line.ends_with("255 bits"));
        let line = facts(TlsVersion::Tls13, "TLS_CHACHA20_POLY1305_SHA256", Some("secp384r1"))
            .exchange_line(Side::Server);
        assert!(line.contains("algorithm TLS_CHACHA20_POLY1305_SHA256 with strength 256 bits"));
        assert!(line.ends_with("384 bits"));
    }

    #[test]
    fn every_suite_and_group_has_its_iana_name() {
        let provider = super::super::provider();
        for suite in &provider.cipher_suites {
            let name = cipher_name(suite.suite());
            assert!(name.starts_with("TLS_") && !name.contains("TLS13"), "{name}");
        }
        let groups: Vec<_> = provider.kx_groups.iter().map(|group| group_name(group.name())).collect();
        assert_eq!(groups, ["x25519", "secp256r1", "secp384r1", "X25519MLKEM768"]);
        for group in groups {
            assert_ne!(facts(TlsVersion::Tls13, "", Some(group)).exchange_bits(), 0);
        }
    }
}
