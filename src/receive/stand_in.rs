//! What a session does otherwise where the instance stands in for Exchange Online: it asks the
//! stand-in at each stage, and does what a fault says.
//!
//! Everything here begins with `self.eop`, and a relay of any other kind has none.

use crate::config::{FaultAction, FaultAt};
use crate::eop::{Shown, Strike};
use crate::smtp::{Address, Command, ForwardPath};

use super::ending::Ended;
use super::replies::{self, ReplyLine};
use super::session::{Flow, ROOM, Session};

/// A TLS alert, fatal, `handshake_failure` (RFC 8446 section 6), in a record of its own.
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 1, 0, 2, 2, 40];

impl Session {
    /// Commits the fault that is due as the session begins. None: it behaves.
    pub(super) async fn fault_at_connect(&mut self) -> std::io::Result<Option<Flow>> {
        let Some(visit) = &mut self.eop else { return Ok(None) };
        match visit.strike(FaultAt::Connect, None, &[]) {
            Some(strike) => Box::pin(self.commit(strike, true)).await,
            None => Ok(None),
        }
    }

    /// Commits the fault that is due at a command. None: it behaves.
    pub(super) async fn fault_at(&mut self, command: &Command) -> std::io::Result<Option<Flow>> {
        let Some(visit) = &mut self.eop else { return Ok(None) };
        let strike = match command {
            Command::Ehlo(_) | Command::Helo(_) if !visit.hides_starttls() => {
                visit.strike(FaultAt::Ehlo, None, &[])
            }
            Command::StartTls if self.helo.is_some() && self.tls.is_none() => {
                visit.strike(FaultAt::StartTls, None, &[])
            }
            // What is out of turn is a mistake of the client's, and no occasion.
            Command::Mail(mail) if self.helo.is_some() && self.transaction.is_none() => {
                visit.strike(FaultAt::Mail, Some(mail.from.as_ref()), &[])
            }
            Command::Rcpt(rcpt) => match (&self.transaction, &rcpt.to) {
                (Some(transaction), ForwardPath::Mailbox(to)) => {
                    visit.strike(FaultAt::Rcpt, Some(transaction.envelope.from.as_ref()), &[to])
                }
                _ => None,
            },
            _ => None,
        };
        match strike {
            Some(strike) => Box::pin(self.commit(strike, false)).await,
            None => Ok(None),
        }
    }

    /// Commits the fault that is due once a message has arrived. None: it behaves.
    pub(super) async fn fault_at_data(
        &mut self,
        envelope: &crate::message::Envelope,
    ) -> std::io::Result<Option<Flow>> {
        let Some(visit) = &mut self.eop else { return Ok(None) };
        let recipients: Vec<&Address> = envelope.recipients.iter().map(|r| &r.address).collect();
        match visit.strike(FaultAt::Data, Some(envelope.from.as_ref()), &recipients) {
            Some(strike) => Box::pin(self.commit(strike, false)).await,
            None => Ok(None),
        }
    }

    async fn commit(&mut self, strike: Strike, last_word: bool) -> std::io::Result<Option<Flow>> {
        self.log.info(&strike.text, "Fault");
        // Who looks for a silence's reason should find it while it lasts.
        self.log.flush();
        let gone = |session: &mut Self| {
            session.ended = Some(Ended::Closed("fault"));
            Err(std::io::ErrorKind::ConnectionAborted.into())
        };
        match strike.action {
            FaultAction::Reply(line) => {
                self.reply(&line);
                if last_word || line.starts_with("421") {
                    self.ended = Some(Ended::Closed("fault"));
                    return Ok(Some(Flow::Close));
                }
                Ok(Some(Flow::Continue))
            }
            FaultAction::Drop => {
                self.flush().await?;
                self.stream.hang_up().await;
                gone(self)
            }
            FaultAction::Reset => {
                self.flush().await?;
                self.stream.reset();
                gone(self)
            }
            FaultAction::HalfClose => {
                self.flush().await?;
                self.stream.half_close().await?;
                while self.fill(ROOM).await? == Flow::Continue {
                    self.input.clear();
                }
                gone(self)
            }
            FaultAction::Stall(length) => {
                self.flush().await?;
                let end = (tokio::time::Instant::now() + length).min(self.deadline());
                tokio::select! {
                    () = tokio::time::sleep_until(end) => {}
                    () = self.server.shutdown.wait() => {}
                }
                Ok(None)
            }
            // Committed when their time comes: by EHLO, or in the handshake.
            FaultAction::NoStartTls | FaultAction::BrokenHandshake | FaultAction::Certificate(_) => Ok(None),
        }
    }

    /// Whether the handshake is to fail. The client's hello is answered by a refusal.
    pub(super) async fn breaks_handshake(&mut self) -> std::io::Result<bool> {
        let broken =
            self.eop.as_ref().and_then(|visit| visit.handshake()) == Some(&FaultAction::BrokenHandshake);
        if broken {
            // A client takes what comes before its hello for an intruder's.
            if self.fill(ROOM).await? == Flow::Close {
                self.flush().await?;
                return Ok(true);
            }
            self.stream.write_all(&HANDSHAKE_FAILURE).await?;
            self.no_tls_reason = Some("fault: the handshake was refused".to_owned());
            self.ended = Some(Ended::Closed("fault"));
        }
        Ok(broken)
    }

    /// The certificate that a fault has the handshake show.
    pub(super) fn faulty_certificate(&self) -> Option<&str> {
        match self.eop.as_ref()?.handshake()? {
            FaultAction::Certificate(name) => Some(name),
            _ => None,
        }
    }

    /// A refusal as the client is to read it.
    pub(super) fn traced(&self, line: ReplyLine) -> ReplyLine {
        match &self.eop {
            Some(visit) => visit.traced(&line).into(),
            None => line,
        }
    }

    /// Attributes a transaction that begins. Some: its refusal.
    pub(super) fn attribution_refusal(&mut self, sender: Option<&Address>) -> Option<ReplyLine> {
        let visit = self.eop.as_mut()?;
        let shown = match &self.tls {
            None => Shown::Plain,
            Some(tls) if tls.facts.peer_chain.is_empty() => Shown::NoCertificate,
            Some(tls) => match (&tls.client, tls.facts.peer_certificate()) {
                (Some(Err(problem)), _) => Shown::Unverified(problem.word),
                (Some(Ok(_)), Some(facts)) => Shown::Verified(facts),
                _ => Shown::NoCertificate,
            },
        };
        let (text, refusal) = visit.attribute(&shown, sender);
        self.log.info(&text, "Tenant attribution");
        refusal.map(Into::into)
    }

    /// Why a recipient is refused; none: it may be sent to.
    pub(super) fn recipient_refusal(&self, address: &Address) -> Option<ReplyLine> {
        let Some(visit) = &self.eop else {
            let profile = self.connector.config.reply_profile;
            return (!self.may_receive(address)).then(|| replies::unable_to_relay(profile).into());
        };
        let transaction = self.transaction.as_ref()?;
        let others = transaction.envelope.recipients.iter().map(|r| &r.address);
        visit.refusal(self.helo.as_deref().unwrap_or_default(), address, others).map(Into::into)
    }

    /// Whether the client is left in the belief that there is no STARTTLS.
    pub(super) fn hides_starttls(&self) -> bool {
        self.eop.as_ref().is_some_and(|visit| visit.hides_starttls())
    }
}
