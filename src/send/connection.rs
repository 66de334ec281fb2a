//! One session with a next hop.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use super::session::Session;
use super::transaction::{Stop, unreadable};
use super::wire::{Broken, Wire};
use super::{Outcome, Outgoing, RemoteMta, Target};
use crate::log::SessionId;
use crate::smtp::{Capabilities, Reply};
use crate::tls::TlsFacts;

/// How long a connection is reused (interface, `max_messages_per_connection`).
pub const MAX_AGE: Duration = Duration::from_mins(5);

/// How long the peer may take to answer QUIT, and then to close.
const QUIT: Duration = Duration::from_secs(5);

/// An open session: greeted, secured and authenticated as its connector asks.
pub struct Connection {
    pub(super) wire: Wire,
    pub(super) session: Session,
    pub(super) target: Target,
    pub(super) remote: RemoteMta,
    /// What it offers now, that is after TLS if there is any.
    pub(super) peer: Capabilities,
    pub(super) lmtp: bool,
    pub(super) inactivity: Duration,
    pub(super) max_transactions: usize,
    pub(super) transactions: usize,
    pub(super) opened: Instant,
    /// Commands of one flight, and where each ends; kept for their capacity.
    pub(super) out: Vec<u8>,
    pub(super) marks: Vec<usize>,
    pub(super) stuffed: Vec<u8>,
    /// A transaction was left half-way: RSET goes before the next MAIL.
    pub(super) needs_reset: bool,
    /// The last chunk sequence was refused as a whole, with one reply even in LMTP.
    pub(super) refused_early: bool,
    /// The peer answered something in this transaction.
    pub(super) answered: bool,
    pub(super) broken: bool,
}

impl Connection {
    /// Whether another message may go over it now: neither closed nor worn out, and the peer has
    /// said nothing unasked, such as 421 for having been idle too long. Looks, but never waits.
    pub fn usable(&mut self) -> bool {
        if self.broken {
            return false;
        }
        if self.opened.elapsed() >= MAX_AGE
            || (self.max_transactions > 0 && self.transactions >= self.max_transactions)
        {
            return false;
        }
        match self.wire.has_input() {
            Ok(false) => true,
            Ok(true) => {
                if let Ok(Some(reply)) = self.wire.buffered_reply() {
                    self.session.received(&reply);
                }
                self.broken = true;
                self.session.end("Remote", "closed while idle");
                false
            }
            Err(broken) => {
                self.broken = true;
                self.session.end(broken.closed_by(), "closed while idle");
                false
            }
        }
    }

    /// Waits, while the session is idle, until it is good for nothing more: closed by the peer, or
    /// as old as a session may get. For a pool that waits for messages at the same time; safe to
    /// give up at any moment.
    pub async fn idle(&mut self) {
        if !self.broken {
            let left = MAX_AGE.saturating_sub(self.opened.elapsed());
            // Whatever comes, `usable` takes it from there.
            let _ = self.wire.wait_input(left).await;
        }
    }

    /// After [`send`](Self::send) on a used connection: it turned out to be dead before the peer
    /// answered anything, so the message deserves an immediate try on a new one.
    pub fn was_stale(&self) -> bool {
        self.broken && !self.answered && self.transactions > 0
    }

    /// The endpoint this session runs to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The peer as a DSN names it.
    pub fn remote(&self) -> &RemoteMta {
        &self.remote
    }

