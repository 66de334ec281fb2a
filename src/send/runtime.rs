//! What stays the same over the sessions of a send connector, and over all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Resolver;
use crate::config::SendConnector;
use crate::log::{Observers, ProtocolLog};

/// A send connector ready for use, built once at each (re)load.
pub struct ConnectorRuntime {
    /// Its configuration.
    pub config: SendConnector,
    /// `server.hostname`: a next hop that greets with it is ourselves.
    pub hostname: String,
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
