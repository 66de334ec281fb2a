//! One session, put together from its lines (exchange-edge.md 4.2).

use std::net::IpAddr;

use super::line::Line;
use super::names::{Name, Names, printable};
use super::stamp::Stamp;
use super::words::{Failure, Handshake, Version, quoted_value, validation_failure};
use crate::log::Direction;
use crate::log::facts::{NEGOTIATED, VERIFIED_NAME};

/// Longest EHLO name kept, in bytes.
const LONGEST_HELO: usize = 64;

/// The other end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Its address.
    Ip(IpAddr),
    /// A text that is no address, as in logs made anonymous.
    Text(Name),
    /// Peers for which there was no room.
    Others,
    /// Any: several were summed up.
    Any,
}

/// What a session came to, as far as TLS goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// TLS was negotiated.
    Ok,
    /// It sent MAIL in clear text.
    Plain,
    /// The handshake failed for the want of a common version or algorithm.
    Refused,
    /// The handshake failed for another reason.
    Failed,
    /// It ended without TLS and without MAIL: a probe, a scanner, a next hop that says no.
    NoMail,
    /// STARTTLS was accepted, and the log does not say what became of it.
    Unknown,
    /// Its beginning or its end is not in the log.
    Incomplete,
}

impl Outcome {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Plain => "plain",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::NoMail => "no_mail",
            Self::Unknown => "unknown",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Whether the peer's certificate was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verification {
    /// The log does not say that anybody looked, or only the chain was looked at.
    NotChecked,
    /// Chain and name hold.
    Verified,
    /// They do not.
    Failed,
    /// Any: several were summed up.
    Any,
}

/// What is known of a session so far.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) direction: Direction,
    pub(super) connector: Name,
    pub(super) peer: Peer,
    pub(super) helo: Option<Box<str>>,
    pub(super) first: Stamp,
    pub(super) last: Stamp,
    pub(super) cipher: Name,
    pub(super) group: Name,
    /// Why the handshake failed, or the certificate.
    pub(super) error: Name,
    pub(super) verification: Verification,
    pub(super) verified_name: Name,
    pub(super) messages: u32,
    /// Negotiated, or offered when the handshake failed.
    version: Version,
    tls: Tls,
    /// Its first line is in the log.
    begun: bool,
    connected: bool,
    closed: bool,
    stayed_plain: bool,
    mail: bool,
    /// Commands without a reply so far.
    outstanding: u32,
    /// Replies until the one that says whether a message was taken; 0 = none is expected.
    verdict_in: u32,
}

/// How far STARTTLS got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    No,
    Asked,
    Accepted,
    Done,
    Refused,
    Failed,
}

impl Session {
    /// Begins with the first line seen of it, which is still to be [`apply`](Self::apply)ed.
    pub(super) fn new(direction: Direction, line: &Line<'_>, at: Stamp, names: &mut Names) -> Self {
        Self {
            direction,
            connector: names.name(line.connector),
            peer: peer(line.remote, names),
            helo: None,
            first: at,
            last: at,
            cipher: Name::NONE,
            group: Name::NONE,
            error: Name::NONE,
            verification: Verification::NotChecked,
            verified_name: Name::NONE,
            messages: 0,
            version: Version::None,
            tls: Tls::No,
            begun: line.sequence == b"0" || line.event == b"+",
            connected: direction == Direction::In,
            closed: false,
            stayed_plain: false,
            mail: false,
            outstanding: 0,
            verdict_in: 0,
        }
    }

    /// Takes the next line in; true when it was the last.
    pub(super) fn apply(&mut self, line: &Line<'_>, at: Stamp, names: &mut Names) -> bool {
        self.last = self.last.max(at);
        match (line.event, self.direction) {
            (b"<", Direction::In) | (b">", Direction::Out) => self.client(line.data),
            (b">", Direction::In) | (b"<", Direction::Out) => self.server(line.data),
            (b"+", _) => self.connected = true,
            (b"-", _) => self.closed = true,
            _ => self.information(line, names),
        }
        self.closed
    }

