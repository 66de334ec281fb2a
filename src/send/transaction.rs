//! One message over one session (RFC 5321 section 3.3), in as few round trips as the peer allows:
//!
//! | peer offers | goes out as |
//! | --- | --- |
//! | PIPELINING, CHUNKING | MAIL, RCPT…, `BDAT n LAST` and the content in one write; content over [`ONE_FLIGHT`] waits for the replies to RCPT and follows in chunks |
//! | PIPELINING | MAIL, RCPT…, DATA in one write, then the content with its final dot |
//! | neither | one command at a time |

use std::io::{IoSlice, Write};
use std::time::Duration;

use bytes::Bytes;

use super::body::Body;
use super::plan::Plan;
use super::wire::Broken;
use super::{Connection, Outcome, Outgoing, words};
use crate::smtp::Reply;

/// Largest content sent along with its envelope, before the peer has said a word. More would be
/// wasted too often on recipients that are refused.
pub const ONE_FLIGHT: u64 = 64 * 1024;

/// Slices kept on the stack for one write; content in more pieces pays for a heap allocation.
const STACK_SLICES: usize = 8;

// RFC 5321 section 4.5.3.2.
const MAIL: Duration = Duration::from_mins(5);
const RCPT: Duration = Duration::from_mins(5);
pub(super) const BLOCK: Duration = Duration::from_mins(3);
pub(super) const FINAL: Duration = Duration::from_mins(10);

/// Why a transaction came to no end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The connection is gone, or no longer to be trusted.
    Broken(Broken),
    /// The peer said 421 and is closing (RFC 5321 section 3.8), or refused early what it has not
    /// read to the end.
    Closing(Reply),
    /// The content could not be read to its end.
    Unreadable(String),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// How content goes out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// In the same write as the envelope.
    BdatAtOnce,
    /// In chunks behind the envelope.
    BdatChunks,
    Data,
}

/// Verdicts so far.
pub(super) struct Progress {
    outcomes: Vec<Option<Outcome>>,
    /// The reply to RCPT was positive.
    accepted: Vec<bool>,
}

impl Progress {
    /// Recipients whose fate hangs on the content.
    pub(super) fn waiting(&self) -> usize {
        self.accepted.iter().filter(|accepted| **accepted).count()
    }

    fn settle(&mut self, index: usize, outcome: Outcome) {
        self.accepted[index] = false;
        self.outcomes[index] = Some(outcome);
    }

    /// Gives one verdict to all without any.
    fn settle_open(&mut self, outcome: &Outcome) {
        for slot in self.outcomes.iter_mut().filter(|slot| slot.is_none()) {
            *slot = Some(outcome.clone());
        }
    }

    /// Gives one verdict to all whose fate hangs on the content.
    pub(super) fn settle_accepted(&mut self, mut outcome: impl FnMut() -> Outcome) {
        for index in 0..self.accepted.len() {
            if self.accepted[index] {
                self.settle(index, outcome());
            }
        }
    }
}

/// Our own storage fails; no peer has to do with it.
pub(super) fn unreadable(why: &str) -> Outcome {
    tracing::error!("a message cannot be read from the queue: {why}");
    Outcome::ours(words::own(words::SPOOL_UNREADABLE), None)
}

impl Connection {
    /// Sends one message: an outcome for each recipient, in their order. Never fails as a whole:
    /// what cannot be known is deferred.
    pub async fn send(&mut self, message: &Outgoing) -> Vec<Outcome> {
        let count = message.recipients.len();
        let plan = match Plan::new(message, &self.peer) {
            Ok(plan) => plan,
            Err(reply) => return vec![Outcome::ours(reply, Some(self.remote.clone())); count],
        };
        let mut progress = Progress { outcomes: vec![None; count], accepted: vec![false; count] };
        for (index, recipient) in message.recipients.iter().enumerate() {
            if plan.refuses(recipient) {
                let reply = words::own(words::NO_SMTPUTF8);
                progress.outcomes[index] = Some(Outcome::ours(reply, Some(self.remote.clone())));
            }
        }
        let stopped = if progress.outcomes.iter().all(Option::is_some) {
            None
        } else {
            // Before the first command: an unreadable message must not cost a connection.
            match Body::open(&message.content, message.size).await {
                Ok(body) => self.transact(message, plan, body, &mut progress).await.err(),
                Err(why) => {
                    progress.settle_open(&unreadable(&why));
                    None
                }
            }
        };
        let rest = stopped.map(|stop| self.stop(stop));
        progress
            .outcomes
            .into_iter()
            .map(|outcome| match (outcome, &rest) {
                (Some(outcome), _) => outcome,
                (None, Some(outcome)) => outcome.clone(),
                (None, None) => Outcome::ours(words::own(words::SOCKET_ERROR), Some(self.remote.clone())),
            })
            .collect()
    }

