//! What an error is called: as Exchange does, or as Exchange Online does (exchange-edge.md 2.6, 8.4).

use super::errors;
use crate::queue::dsn;
use crate::send::{ConnectFailure, Failure, Target, last_error};
use crate::smtp::Reply;

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Words {
    /// Exchange's.
    #[default]
    Exchange,
    /// Exchange Online's.
    ExchangeOnline,
}

impl Words {
    /// `LastError` of a queue whose next hop could not be reached; `last` was tried last.
    pub fn last_error(self, failure: &ConnectFailure, last: &Target) -> String {
        match self {
            Self::Exchange => last_error(&failure.reply, last),
            Self::ExchangeOnline if needs_starttls(&failure.reply) => {
                let inner = last_error(&failure.reply, last);
                errors::proxy_failed(&inner)
            }
            Self::ExchangeOnline => {
                let error = online(&failure.reply, failure.local);
                let (server, endpoint) = (&last.host, last.endpoint());
                format!("{error} [LastAttemptedServerName={server}] [LastAttemptedIP={endpoint}]")
            }
        }
    }

    /// The same for a next hop that has no address now.
    pub fn unresolved(self, reply: &Reply) -> String {
        match self {
            Self::Exchange => reply.to_string(),
            Self::ExchangeOnline => errors::with_message(errors::DNS_FAILED, &reply.to_string()),
        }
    }

    /// The last error of a message that was put off.
    pub fn deferral(self, failure: &Failure) -> String {
        match self {
            Self::ExchangeOnline if failure.local => online(&failure.reply, true),
            _ => failure.reply.to_string(),
        }
    }

    /// The reply in the report on a message whose last attempt came too late to be repeated.
    pub fn expired_after(self, failure: &Failure) -> String {
        match self {
            // The report has the next hop's reply besides.
            Self::Exchange => dsn::EXPIRED.to_owned(),
            Self::ExchangeOnline => self.expired(Some(&self.deferral(failure))),
        }
    }

    /// The reply in the report on a message that has expired; `last` is its last error.
    pub fn expired(self, last: Option<&str>) -> String {
        match (self, last) {
            (Self::Exchange, None) => dsn::EXPIRED.to_owned(),
            (Self::Exchange, Some(last)) => format!("{} ({last})", dsn::EXPIRED),
            (Self::ExchangeOnline, None) => "550 5.4.300 Message expired".to_owned(),
            (Self::ExchangeOnline, Some(last)) => own_code(last).map_or_else(
                || format!("550 5.4.300 Message expired -> {last}"),
                |(code, text)| format!("550 5.{code} Message expired, {}", begun_small(text)),
            ),
        }
    }
}

/// `4.316` and the text of `450 4.4.316 Connection refused`: errors of Exchange Online's own, which
/// become permanent under the same number.
fn own_code(last: &str) -> Option<(&str, &str)> {
    let (code, text) = last.strip_prefix("450 4.")?.split_once(' ')?;
    let own = matches!(code, "4.312" | "4.315" | "4.316" | "4.317" | "4.318" | "7.320");
    own.then_some((code, text))
}

/// A text that goes on behind a comma; `DNS` keeps its capitals.
fn begun_small(text: &str) -> String {
    match text.as_bytes() {
        [b'A'..=b'Z', b'a'..=b'z', ..] => format!("{}{}", text[..1].to_ascii_lowercase(), &text[1..]),
        _ => text.to_owned(),
    }
}

fn needs_starttls(reply: &Reply) -> bool {
    reply.to_string().contains("STARTTLS is required to send mail")
}

