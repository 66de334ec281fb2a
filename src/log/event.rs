//! The session event: the one line that states a session's TLS version, or why it has none.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::session::SessionId;

/// Which way a session ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A peer connected to us.
    In,
    /// We connected to a next hop.
    Out,
}

impl Direction {
    /// `in` or `out`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is told of a session when it is over (interface: the `session` event's fields).
#[derive(Debug, Clone)]
pub struct SessionEvent {
    /// In or out.
    pub direction: Direction,
    /// The connector's name.
    pub connector: String,
    /// The session's name in the protocol log.
    pub session_id: SessionId,
    /// The other end.
    pub peer: SocketAddr,
    /// Our end; none when no connection came about.
    pub local: Option<SocketAddr>,
    /// The name the peer gave in EHLO or HELO (in), or in its greeting (out).
    pub helo: Option<String>,
    /// `TLS1_2` or `TLS1_3`; none for a session without TLS.
    pub tls_version: Option<&'static str>,
    /// IANA name of the cipher suite.
    pub tls_cipher: Option<&'static str>,
    /// IANA name of the key exchange group.
    pub tls_group: Option<&'static str>,
    /// A name from the peer's certificate: the one that was verified, or else its first.
    pub tls_peer_name: Option<String>,
    /// Chain and name of the peer's certificate were checked and hold.
    pub tls_verified: bool,
    /// Why there is no TLS: not offered, not asked for, or how the handshake failed.
    pub no_tls_reason: Option<String>,
    /// Whose mail the stand-in for Exchange Online took it to be; none elsewhere.
    pub attribution: Option<String>,
    /// A message in it validates a connector: Exchange Online's or `gatepost validate`'s.
    pub validation: bool,
    /// Messages accepted (in) or delivered (out).
    pub messages: u64,
    /// Bytes of message content.
    pub bytes: u64,
    /// How it ended, in a few words.
    pub outcome: String,
    /// From connect to close.
    pub duration: Duration,
}

impl SessionEvent {
    /// Writes the event to the diagnostics and hands it to every observer.
    pub fn emit(&self, observers: &Observers) {
        tracing::info!(
            name: "session",
            target: "gatepost::session",
            direction = self.direction.as_str(),
            connector = self.connector,
            session_id = %self.session_id,
            peer = %self.peer,
            local = self.local.map(tracing::field::display),
            helo = self.helo,
            tls_version = self.tls_version.unwrap_or("none"),
            tls_cipher = self.tls_cipher,
            tls_group = self.tls_group,
            tls_peer_name = self.tls_peer_name,
            tls_verified = self.tls_version.map(|_| self.tls_verified),
            no_tls_reason = self.no_tls_reason,
            attribution = self.attribution,
            validation = self.validation.then_some(true),
            messages = self.messages,
            bytes = self.bytes,
            outcome = self.outcome,
            duration_ms = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            "session"
        );
        for observer in &observers.list {
            observer(self);
        }
    }
}

/// One line for a person: `in Default Internet 203.0.113.9:41022: TLS1_3 TLS_AES_256_GCM_SHA384
/// X25519, 1 message, 2048 bytes, 35 ms, closed by the peer`.
impl fmt::Display for SessionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}: ", self.direction, self.connector, self.peer)?;
        match (self.tls_version, &self.no_tls_reason) {
            (Some(version), _) => {
                f.write_str(version)?;
                for detail in [self.tls_cipher, self.tls_group].into_iter().flatten() {
                    write!(f, " {detail}")?;
                }
                if let Some(name) = &self.tls_peer_name {
                    let judgement = if self.tls_verified { "verified" } else { "not verified" };
                    write!(f, ", peer {} ({judgement})", name.escape_debug())?;
                }
            }
            (None, Some(reason)) => write!(f, "no TLS ({reason})")?,
            (None, None) => f.write_str("no TLS")?,
        }
        let plural = if self.messages == 1 { "" } else { "s" };
        write!(
            f,
            ", {} message{plural}, {} bytes, {} ms, {}",
            self.messages,
            self.bytes,
            self.duration.as_millis(),
            self.outcome
        )
    }
}

/// Who else hears of finished sessions: statistics, the lab, tests.
///
/// An observer runs on the session's own thread and must not block.
#[derive(Clone, Default)]
pub struct Observers {
    list: Vec<Observer>,
}

type Observer = Arc<dyn Fn(&SessionEvent) + Send + Sync>;

impl Observers {
    /// Nobody.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a function.
    pub fn add(&mut self, observer: impl Fn(&SessionEvent) + Send + Sync + 'static) {
        self.list.push(Arc::new(observer));
    }

    /// Adds a channel, which gets a copy of each event for as long as somebody reads it.
    pub fn add_channel(&mut self, events: Sender<SessionEvent>) {
        self.add(move |event| {
            // A reader that went away is no reason to stop.
            let _ = events.send(event.clone());
        });
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.list.len())
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
