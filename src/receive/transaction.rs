//! MAIL and RCPT (RFC 5321 sections 4.1.1.2 and 4.1.1.3): who it is from, who may have it.

use crate::message::{Envelope, Recipient};
use crate::route::asks_for_onward_relay;
use crate::smtp::{Address, BodyType, CommandError, ForwardPath, MailCommand, RcptCommand, Verb};

use super::replies;
use super::session::{Flow, Session};

/// A mail transaction between MAIL and its end.
pub(super) struct Transaction {
    pub(super) envelope: Envelope,
    /// `SIZE=` of MAIL, a hint.
    pub(super) announced: u64,
}

impl Session {
    pub(super) async fn mail(&mut self, mail: MailCommand) -> std::io::Result<Flow> {
        self.tried_mail = true;
        self.log.release();
        if self.helo.is_none() {
            return self.protocol_error(replies::SEND_HELLO_FIRST.into()).await;
        }
        if let Some(refusal) = self.tls_refusal() {
            return self.refuse(refusal).await;
        }
        if self.transaction.is_some() {
            return self.protocol_error(replies::SENDER_SPECIFIED.into()).await;
        }
        if mail.lacks_smtputf8() {
            let error = CommandError::NeedsSmtpUtf8(Verb::Mail);
            return self.refuse(error.reply().to_string().into()).await;
        }
        let announced = mail.size.unwrap_or(0);
        if announced > self.max_message_size() {
            return self.refuse(replies::MESSAGE_TOO_BIG.into()).await;
        }
        if !self.place.message_allowed(self.connector.config.message_rate_limit) {
            return Ok(self.close(replies::RATE_EXCEEDED, "message rate exceeded"));
        }
        if self.server.shutdown.is_down() {
            return Ok(self.close(replies::SHUTTING_DOWN, "shutdown"));
        }
        if !self.server.queue.accepts_mail() {
            return Ok(self.reply(replies::NO_RESOURCES));
        }
        if let Some(refusal) = self.attribution_refusal(mail.from.as_ref()) {
            return self.refuse(refusal).await;
        }
        self.messages_begun += 1;
        if self.log.enabled() {
            let now = crate::log::time::exchange_utc(std::time::SystemTime::now());
            let data = format!("{};{now};{}", self.log.session_id(), self.messages_begun);
            self.log.info(&data, "receiving message");
        }
        self.transaction = Some(Transaction {
            envelope: Envelope {
                from: mail.from,
                body: mail.body,
                smtputf8: mail.smtputf8,
                ret: mail.ret,
                envid: mail.envid,
                recipients: Vec::with_capacity(1),
            },
            announced,
        });
        Ok(self.reply(replies::SENDER_OK))
    }

    pub(super) async fn rcpt(&mut self, rcpt: RcptCommand) -> std::io::Result<Flow> {
        if self.helo.is_none() {
            return self.protocol_error(replies::SEND_HELLO_FIRST.into()).await;
        }
        let Some(transaction) = &self.transaction else {
            return self.protocol_error(replies::NEED_MAIL.into()).await;
        };
        if rcpt.needs_smtputf8() && !transaction.envelope.smtputf8 {
            let error = CommandError::NeedsSmtpUtf8(Verb::Rcpt);
            return self.refuse(error.reply().to_string().into()).await;
        }
        let address = match rcpt.to {
            ForwardPath::Mailbox(address) => address,
            // RFC 5321 section 4.5.1: postmaster needs no domain, and is never refused.
            ForwardPath::Postmaster => match self.generation.postmaster() {
                Some(address) => address,
                None => return self.refuse(replies::INVALID_RECIPIENT.into()).await,
            },
        };
        // Named twice, served once, as Exchange does.
        if transaction.envelope.recipients.iter().any(|r| r.address.is_same_mailbox(&address)) {
            return Ok(self.reply(replies::RECIPIENT_OK));
        }
        if transaction.envelope.recipients.len() >= self.connector.config.max_recipients_per_message {
            return self.refuse(replies::TOO_MANY_RECIPIENTS.into()).await;
        }
        if let Some(refusal) = self.recipient_refusal(&address) {
            return self.refuse(refusal).await;
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.envelope.recipients.push(Recipient {
                address,
                notify: rcpt.notify,
                orcpt: rcpt.orcpt,
            });
        }
        Ok(self.reply(replies::RECIPIENT_OK))
    }

    /// Never an open relay by accident: a recipient outside the accepted domains needs a
    /// connector that says so, and an address that asks the next hop to relay onward counts as
    /// outside whatever stands behind its `@`.
    pub(super) fn may_receive(&self, address: &Address) -> bool {
        if self.connector.config.accept_any_recipient {
            return true;
        }
        !asks_for_onward_relay(address) && self.generation.accepted.class(address.domain()).is_some()
    }

    /// Whether the transaction's content must come by BDAT (RFC 3030 section 3).
    pub(super) fn needs_bdat(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| t.envelope.body == BodyType::BinaryMime)
    }
}
