//! STARTTLS (RFC 3207) and what a client certificate is worth.

use crate::config::ReceiveTls;
use crate::tls::{CertificateProblem, Side, judge_client};

use super::ending::Ended;
use super::replies;
use super::session::{Flow, Session, TlsState};
use super::stream::Stream;

/// Status words of the `TlsDomainCapabilities` line (exchange-edge.md 4.2).
const NO_REMOTE_CERTIFICATE: &str = "NoRemoteCertificate";

impl Session {
    /// Upgrades the connection. A failed handshake ends the session: neither side knows any
    /// more what the other has read.
    pub(super) async fn starttls(&mut self) -> std::io::Result<Flow> {
        let connector = std::sync::Arc::clone(&self.connector);
        if self.tls.is_some() || self.helo.is_none() {
            return self.protocol_error(replies::BAD_SEQUENCE.into()).await;
        }
        let Some(tls) = connector
            .tls
            .as_ref()
            .filter(|_| connector.config.tls != ReceiveTls::Off && !self.hides_starttls())
        else {
            return self.protocol_error(replies::UNRECOGNIZED.into()).await;
        };
        self.tried_tls = true;
        self.log.release();
        // Whatever was sent in clear behind the command must not count once the session is
        // private (RFC 3207 section 4.2; the injection of CVE-2011-0411).
        if !self.input.is_empty() {
            self.log.info(
                &format!("{} octets sent in clear behind STARTTLS were dropped", self.input.len()),
                "STARTTLS injection",
            );
            self.input.clear();
        }
        self.reply(replies::READY_FOR_TLS);
        self.flush().await?;
        if self.breaks_handshake().await? {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        let generation = std::sync::Arc::clone(&self.generation);
        let tls = self.faulty_certificate().and_then(|name| generation.faulty_tls(name)).unwrap_or(tls);
        let Some(plain) = self.stream.take_plain() else {
            return Err(std::io::ErrorKind::NotConnected.into());
        };
        let fields = tls.certificate.exchange_fields();
        self.log.info(&fields, crate::tls::SENDING_CERTIFICATE);
        let limit = connector.config.connection_inactivity_timeout;
        let done = tls.server.accept(plain, limit).await;
        let (stream, facts) = match done {
            Ok(done) => done,
            Err(failure) => {
                let text = failure.to_string();
                self.log.info("", &text);
                self.no_tls_reason = Some(text);
                self.ended = Some(Ended::Closed("TLS handshake failed"));
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        };
        if self.log.enabled() {
            self.log.info("", &facts.exchange_line(Side::Server));
            self.log.info(&facts.iana_names(), crate::log::facts::NEGOTIATED);
        }
        let asked = connector.config.asks_for_client_certificates();
        let client =
            asked.then(|| judge_client(&facts, &self.generation.roots, &connector.config.tls_domains));
        self.stream = Stream::Tls(Box::new(stream));
        self.tls = Some(TlsState { facts, report_client: client.is_some(), client });
        // RFC 3207 section 4.2: everything learnt before is forgotten.
        self.reset();
        self.helo = None;
        Ok(Flow::Continue)
    }

    /// The two lines about the client certificate, once, behind the EHLO that follows the
    /// handshake.
    pub(super) fn report_client_certificate(&mut self) {
        let Some(tls) = self.tls.as_mut().filter(|t| t.report_client) else { return };
        tls.report_client = false;
        let Some(verdict) = &tls.client else { return };
        let (chain, capabilities) = match verdict {
            Ok(name) => {
                let name = name.as_deref().unwrap_or_default();
                (
                    "Valid".to_owned(),
                    format!("TlsDomainCapabilities='None'; Status='Success'; Domain='{name}'"),
                )
            }
            Err(CertificateProblem { word, .. }) => {
                let status = if *word == "EmptyCertificate" { NO_REMOTE_CERTIFICATE } else { word };
                ((*word).to_owned(), format!("TlsDomainCapabilities='None'; Status='{status}'"))
            }
        };
        self.log.info("", &format!("Client certificate chain validation status: '{chain}'"));
        self.log.info("", &capabilities);
    }

    /// Why MAIL must be refused under the connector's TLS rule; none = it need not.
    pub(super) fn tls_refusal(&self) -> Option<replies::ReplyLine> {
        match (self.connector.config.tls, &self.tls) {
            (ReceiveTls::Off | ReceiveTls::Opportunistic, _) | (ReceiveTls::Required, Some(_)) => None,
            (ReceiveTls::Required | ReceiveTls::Mutual, None) => {
                Some(replies::need_starttls(self.connector.config.tls_rejection).into())
            }
            (ReceiveTls::Mutual, Some(tls)) => match &tls.client {
                Some(Ok(_)) => None,
                Some(Err(problem)) => Some(replies::client_certificate_refused(problem.word)),
                None => Some(replies::NO_TLS_NOW.into()),
            },
        }
    }
}
