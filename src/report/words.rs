//! What the logs say about TLS, read: Exchange's sentences, and ours (docs/logs.md).

use memchr::memmem;

/// A TLS version, negotiated or offered. Orders by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// No TLS.
    None,
    /// The log does not show it.
    Unknown,
    /// SSL 2.0
    Ssl20,
    /// SSL 3.0
    Ssl30,
    /// RFC 2246
    Tls10,
    /// RFC 4346
    Tls11,
    /// RFC 5246
    Tls12,
    /// RFC 8446
    Tls13,
}

impl Version {
    /// As reports spell it (interface 7.6): `TLS1_2`, `none`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ssl20 => "SSL2_0",
            Self::Ssl30 => "SSL3_0",
            Self::Tls10 => "TLS1_0",
            Self::Tls11 => "TLS1_1",
            Self::Tls12 => "TLS1_2",
            Self::Tls13 => "TLS1_3",
            Self::Unknown => "unknown",
        }
    }

    /// From Schannel's name. Builds older than a version print its bit as a number
    /// (`SP_PROT_*` in the Windows SDK).
    fn of_schannel(token: &[u8]) -> Self {
        match token.strip_prefix(b"SP_PROT_").unwrap_or(token) {
            b"TLS1_3_SERVER" | b"TLS1_3_CLIENT" | b"4096" | b"8192" => Self::Tls13,
            b"TLS1_2_SERVER" | b"TLS1_2_CLIENT" | b"1024" | b"2048" => Self::Tls12,
            b"TLS1_1_SERVER" | b"TLS1_1_CLIENT" | b"256" | b"512" => Self::Tls11,
            b"TLS1_0_SERVER" | b"TLS1_0_CLIENT" | b"TLS1_SERVER" | b"TLS1_CLIENT" | b"64" | b"128" => {
                Self::Tls10
            }
            b"SSL3_SERVER" | b"SSL3_CLIENT" | b"16" | b"32" => Self::Ssl30,
            b"SSL2_SERVER" | b"SSL2_CLIENT" | b"4" | b"8" => Self::Ssl20,
            _ => Self::Unknown,
        }
    }
}

/// `TLS protocol … negotiation succeeded using …`, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handshake<'a> {
    pub(super) version: Version,
    bulk: &'a [u8],
    hash: &'a [u8],
    exchange: &'a [u8],
    exchange_bits: &'a [u8],
}

impl<'a> Handshake<'a> {
    /// Reads the context of a line; none when it is another one.
    pub(super) fn read(context: &'a [u8]) -> Option<Self> {
        let rest = context.strip_prefix(b"TLS protocol ")?;
        let end = memmem::find(rest, b" negotiation succeeded")?;
        let algorithm = |before: &[u8]| {
            let at = memmem::find(rest, before).map_or(rest.len(), |at| at + before.len());
            let name = until_blank(&rest[at..]);
            let bits = rest[at + name.len()..].strip_prefix(b" with strength ").unwrap_or_default();
            (name, until_blank(bits))
        };
        let (exchange, exchange_bits) = algorithm(b"key exchange algorithm ");
        Some(Self {
            version: Version::of_schannel(&rest[..end]),
            bulk: algorithm(b"bulk encryption algorithm ").0,
            hash: algorithm(b"MAC hash algorithm ").0,
            exchange,
            exchange_bits,
        })
    }

    /// Bulk cipher and hash: `AES_256 SHA_384`; the suite where the line has its name.
    pub(super) fn cipher(&self) -> Vec<u8> {
        let bulk = algorithm_name(self.bulk);
        if bulk.starts_with(b"TLS_") || matches!(self.hash, b"" | b"0") {
            return bulk.to_vec();
        }
        [bulk, algorithm_name(self.hash)].join(&b' ')
    }

    /// Key exchange and its strength: `ECDH_EPHEM 256`.
    pub(super) fn group(&self) -> Vec<u8> {
        match self.exchange_bits {
            // A resumed session exchanges no keys.
            b"" | b"0" => algorithm_name(self.exchange).to_vec(),
            bits => [algorithm_name(self.exchange), bits].join(&b' '),
        }
    }
}

