//! Reading a peer's first bytes by hand, to name the TLS versions of one we cannot talk to.
//!
//! Only ever used after a handshake failed. The bytes may be anything and may end anywhere:
//! whatever cannot be read is left out.

use std::fmt;

/// SSL 3.0 and its successors by their number on the wire.
const SSL3: u16 = 0x0300;
const TLS13: u16 = 0x0304;

/// Extension numbers.
const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;

/// Signals among the cipher suites (RFC 5746 section 3.3, RFC 7507).
const RENEGOTIATION_SCSV: u16 = 0x00FF;
const FALLBACK_SCSV: u16 = 0x5600;

/// What a peer offered (or, of a server, chose) before the handshake failed.
///
/// Prints as a clause: `the peer offered at most TLS 1.1`, `the peer sent no TLS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedVersions {
    kind: Kind,
    /// The name the client asked for (SNI).
    pub server_name: Option<String>,
    /// The numbers of the cipher suites the client offered, best first; without those that are
    /// signals and no suites.
    pub cipher_suites: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A client's list of versions, lowest first (RFC 8446 section 4.2.1).
    List(Vec<u16>),
    /// A client's highest version: it takes any below too (RFC 5246 section 7.4.1.2).
    UpTo(u16),
    /// The same in the form of SSL 2.0 (RFC 5246 appendix E.2).
    Ssl2(u16),
    /// A server's choice.
    Chosen(u16),
    /// Bytes that are no TLS at all.
    NoTls,
    /// No bytes.
    Silence,
}

impl OfferedVersions {
    /// The highest version as reports spell it: `TLS1_1`, `SSL3_0`; none when it spoke no TLS.
    pub fn highest(&self) -> Option<&'static str> {
        let highest = match &self.kind {
            Kind::List(versions) => *versions.last()?,
            Kind::UpTo(version) | Kind::Ssl2(version) | Kind::Chosen(version) => *version,
            Kind::NoTls | Kind::Silence => return None,
        };
        Some(match highest {
            ..=0x02FF => "SSL2_0",
            SSL3 => "SSL3_0",
            0x0301 => "TLS1_0",
            0x0302 => "TLS1_1",
            0x0303 => "TLS1_2",
            _ => "TLS1_3",
        })
    }

    /// Whether this alone explains the failure: nothing we could ever have agreed on.
    pub fn is_legacy(&self) -> bool {
        !matches!(self.highest(), Some("TLS1_2" | "TLS1_3")) && self.kind != Kind::Silence
    }

    fn of(kind: Kind) -> Self {
        Self { kind, server_name: None, cipher_suites: Vec::new() }
    }
}

impl fmt::Display for OfferedVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::List(versions) => {
                f.write_str("the peer offered ")?;
                for (index, version) in versions.iter().enumerate() {
                    let separator = match index {
                        0 => "",
                        _ if index + 1 == versions.len() => " and ",
                        _ => ", ",
                    };
                    write!(f, "{separator}{}", name(*version))?;
                }
                Ok(())
            }
            // Below these there is nothing that "at most" could mean.
            Kind::UpTo(version @ ..=0x0301) | Kind::Ssl2(version @ ..SSL3) => {
                write!(f, "the peer offered {}", name(*version))
            }
            Kind::UpTo(version) => write!(f, "the peer offered at most {}", name(*version)),
            Kind::Ssl2(version) => {
                write!(f, "the peer offered at most {} in the form of SSL 2.0", name(*version))
            }
            Kind::Chosen(version) => write!(f, "the peer chose {}", name(*version)),
            Kind::NoTls => f.write_str("the peer sent no TLS"),
            Kind::Silence => f.write_str("the peer sent nothing"),
        }
    }
}

fn name(version: u16) -> String {
    match version {
        ..=0x02FF => "SSL 2.0".into(),
        SSL3 => "SSL 3.0".into(),
        minor @ 0x0301..=TLS13 => format!("TLS 1.{}", minor - 0x0301),
        other => format!("TLS version {other:#06x}"),
    }
}

/// What a client's first bytes offer.
pub(super) fn client_offer(bytes: &[u8]) -> OfferedVersions {
    if bytes.is_empty() {
        return OfferedVersions::of(Kind::Silence);
    }
    if let Some(version) = ssl2_hello(bytes) {
        return OfferedVersions::of(Kind::Ssl2(version));
    }
    match bytes {
        [0x16, 3, ..] => handshake_message(bytes, 1)
            .and_then(|body| client_hello(&body))
            .unwrap_or_else(|| OfferedVersions::of(Kind::NoTls)),
        // An alert, or a message out of order: TLS, but no offer.
        [0x14..=0x17, 3, minor, ..] => OfferedVersions::of(Kind::UpTo(0x0300 | u16::from(*minor))),
        _ => OfferedVersions::of(Kind::NoTls),
    }
}

