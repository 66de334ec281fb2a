//! What is told of a session: its protocol log, and the event at its end.

use std::net::SocketAddr;
use tokio::time::Instant;

use super::{ConnectorRuntime, SendContext, Target};
use crate::config::ProtocolLogging;
use crate::log::{Direction, Observers, ProtocolLog, SessionEvent, SessionLog};
use crate::smtp::Reply;
use crate::tls::{Side, TlsFacts};

/// One session out, from the attempt to connect to its end. Dropping it ends it, so that no
/// session goes by without a word.
pub(super) struct Session {
    pub(super) log: SessionLog,
    pub(super) tls: Option<TlsFacts>,
    /// The name of the peer's certificate that was asked for and found.
    pub(super) verified_name: Option<String>,
    /// Chain (and name, if the rule says so) were checked.
    pub(super) verified: bool,
    /// The peer's name in its greeting.
    pub(super) helo: Option<String>,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    connector: String,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    no_tls_reason: Option<String>,
    tls_line: bool,
    observers: Observers,
    started: Instant,
    ended: bool,
}

impl Session {
    /// Begins with the lines that come before a connection (exchange-edge.md 4.2).
    pub(super) fn begin(connector: &ConnectorRuntime, target: &Target, context: &SendContext) -> Self {
        let name = &connector.config.name;
        let mut log = match connector.config.protocol_logging {
            ProtocolLogging::Verbose => context.log.session(name, target.address),
            ProtocolLogging::None => ProtocolLog::disabled().session(name, target.address),
        };
        if log.enabled() {
            let permissions = if connector.config.trusted {
                "SendRoutingHeaders SendForestHeaders SendOrganizationHeaders"
            } else {
                "SendRoutingHeaders"
            };
            log.info(permissions, "Set Session Permissions");
            log.info("", "attempting to connect");
        }
        Self {
            log,
            tls: None,
            verified_name: None,
            verified: false,
            helo: None,
            messages: 0,
            bytes: 0,
            connector: name.clone(),
            peer: target.address,
            local: None,
            no_tls_reason: None,
            tls_line: false,
            observers: context.observers.clone(),
            started: Instant::now(),
            ended: false,
        }
    }

    /// `+`
    pub(super) fn connected(&mut self, local: SocketAddr) {
        self.local = Some(local);
        self.log.connect(local);
    }

    /// A reply as it is logged: an EHLO reply folded as newer builds do (exchange-edge.md 4.2).
    pub(super) fn received_folded(&mut self, reply: &Reply) {
        if self.log.enabled() {
            self.log.received(&crate::log::folded(reply.code, reply.lines()));
        }
    }

    /// Any other reply.
    pub(super) fn received(&mut self, reply: &Reply) {
        if self.log.enabled() {
            self.log.received(&reply.to_line());
        }
    }

    /// The handshake is done.
    pub(super) fn secured(&mut self, facts: TlsFacts) {
        self.tls_line = true;
        if self.log.enabled() {
            self.log.info("", &facts.exchange_line(Side::Client));
            self.log.info(&facts.iana_names(), crate::log::facts::NEGOTIATED);
        }
        self.tls = Some(facts);
    }

    /// The handshake came to nothing.
    pub(super) fn not_secured(&mut self, line: String) {
        self.tls_line = true;
        self.log.info("", &line);
        self.no_tls_reason = Some(line);
    }

    /// The session goes on without TLS (interface 7.2).
    pub(super) fn plain(&mut self, why: &str) {
        if !self.tls_line {
            self.tls_line = true;
            self.log.info(why, "No TLS: the session stayed in plain text");
            self.no_tls_reason = Some(why.to_owned());
        }
    }

    /// The end: who closed, for the log, and how it went, for the event.
    pub(super) fn end(&mut self, closed_by: &str, outcome: &str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if self.local.is_some() {
            // Every connection leaves a line that states its TLS version or why it has none.
            self.plain("closed before STARTTLS");
        } else {
            self.no_tls_reason = Some("no connection".to_owned());
        }
        self.log.disconnect(closed_by);
        self.log.flush();
        let event = SessionEvent {
            direction: Direction::Out,
            connector: std::mem::take(&mut self.connector),
            session_id: self.log.session_id(),
            peer: self.peer,
            local: self.local,
            helo: self.helo.take(),
            tls_version: self.tls.as_ref().map(|facts| facts.version.as_str()),
            tls_cipher: self.tls.as_ref().map(|facts| facts.cipher),
            tls_group: self.tls.as_ref().and_then(|facts| facts.group),
            tls_peer_name: self.peer_name(),
            tls_verified: self.verified,
            no_tls_reason: self.no_tls_reason.take(),
            attribution: None,
            validation: false,
            messages: self.messages,
            bytes: self.bytes,
            outcome: outcome.to_owned(),
            duration: self.started.elapsed(),
        };
        event.emit(&self.observers);
    }

    fn peer_name(&self) -> Option<String> {
        let first = || self.tls.as_ref()?.peer_certificate()?.first_name().map(str::to_owned);
        self.verified_name.clone().or_else(first)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end("Local", "dropped");
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