    /// A command.
    fn client(&mut self, data: &[u8]) {
        self.connected = true;
        self.outstanding = self.outstanding.saturating_add(1);
        let Some(mut verb) = data.first_chunk::<4>().copied() else { return };
        verb.make_ascii_uppercase();
        match &verb {
            b"EHLO" | b"HELO" | b"LHLO" if self.direction == Direction::In => self.greeted(&data[4..]),
            b"STAR" | b"X-AN" if self.tls == Tls::No && is_starttls(data) => self.tls = Tls::Asked,
            b"MAIL" => self.mail = true,
            b"BDAT" if self.verdict_in == 0 && is_last_chunk(data) => self.verdict_in = self.outstanding,
            _ => {}
        }
    }

    /// A reply, or a line of one.
    fn server(&mut self, data: &[u8]) {
        self.connected = true;
        let Some(code) = data.first_chunk::<3>() else { return };
        if code == b"220" && self.direction == Direction::Out && self.outstanding == 0 {
            return self.greeted(&data[3..]);
        }
        if data.get(3) == Some(&b'-') {
            return;
        }
        match code {
            b"354" => {
                self.verdict_in = 1;
                self.outstanding = 1;
                return;
            }
            b"220" if self.tls == Tls::Asked => self.tls = Tls::Accepted,
            _ => {}
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.verdict_in > 0 {
            self.verdict_in -= 1;
            if self.verdict_in == 0 && code[0] == b'2' {
                self.messages = self.messages.saturating_add(1);
            }
        }
    }

    /// ` mta.example.net …`: the name the other side gives itself.
    fn greeted(&mut self, rest: &[u8]) {
        let rest = rest.strip_prefix(b"-").unwrap_or(rest).trim_ascii();
        let name = rest.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        let name = &name[..name.len().min(LONGEST_HELO)];
        // The second EHLO, inside TLS, mostly says the same.
        if !name.is_empty() && self.helo.as_ref().is_none_or(|helo| helo.as_bytes() != name) {
            self.helo = Some(printable(name));
        }
    }

    /// `*`
    fn information(&mut self, line: &Line<'_>, names: &mut Names) {
        let context = line.context;
        if let Some(done) = Handshake::read(context) {
            self.tls = Tls::Done;
            self.version = done.version;
            self.cipher = names.name(&done.cipher());
            self.group = names.name(&done.group());
        } else if let Some(failure) = Failure::read(context) {
            self.tls = if failure.refused { Tls::Refused } else { Tls::Failed };
            self.version = failure.offered;
            self.error = names.name(failure.word);
        } else if context == NEGOTIATED.as_bytes() {
            let mut words = line.data.split(|&b| b == b' ');
            let mut next = || names.name(words.next().unwrap_or_default());
            (self.cipher, self.group) = (next(), next());
        } else if context == VERIFIED_NAME.as_bytes() {
            self.verification = Verification::Verified;
            self.verified_name = names.name(line.data);
        } else if context.starts_with(b"No TLS: ") {
            self.stayed_plain = true;
        } else if context.starts_with(b"STARTTLS was refused") {
            self.tls = Tls::Failed;
            self.error = names.name(b"StarttlsRefused");
        } else {
            self.certificate(context, names);
        }
    }

    /// The lines about the peer's certificate.
    fn certificate(&mut self, context: &[u8], names: &mut Names) {
        if let Some(word) = validation_failure(context) {
            self.verification = Verification::Failed;
            self.error = names.name(word);
        } else if context.starts_with(b"Client certificate chain validation status: '") {
            match quoted_status(context) {
                // Whose name it carries is in the next line, or never judged.
                b"Valid" | b"" | b"TestBypassed" => {}
                word => {
                    self.verification = Verification::Failed;
                    self.error = names.name(word);
                }
            }
        } else if context.starts_with(b"TlsDomainCapabilities=") {
            let success = quoted_value(context, b"Status='").is_some_and(|word| word == b"Success");
            // Without a name only the chain was looked at.
            let name = quoted_value(context, b"Domain='").filter(|name| success && !name.is_empty());
            if let Some(name) = name {
                self.verification = Verification::Verified;
                self.verified_name = names.name(name);
            }
        }
    }

    /// Whether its first line was seen.
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// A try that found nobody at the other end: no session.
    pub(super) fn never_connected(&self) -> bool {
        self.begun && !self.connected
    }

    /// What it came to, and the version that goes with that.
    pub(super) fn outcome(&self) -> (Outcome, Version) {
        let in_clear = || if self.mail { Outcome::Plain } else { Outcome::NoMail };
        match self.tls {
            Tls::Done => (Outcome::Ok, self.version),
            Tls::Refused => (Outcome::Refused, self.version),
            Tls::Failed => (Outcome::Failed, self.version),
            // The line says so, whatever else is missing.
            _ if self.stayed_plain && self.begun => (in_clear(), Version::None),
            _ if self.stayed_plain => (Outcome::Plain, Version::None),
            Tls::Accepted if self.closed => (Outcome::Unknown, Version::Unknown),
            Tls::No | Tls::Asked if self.closed && self.begun => (in_clear(), Version::None),
            Tls::No | Tls::Asked | Tls::Accepted => (Outcome::Incomplete, Version::Unknown),
        }
    }
}

/// `STARTTLS`, and what Exchange servers use among each other.
fn is_starttls(data: &[u8]) -> bool {
    let command = data.trim_ascii();
    command.eq_ignore_ascii_case(b"STARTTLS") || command.eq_ignore_ascii_case(b"X-ANONYMOUSTLS")
}

/// `BDAT 2048 LAST`
fn is_last_chunk(data: &[u8]) -> bool {
    data.trim_ascii_end().last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b" LAST"))
}

