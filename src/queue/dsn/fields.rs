//! The part of a notification that machines read (RFC 3464; RFC 6533 for addresses in UTF-8).

use super::text::{from_xtext, one_line};
use super::{DsnKind, DsnRequest, RecipientReport};
use crate::message::trace;

/// Longest value taken from elsewhere: a folded line without blanks must fit SMTP's 998.
const MAX_VALUE: usize = 900;

/// All groups of fields. `global` = it may hold UTF-8.
pub(super) fn part(request: &DsnRequest<'_>, reports: &[RecipientReport<'_>], global: bool) -> String {
    let mut group = Group { out: String::new(), global };
    if let Some(envid) = &request.original.envid {
        group.field("Original-Envelope-Id", "", &from_xtext(envid));
    }
    group.field("Reporting-MTA", "dns;", request.generating_server);
    if let Some(name) = request.received_from {
        group.field("Received-From-MTA", "dns;", name);
    }
    group.field("Arrival-Date", "", request.arrival);
    for report in reports {
        group.out += "\r\n";
        recipient(&mut group, request.kind, report);
    }
    group.out
}

fn recipient(group: &mut Group, kind: DsnKind<'_>, report: &RecipientReport<'_>) {
    if let Some((kind, address)) = report.recipient.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';')) {
        group.field("Original-Recipient", &format!("{};", one_line(kind, 40)), &from_xtext(address));
    }
    let address = &report.recipient.address;
    let address_type = if address.is_ascii() { "rfc822;" } else { "utf-8;" };
    group.field("Final-Recipient", address_type, address.as_str());
    let action = match kind {
        DsnKind::Failure => "failed",
        DsnKind::Delay { .. } => "delayed",
        DsnKind::Delivered => "delivered",
        DsnKind::Relayed => "relayed",
    };
    group.field("Action", "", action);
    group.field("Status", "", &status(kind, report.reply));
    if let Some(remote) = report.remote {
        group.field("Remote-MTA", "dns;", remote.name);
    }
    if matches!(kind, DsnKind::Failure | DsnKind::Delay { .. }) {
        group.field("Diagnostic-Code", "smtp;", diagnostic(kind, report.reply));
    }
    if let Some(date) = report.last_attempt {
        group.field("Last-Attempt-Date", "", date);
    }
    if let DsnKind::Delay { until, .. } = kind {
        group.field("Will-Retry-Until", "", until);
    }
}

/// The reply that explains; a delay without one is Exchange's own.
fn diagnostic<'a>(kind: DsnKind<'_>, reply: &'a str) -> &'a str {
    match kind {
        DsnKind::Delay { .. } if reply.trim().is_empty() => "400 4.4.7 Message delayed",
        _ => reply,
    }
}

/// The enhanced status code of a reply (RFC 3463), or the nearest to be had from its basic code.
///
/// A failure may keep a `4.y.z`: that is what expired, and Exchange reports it so.
pub(super) fn status(kind: DsnKind<'_>, reply: &str) -> String {
    let mut words = reply.split_ascii_whitespace();
    let basic = words.next().unwrap_or_default();
    let enhanced = words.next().filter(|word| is_status(word));
    let class = enhanced.unwrap_or(basic).as_bytes().first();
    match (kind, enhanced, class) {
        (DsnKind::Failure, Some(code), Some(b'4' | b'5'))
        | (DsnKind::Delay { .. }, Some(code), Some(b'4'))
        | (DsnKind::Delivered | DsnKind::Relayed, Some(code), Some(b'2')) => code.to_owned(),
        (DsnKind::Failure, None, Some(b'4')) => "4.0.0".to_owned(),
        (DsnKind::Failure, ..) => "5.0.0".to_owned(),
        (DsnKind::Delay { .. }, ..) => "4.4.7".to_owned(),
        (DsnKind::Delivered | DsnKind::Relayed, ..) => "2.0.0".to_owned(),
    }
}

/// `class.subject.detail`, as RFC 3463 section 2 bounds them.
fn is_status(word: &str) -> bool {
    let number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = word.split('.');
    parts.next().is_some_and(|class| matches!(class, "2" | "4" | "5"))
        && parts.next().is_some_and(number)
        && parts.next().is_some_and(number)
        && parts.next().is_none()
}

struct Group {
    out: String,
    global: bool,
}

impl Group {
    fn field(&mut self, name: &str, address_type: &str, value: &str) {
        let mut value = one_line(value, MAX_VALUE);
        if !self.global && !value.is_ascii() {
            value = value.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        }
        self.out += &trace::fold(&format!("{name}: {address_type}{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_status_fits_the_action() {
        let delay = DsnKind::Delay { until: "", remaining: Duration::ZERO };
        for (kind, reply, expected) in [
            (DsnKind::Failure, "550 5.1.1 User unknown", "5.1.1"),
            (DsnKind::Failure, super::super::EXPIRED, "4.4.7"),
            (DsnKind::Failure, "550 User unknown", "5.0.0"),
            (DsnKind::Failure, "451 later", "4.0.0"),
            (DsnKind::Failure, "550 5.1.1111 x", "5.0.0"),
            (DsnKind::Failure, "550 5.7 x", "5.0.0"),
            (DsnKind::Failure, "", "5.0.0"),
            (delay, "451 4.3.2 busy", "4.3.2"),
            (delay, "451 5.7.3 STARTTLS is required to send mail", "4.4.7"),
            (delay, "", "4.4.7"),
            (DsnKind::Relayed, "250 2.6.0 queued", "2.6.0"),
            (DsnKind::Delivered, "250 OK", "2.0.0"),
        ] {
            assert_eq!(status(kind, reply), expected, "{reply}");
        }
    }
}
