//! What Exchange Online says, word for word (exchange-edge.md 8.5, 8.6).

use std::time::{Duration, SystemTime};

/// A recipient that the directory does not know.
pub(super) const RECIPIENT_REJECTED: &str = "550 5.4.1 Recipient address rejected: Access denied";
/// A stranger, and a recipient of nobody's here.
pub(super) const RELAY_DENIED: &str = "550 5.4.1 Relay Access Denied";
/// A peer that looks like a tenant's own server, and matches no inbound connector.
pub(super) const NOT_ATTRIBUTED: &str = "550 5.7.64 TenantAttribution; Relay Access Denied SMTP";
/// Attributed, but neither sender nor certificate is of a registered domain.
pub(super) const ATTR36: &str = "550 5.7.64 Relay Access Denied ATTR36. For more details please refer to: https://support.microsoft.com/kb/3169958";
/// A connector that requires TLS, and a session without.
pub(super) const NEED_STARTTLS: &str = "451 5.7.3 Must issue a STARTTLS command first";
/// EHLO with a name of Exchange Online's own.
pub(super) const BAD_HELO: &str = "550 5.7.506 Access Denied, Bad HELO";
/// Over a limit of recipients.
pub(super) const TOO_MANY_RECIPIENTS: &str = "452 4.5.3 Too many recipients";

/// The banner: always in UTC, with the session's name.
pub(super) fn banner(fqdn: &str, at: SystemTime, session: &str) -> String {
    let date = crate::log::time::rfc5322_utc(at);
    format!("220 {fqdn} Microsoft ESMTP MAIL Service ready at {date} [{session}]")
}

/// What ends each refusal: server and forest, time, session.
pub(super) fn trace(fqdn: &str, at: SystemTime, session: &str) -> String {
    let server = fqdn.split('.').next().unwrap_or(fqdn).to_ascii_uppercase();
    let utc = crate::log::time::exchange_utc(at);
    format!("[{server}.{FOREST} {utc} {session}]")
}

/// Forest of the servers in a trace suffix.
const FOREST: &str = "eop-lab01.prod.protection.outlook.com";

/// The middle of the reply to an accepted message: `1234 bytes in 0.138, 8.732 KB/sec`.
pub(super) fn rate(bytes: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    let rate = bytes as f64 / 1024.0 / seconds;
    format!("{bytes} bytes in {seconds:.3}, {rate:.3} KB/sec")
}
