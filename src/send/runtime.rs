//! What stays the same over the sessions of a send connector, and over all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Resolver;
use super::oauth::{self, Tokens};
use crate::config::{MinTlsVersion, OAuth2, SendConnector, SendTls};
use crate::log::{Observers, ProtocolLog};
use crate::tls::{CertificateStore, ClientTls, Roots, TlsError};

/// A send connector ready for use, built once at each (re)load.
pub struct ConnectorRuntime {
    /// Its configuration.
    pub config: SendConnector,
    /// Settings of its TLS sessions, with a session store of its own: a session must never be
    /// resumed under another connector's certificate. None with `tls = "off"`.
    pub tls: Option<ClientTls>,
    /// Trust anchors.
    pub roots: Arc<Roots>,
    /// Fields of the "Sending certificate" log line, if it has a certificate to present.
    pub certificate: Option<String>,
    /// `tls_certificate_name` names no certificate we have. Mail waits rather than goes out as
    /// somebody else's: a next hop such as EOP tells us by that certificate.
    pub certificate_missing: bool,
    /// `server.hostname`: a next hop that greets with it is ourselves.
    pub hostname: String,
    /// OAuth 2 tokens, for `auth` by `xoauth2`.
    pub(super) tokens: Tokens,
}

impl ConnectorRuntime {
    /// Makes a connector ready: its client certificate by `tls_certificate_name`, or else by its
    /// `fqdn` (exchange-edge.md 3.3).
    pub fn new(
        config: SendConnector,
        certificates: &CertificateStore,
        roots: Arc<Roots>,
        min_version: MinTlsVersion,
        hostname: &str,
    ) -> Result<Self, TlsError> {
        let identity = certificates.choose(config.tls_certificate_name.as_deref(), &config.fqdn);
        let tls = match config.tls {
            SendTls::Off if config.auth.is_none() => None,
            _ => Some(ClientTls::new(identity.as_deref(), min_version)?),
        };
        let certificate = identity.as_ref().map(|identity| identity.facts.exchange_fields());
        let certificate_missing = config.tls_certificate_name.is_some() && identity.is_none();
        Ok(Self {
            config,
            tls,
            roots,
            certificate,
            certificate_missing,
            hostname: hostname.to_owned(),
            tokens: Tokens::default(),
        })
    }
}

impl ConnectorRuntime {
    /// The initial response of AUTH XOAUTH2, with a token that is good for now; the error says why
    /// there is none.
    pub(crate) async fn xoauth2(&self, settings: &OAuth2, resolver: &Resolver) -> Result<String, String> {
        let (token, _) = self.tokens.token(settings, resolver, &self.roots).await?;
        Ok(oauth::response(&settings.username, &token))
    }
}

/// Whether an endpoint is one of our own listeners.
pub type IsOwnAddress = Arc<dyn Fn(&SocketAddr) -> bool + Send + Sync>;

/// What all sessions out share.
#[derive(Clone)]
pub struct SendContext {
    /// `SmtpSend` protocol log.
    pub log: ProtocolLog,
    /// Who hears of finished sessions.
    pub observers: Observers,
    /// Name service.
    pub resolver: Arc<Resolver>,
    /// Tells our own listening endpoints, so that mail never loops inside us.
    pub is_own_address: IsOwnAddress,
}