/// What a server's first bytes say; none when they are TLS but no choice (an alert).
pub(super) fn server_choice(bytes: &[u8]) -> Option<OfferedVersions> {
    match bytes {
        [0x16, 3, ..] => {
            let body = handshake_message(bytes, 2)?;
            server_hello(&body).map(|version| OfferedVersions::of(Kind::Chosen(version)))
        }
        [] | [0x14..=0x17, 3, ..] => None,
        _ => Some(OfferedVersions::of(Kind::NoTls)),
    }
}

/// The body of the first handshake message, if it is of this type; cut short if need be.
fn handshake_message(bytes: &[u8], message_type: u8) -> Option<Vec<u8>> {
    // Records are put together first: a hello may be spread over several.
    let mut stream = Vec::new();
    let mut input = Reader(bytes);
    while let Some(0x16) = input.byte() {
        input.take(2)?;
        let length = usize::from(input.number()?);
        stream.extend_from_slice(input.up_to(length));
    }
    let mut message = Reader(&stream);
    if message.byte()? != message_type {
        return None;
    }
    let length = (usize::from(message.byte()?) << 16) | usize::from(message.number()?);
    Some(message.up_to(length).to_vec())
}

/// RFC 8446 section 4.1.2, which is RFC 5246's with more in it.
fn client_hello(body: &[u8]) -> Option<OfferedVersions> {
    let mut hello = Reader(body);
    let mut offer = OfferedVersions::of(Kind::UpTo(hello.number()?));
    // A hello that ends early still tells its version.
    let _ = rest_of_client_hello(hello, &mut offer);
    Some(offer)
}

fn rest_of_client_hello(mut hello: Reader<'_>, offer: &mut OfferedVersions) -> Option<()> {
    hello.take(32)?;
    let session = usize::from(hello.byte()?);
    hello.take(session)?;
    let suites = usize::from(hello.number()?);
    offer.cipher_suites = hello
        .take(suites)?
        .chunks_exact(2)
        .filter(|suite| !is_grease(suite))
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .filter(|suite| !matches!(*suite, RENEGOTIATION_SCSV | FALLBACK_SCSV))
        .collect();
    let compression = usize::from(hello.byte()?);
    hello.take(compression)?;
    for (extension, data) in hello.extensions()? {
        match extension {
            SERVER_NAME => offer.server_name = server_name(data),
            SUPPORTED_VERSIONS => {
                let versions = supported_versions(data.get(1..)?);
                if !versions.is_empty() {
                    offer.kind = Kind::List(versions);
                }
            }
            _ => {}
        }
    }
    Some(())
}

/// The versions we have names for, lowest first.
fn supported_versions(list: &[u8]) -> Vec<u16> {
    let mut versions: Vec<u16> = list
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .filter(|version| (SSL3..=TLS13).contains(version))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// RFC 6066 section 3. Shown only if it looks like a host name.
fn server_name(data: &[u8]) -> Option<String> {
    let mut list = Reader(data);
    list.number()?;
    if list.byte()? != 0 {
        return None;
    }
    let length = usize::from(list.number()?);
    let name = std::str::from_utf8(list.take(length)?).ok()?;
    crate::config::ascii_domain(name).ok()
}

fn server_hello(body: &[u8]) -> Option<u16> {
    let mut hello = Reader(body);
    let version = hello.number()?;
    Some(selected_version(hello).unwrap_or(version))
}

/// RFC 8446 section 4.2.1: where TLS 1.3 hides its number.
fn selected_version(mut hello: Reader<'_>) -> Option<u16> {
    hello.take(32)?;
    let session = usize::from(hello.byte()?);
    hello.take(session + 3)?;
    let (_, data) = hello.extensions()?.find(|(extension, _)| *extension == SUPPORTED_VERSIONS)?;
    Reader(data).number()
}

/// A two-byte length with its top bit set, then message type 1 and the version.
fn ssl2_hello(bytes: &[u8]) -> Option<u16> {
    match *bytes {
        [0x80..=0xFF, _, 1, major @ (0 | 2 | 3), minor, ..] => Some(u16::from_be_bytes([major, minor])),
        _ => None,
    }
}

/// Values that mean nothing, sent to keep servers tolerant (RFC 8701).
fn is_grease(pair: &[u8]) -> bool {
    matches!(pair, [a, b] if a == b && a & 0x0F == 0x0A)
}

/// Takes from the front of a slice, or nothing.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn up_to(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The extensions at the end of a hello, for as many as are whole.
    fn extensions(&mut self) -> Option<impl Iterator<Item = (u16, &'a [u8])>> {
        let length = usize::from(self.number()?);
        let mut extensions = Reader(self.up_to(length));
        Some(std::iter::from_fn(move || {
            let number = extensions.number()?;
            let length = usize::from(extensions.number()?);
            Some((number, extensions.take(length)?))
        }))
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
