//! STARTTLS by the connector's rule (RFC 3207; exchange-edge.md 3.1; interface 7.9).

use std::time::{Duration, SystemTime};

use super::open::{Opening, Refused, transient};
use super::wire::{Broken, Wire};
use super::words;
use crate::config::SendTls;
use crate::log::facts::VERIFIED_NAME;
use crate::tls::{CertificateProblem, SENDING_CERTIFICATE, judge_server, judge_server_named};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_mins(1);

/// How long the peer may take to answer STARTTLS.
const STARTTLS: Duration = Duration::from_mins(2);

/// Why a session has no TLS.
pub(super) const NOT_OFFERED: &str = "the next hop does not offer STARTTLS";

/// What the rule makes of what the peer offers.
pub(super) enum Security {
    /// On in clear text, for this reason.
    Plain(String),
    /// TLS is asked for and not offered.
    Missing,
    /// TLS now.
    StartTls,
}

impl Opening<'_> {
    /// Decides after the first EHLO. `plain`: TLS was tried before and failed for this reason.
    pub(super) fn security(&self, plain: Option<&str>) -> Security {
        let offered = self.connection.peer.starttls;
        match (self.rule(), plain) {
            (SendTls::Off, _) => Security::Plain("the connector does not use STARTTLS".to_owned()),
            (SendTls::Opportunistic, Some(why)) => Security::Plain(format!("tried once more after: {why}")),
            (SendTls::Opportunistic, None) if !offered => Security::Plain(NOT_OFFERED.to_owned()),
            _ if !offered => Security::Missing,
            _ => Security::StartTls,
        }
    }

    /// STARTTLS, the handshake, and the judgement on the certificate.
    pub(super) async fn secure(&mut self) -> Result<(), Refused> {
        let may_go_plain = self.rule() == SendTls::Opportunistic;
        let reply = self.ask("STARTTLS", STARTTLS).await?;
        self.connection.session.received(&reply);
        if reply.code != 220 {
            self.connection.session.not_secured(format!("STARTTLS was refused: {reply}"));
            let refused = self.refuse(reply.clone()).await;
            let why = format!("STARTTLS was answered with {reply}");
            return Err(if may_go_plain { Refused::TryPlain(why) } else { refused });
        }
        // Whatever came behind the reply came in clear text and from anyone. It must not be taken
        // for something said inside TLS, and a peer on whose line somebody else speaks is none to
        // speak with at all, in clear text least of all.
        match self.connection.wire.has_input() {
            Ok(false) => {}
            Ok(true) => {
                let what = "it spoke between its reply to STARTTLS and the handshake".to_owned();
                return Err(self.lost(Broken::Protocol(what)));
            }
            Err(broken) => return Err(self.lost(broken)),
        }
        self.shake_hands(may_go_plain).await?;
        self.judge().await
    }

    async fn shake_hands(&mut self, may_go_plain: bool) -> Result<(), Refused> {
        let Some(tls) = &self.connector.tls else {
            // Only a connector with `tls = "off"` has no settings.
            return Err(self.give_up(words::own(words::STARTTLS_REQUIRED), "").await);
        };
        if let Some(fields) = &self.connector.certificate {
            self.connection.session.log.info(fields, SENDING_CERTIFICATE);
        }
        let wire = std::mem::replace(&mut self.connection.wire, Wire::new(Box::new(tokio::io::empty())));
        let name = self.target.host.trim_matches(['[', ']']);
        let limit = self.connection.limit(HANDSHAKE);
        match tls.connect(wire.into_io(), name, limit).await {
            Ok((stream, facts)) => {
                self.connection.session.secured(facts);
                self.connection.wire = Wire::new(Box::new(stream));
                Ok(())
            }
            Err(failure) => {
                let line = failure.to_string();
                self.connection.session.not_secured(line.clone());
                self.connection.broken = true;
                let reply =
                    words::reply(421, (4, 4, 2), &format!("Connection dropped due to {}", failure.word));
                self.connection.session.end("Local", &line);
                Err(if may_go_plain {
                    Refused::TryPlain(line)
                } else {
                    Refused::Final(transient(self.target, reply))
                })
            }
        }
    }

    /// `validate_certificate` and `validate_domain` (exchange-edge.md 3.4, 3.5). Before any MAIL.
    async fn judge(&mut self) -> Result<(), Refused> {
        let Some(facts) = &self.connection.session.tls else { return Ok(()) };
        let (roots, now) = (&self.connector.roots, SystemTime::now());
        let judgement = match (self.rule(), &self.connector.config.tls_domain) {
            (SendTls::Off | SendTls::Opportunistic | SendTls::Required, _) => return Ok(()),
            (SendTls::ValidateCertificate, _) => judge_server(facts, roots, None, now),
            (SendTls::ValidateDomain, Some(domain)) => judge_server(facts, roots, Some(domain), now),
            (SendTls::ValidateDomain, None) => judge_server_named(facts, roots, &self.target.tls_name, now),
        };
        match judgement {
            Ok(name) => {
                let session = &mut self.connection.session;
                // None: the rule asks for a chain only.
                if let Some(name) = &name {
                    session.log.info(name, VERIFIED_NAME);
                }
                session.verified = true;
                session.verified_name = name;
                Ok(())
            }
            Err(problem) => Err(self.distrust(&problem).await),
        }
    }

    async fn distrust(&mut self, problem: &CertificateProblem) -> Refused {
        let words = format!("Certificate validation failure, Reason:{}", problem.word);
        self.give_up(words::reply(454, (4, 7, 5), &words), &problem.detail).await
    }
}