    /// What the peer offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.peer
    }

    /// The session's name in the protocol log.
    pub fn session_id(&self) -> SessionId {
        self.session.log.session_id()
    }

    /// Facts of the TLS session, if there is one.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.session.tls.as_ref()
    }

    /// Messages taken by the peer so far.
    pub fn messages(&self) -> u64 {
        self.session.messages
    }

    /// Ends the session in good order.
    pub async fn quit(mut self) {
        let outcome = if self.session.messages > 0 || self.transactions == 0 { "ok" } else { "refused" };
        self.say_goodbye(outcome).await;
    }

    /// QUIT, the reply, and the peer's close (RFC 5321 section 4.1.1.10).
    pub(super) async fn say_goodbye(&mut self, outcome: &str) {
        if self.broken {
            return self.session.end("Local", outcome);
        }
        self.broken = true;
        self.session.log.sent("QUIT");
        let limit = self.limit(QUIT);
        let answer = match self.wire.write(b"QUIT\r\n", limit).await {
            Ok(()) => self.wire.reply(limit).await,
            Err(broken) => Err(broken),
        };
        let closed_by = match answer {
            Ok(reply) => {
                self.session.received(&reply);
                if self.wire.closed(limit).await { "Remote" } else { "Local" }
            }
            Err(broken) => broken.closed_by(),
        };
        self.session.end(closed_by, outcome);
    }

    /// A time of RFC 5321, but never more than the connector's.
    pub(super) fn limit(&self, rfc: Duration) -> Duration {
        rfc.min(self.inactivity)
    }

    /// One command of the flight in the buffer: sends it now if the peer takes one at a time,
    /// and reads its reply.
    ///
    /// Command and reply are logged together, so that a log reads as a dialogue even where many
    /// commands went out at once.
    pub(super) async fn command(&mut self, index: usize, limit: Duration) -> Result<Reply, Stop> {
        let limit = self.limit(limit);
        let start = index.checked_sub(1).map_or(0, |before| self.marks[before]);
        let range = start..self.marks[index];
        if !self.peer.pipelining {
            let written = self.wire.write(&self.out[range.clone()], limit).await;
            if let Err(broken @ (Broken::TimedOut | Broken::Protocol(_))) = written {
                return Err(broken.into());
            }
        }
        let reply = match self.wire.reply(limit).await {
            Ok(reply) => reply,
            Err(broken) => {
                self.log_command(range);
                return Err(broken.into());
            }
        };
        self.answered_to(range, &reply)?;
        Ok(reply)
    }

    /// Logs a command from the buffer and its reply.
    pub(super) fn answered_to(&mut self, command: Range<usize>, reply: &Reply) -> Result<(), Stop> {
        self.log_command(command);
        self.received(reply)
    }

    /// Logs a reply. 421 means that nothing more will come (RFC 5321 section 3.8).
    pub(super) fn received(&mut self, reply: &Reply) -> Result<(), Stop> {
        self.answered = true;
        self.session.received(reply);
        if reply.code == 421 { Err(Stop::Closing(reply.clone())) } else { Ok(()) }
    }

    fn log_command(&mut self, range: Range<usize>) {
        if self.session.log.enabled() {
            let line = self.out.get(range).unwrap_or_default();
            self.session.log.sent(String::from_utf8_lossy(line).trim_end());
        }
    }

    pub(super) fn log_message(&mut self, message: &Outgoing) {
        if self.session.log.enabled() {
            let id = message.message_id.trim_matches(['<', '>']);
            let line =
                format!("sending message with RecordId {} and InternetMessageId <{id}>", message.record_id);
            self.session.log.info("", &line);
        }
    }

    /// The transaction came to no end: closes, and returns what it means for all recipients
    /// without a verdict.
    pub(super) fn stop(&mut self, stop: Stop) -> Outcome {
        let remote = Some(self.remote.clone());
        self.broken = true;
        let (closed_by, outcome) = match stop {
            Stop::Broken(broken) => {
                if let Broken::Closed(Some(e)) = &broken {
                    self.session.log.info("", &format!("the connection failed: {e}"));
                }
                (broken.closed_by(), Outcome::ours(broken.reply(), remote))
            }
            Stop::Closing(reply) => ("Remote", Outcome::refused(reply, remote)),
            Stop::Unreadable(why) => ("Local", unreadable(&why)),
        };
        self.session.end(closed_by, &outcome.reply().to_string());
        outcome
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
