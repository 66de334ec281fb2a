//! One session with a next hop.

use super::{ConnectFailure, ConnectorRuntime, Outcome, Outgoing, SendContext, Target, words};

/// An open session: greeted, secured and authenticated as its connector asks.
pub struct Connection {}

impl Connection {
    /// Connects and does everything up to the first MAIL.
    pub async fn open(
        _connector: &ConnectorRuntime,
        target: &Target,
        _context: &SendContext,
    ) -> Result<Self, ConnectFailure> {
        Err(ConnectFailure {
            reply: words::own(words::UNABLE_TO_CONNECT),
            target: target.clone(),
            permanent: false,
            local: true,
        })
    }

    /// Sends one message: an outcome for each recipient, in their order.
    pub async fn send(&mut self, _message: &Outgoing) -> Vec<Outcome> {
        Vec::new()
    }

    /// Whether another message may go over it now.
    pub fn usable(&mut self) -> bool {
        false
    }

    /// Ends the session in good order.
    pub async fn quit(self) {}
}
