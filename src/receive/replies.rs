//! What the receive side says, word for word (exchange-edge.md 1.5, 1.6).
//!
//! Each constant is one whole reply line without its CRLF. Texts that the fact sheet marks as
//! unverified stand here and nowhere else, so that a correction is one edit.

use std::borrow::Cow;

use crate::config::{ReplyProfile, TlsRejection};

/// One reply line: code, enhanced code, text.
pub(crate) type ReplyLine = Cow<'static, str>;

pub(crate) const READY_FOR_TLS: &str = "220 2.0.0 SMTP server ready";
pub(crate) const CLOSING: &str = "221 2.0.0 Service closing transmission channel";
pub(crate) const SENDER_OK: &str = "250 2.1.0 Sender OK";
pub(crate) const RECIPIENT_OK: &str = "250 2.1.5 Recipient OK";
pub(crate) const RESETTING: &str = "250 2.0.0 Resetting";
pub(crate) const NOOP_OK: &str = "250 2.0.0 OK";
pub(crate) const CANNOT_VRFY: &str = "252 2.1.5 Cannot VRFY user";
pub(crate) const HELP: &str = "214 This server supports the following commands: HELO EHLO STARTTLS RCPT DATA RSET MAIL QUIT HELP NOOP BDAT VRFY";
pub(crate) const START_INPUT: &str = "354 Start mail input; end with <CRLF>.<CRLF>";

pub(crate) const NOT_AVAILABLE: &str = "421 4.3.2 Service not available";
pub(crate) const TOO_MANY_CONNECTIONS: &str = "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel";
pub(crate) const TOO_MANY_FROM_SOURCE: &str = "421 4.3.2 The maximum number of concurrent server connections has exceeded a per-source limit, closing transmission channel";
pub(crate) const SHUTTING_DOWN: &str = "421 4.3.2 Service not active";
pub(crate) const CONNECTION_TIMED_OUT: &str = "421 4.4.1 Connection timed out";
pub(crate) const RATE_EXCEEDED: &str =
    "421 4.4.2 Message submission rate for this client has exceeded the configured limit";
pub(crate) const TOO_MANY_ERRORS: &str =
    "421 4.7.0 Too many errors on this connection, closing transmission channel";
pub(crate) const INPUT_TIMEOUT: &str = "451 4.7.0 Timeout waiting for client input";
pub(crate) const NO_RESOURCES: &str = "452 4.3.1 Insufficient system resources";
pub(crate) const TOO_MANY_RECIPIENTS: &str = "452 4.5.3 Too many recipients";
pub(crate) const NO_TLS_NOW: &str = "454 4.7.0 TLS not available due to temporary reason";
pub(crate) const STORAGE_FAILED: &str = "451 4.3.0 The message could not be stored, try again later";

pub(crate) const UNRECOGNIZED: &str = "500 5.3.3 Unrecognized command";
pub(crate) const LINE_TOO_LONG: &str = "500 5.3.3 Command line too long";
pub(crate) const INVALID_RECIPIENT: &str = "501 5.1.3 Invalid address";
pub(crate) const SEND_HELLO_FIRST: &str = "503 5.5.2 Send hello first";
pub(crate) const NEED_MAIL: &str = "503 5.5.2 Need mail command";
pub(crate) const NEED_RCPT: &str = "503 5.5.2 Need rcpt command";
pub(crate) const SENDER_SPECIFIED: &str = "503 5.5.2 Sender already specified";
pub(crate) const BAD_SEQUENCE: &str = "503 5.5.2 Bad sequence of commands";
pub(crate) const BINARY_NEEDS_BDAT: &str = "503 5.5.2 BODY=BINARYMIME needs BDAT";
pub(crate) const UNKNOWN_AUTH: &str = "504 5.7.4 Unrecognized authentication type";
pub(crate) const MESSAGE_TOO_BIG: &str = "552 5.3.4 Message size exceeds fixed maximum message size";
pub(crate) const HEADER_TOO_BIG: &str = "552 5.3.4 Message header size exceeds fixed maximum size";
pub(crate) const BARE_LINE_FEEDS: &str = "550 5.6.11 SMTPSEND.BareLinefeedsAreIllegal; message contains bare linefeeds, which cannot be sent via DATA";

