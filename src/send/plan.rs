//! What a message asks of a next hop, and the commands that say so.

use std::io::Write;

use super::{Outgoing, words};
use crate::config::ascii_domain;
use crate::message::Recipient;
use crate::smtp::{Address, BodyType, Capabilities, MAX_TEXT_LINE, Notify, Reply, Ret};

/// How a message goes to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Value of `BODY=`; none: the parameter stays away.
    body: Option<&'static str>,
    /// `SMTPUTF8` is given.
    smtputf8: bool,
    /// `SIZE=` is given.
    size: bool,
    /// DSN parameters are given.
    dsn: bool,
}

impl Plan {
    /// Decides, or says for all recipients why this peer cannot have the message. Content is
    /// never converted: signatures must survive.
    pub(super) fn new(message: &Outgoing, peer: &Capabilities) -> Result<Self, Reply> {
        if peer.size.is_some_and(|limit| limit > 0 && message.size > limit) {
            return Err(words::own(words::TOO_LARGE));
        }
        let sender_needs_utf8 = message.from.as_ref().is_some_and(needs_smtputf8);
        // An internationalized header is 8-bit text; whether it was the header or the body that
        // was, nobody knows here, so what was declared is believed (RFC 6531 section 3.5).
        let content_needs_utf8 = message.smtputf8 && message.facts.eight_bit;
        if !peer.smtputf8 && (sender_needs_utf8 || content_needs_utf8) {
            return Err(words::own(words::NO_SMTPUTF8));
        }
        Ok(Self {
            body: body_parameter(message, peer)?,
            smtputf8: peer.smtputf8
                && (message.smtputf8
                    || message.from.as_ref().is_some_and(|a| !a.is_ascii())
                    || message.recipients.iter().any(|r| !r.address.is_ascii())),
            size: peer.size_offered,
            dsn: peer.dsn,
        })
    }

    /// Whether this recipient alone is beyond the peer.
    pub(super) fn refuses(&self, recipient: &Recipient) -> bool {
        !self.smtputf8 && needs_smtputf8(&recipient.address)
    }

    /// Whether it goes as BINARYMIME, which only BDAT carries (RFC 3030 section 3).
    pub(super) fn is_binary(&self) -> bool {
        self.body == Some("BINARYMIME")
    }

    /// Appends MAIL with its CRLF.
    pub(super) fn mail(&self, message: &Outgoing, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MAIL FROM:<");
        if let Some(from) = &message.from {
            self.address(from, out);
        }
        out.push(b'>');
        if self.size {
            // Writing to a Vec does not fail.
            let _ = write!(out, " SIZE={}", message.size);
        }
        if let Some(body) = self.body {
            out.extend_from_slice(b" BODY=");
            out.extend_from_slice(body.as_bytes());
        }
        if self.smtputf8 {
            out.extend_from_slice(b" SMTPUTF8");
        }
        if self.dsn {
            match message.ret {
                Some(Ret::Full) => out.extend_from_slice(b" RET=FULL"),
                Some(Ret::Headers) => out.extend_from_slice(b" RET=HDRS"),
                None => {}
            }
            self.parameter(b" ENVID=", message.envid.as_deref(), out);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Appends RCPT with its CRLF.
    pub(super) fn rcpt(&self, recipient: &Recipient, out: &mut Vec<u8>) {
        out.extend_from_slice(b"RCPT TO:<");
        self.address(&recipient.address, out);
        out.push(b'>');
        if self.dsn {
            if let Some(notify) = recipient.notify {
                out.extend_from_slice(b" NOTIFY=");
                push_notify(notify, out);
            }
            self.parameter(b" ORCPT=", recipient.orcpt.as_deref(), out);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn address(&self, address: &Address, out: &mut Vec<u8>) {
        if !self.smtputf8
            && !address.is_ascii()
            && let Ok(domain) = ascii_domain(address.domain())
        {
            // The local part is ASCII, else the address was refused: its A-label form says the
            // same to a peer that knows no SMTPUTF8 (RFC 6531 section 3.2).
            out.extend_from_slice(address.local_part().as_bytes());
            out.push(b'@');
            out.extend_from_slice(domain.as_bytes());
            return;
        }
        out.extend_from_slice(address.as_str().as_bytes());
    }

    /// A value that came with the message goes on only in a form that cannot become a command of
    /// its own.
    fn parameter(&self, name: &[u8], value: Option<&str>, out: &mut Vec<u8>) {
        let fits = |b: u8| matches!(b, b'!'..=b'~') || (self.smtputf8 && b >= 128);
        if let Some(value) = value.filter(|v| !v.is_empty() && v.bytes().all(fits)) {
            out.extend_from_slice(name);
            out.extend_from_slice(value.as_bytes());
        }
    }
}

/// An internationalized domain has an ASCII form, an internationalized local part has none.
fn needs_smtputf8(address: &Address) -> bool {
    !address.local_part().is_ascii() || (!address.is_ascii() && ascii_domain(address.domain()).is_err())
}

/// RFC 6152 section 3, RFC 3030 section 3.
fn body_parameter(message: &Outgoing, peer: &Capabilities) -> Result<Option<&'static str>, Reply> {
    let facts = &message.facts;
    if message.body == BodyType::BinaryMime {
        if peer.chunking && peer.binary_mime {
            return Ok(Some("BINARYMIME"));
        }
        // Many senders declare BINARYMIME because they may, for what is plain text.
        if facts.nul || facts.has_bare() || facts.longest_line > MAX_TEXT_LINE {
            return Err(words::own(words::NO_BINARYMIME));
        }
    }
    if facts.eight_bit && !peer.eight_bit_mime {
        return Err(words::own(words::NO_8BITMIME));
    }
    let declare = peer.eight_bit_mime && (facts.eight_bit || message.body == BodyType::EightBitMime);
    Ok(declare.then_some("8BITMIME"))
}

fn push_notify(notify: Notify, out: &mut Vec<u8>) {
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let mut any = false;
    for (_, word) in words.iter().filter(|(given, _)| *given) {
        if any {
            out.push(b',');
        }
        any = true;
        out.extend_from_slice(word.as_bytes());
    }
    if !any {
        out.extend_from_slice(b"NEVER");
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
