//! The connection of a session, in clear or over TLS.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::spare;
use crate::tls::Recorded;

/// What a session reads from and writes to.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<Recorded<TcpStream>>>),
    /// Handed to a handshake, or gone with a failed one.
    Closed,
}

/// How long a close may take: a peer that neither reads nor closes is not waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl Stream {
    /// Waits for input and reads it to where there is `room`, which is made only once there is some:
    /// a session that waits holds no buffer.
    pub(super) async fn read<B: BufMut>(&mut self, room: impl FnOnce() -> B) -> std::io::Result<usize> {
        match self {
            Self::Plain(s) => {
                poll_fn(|cx| s.poll_read_ready(cx)).await?;
                s.read_buf(&mut room()).await
            }
            Self::Tls(s) => {
                s.fill_buf().await?;
                s.read_buf(&mut room()).await
            }
            Self::Closed => Ok(0),
        }
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(s) => s.write_all(bytes).await,
            Self::Tls(s) => {
                s.write_all(bytes).await?;
                s.flush().await
            }
            Self::Closed => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// As [`write_all`](Self::write_all), for what is said last: over TLS `close_notify` goes with it, in
    /// one write instead of two.
    pub(super) async fn write_last(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Self::Tls(s) = self else { return self.write_all(bytes).await };
        // The library may take less than all at once.
        let taken = std::io::Write::write(&mut s.get_mut().1.writer(), bytes)?;
        s.write_all(&bytes[taken..]).await?;
        s.get_mut().1.send_close_notify();
        s.flush().await
    }

    /// Ends the connection in order: `close_notify` where there is TLS, then FIN, then whatever
    /// the peer had still under way is read. A socket closed on unread data is reset, and a reset
    /// takes the last reply with it before the peer has read why it was refused.
    ///
    /// After QUIT the peer has nothing under way that matters (`done`), and a connection needs no
    /// waiting: everything is said, `close_notify` included, and the kernel sees it through.
    pub(super) async fn close(&mut self, done: bool) {
        if done {
            *self = Self::Closed;
            return;
        }
        // Boxed with its buffer, which else had a place in every session from its beginning.
        let closing = Box::pin(async {
            let mut rest = [0; 4096];
            match self {
                Self::Plain(s) => {
                    s.shutdown().await?;
                    while s.read(&mut rest).await? > 0 {}
                }
                Self::Tls(s) => {
                    s.shutdown().await?;
                    let (raw, _) = s.get_mut();
                    while raw.read(&mut rest).await? > 0 {}
                }
                Self::Closed => {}
            }
            Ok::<_, std::io::Error>(())
        });
        // A peer that is gone already makes this fail, and there is nothing to do about it.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }

    /// Ends the connection without a word, of TLS either, and without a reset.
    pub(super) async fn hang_up(&mut self) {
        let closing = Box::pin(async {
            self.half_close().await?;
            let mut rest = [0; 4096];
            let Some(raw) = self.raw() else { return Ok(()) };
            while raw.read(&mut rest).await? > 0 {}
            Ok::<_, std::io::Error>(())
        });
        // A peer that is gone already makes this fail, and there is nothing to do about it.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        *self = Self::Closed;
    }

    /// Closes our direction, below TLS if there is any.
    pub(super) async fn half_close(&mut self) -> std::io::Result<()> {
        match self.raw() {
            Some(raw) => raw.shutdown().await,
            None => Ok(()),
        }
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(&mut self) {
        if let Some(raw) = self.raw() {
            // It fails for a connection that is gone already, and then there is nothing to reset.
            let _ = socket2::SockRef::from(&*raw).set_linger(Some(Duration::ZERO));
        }
        *self = Self::Closed;
    }

    fn raw(&mut self) -> Option<&mut TcpStream> {
        match self {
            Self::Plain(s) => Some(s),
            Self::Tls(s) => Some(s.get_mut().0.get_mut()),
            Self::Closed => None,
        }
    }

    /// Takes the plain connection out, for a handshake.
    pub(super) fn take_plain(&mut self) -> Option<TcpStream> {
        match std::mem::replace(self, Self::Closed) {
            Self::Plain(s) => Some(s),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// Makes room to read into, and lets go of what an earlier, larger read needed.
pub(super) fn make_room(buf: &mut BytesMut, room: usize) -> &mut BytesMut {
    if buf.capacity() == 0 {
        *buf = spare::input();
    }
    if buf.is_empty() && buf.capacity() > room {
        *buf = BytesMut::with_capacity(room);
    } else {
        buf.reserve(room);
    }
    buf
}