/// The word in `…status: 'EmptyCertificate'`.
fn quoted_status(context: &[u8]) -> &[u8] {
    context.split(|&b| b == b'\'').nth(1).unwrap_or_default()
}

/// The peer of `203.0.113.9:41022`, `[2001:db8::1]:25`.
fn peer(endpoint: &[u8], names: &mut Names) -> Peer {
    let text = std::str::from_utf8(endpoint).unwrap_or_default();
    let host = match text.rsplit_once(':') {
        // An IPv6 address without a port has more colons and no brackets.
        Some((host, _)) if host.starts_with('[') || !host.contains(':') => host,
        _ => text,
    };
    let address = host.trim_matches(['[', ']']);
    // A zone is the machine's own business: fe80::1%5.
    let address = address.split_once('%').map_or(address, |(address, _)| address);
    match address.parse::<IpAddr>() {
        Ok(ip) => Peer::Ip(ip.to_canonical()),
        Err(_) => Peer::Text(names.name(host.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_addresses_without_port() {
        let mut names = Names::new(10);
        let mut shown = |endpoint: &str| match peer(endpoint.as_bytes(), &mut names) {
            Peer::Ip(ip) => ip.to_string(),
            Peer::Text(name) => format!("text {}", names.text(name)),
            other => format!("{other:?}"),
        };
        assert_eq!(shown("203.0.113.9:41022"), "203.0.113.9");
        assert_eq!(shown("203.0.113.9"), "203.0.113.9");
        assert_eq!(shown("[2001:db8::1]:25"), "2001:db8::1");
        assert_eq!(shown("2001:db8::1"), "2001:db8::1");
        assert_eq!(shown("[fe80::1%5]:25"), "fe80::1");
        assert_eq!(shown("[::ffff:192.0.2.1]:25"), "192.0.2.1");
        assert_eq!(shown("10.**.**.168:25"), "text 10.**.**.168");
        assert_eq!(shown(""), "text ");
    }
}
