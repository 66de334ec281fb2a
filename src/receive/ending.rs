//! How a session ends, and what is told of it then.

use crate::log::{Direction, SessionEvent};

use super::session::Session;

/// Why a session ended, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// QUIT.
    Quit,
    /// The client closed without QUIT.
    ByPeer,
    /// The connection broke.
    Broken,
    /// We closed: a limit, a refusal, shutdown; with the word for it.
    Closed(&'static str),
}

impl Session {
    /// Says goodbye to the connection and writes what the session was.
    pub(super) async fn finish(mut self: Box<Self>) {
        let ended = self.ended.unwrap_or(Ended::Broken);
        self.stream.close(ended == Ended::Quit && self.input.is_empty()).await;
        // Who was refused for want of a place finds it when the connection is gone.
        drop(self.place);
        let probe = !self.tried_tls && !self.tried_mail;
        let quiet = self.generation.quiet_probes_from.iter().any(|r| r.contains(self.peer.ip()));
        if probe && quiet {
            return self.log.discard();
        }
        self.log.release();
        if self.tls.is_none() && self.no_tls_reason.is_none() {
            let why = if self.connector.tls.is_none() {
                "STARTTLS is not offered here"
            } else {
                "the client did not ask for STARTTLS"
            };
            self.log.info(why, "No TLS: the session stayed in plain text");
            self.no_tls_reason = Some(why.to_owned());
        }
        self.log.disconnect(match ended {
            Ended::Quit | Ended::Closed(_) => "Local",
            Ended::ByPeer => "Remote",
            Ended::Broken => "Remote(SocketError)",
        });
        self.log.flush();
        let verified: Option<Option<String>> =
            self.tls.as_ref().and_then(|t| t.client.as_ref()).and_then(|c| c.clone().ok());
        SessionEvent {
            direction: Direction::In,
            connector: self.connector.config.name.clone(),
            session_id: self.log.session_id(),
            peer: self.peer,
            local: Some(self.local),
            helo: self.helo.as_deref().map(str::to_owned),
            tls_version: self.tls.as_ref().map(|t| t.facts.version.as_str()),
            tls_cipher: self.tls.as_ref().map(|t| t.facts.cipher),
            tls_group: self.tls.as_ref().and_then(|t| t.facts.group),
            tls_verified: verified.is_some(),
            tls_peer_name: verified.flatten().or_else(|| {
                let shown = self.tls.as_ref()?.facts.peer_certificate()?;
                shown.first_name().map(str::to_owned)
            }),
            no_tls_reason: self.no_tls_reason,
            attribution: self.eop.as_ref().and_then(|visit| visit.decided()).map(str::to_owned),
            validation: self.validation,
            messages: self.messages,
            bytes: self.bytes,
            outcome: match ended {
                Ended::Quit => "quit".into(),
                Ended::ByPeer => "closed by the client".into(),
                Ended::Broken => "connection broken".into(),
                Ended::Closed(why) => why.into(),
            },
            duration: self.started.elapsed(),
        }
        .emit(&self.server.observers);
    }
}
