//! What became of a recipient or of an attempt to connect, with the words that go into the queue
//! viewer and the DSN.

use std::net::IpAddr;

use super::Target;
use crate::smtp::Reply;

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop took the message over and offers DSN: success reports are its duty.
    Delivered(Reply),
    /// The next hop took the message over but offers no DSN: a "relayed" report, where one was
    /// asked for, is ours to send (RFC 3461 section 6.2.7.1).
    Relayed(Reply),
    /// It lies in a mailbox (Maildir, LMTP): a "delivered" report is ours to send.
    Stored(Reply),
    /// Refused for good.
    Failed(Failure),
    /// Not now; try again.
    Deferred(Failure),
}

impl Outcome {
    /// The reply it came with.
    pub fn reply(&self) -> &Reply {
        match self {
            Self::Delivered(reply) | Self::Relayed(reply) | Self::Stored(reply) => reply,
            Self::Failed(failure) | Self::Deferred(failure) => &failure.reply,
        }
    }

    /// Whether somebody else has the message now.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Delivered(_) | Self::Relayed(_) | Self::Stored(_))
    }

    /// A refusal by reply code: 5yz is for good, anything else is not.
    pub(super) fn refused(reply: Reply, remote: Option<RemoteMta>) -> Self {
        let permanent = reply.is_permanent();
        let failure = Failure { reply, remote, local: false };
        if permanent { Self::Failed(failure) } else { Self::Deferred(failure) }
    }

    /// A verdict of our own, by reply code.
    pub(super) fn ours(reply: Reply, remote: Option<RemoteMta>) -> Self {
        let permanent = reply.is_permanent();
        let failure = Failure { reply, remote, local: true };
        if permanent { Self::Failed(failure) } else { Self::Deferred(failure) }
    }
}

/// A refusal, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The next hop's reply, or ours where it gave none.
    pub reply: Reply,
    /// Whom we talked to, if we got that far.
    pub remote: Option<RemoteMta>,
    /// The reply is our own.
    pub local: bool,
}

/// A next hop as a DSN names it (RFC 3464 section 2.3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteMta {
    /// Host name we connected to.
    pub name: String,
    /// Its address; none for a Unix socket.
    pub ip: Option<IpAddr>,
}

/// Why no session could be opened to a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reply}")]
pub struct ConnectFailure {
    /// The peer's reply, or ours in Exchange's words.
    pub reply: Reply,
    /// The endpoint tried.
    pub target: Target,
    /// Trying again is pointless: the target is ourselves.
    pub permanent: bool,
    /// The reply is our own.
    pub local: bool,
}

impl ConnectFailure {
    /// The queue's `LastError` (exchange-edge.md 2.6).
    pub fn last_error(&self) -> String {
        last_error(&self.reply, &self.target)
    }

    /// The outcome it means for each recipient that was to go over this connection.
    pub fn outcome(&self) -> Outcome {
        let remote = Some(self.target.remote());
        let failure = Failure { reply: self.reply.clone(), remote, local: self.local };
        if self.permanent { Outcome::Failed(failure) } else { Outcome::Deferred(failure) }
    }
}

/// Exchange's classic words for a queue in retry: what the primary target said, and where the
/// last attempt went (exchange-edge.md 2.6).
pub fn last_error(primary: &Reply, last: &Target) -> String {
    let text = primary.to_string();
    format!(
        "451 4.4.0 Primary target IP address responded with: \"{}.\" Attempted failover to alternate host, \
         but that did not succeed. Either there are no alternate hosts, or delivery failed to all alternate \
         hosts. The last endpoint attempted was {}",
        text.trim_end().trim_end_matches('.'),
        last.endpoint(),
    )
}
