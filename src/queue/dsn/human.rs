//! The part of a notification that people read, in Exchange's wording (exchange-edge.md 9.6).

use std::time::Duration;

use super::explain::explanation;
use super::fields::status;
use super::text::{one_line, push_line};
use super::{Attached, DsnKind, DsnRequest, RecipientReport, RemoteServer};

/// How much of the original header is shown here; all of it is in the last part.
const MAX_HEADER_SHOWN: usize = 16 * 1024;
/// Longest reply shown.
const MAX_REPLY: usize = 2000;
/// What a delayed recipient is told beside the last reply.
const DELAYED: &str = "400 4.4.7 Message delayed";

/// The whole text.
pub(super) fn part(request: &DsnRequest<'_>, reports: &[RecipientReport<'_>], attached: &Attached) -> String {
    let mut out = String::with_capacity(4096);
    match request.kind {
        DsnKind::Failure => {
            out += "Delivery has failed to these recipients or groups:\r\n\r\n";
            for report in reports {
                push_line(&mut out, report.recipient.address.as_str());
                push_line(&mut out, explanation(&status(request.kind, report.reply)));
                out += "\r\n";
            }
        }
        DsnKind::Delay { remaining, .. } => {
            out += "Delivery is delayed to these recipients or groups:\r\n\r\n";
            push_recipients(&mut out, reports);
            push_line(
                &mut out,
                &format!("Subject: {}", attached.facts.subject.as_deref().unwrap_or_default()),
            );
            out +=
                "\r\nThis message hasn't been delivered yet. Delivery will continue to be attempted.\r\n\r\n";
            let remaining = days_hours_minutes(remaining);
            push_line(
                &mut out,
                &format!(
                    "The server will keep trying to deliver this message for the next {remaining}. \
                     You'll be notified if the message can't be delivered by that time."
                ),
            );
            out += "\r\n";
        }
        DsnKind::Delivered => {
            out += "Your message has been delivered to the following recipients:\r\n\r\n";
            push_recipients(&mut out, reports);
        }
        DsnKind::Relayed => {
            out += "Delivery to these recipients or groups is complete, but no delivery notification was \
                    sent by the destination server:\r\n\r\n";
            push_recipients(&mut out, reports);
        }
    }
    diagnostics(&mut out, request, reports);
    out += "Original message headers:\r\n\r\n";
    push_header(&mut out, &attached.header);
    out
}

fn push_recipients(out: &mut String, reports: &[RecipientReport<'_>]) {
    for report in reports {
        push_line(out, report.recipient.address.as_str());
        out.push_str("\r\n");
    }
}

fn diagnostics(out: &mut String, request: &DsnRequest<'_>, reports: &[RecipientReport<'_>]) {
    out.push_str("Diagnostic information for administrators:\r\n\r\n");
    push_line(out, &format!("Generating server: {}", request.generating_server));
    let delayed = matches!(request.kind, DsnKind::Delay { .. });
    if delayed {
        let mut named: Vec<RemoteServer<'_>> = Vec::new();
        for remote in reports.iter().filter_map(|report| report.remote) {
            if !named.contains(&remote) {
                push_line(out, &format!("Receiving server: {}", server(remote)));
                named.push(remote);
            }
        }
    }
    for report in reports {
        out.push_str("\r\n");
        push_line(out, report.recipient.address.as_str());
        let reply = one_line(report.reply, MAX_REPLY);
        if delayed {
            let who =
                report.remote.map_or("Remote Server".to_owned(), |r| format!("Server at {}", server(r)));
            push_line(out, &format!("{who} returned '{DELAYED}'"));
            if !reply.is_empty() {
                let when = report.last_attempt.map_or(String::new(), |date| format!("{date} - "));
                push_line(out, &format!("{when}{who} returned '{reply}'"));
            }
        } else {
            if let Some(remote) = report.remote {
                push_line(out, &server(remote));
            }
            push_line(out, &format!("Remote Server returned '{reply}'"));
        }
        if let Some(meaning) = crate::explain::meaning(&reply) {
            push_line(out, meaning);
        }
    }
    out.push_str("\r\n");
}

/// `name (ip)`
fn server(remote: RemoteServer<'_>) -> String {
    let name = one_line(remote.name, 255);
    match remote.ip {
        Some(ip) => format!("{name} ({})", ip.to_canonical()),
        None => name,
    }
}

/// The header as text: whole lines up to a limit.
fn push_header(out: &mut String, header: &[u8]) {
    let mut left = MAX_HEADER_SHOWN;
    for line in String::from_utf8_lossy(header).lines().filter(|line| !line.is_empty()) {
        let Some(after) = left.checked_sub(line.len()) else { break };
        left = after;
        // A lone CR would end a line where none is, and a terminal may obey the others.
        let line = line.replace(|c: char| c.is_control() && c != '\t', " ");
        push_line(out, line.trim_end());
    }
}

/// `1 days, 19 hours and 56 minutes`
fn days_hours_minutes(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    format!("{} days, {} hours and {} minutes", minutes / 1440, minutes / 60 % 24, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_in_exchanges_words() {
        assert_eq!(days_hours_minutes(Duration::from_mins(2636)), "1 days, 19 hours and 56 minutes");
        assert_eq!(days_hours_minutes(Duration::from_secs(59)), "0 days, 0 hours and 0 minutes");
    }
}
