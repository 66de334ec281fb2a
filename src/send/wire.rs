//! The byte stream of one session: buffered replies, vectored writes, deadlines.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::words;
use crate::smtp::{Reply, ReplyReader};

/// What a session runs over.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Replies may pile up to this size while we are still writing: enough for some hundred
/// pipelined recipients, and a bound on what a babbling peer can make us hold.
const MAX_UNREAD: usize = 256 * 1024;

/// Room asked for by one read.
const READ_SIZE: usize = 4 * 1024;

/// How a session broke.
#[derive(Debug)]
pub(super) enum Broken {
    /// The peer fell silent.
    TimedOut,
    /// The connection ended; none: the peer closed it in good order.
    Closed(Option<io::Error>),
    /// It said something that is no reply, or said it when none was due.
    Protocol(String),
}

impl Broken {
    /// The reply that stands for it (exchange-edge.md 2.6).
    pub(super) fn reply(&self) -> Reply {
        match self {
            Self::TimedOut => words::own(words::TIMED_OUT),
            Self::Closed(_) => words::own(words::SOCKET_ERROR),
            Self::Protocol(what) => {
                let (code, enhanced, text) = words::PROTOCOL_ERROR;
                words::reply(code, enhanced, &format!("{text}: {what}"))
            }
        }
    }

    /// Who closed, for the protocol log.
    pub(super) fn closed_by(&self) -> &'static str {
        match self {
            Self::TimedOut | Self::Protocol(_) => "Local",
            Self::Closed(None) => "Remote",
            Self::Closed(Some(_)) => "Remote(SocketError)",
        }
    }
}

/// One session's stream.
pub(super) struct Wire {
    io: Box<dyn Io>,
    input: BytesMut,
    replies: ReplyReader,
    timer: Timer,
}

impl Wire {
    pub(super) fn new(io: Box<dyn Io>) -> Self {
        Self { io, input: BytesMut::new(), replies: ReplyReader::new(), timer: Timer::new() }
    }

    /// Gives the stream up for a TLS handshake. Whatever was read ahead is lost on purpose, see
    /// [`Self::has_input`].
    pub(super) fn into_io(self) -> Box<dyn Io> {
        self.io
    }

    /// Whether bytes arrived that nobody asked for. Looks at the socket without waiting.
    pub(super) fn has_input(&mut self) -> Result<bool, Broken> {
        if !self.input.is_empty() {
            return Ok(true);
        }
        // No waker is needed: whoever reads next registers its own.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_fill(&mut cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(broken)) => Err(broken),
        }
    }

    /// Waits until something is there that [`Self::has_input`] would find.
    pub(super) async fn wait_input(&mut self, limit: Duration) -> Result<(), Broken> {
        if !self.input.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + limit;
        let Self { io, input, timer, .. } = self;
        timer.until(deadline, std::future::poll_fn(|cx| fill(io, input, cx))).await
    }

    /// A whole reply that is already here.
    pub(super) fn buffered_reply(&mut self) -> Result<Option<Reply>, Broken> {
        if self.input.is_empty() {
            return Ok(None);
        }
        self.replies.next(&mut self.input).map_err(|e| Broken::Protocol(e.to_string()))
    }

    /// The next reply.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<Reply, Broken> {
        if let Some(reply) = self.buffered_reply()? {
            return Ok(reply);
        }
        let deadline = Instant::now() + limit;
        loop {
            let Self { io, input, timer, .. } = self;
            timer.until(deadline, std::future::poll_fn(|cx| fill(io, input, cx))).await?;
            if let Some(reply) = self.buffered_reply()? {
                return Ok(reply);
            }
        }
    }

    /// Waits for the peer to close, throwing away what it still says. True when it did.
    pub(super) async fn closed(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            self.input.clear();
            self.replies.reset();
            let Self { io, input, timer, .. } = self;
            match timer.until(deadline, std::future::poll_fn(|cx| fill(io, input, cx))).await {
                Ok(()) => {}
                Err(Broken::Closed(_)) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Broken> {
        self.write_vectored(&mut [IoSlice::new(bytes)], limit).await
    }

    /// Writes all slices, in one system call when the socket takes them. While it does not, the
    /// peer's replies are read: a peer that waits for us to read before it reads on would
    /// otherwise never come to an end (RFC 2920 section 3.1). `limit` bounds each standstill, not
    /// the whole.
    pub(super) async fn write_vectored(
        &mut self,
        mut slices: &mut [IoSlice<'_>],
        limit: Duration,
    ) -> Result<(), Broken> {
        // Empty slices would make a complete write look like a closed peer.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let deadline = Instant::now() + limit;
            let Self { io, input, timer, .. } = self;
            let step = std::future::poll_fn(|cx| match Pin::new(&mut *io).poll_write_vectored(cx, slices) {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(Broken::Closed(Some(io::ErrorKind::WriteZero.into())))),
                Poll::Ready(Ok(n)) => Poll::Ready(Ok(n)),
                Poll::Ready(Err(e)) => Poll::Ready(Err(Broken::Closed(Some(e)))),
                Poll::Pending => drain(io, input, cx),
            });
            let written = timer.until(deadline, step).await?;
            IoSlice::advance_slices(&mut slices, written);
        }
        let deadline = Instant::now() + limit;
        let Self { io, input, timer, .. } = self;
        let flush = std::future::poll_fn(|cx| match Pin::new(&mut *io).poll_flush(cx) {
            Poll::Ready(done) => Poll::Ready(done.map(|()| 0).map_err(|e| Broken::Closed(Some(e)))),
            Poll::Pending => drain(io, input, cx),
        });
        timer.until(deadline, flush).await.map(|_| ())
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        fill(&mut self.io, &mut self.input, cx)
    }
}

/// Reads once, straight into the buffer.
fn fill(io: &mut Box<dyn Io>, input: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    input.reserve(READ_SIZE);
    let read = std::pin::pin!(io.read_buf(input));
    match read.poll(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(0)) => Poll::Ready(Err(Broken::Closed(None))),
        Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
        Poll::Ready(Err(e)) => Poll::Ready(Err(Broken::Closed(Some(e)))),
    }
}

/// Reads while a write stands still. Ready only with an error: progress is the writer's to make.
fn drain(io: &mut Box<dyn Io>, input: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
    loop {
        if input.len() > MAX_UNREAD {
            let what = "it talks instead of listening".to_owned();
            return Poll::Ready(Err(Broken::Protocol(what)));
        }
        match fill(io, input, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
        }
    }
}

/// One timer for a whole session. Registering a timer for each reply costs more than the reply;
/// so the timer is left alone while it would fire too early, and asked for the rest only then.
struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(Duration::from_mins(5))) }
    }

    async fn until<T>(
        &mut self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Broken>>,
    ) -> Result<T, Broken> {
        tokio::pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if self.sleep.deadline() > deadline {
                self.sleep.as_mut().reset(deadline);
            }
            while self.sleep.as_mut().poll(cx).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Broken::TimedOut));
                }
                self.sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}