/// Windows' name without its prefix. Numbers stand where Exchange knew no name (`ALG_ID` in
/// wincrypt.h).
fn algorithm_name(token: &[u8]) -> &[u8] {
    match token {
        b"44550" => b"ECDH_EPHEM",
        b"43522" => b"DH_EPHEM",
        b"26128" => b"AES_256",
        b"26126" => b"AES_128",
        b"32780" => b"SHA_256",
        b"32781" => b"SHA_384",
        _ => token.strip_prefix(b"CALG_").unwrap_or(token),
    }
}

fn until_blank(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|b| matches!(b, b' ' | b',')).unwrap_or(text.len())]
}

/// `TLS negotiation failed with error …`, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure<'a> {
    /// `SocketError`
    pub(super) word: &'a [u8],
    /// The highest version the peer offered or chose; `None` where the line does not say.
    pub(super) offered: Version,
    /// Versions or algorithms did not meet, as far as the line says.
    pub(super) refused: bool,
}

impl<'a> Failure<'a> {
    /// Reads the context of a line; none when it is another one.
    pub(super) fn read(context: &'a [u8]) -> Option<Self> {
        let rest = context.strip_prefix(b"TLS negotiation failed with error ")?;
        let word = until_blank(rest);
        let detail = &rest[word.len()..];
        let offered = offered(detail);
        let has = |text: &str| memmem::find(detail, text.as_bytes()).is_some();
        let refused = (Version::Ssl20..=Version::Tls11).contains(&offered)
            || word == b"AlgorithmMismatch"
            || has("peer is incompatible")
            || has("protocol_version");
        Some(Self { word, offered, refused })
    }
}

/// The highest version in `(the peer offered TLS 1.0 and TLS 1.1: …)`.
fn offered(detail: &[u8]) -> Version {
    const NAMES: [(&[u8], Version); 6] = [
        (b"TLS 1.3", Version::Tls13),
        (b"TLS 1.2", Version::Tls12),
        (b"TLS 1.1", Version::Tls11),
        (b"TLS 1.0", Version::Tls10),
        (b"SSL 3.0", Version::Ssl30),
        (b"SSL 2.0", Version::Ssl20),
    ];
    let clause =
        memmem::find(detail, b"the peer offered ").or_else(|| memmem::find(detail, b"the peer chose "));
    let Some(clause) = clause.map(|at| &detail[at..]) else { return Version::None };
    let clause = &clause[..clause.iter().position(|b| matches!(b, b':' | b')')).unwrap_or(clause.len())];
    let highest = NAMES.iter().find(|(name, _)| memmem::find(clause, name).is_some());
    highest.map_or(Version::None, |&(_, version)| version)
}

/// What stands between the quotes of `Domain='…'`; the key is given as `Domain='`.
pub(super) fn quoted_value<'a>(context: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let value = &context[memmem::find(context, key)? + key.len()..];
    Some(&value[..value.iter().position(|&b| b == b'\'')?])
}

