//! The connection under the foreign client: it keeps what the peer said since the last command.
//!
//! mail-send hands out codes and drops what it does not know, and to it a connection that ended
//! and a reply that is none are one error. Both are told apart here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::smtp::{Reply, ReplyReader};

/// Enough for any reply; what a peer says beyond is not shown.
const KEPT: usize = 16 << 10;

/// A byte stream.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A byte stream that is listened to.
pub(super) struct Tap {
    io: Box<dyn Io>,
    heard: BytesMut,
    ended: bool,
}

impl Tap {
    pub(super) fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), heard: BytesMut::new(), ended: false }
    }

    /// Forgets what was heard; before each command.
    pub(super) fn listen(&mut self) {
        self.heard.clear();
    }

    /// Whether the peer ended the connection.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Takes the reply out of what was heard; none where it is not whole, or not a reply.
    pub(super) fn reply(&mut self) -> Option<Reply> {
        ReplyReader::new().next(&mut self.heard).ok().flatten()
    }

    /// The last of several replies, as an exchange of several steps leaves them.
    pub(super) fn last_reply(&mut self) -> Option<Reply> {
        std::iter::from_fn(|| self.reply()).last()
    }

    /// Whether there is more than one reply: none is due behind that to STARTTLS.
    pub(super) fn heard_more(&self) -> bool {
        let mut heard = self.heard.clone();
        matches!(ReplyReader::new().next(&mut heard), Ok(Some(_))) && !heard.is_empty()
    }

    /// What was heard and not taken, made fit for a terminal and cut.
    pub(super) fn rest(&self) -> String {
        const SHOWN: usize = 200;
        let text = String::from_utf8_lossy(&self.heard[..self.heard.len().min(SHOWN)]);
        text.trim_end().escape_debug().to_string()
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut this.io).poll_read(cx, buf));
        let new = &buf.filled()[before..];
        this.ended |= new.is_empty();
        let room = KEPT.saturating_sub(this.heard.len());
        this.heard.extend_from_slice(&new[..new.len().min(room)]);
        Poll::Ready(result)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