/// What Exchange Online makes of a failed session. `local`: the reply is our own, the next hop gave
/// none.
fn online(reply: &Reply, local: bool) -> String {
    let text = reply.to_string();
    if !local {
        return errors::cannot_connect(&text);
    }
    let dropped = "421 4.4.2 Connection dropped due to ";
    match text.as_str() {
        "421 4.2.1 Unable to connect" => errors::REFUSED.to_owned(),
        "421 4.4.1 Connection timed out" => errors::TIMED_OUT.to_owned(),
        "421 4.4.2 Connection dropped due to SocketError" => errors::DROPPED.to_owned(),
        "421 4.4.2 Connection dropped due to TimedOut" => errors::cannot_connect("SocketError: TimedOut"),
        _ => match (text.strip_prefix(dropped), text.split_once("Reason:")) {
            (Some(word), _) | (_, Some((_, word @ "UntrustedRoot"))) => errors::cannot_connect(word),
            (_, Some((_, word))) => errors::with_message(errors::CERTIFICATE_FAILED, word),
            (None, None) => errors::communicating(&text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::EnhancedCode;

    fn failure(code: u16, enhanced: (u8, u16, u16), text: &str, local: bool) -> ConnectFailure {
        let enhanced = Some(EnhancedCode(enhanced.0, enhanced.1, enhanced.2));
        let target = Target::new("mail.contoso.com", "192.0.2.1:25".parse().unwrap());
        ConnectFailure { reply: Reply::new(code, enhanced, text), target, permanent: false, local }
    }

    /// Each row of exchange-edge.md 8.4, and what it becomes when the message expires.
    #[test]
    fn failed_sessions_have_exchange_onlines_codes() {
        let ours = |code, enhanced, text| failure(code, enhanced, text, true);
        let tail = "[LastAttemptedServerName=mail.contoso.com] [LastAttemptedIP=192.0.2.1:25]";
        for (failure, now, later) in [
            (
                ours(421, (4, 2, 1), "Unable to connect"),
                "450 4.4.316 Connection refused [Message=Socket error code 10061]",
                "550 5.4.316 Message expired, connection refused [Message=Socket error code 10061]",
            ),
            (
                ours(421, (4, 4, 1), "Connection timed out"),
                "450 4.4.315 Connection timed out",
                "550 5.4.315 Message expired, connection timed out",
            ),
            (
                ours(421, (4, 4, 2), "Connection dropped due to SocketError"),
                "450 4.4.318 Connection was closed abruptly",
                "550 5.4.318 Message expired, connection was closed abruptly",
            ),
            (
                ours(421, (4, 4, 2), "Connection dropped due to TimedOut"),
                "450 4.4.317 Cannot connect to remote server [Message=SocketError: TimedOut]",
                "550 5.4.317 Message expired, cannot connect to remote server [Message=SocketError: TimedOut]",
            ),
            (
                ours(454, (4, 7, 5), "Certificate validation failure, Reason:UntrustedRoot"),
                "450 4.4.317 Cannot connect to remote server [Message=UntrustedRoot]",
                "550 5.4.317 Message expired, cannot connect to remote server [Message=UntrustedRoot]",
            ),
            (
                ours(454, (4, 7, 5), "Certificate validation failure, Reason:Expired"),
                "450 4.7.320 Certificate validation failed [Message=Expired]",
                "550 5.7.320 Message expired, certificate validation failed [Message=Expired]",
            ),
            (
                failure(421, (4, 3, 2), "Service not available", false),
                "450 4.4.317 Cannot connect to remote server [Message=421 4.3.2 Service not available]",
                "550 5.4.317 Message expired, cannot connect to remote server [Message=421 4.3.2 Service not available]",
            ),
            (
                ours(451, (4, 5, 0), "The next hop broke the protocol"),
                "451 4.4.397 Error communicating with target host. -> 451 4.5.0 The next hop broke the protocol",
                "550 5.4.300 Message expired -> 451 4.4.397 Error communicating with target host. -> 451 4.5.0 The next hop broke the protocol",
            ),
        ] {
            let error = Words::ExchangeOnline.last_error(&failure, &failure.target);
            assert_eq!(error, format!("{now} {tail}"));
            assert_eq!(Words::ExchangeOnline.expired(Some(&error)), format!("{later} {tail}"));
        }
    }

    #[test]
    fn a_missing_starttls_is_wrapped_and_a_missing_name_named() {
        let failure = failure(451, (5, 7, 3), "STARTTLS is required to send mail", true);
        let error = Words::ExchangeOnline.last_error(&failure, &failure.target);
        assert_eq!(
            error,
            "450 4.4.101 Proxy session setup failed on Frontend with '451 4.4.0 Primary target IP address responded \
             with: \"451 5.7.3 STARTTLS is required to send mail.\" Attempted failover to alternate host, but that \
             did not succeed. Either there are no alternate hosts, or delivery failed to all alternate hosts. The last \
             endpoint attempted was 192.0.2.1:25'"
        );
        let unresolved = Words::ExchangeOnline.unresolved(&Reply::new(451, None, "timeout"));
        assert_eq!(unresolved, "450 4.4.312 DNS query failed [Message=451 timeout]");
        let expired = Words::ExchangeOnline.expired(Some(&unresolved));
        assert_eq!(expired, "550 5.4.312 Message expired, DNS query failed [Message=451 timeout]");
    }
}