/// The status word of `454 4.7.5 Certificate validation failure, Reason:UntrustedRoot`.
pub(super) fn validation_failure(text: &[u8]) -> Option<&[u8]> {
    const BEFORE: &[u8] = b"Certificate validation failure";
    let rest = &text[memmem::find(text, BEFORE)? + BEFORE.len()..];
    let word = rest.strip_prefix(b", Reason:").unwrap_or_default().trim_ascii_start();
    let end = word.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(word.len());
    Some(&word[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> (Version, String, String) {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let handshake = Handshake::read(line.as_bytes()).unwrap();
        (handshake.version, text(handshake.cipher()), text(handshake.group()))
    }

    fn is(version: Version, cipher: &str, group: &str) -> (Version, String, String) {
        (version, cipher.to_owned(), group.to_owned())
    }

    #[test]
    fn exchanges_sentence_is_read() {
        assert_eq!(
            read(
                "TLS protocol SP_PROT_TLS1_2_SERVER negotiation succeeded using bulk encryption algorithm \
                 CALG_AES_256 with strength 256 bits, MAC hash algorithm CALG_SHA_384 with strength 384 bits and \
                 key exchange algorithm CALG_ECDHE with strength 384 bits"
            ),
            is(Version::Tls12, "AES_256 SHA_384", "ECDHE 384")
        );
        assert_eq!(
            read(
                "TLS protocol SP_PROT_TLS1_0_CLIENT negotiation succeeded using bulk encryption algorithm \
                 CALG_AES_256 with strength 256 bits, MAC hash algorithm CALG_SHA1 with strength 160 bits and key \
                 exchange algorithm CALG_ECDHE with strength 256 bits"
            ),
            is(Version::Tls10, "AES_256 SHA1", "ECDHE 256")
        );
        // A build that does not know TLS 1.3 and the newer algorithms by name.
        assert_eq!(
            read(
                "TLS protocol 4096 negotiation succeeded using bulk encryption algorithm 26128 with strength 256 \
                 bits, MAC hash algorithm 0 with strength 0 bits and key exchange algorithm 44550 with strength \
                 255 bits"
            ),
            is(Version::Tls13, "AES_256", "ECDH_EPHEM 255")
        );
    }

    #[test]
    fn our_own_lines_are_read() {
        use crate::tls::{Side, TlsFacts, TlsVersion};
        let line = |version, cipher, group| {
            let facts = TlsFacts {
                version,
                cipher,
                group,
                resumed: false,
                server_name: None,
                peer_chain: Vec::new(),
            };
            read(&facts.exchange_line(Side::Client))
        };
        assert_eq!(
            line(TlsVersion::Tls13, "TLS_CHACHA20_POLY1305_SHA256", Some("x25519")),
            is(Version::Tls13, "TLS_CHACHA20_POLY1305_SHA256", "ECDH_EPHEM 255")
        );
        assert_eq!(
            line(TlsVersion::Tls12, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", None),
            is(Version::Tls12, "AES_128 SHA_256", "ECDH_EPHEM")
        );
    }

    #[test]
    fn a_short_or_strange_sentence_is_read_as_far_as_it_goes() {
        assert_eq!(
            read(
                "TLS protocol SP_PROT_TLS1_2_SERVER negotiation succeeded using bulk encryption algorithm CALG_AES_256"
            ),
            is(Version::Tls12, "AES_256", "")
        );
        assert_eq!(read("TLS protocol X negotiation succeeded"), is(Version::Unknown, "", ""));
        assert_eq!(Handshake::read(b"TLS protocol"), None);
        assert_eq!(Handshake::read(b"TLS negotiation failed with error X"), None);
    }

    fn failure(line: &str) -> (String, Version, bool) {
        let failure = Failure::read(line.as_bytes()).unwrap();
        (String::from_utf8(failure.word.to_vec()).unwrap(), failure.offered, failure.refused)
    }

    #[test]
    fn failures_say_what_was_offered() {
        let cases = [
            ("SocketError", "SocketError", Version::None, false),
            ("SocketError (the peer offered at most TLS 1.1)", "SocketError", Version::Tls11, true),
            ("SocketError (the peer offered TLS 1.0 and TLS 1.1)", "SocketError", Version::Tls11, true),
            (
                "SocketError (the peer offered at most SSL 3.0 in the form of SSL 2.0)",
                "SocketError",
                Version::Ssl30,
                true,
            ),
            (
                "AlgorithmMismatch (the peer offered TLS 1.2: peer is incompatible: NoCipherSuitesInCommon)",
                "AlgorithmMismatch",
                Version::Tls12,
                true,
            ),
            (
                "SocketError (the peer offered TLS 1.2 and TLS 1.3: connection reset)",
                "SocketError",
                Version::Tls13,
                false,
            ),
            ("SocketError (the peer chose TLS 1.0)", "SocketError", Version::Tls10, true),
            ("SocketError (the peer sent no TLS)", "SocketError", Version::None, false),
        ];
        for (line, word, offered, refused) in cases {
            let line = format!("TLS negotiation failed with error {line}");
            assert_eq!(failure(&line), (word.to_owned(), offered, refused), "{line}");
        }
        assert_eq!(Failure::read(b"TLS negotiation"), None);
    }

    #[test]
    fn validation_is_read() {
        let line = b"TlsDomainCapabilities='None'; Status='Success'; Domain='a.example'";
        assert_eq!(quoted_value(line, b"Domain='"), Some(&b"a.example"[..]));
        assert_eq!(quoted_value(line, b"Status='"), Some(&b"Success"[..]));
        assert_eq!(quoted_value(b"Domain='a", b"Domain='"), None);
        assert_eq!(
            validation_failure(b"454 4.7.5 Certificate validation failure, Reason:UntrustedRoot"),
            Some(&b"UntrustedRoot"[..])
        );
        assert_eq!(validation_failure(b"Certificate validation failure"), Some(&b""[..]));
        assert_eq!(validation_failure(b"250 OK"), None);
    }
}
