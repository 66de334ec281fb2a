//! A connection to the relay.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memchr::memchr;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, HandshakeKind, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Args;

/// A connection without a greeting is given up after this time, and another one opened. A server
/// with a short backlog forgets connections that its client believes to be there.
const GREETING: Duration = Duration::from_secs(5);

/// A connection on which EHLO was said.
pub(crate) struct Peer {
    stream: Stream,
    input: Vec<u8>,
    /// Bytes of `input` that are dealt with.
    at: usize,
    /// Whether it said PIPELINING.
    pipelining: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// While TLS is started, and for good if that fails.
    None,
}

/// Why there is no connection: the code it was refused with, or 0, and what to tell.
type Refused = (u16, io::Error);

impl Peer {
    pub(crate) async fn open(
        args: &Args,
        tls: Option<&TlsConnector>,
        unanswered: &AtomicU64,
    ) -> Result<Self, Refused> {
        let broken = |error| (0, error);
        let mut peer =
            Self { stream: Stream::None, input: Vec::with_capacity(2048), at: 0, pipelining: false };
        let banner = loop {
            peer.stream = Stream::Plain(connect(args.target, args.source).await.map_err(broken)?);
            if let Ok(banner) = timeout(GREETING, peer.reply()).await {
                break banner.map_err(broken)?;
            }
            unanswered.fetch_add(1, Ordering::Relaxed);
        };
        expect(banner, 220, "the greeting")?;
        peer.ask(b"EHLO load.test\r\n", 250).await?;
        if let Some(tls) = tls {
            peer.ask(b"STARTTLS\r\n", 220).await?;
            peer.handshake(tls).await.map_err(broken)?;
            // What was said in clear text does not count any more (RFC 3207 section 4.2).
            peer.pipelining = false;
            peer.ask(b"EHLO load.test\r\n", 250).await?;
        }
        Ok(peer)
    }

    async fn ask(&mut self, command: &[u8], wanted: u16) -> Result<(), Refused> {
        let code = self.say(command).await.map_err(|error| (0, error))?;
        expect(code, wanted, &String::from_utf8_lossy(command.trim_ascii_end()))
    }

    async fn handshake(&mut self, tls: &TlsConnector) -> io::Result<()> {
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::None) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let name = ServerName::try_from("relay.test").map_err(io::Error::other)?;
        self.stream = Stream::Tls(Box::new(tls.connect(name, stream).await?));
        Ok(())
    }

    /// Whether the TLS session was resumed; `None` in clear text.
    pub(crate) fn resumed(&self) -> Option<bool> {
        match &self.stream {
            Stream::Tls(stream) => Some(stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)),
            _ => None,
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Stream::None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) -> io::Result<u16> {
        self.write(bytes).await?;
        self.reply().await
    }

    /// Whether several commands may go out at once (RFC 2920).
    pub(crate) fn pipelining(&self) -> bool {
        self.pipelining
    }

    /// The code of the next whole reply.
    pub(crate) async fn reply(&mut self) -> io::Result<u16> {
        loop {
            while let Some(end) = memchr(b'\n', &self.input[self.at..]) {
                let line = &self.input[self.at..=self.at + end];
                self.at += end + 1;
                self.pipelining |= line.get(4..).is_some_and(|text| text.trim_ascii_end() == b"PIPELINING");
                if line.get(3) == Some(&b'-') {
                    continue;
                }
                let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
                return code.ok_or_else(|| {
                    io::Error::other(format!("not a reply: {}", String::from_utf8_lossy(line)))
                });
            }
            self.input.drain(..self.at);
            self.at = 0;
            self.input.reserve(1024);
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read_buf(&mut self.input).await?,
                Stream::Tls(stream) => stream.read_buf(&mut self.input).await?,
                Stream::None => 0,
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn expect(code: u16, wanted: u16, what: &str) -> Result<(), Refused> {
    if code == wanted { Ok(()) } else { Err((code, io::Error::other(format!("{what}: {code}")))) }
}

async fn connect(target: SocketAddr, source: Option<std::net::IpAddr>) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// TLS for the connections of one worker, which resume each other's sessions if `resume` is set.
pub(crate) fn connector(resume: bool) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(default_provider());
    // The first use of the generator takes some 40 ms, which no handshake should be charged with.
    let _ = provider.secure_random.fill(&mut [0]);
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(schemes)))
        .with_no_client_auth();
    config.resumption = if resume { Resumption::in_memory_sessions(4) } else { Resumption::disabled() };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Trusts every server, and saves the time to check that it has the key it shows.
#[derive(Debug)]
struct Anyone(Vec<SignatureScheme>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
