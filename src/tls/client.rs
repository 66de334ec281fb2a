//! The client's end of a handshake.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::facts::TlsFacts;
use super::failure::HandshakeFailure;
use super::hello::server_choice;
use super::identity::Identity;
use super::recorded::{Recorded, Tape};
use super::verifier::AnyChain;
use super::{TlsError, provider, versions};
use crate::config::MinTlsVersion;

/// Sessions a connector remembers, over all its next hops.
const REMEMBERED: usize = 256;

/// A send connector's TLS settings and the sessions it may resume. Cheap to clone; clones share
/// the sessions, other connectors never do.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
}

impl ClientTls {
    /// Settings that show `identity`, if there is one, to a server that asks.
    ///
    /// Any certificate is taken whose key the server proves to hold: what the connector's rule
    /// asks of it is for [`judge_server`](super::judge_server), resumed or not.
    pub fn new(identity: Option<&Identity>, min: MinTlsVersion) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(min))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyChain::new()));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(REMEMBERED);
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands with a server that agreed to STARTTLS. `server_name` is sent as SNI unless it
    /// is an address (with or without brackets). `limit` is for the whole handshake.
    pub async fn connect<IO>(
        &self,
        io: IO,
        server_name: &str,
        limit: Duration,
    ) -> Result<(TlsStream<Recorded<IO>>, TlsFacts), HandshakeFailure>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = sni(server_name)?;
        let sent = matches!(name, ServerName::DnsName(_)).then(|| name.to_str().into_owned());
        let tape = Tape::default();
        let handshake = self.connector.connect(name, Recorded::new(io, tape.clone()));
        match tokio::time::timeout(limit, handshake).await {
            Ok(Ok(mut stream)) => {
                let (io, connection) = stream.get_mut();
                io.stop();
                let facts = TlsFacts::of(connection, sent);
                Ok((stream, facts))
            }
            Ok(Err(error)) => Err(HandshakeFailure::of(&error, explaining(&tape))),
            Err(_) => Err(HandshakeFailure::timed_out(explaining(&tape))),
        }
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}

/// The server's choice, when that is what went wrong.
fn explaining(tape: &Tape) -> Option<super::OfferedVersions> {
    server_choice(&tape.take()).filter(super::OfferedVersions::is_legacy)
}

fn sni(name: &str) -> Result<ServerName<'static>, HandshakeFailure> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    let unusable = || HandshakeFailure::new("SocketError", format!("`{name}` cannot be asked for by name"));
    let ascii = crate::config::ascii_domain(bare).map_err(|_| unusable())?;
    ServerName::try_from(ascii).map_err(|_| unusable())
}