    async fn transact(
        &mut self,
        message: &Outgoing,
        plan: Plan,
        mut body: Body<'_>,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        self.answered = false;
        if self.broken {
            return Err(Broken::Closed(None).into());
        }
        // Between two messages the peer has nothing to say but goodbye.
        if self.wire.has_input()? {
            let reply = self.wire.reply(self.limit(MAIL)).await?;
            self.session.received(&reply);
            return Err(Broken::Closed(None).into());
        }
        // Until it is over, this session is in no state to be used: so it stays, should the caller
        // give up waiting in the middle.
        self.broken = true;
        self.log_message(message);
        let manner = if !self.peer.chunking {
            Manner::Data
        } else if self.peer.pipelining && message.size <= ONE_FLIGHT && body.whole().is_some() {
            Manner::BdatAtOnce
        } else {
            Manner::BdatChunks
        };
        debug_assert!(manner != Manner::Data || !plan.is_binary());
        let with_tail = self.peer.pipelining && manner != Manner::BdatChunks;
        self.write_envelope(message, plan, progress, manner, with_tail);
        if self.peer.pipelining {
            let written = match body.whole() {
                Some(pieces) if manner == Manner::BdatAtOnce => self.flush_with(pieces).await,
                _ => self.wire.write(&self.out, self.limit(BLOCK)).await,
            };
            match written {
                // Its last words may have come before the end: they are read below.
                Ok(()) | Err(Broken::Closed(_)) => {}
                Err(broken) => return Err(broken.into()),
            }
        }
        let sender_good = self.read_envelope_replies(progress).await?;
        let waiting = progress.waiting();
        match manner {
            Manner::BdatAtOnce => {
                let reply = self.command(self.marks.len() - 1, FINAL).await?;
                if waiting == 0 {
                    self.needs_reset = sender_good;
                } else {
                    self.final_replies(reply, progress).await?;
                }
            }
            Manner::BdatChunks if waiting > 0 => {
                let reply = self.send_chunks(&mut body).await?;
                self.final_replies(reply, progress).await?;
            }
            Manner::Data if waiting > 0 || with_tail => {
                self.send_data(&mut body, sender_good, progress, with_tail).await?;
            }
            Manner::BdatChunks | Manner::Data => self.needs_reset = sender_good,
        }
        let delivered = progress.outcomes.iter().flatten().any(Outcome::is_success);
        self.session.messages += u64::from(delivered);
        self.session.bytes += if delivered { message.size } else { 0 };
        self.transactions += 1;
        self.broken = false;
        self.session.log.flush();
        Ok(())
    }

    /// Puts all commands into the buffer, and marks where each ends.
    fn write_envelope(
        &mut self,
        message: &Outgoing,
        plan: Plan,
        progress: &Progress,
        manner: Manner,
        with_tail: bool,
    ) {
        let Self { out, marks, .. } = self;
        out.clear();
        marks.clear();
        if self.needs_reset {
            out.extend_from_slice(b"RSET\r\n");
            marks.push(out.len());
        }
        plan.mail(message, out);
        marks.push(out.len());
        for (recipient, outcome) in message.recipients.iter().zip(&progress.outcomes) {
            if outcome.is_none() {
                plan.rcpt(recipient, out);
                marks.push(out.len());
            }
        }
        if manner == Manner::Data {
            out.extend_from_slice(b"DATA\r\n");
            marks.push(out.len());
        } else if with_tail {
            // Writing to a Vec does not fail.
            let _ = write!(out, "BDAT {} LAST\r\n", message.size);
            marks.push(out.len());
        }
    }

