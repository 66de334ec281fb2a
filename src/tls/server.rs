//! The server's end of a handshake.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::facts::TlsFacts;
use super::failure::HandshakeFailure;
use super::hello::client_offer;
use super::identity::Identity;
use super::recorded::{Recorded, Tape};
use super::verifier::AnyChain;
use super::{TlsError, provider, versions};
use crate::config::MinTlsVersion;

/// Sessions a connector remembers for clients that resume by session id.
const REMEMBERED: usize = 1024;

/// A receive connector's TLS settings. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
}

impl ServerTls {
    /// Settings that show `identity` with its whole chain.
    ///
    /// With `client_cert` a certificate is asked for; a handshake never fails for the want of
    /// one, and never resumes, so that each session is judged on what the client shows in it.
    /// `tls13_tickets` lets TLS 1.3 clients resume.
    pub fn new(
        identity: &Identity,
        min: MinTlsVersion,
        client_cert: bool,
        tls13_tickets: bool,
    ) -> Result<Self, TlsError> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions(min))?;
        let builder = if client_cert {
            builder.with_client_cert_verifier(Arc::new(AnyChain::new()))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(identity.resolver());
        if client_cert {
            // The default ticketer makes no tickets.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.session_storage = ServerSessionMemoryCache::new(REMEMBERED);
            config.ticketer = ticketer(min)?;
            // The library would make two, but a client gets a new one with each session it resumes,
            // and each costs a key of its own and a sealing.
            config.send_tls13_tickets = usize::from(tls13_tickets);
        }
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Answers a client's hello. `limit` is for the whole handshake.
    ///
    /// Bytes that were read from `io` before must be thrown away by the caller: nothing sent in
    /// clear text may count inside (RFC 3207 section 4.2).
    pub async fn accept<IO>(
        &self,
        io: IO,
        limit: Duration,
    ) -> Result<(TlsStream<Recorded<IO>>, TlsFacts), HandshakeFailure>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let tape = Tape::default();
        let handshake = self.acceptor.accept(Recorded::new(io, tape.clone()));
        match tokio::time::timeout(limit, handshake).await {
            Ok(Ok(mut stream)) => {
                let (io, connection) = stream.get_mut();
                io.stop();
                let facts = TlsFacts::of(connection, connection.server_name().map(str::to_owned));
                Ok((stream, facts))
            }
            Ok(Err(error)) => Err(HandshakeFailure::of(&error, Some(client_offer(&tape.take())))),
            Err(_) => Err(HandshakeFailure::timed_out(Some(client_offer(&tape.take())))),
        }
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

/// Ticket keys, one set for each rule and for the life of the process: a ticket is good on any
/// connector of the same rule and after a reload. Connectors that ask for client certificates
/// have none at all.
fn ticketer(min: MinTlsVersion) -> Result<Arc<dyn ProducesTickets>, TlsError> {
    static KEYS: [OnceLock<Arc<dyn ProducesTickets>>; 2] = [OnceLock::new(), OnceLock::new()];
    let keys = &KEYS[usize::from(min == MinTlsVersion::Tls13)];
    if let Some(existing) = keys.get() {
        return Ok(existing.clone());
    }
    let made = Ticketer::new()?;
    Ok(keys.get_or_init(|| made).clone())
}