/// MAIL in clear where TLS is required.
pub(crate) fn need_starttls(rejection: TlsRejection) -> &'static str {
    match rejection {
        TlsRejection::Exchange => "451 5.7.3 Must issue a STARTTLS command first",
        TlsRejection::Rfc3207 => "530 5.7.0 Must issue a STARTTLS command first",
    }
}

/// A recipient outside the accepted domains on a connector that does not relay.
pub(crate) fn unable_to_relay(profile: ReplyProfile) -> &'static str {
    match profile {
        ReplyProfile::Exchange2019 => "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
        ReplyProfile::Exchange2010 => "550 5.7.1 Unable to relay",
    }
}

/// Too many `Received` fields.
pub(crate) fn hop_count_exceeded(profile: ReplyProfile) -> &'static str {
    match profile {
        ReplyProfile::Exchange2019 => "554 5.4.14 Hop count exceeded - possible mail loop",
        ReplyProfile::Exchange2010 => "554 5.4.6 Hop count exceeded - possible mail loop",
    }
}

/// `mutual` and no client certificate that verifies.
pub(crate) fn client_certificate_refused(word: &str) -> ReplyLine {
    format!("454 4.7.5 Certificate validation failure, Reason:{word}").into()
}

/// The banner (exchange-edge.md 1.5); `date` in RFC 5322 form, local time.
pub(crate) fn banner(fqdn: &str, date: &str) -> String {
    format!("220 {fqdn} Microsoft ESMTP MAIL Service ready at {date}")
}

/// Longest reply line without its CRLF (RFC 5321 section 4.5.3.1.5).
const MAX_LINE: usize = 510;

/// The reply to an accepted message.
///
/// The Message-ID is the sender's to choose, and the client here is often another relay: a line
/// longer than it reads at once would let the sender write that relay's next reply.
/// `rate` is what Exchange Online says of size and speed.
pub(crate) fn queued(
    profile: ReplyProfile,
    message_id: &str,
    internal_id: u64,
    fqdn: &str,
    rate: Option<&str>,
) -> ReplyLine {
    let rest = match profile {
        ReplyProfile::Exchange2019 => {
            let (blank, rate) = rate.map_or(("", ""), |rate| (" ", rate));
            format!(" [InternalId={internal_id}, Hostname={fqdn}]{blank}{rate} Queued mail for delivery")
        }
        ReplyProfile::Exchange2010 => format!(" [InternalId={internal_id}] Queued mail for delivery"),
    };
    let mut line = String::from("250 2.6.0 ");
    let room = MAX_LINE.saturating_sub(line.len() + rest.len());
    line.extend(message_id.chars().take(room).map(|c| if matches!(c, ' '..='~') { c } else { '?' }));
    line.push_str(&rest);
    line.into()
}

/// The reply to a chunk that is not the last (RFC 3030).
pub(crate) fn chunk_received(octets: u64) -> ReplyLine {
    format!("250 2.6.0 CHUNK received OK, {octets} octets").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_cannot_make_a_reply_of_its_own() {
        let id = format!("<{}\u{e9}@x>", "a".repeat(1000));
        for profile in [ReplyProfile::Exchange2019, ReplyProfile::Exchange2010] {
            let line = queued(profile, &id, u64::MAX, &"f".repeat(255), None);
            assert_eq!(line.len(), MAX_LINE);
            assert!(line.ends_with("] Queued mail for delivery"));
            let line = queued(profile, "<\u{e9}\u{2028}@x>", 7, "edge.contoso.com", None);
            assert!(line.starts_with("250 2.6.0 <??@x> [InternalId=7"));
        }
    }
}