    /// The envelope and the content in one system call, without a copy.
    async fn flush_with(&mut self, pieces: &[Bytes]) -> Result<(), Broken> {
        let limit = self.limit(BLOCK);
        let filled = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece));
        if pieces.len() < STACK_SLICES {
            let mut slices = [IoSlice::new(&[]); STACK_SLICES];
            slices[0] = IoSlice::new(&self.out);
            let mut used = 1;
            for slice in filled {
                slices[used] = slice;
                used += 1;
            }
            self.wire.write_vectored(&mut slices[..used], limit).await
        } else {
            let mut slices: Vec<_> = std::iter::once(IoSlice::new(&self.out)).chain(filled).collect();
            self.wire.write_vectored(&mut slices, limit).await
        }
    }

    /// Replies to RSET, MAIL and RCPT. True when the sender was taken.
    async fn read_envelope_replies(&mut self, progress: &mut Progress) -> Result<bool, Stop> {
        let mut at = 0;
        if self.needs_reset {
            self.command(at, MAIL).await?;
            self.needs_reset = false;
            at += 1;
        }
        let mail = self.command(at, MAIL).await?;
        let sender_good = mail.is_positive();
        if !sender_good {
            let refused = self.refusal(mail)?;
            for index in 0..progress.outcomes.len() {
                if progress.outcomes[index].is_none() {
                    progress.settle(index, refused.clone());
                    at += 1;
                    if self.peer.pipelining {
                        // They went out already; whatever the peer says, it is a consequence.
                        self.command(at, RCPT).await?;
                    }
                }
            }
            return Ok(false);
        }
        for index in 0..progress.outcomes.len() {
            if progress.outcomes[index].is_some() {
                continue;
            }
            at += 1;
            let reply = self.command(at, RCPT).await?;
            if reply.is_positive() {
                progress.accepted[index] = true;
                continue;
            }
            // RFC 5321 section 4.5.3.1.10: 552 to RCPT may mean "too many recipients", which
            // another transaction cures.
            let too_many = reply.code == 552 && reply.enhanced.is_none_or(|e| (e.1, e.2) == (5, 3));
            let refused = match self.refusal(reply)? {
                Outcome::Failed(failure) if too_many => Outcome::Deferred(failure),
                outcome => outcome,
            };
            progress.settle(index, refused);
        }
        Ok(true)
    }

    /// The reply to the content, or in LMTP one for each accepted recipient (RFC 2033 section
    /// 4.2), of which `first` is the first.
    pub(super) async fn final_replies(&mut self, first: Reply, progress: &mut Progress) -> Result<(), Stop> {
        let one_each = self.lmtp && !std::mem::take(&mut self.refused_early);
        if one_each {
            let mut next = Some(first);
            for index in 0..progress.accepted.len() {
                if !progress.accepted[index] {
                    continue;
                }
                let reply = if let Some(first) = next.take() {
                    first
                } else {
                    let reply = self.wire.reply(self.limit(FINAL)).await?;
                    self.received(&reply)?;
                    reply
                };
                let outcome = self.verdict(reply)?;
                progress.settle(index, outcome);
            }
            return Ok(());
        }
        self.refused_early = false;
        if !first.is_positive() {
            self.needs_reset = true;
        }
        let mut left = progress.waiting();
        let mut outcome = Some(self.verdict(first)?);
        progress.settle_accepted(|| {
            left -= 1;
            let moved = if left == 0 { outcome.take() } else { outcome.clone() };
            moved.unwrap_or_else(|| Outcome::ours(words::own(words::SOCKET_ERROR), None))
        });
        Ok(())
    }

    /// What the reply to the content means.
    fn verdict(&self, reply: Reply) -> Result<Outcome, Stop> {
        if !reply.is_positive() {
            return self.refusal(reply);
        }
        Ok(if self.peer.dsn {
            Outcome::Delivered(reply)
        } else if self.lmtp {
            Outcome::Stored(reply)
        } else {
            Outcome::Relayed(reply)
        })
    }

    /// A reply that should have been positive: 4yz and 5yz are refusals, all else is nonsense.
    pub(super) fn refusal(&self, reply: Reply) -> Result<Outcome, Stop> {
        if reply.is_transient() || reply.is_permanent() {
            return Ok(Outcome::refused(reply, Some(self.remote.clone())));
        }
        Err(Broken::Protocol(format!("unexpected reply: {reply}")).into())
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
