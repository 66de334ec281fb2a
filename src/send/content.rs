//! The content of a message on its way: as DATA or in BDAT chunks.

use std::collections::VecDeque;
use std::io::{IoSlice, Write};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::Connection;
use super::body::{Body, PIECE};
use super::transaction::{BLOCK, FINAL, Progress, Stop};
use super::wire::Broken;
use crate::smtp::{DotStuffer, Reply};

/// RFC 5321 section 4.5.3.2.4.
const DATA: Duration = Duration::from_mins(2);

/// How much of the buffer for dot-stuffed content an idle session may keep.
const STUFFED_KEPT: usize = 128 * 1024;

/// How long to look for the reply of a peer that closed on us.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Connection {
    /// DATA (RFC 5321 section 4.1.1.4).
    pub(super) async fn send_data(
        &mut self,
        body: &mut Body<'_>,
        sender_good: bool,
        progress: &mut Progress,
        sent: bool,
    ) -> Result<(), Stop> {
        let at = self.marks.len() - 1;
        debug_assert!(sent || progress.waiting() > 0);
        let go_on = self.command(at, DATA).await?;
        if progress.waiting() == 0 {
            self.needs_reset = sender_good;
            if go_on.code == 354 {
                // RFC 2920 section 3.1: the peer waits for content that nobody is to get.
                self.wire.write(b".\r\n", self.limit(BLOCK)).await?;
                let reply = self.wire.reply(self.limit(FINAL)).await?;
                self.received(&reply)?;
            }
            return Ok(());
        }
        if go_on.code != 354 {
            self.needs_reset = true;
            let refused = self.refusal(go_on)?;
            progress.settle_accepted(|| refused.clone());
            return Ok(());
        }
        self.write_text(body).await?;
        let reply = self.wire.reply(self.limit(FINAL)).await?;
        self.received(&reply)?;
        self.final_replies(reply, progress).await
    }

    /// The content as DATA carries it, with the final dot in the same write as its tail.
    async fn write_text(&mut self, body: &mut Body<'_>) -> Result<(), Stop> {
        let mut stuffer = DotStuffer::new();
        self.stuffed.clear();
        if let Some(pieces) = body.whole().filter(|p| p.iter().map(Bytes::len).sum::<usize>() <= PIECE) {
            for piece in pieces {
                stuffer.feed(piece, &mut self.stuffed);
            }
        } else {
            let mut slices = Vec::new();
            loop {
                let len = body.next(&mut slices).await.map_err(Stop::Unreadable)?;
                for slice in &slices {
                    stuffer.feed(slice, &mut self.stuffed);
                }
                if body.left() == 0 {
                    break;
                }
                if len == 0 {
                    return Err(cut_short());
                }
                self.write_stuffed().await?;
                self.check_silence()?;
            }
        }
        stuffer.finish(&mut self.stuffed);
        self.write_stuffed().await?;
        if self.stuffed.capacity() > STUFFED_KEPT {
            self.stuffed = Vec::new();
        }
        Ok(())
    }

    async fn write_stuffed(&mut self) -> Result<(), Stop> {
        let written = self.wire.write(&self.stuffed, self.limit(BLOCK)).await;
        self.stuffed.clear();
        match written {
            Ok(()) => Ok(()),
            Err(broken) => Err(self.last_words(broken).await),
        }
    }

    /// A peer that closes in the middle of content has often said why just before.
    async fn last_words(&mut self, broken: Broken) -> Stop {
        if let Broken::Closed(_) = broken
            && let Ok(reply) = self.wire.reply(LAST_WORDS).await
        {
            if let Err(stop) = self.received(&reply) {
                return stop;
            }
            if reply.is_transient() || reply.is_permanent() {
                return Stop::Closing(reply);
            }
        }
        broken.into()
    }

    /// In the midst of DATA the peer has nothing to say. If it refuses all the same, that is its
    /// answer, but there is no way back to a common state.
    fn check_silence(&mut self) -> Result<(), Stop> {
        if !self.wire.has_input()? {
            return Ok(());
        }
        let Some(reply) = self.wire.buffered_reply()? else { return Ok(()) };
        self.received(&reply)?;
        if reply.is_transient() || reply.is_permanent() {
            return Err(Stop::Closing(reply));
        }
        Err(Broken::Protocol(format!("it answered before the message was over: {reply}")).into())
    }

    /// BDAT, one chunk a piece (RFC 3030 section 2). Returns the reply that decides: the one to
    /// the last chunk, or the first refusal.
    pub(super) async fn send_chunks(&mut self, body: &mut Body<'_>) -> Result<Reply, Stop> {
        // Where each unanswered command lies in the buffer.
        let mut unanswered = VecDeque::new();
        self.out.clear();
        let mut piece = Vec::new();
        loop {
            let len = body.next(&mut piece).await.map_err(Stop::Unreadable)?;
            let last = body.left() == 0;
            if len == 0 && !last {
                return Err(cut_short());
            }
            let start = self.out.len();
            // Writing to a Vec does not fail.
            let _ = write!(self.out, "BDAT {len}{}\r\n", if last { " LAST" } else { "" });
            unanswered.push_back(start..self.out.len());
            let limit = self.limit(BLOCK);
            let command = std::iter::once(&self.out[start..]);
            let mut slices: Vec<_> =
                command.chain(piece.iter().map(|part| &part[..])).map(IoSlice::new).collect();
            if let Err(broken) = self.wire.write_vectored(&mut slices, limit).await {
                return Err(self.last_words(broken).await);
            }
            if let Some(reply) = self.read_chunk_replies(&mut unanswered, last).await? {
                return Ok(reply);
            }
        }
    }

    /// Replies to chunks: those that are here, or all where we have to wait. Some: the one that
    /// decides.
    async fn read_chunk_replies(
        &mut self,
        unanswered: &mut VecDeque<Range<usize>>,
        last: bool,
    ) -> Result<Option<Reply>, Stop> {
        while let Some(command) = unanswered.front().cloned() {
            let reply = if last || !self.peer.pipelining {
                self.wire.reply(self.limit(FINAL)).await?
            } else if self.wire.has_input()?
                && let Some(reply) = self.wire.buffered_reply()?
            {
                reply
            } else {
                return Ok(None);
            };
            unanswered.pop_front();
            self.answered_to(command, &reply)?;
            if last && unanswered.is_empty() {
                return Ok(Some(reply));
            }
            if !reply.is_positive() {
                return self.chunk_refused(reply, unanswered).await.map(Some);
            }
        }
        // All chunks are answered, the last is yet to come: what is said now was not asked for.
        self.check_silence()?;
        Ok(None)
    }

    /// A chunk was refused: the others that are under way are answered with errors as well
    /// (RFC 3030 section 2), and RSET clears the rest away.
    async fn chunk_refused(
        &mut self,
        reply: Reply,
        unanswered: &mut VecDeque<Range<usize>>,
    ) -> Result<Reply, Stop> {
        for command in unanswered.drain(..) {
            let consequence = self.wire.reply(self.limit(FINAL)).await?;
            self.answered_to(command, &consequence)?;
        }
        self.needs_reset = true;
        self.refused_early = true;
        Ok(reply)
    }
}

fn cut_short() -> Stop {
    Stop::Unreadable("it ends before its size".to_owned())
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
