//! A connection: in clear, inside TLS, or as if the relay were far away.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) enum Wire {
    Plain(TcpStream, u64),
    Tls(Box<TlsStream<TcpStream>>, u64),
    Far(Far),
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, round_trip: Duration) -> Self {
        if round_trip.is_zero() { Self::Plain(stream, 0) } else { Self::Far(Far::new(stream, round_trip)) }
    }

    /// Appends what has come to `input`; 0 at the end of the connection.
    pub(crate) async fn read(&mut self, input: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream, _) => stream.read_buf(input).await,
            Self::Tls(stream, _) => stream.read_buf(input).await,
            Self::Far(far) => far.input.read_buf(input).await,
        }
    }

    pub(crate) async fn write(&mut self, output: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream, written) => {
                *written += 1;
                stream.write_all(output).await
            }
            Self::Tls(stream, written) => {
                *written += 1;
                stream.write_all(output).await?;
                stream.flush().await
            }
            Self::Far(far) => {
                far.write(output, 1);
                Ok(())
            }
        }
    }

    /// The banner. Over a real wire it comes one round trip after the connection is there, and that
    /// takes one of its own.
    pub(crate) async fn greet(&mut self, banner: &[u8]) -> io::Result<()> {
        match self {
            Self::Far(far) => {
                far.write(banner, 2);
                Ok(())
            }
            near => near.write(banner).await,
        }
    }

    /// How many writes the other side may have seen.
    pub(crate) fn written(&self) -> u64 {
        match self {
            Self::Plain(_, written) | Self::Tls(_, written) => *written,
            Self::Far(far) => far.written.load(Ordering::Relaxed),
        }
    }
}

/// A connection whose replies are under way for the time of the whole round trip. What the relay
/// sends is read at once; to the relay that is the same as if each direction took half as long.
pub(crate) struct Far {
    input: OwnedReadHalf,
    replies: UnboundedSender<(Instant, Vec<u8>)>,
    round_trip: Duration,
    written: Arc<AtomicU64>,
}

impl Far {
    fn new(stream: TcpStream, round_trip: Duration) -> Self {
        let (input, output) = stream.into_split();
        let (replies, under_way) = unbounded_channel();
        let written = Arc::new(AtomicU64::new(0));
        // Ends when the session has ended and its last reply has arrived.
        tokio::spawn(deliver(under_way, output, Arc::clone(&written)));
        Self { input, replies, round_trip, written }
    }

    fn write(&self, output: &[u8], round_trips: u32) {
        // One that cannot be sent has no connection any more, which the next read says as well.
        let _ = self.replies.send((Instant::now() + self.round_trip * round_trips, output.to_vec()));
    }
}

async fn deliver(
    mut under_way: UnboundedReceiver<(Instant, Vec<u8>)>,
    mut output: OwnedWriteHalf,
    written: Arc<AtomicU64>,
) -> io::Result<()> {
    while let Some((due, reply)) = under_way.recv().await {
        tokio::time::sleep_until(due).await;
        written.fetch_add(1, Ordering::Relaxed);
        output.write_all(&reply).await?;
    }
    Ok(())
}

/// A server's end of TLS, with a certificate of its own that nobody vouches for.
pub(crate) fn acceptor() -> io::Result<TlsAcceptor> {
    // rcgen makes ECDSA P-256 keys unless told otherwise.
    let made = rcgen::generate_simple_self_signed(["sink.test".to_owned()]).map_err(io::Error::other)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![made.cert.into()], key))
        .map_err(io::Error::other)?;
    // Tickets instead of a memory: no session that resumes depends on how many others there were.
    config.ticketer = Ticketer::new().map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
