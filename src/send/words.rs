//! The replies we give ourselves when no next hop gave one, in Exchange's words
//! (exchange-edge.md 2.6 and 9.6).

use crate::smtp::{EnhancedCode, Reply};

/// Connection refused, unreachable, or closed before a banner.
pub(super) const UNABLE_TO_CONNECT: (u16, (u8, u16, u16), &str) = (421, (4, 2, 1), "Unable to connect");
/// No answer to our SYN.
pub(super) const CONNECT_TIMED_OUT: (u16, (u8, u16, u16), &str) = (421, (4, 4, 1), "Connection timed out");
/// The connection broke.
pub(super) const SOCKET_ERROR: (u16, (u8, u16, u16), &str) =
    (421, (4, 4, 2), "Connection dropped due to SocketError");
/// The peer fell silent.
pub(super) const TIMED_OUT: (u16, (u8, u16, u16), &str) =
    (421, (4, 4, 2), "Connection dropped due to TimedOut");
/// The rule of the connector asks for TLS, the next hop has none.
pub(super) const STARTTLS_REQUIRED: (u16, (u8, u16, u16), &str) =
    (451, (5, 7, 3), "STARTTLS is required to send mail");
/// The certificate to present is not there.
pub(super) const CERTIFICATE_MISSING: (u16, (u8, u16, u16), &str) = (
    454,
    (4, 7, 5),
    "The certificate specified in the tlscertificatename of the send connector could not be found.",
);
/// What the peer said is no reply, or comes when none is due.
pub(super) const PROTOCOL_ERROR: (u16, (u8, u16, u16), &str) =
    (451, (4, 5, 0), "The next hop broke the protocol");
/// It answers with our own name.
pub(super) const OWN_NAME: (u16, (u8, u16, u16), &str) = (554, (5, 3, 5), "System incorrectly configured");
/// It is our own address.
pub(super) const OWN_ADDRESS: (u16, (u8, u16, u16), &str) =
    (554, (5, 4, 6), "Mail loop detected: the next hop is this server");
/// Larger than the peer's SIZE.
pub(super) const TOO_LARGE: (u16, (u8, u16, u16), &str) =
    (552, (5, 3, 4), "Message size exceeds fixed maximum message size of the next hop");
/// 8-bit content, 7-bit peer.
pub(super) const NO_8BITMIME: (u16, (u8, u16, u16), &str) =
    (554, (5, 6, 3), "Conversion required but not supported: the next hop does not offer 8BITMIME");
/// Binary content, text-only peer.
pub(super) const NO_BINARYMIME: (u16, (u8, u16, u16), &str) =
    (554, (5, 6, 3), "Conversion required but not supported: the next hop does not offer BINARYMIME");
/// An internationalized address or header, ASCII-only peer (RFC 6531 section 3.5).
pub(super) const NO_SMTPUTF8: (u16, (u8, u16, u16), &str) =
    (550, (5, 6, 7), "The next hop does not offer SMTPUTF8");
/// Our own disk.
pub(super) const SPOOL_UNREADABLE: (u16, (u8, u16, u16), &str) =
    (451, (4, 3, 0), "The message cannot be read from the queue");
/// The disk a Maildir is on.
pub(super) const DISK_FULL: (u16, (u8, u16, u16), &str) = (452, (4, 3, 1), "Insufficient system storage");

/// A reply from one of the constants above.
pub(super) fn own(words: (u16, (u8, u16, u16), &str)) -> Reply {
    reply(words.0, words.1, words.2)
}

/// A reply of our own.
pub(super) fn reply(code: u16, enhanced: (u8, u16, u16), text: &str) -> Reply {
    Reply::new(code, Some(EnhancedCode(enhanced.0, enhanced.1, enhanced.2)), text)
}
