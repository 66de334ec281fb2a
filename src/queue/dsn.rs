//! Delivery status notifications (RFC 3461, RFC 3464, RFC 6522; exchange-edge.md 9.6).
//!
//! [`build`] turns what happened to some recipients of a message into the message that tells its
//! sender. It is pure: times come as text, chance as a [`Uuid`].

mod explain;
mod fields;
mod human;
mod text;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::config::AcceptedDomain;
use crate::message::{Envelope, HeaderFacts, HeaderFirewall, HeaderScanner, Recipient, trace};
use crate::smtp::{BodyType, Notify, Ret};

/// Up to this size a whole message is returned (Exchange's `ExternalDsnMaxMessageAttachSize`).
pub const MAX_ATTACHED: u64 = 10 * 1024 * 1024;
/// The reply that expiry gives a recipient (exchange-edge.md 2.5).
pub const EXPIRED: &str = "550 4.4.7 QUEUE.Expired; message expired";

/// What a notification says of all its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsnKind<'a> {
    /// Given up.
    Failure,
    /// Not yet delivered, still trying.
    Delay {
        /// When the message expires, as RFC 5322 writes it.
        until: &'a str,
        /// How long that is from now.
        remaining: Duration,
    },
    /// Delivered here, into a mailbox.
    Delivered,
    /// Handed to a server that will send no notification (RFC 3461 section 5.2.2).
    Relayed,
}

/// What happened to one recipient.
#[derive(Debug, Clone, Copy)]
pub struct RecipientReport<'a> {
    /// As the envelope has it.
    pub recipient: &'a Recipient,
    /// The reply that decided, on one line: the remote server's, or our own as [`EXPIRED`] is.
    pub reply: &'a str,
    /// The server that gave it; none = this one.
    pub remote: Option<RemoteServer<'a>>,
    /// When that was, as RFC 5322 writes it.
    pub last_attempt: Option<&'a str>,
}

/// A next hop as notifications name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteServer<'a> {
    /// Its host name.
    pub name: &'a str,
    /// Its address, once one was connected to.
    pub ip: Option<IpAddr>,
}

/// What a notification is made of.
#[derive(Debug, Clone, Copy)]
pub struct DsnRequest<'a> {
    /// What is said.
    pub kind: DsnKind<'a>,
    /// Envelope of the message it is said of.
    pub original: &'a Envelope,
    /// That message: at least its header, and all of it where [`needs_whole_message`] says so.
    pub content: &'a [Bytes],
    /// `content` is the whole message.
    pub content_is_whole: bool,
    /// Of whom it is said. Recipients that want no such notification are left out.
    pub recipients: &'a [RecipientReport<'a>],
    /// When the message came, as RFC 5322 writes it.
    pub arrival: &'a str,
    /// What the server that sent it to us called itself.
    pub received_from: Option<&'a str>,
    /// This server's name.
    pub generating_server: &'a str,
    /// The sender of the notification, see [`postmaster`].
    pub postmaster: &'a str,
    /// Now, as RFC 5322 writes it.
    pub date: &'a str,
    /// Makes the Message-ID and the boundary unique.
    pub id: Uuid,
}

/// A finished notification, to be queued like any message.
#[derive(Debug, Clone)]
pub struct Dsn {
    /// Null sender, one recipient.
    pub envelope: Envelope,
    /// The message, in pieces that share memory with the original's.
    pub content: Vec<Bytes>,
    /// With its angle brackets.
    pub message_id: String,
    /// For queue listings and the tracking log.
    pub subject: String,
}

/// Whether a recipient wants such a notification (RFC 3461 section 4.1). Without `NOTIFY` it is
/// failures and delays.
pub fn wants(notify: Option<Notify>, kind: DsnKind<'_>) -> bool {
    let notify = notify.unwrap_or(Notify { success: false, failure: true, delay: true });
    match kind {
        DsnKind::Failure => notify.failure,
        DsnKind::Delay { .. } => notify.delay,
        DsnKind::Delivered | DsnKind::Relayed => notify.success,
    }
}

/// Whether anybody is to be told: there is a sender, and some recipient wants it.
///
/// Ask before reading the message back: a null sender is never answered (RFC 5321 section 4.5.5).
pub fn wanted(original: &Envelope, kind: DsnKind<'_>, recipients: &[RecipientReport<'_>]) -> bool {
    original.from.is_some() && recipients.iter().any(|r| wants(r.recipient.notify, kind))
}

/// Whether the whole message goes into the notification, or its header only.
///
/// `RET` is about failures (RFC 3461 section 4.3). Binary content cannot be returned, since the
/// way back may not carry it (RFC 3030 section 3). [`build`] falls back to the header alone where
/// the content turns out to hold bare CR or LF.
pub fn needs_whole_message(original: &Envelope, kind: DsnKind<'_>, size: u64) -> bool {
    kind == DsnKind::Failure
        && original.ret == Some(Ret::Full)
        && original.body != BodyType::BinaryMime
        && size <= MAX_ATTACHED
}

/// Who signs: the postmaster of the first accepted domain, as Exchange's default one, or of this
/// host.
pub fn postmaster(accepted: &[AcceptedDomain], hostname: &str) -> String {
    let domain = accepted.first().map_or(hostname, |accepted| accepted.domain.name());
    format!("postmaster@{domain}")
}

/// Builds the notification; none when nobody is to be told.
pub fn build(request: &DsnRequest<'_>) -> Option<Dsn> {
    let sender = request.original.from.as_ref()?;
    let reports: Vec<RecipientReport<'_>> =
        request.recipients.iter().filter(|r| wants(r.recipient.notify, request.kind)).copied().collect();
    if reports.is_empty() {
        return None;
    }

    let attached = Attached::of(request);
    // Bytes over 127 are UTF-8 by contract only under SMTPUTF8; else they are unlabelled 8-bit text.
    let global_header = request.original.smtputf8 && attached.facts.eight_bit;
    let global_status = reports.iter().any(|r| !r.recipient.address.is_ascii());
    let smtputf8 = global_header || global_status || !sender.is_ascii();

    let human = human::part(request, &reports, &attached);
    let status = fields::part(request, &reports, global_status);
    let boundary = boundary(request.id, &[human.as_bytes(), &attached.header], &attached.body);

    let subject = subject(request.kind, attached.facts.subject.as_deref().unwrap_or_default());
    let message_id = trace::message_id(request.id, request.generating_server);
    let charset = if human.is_ascii() { "us-ascii" } else { "utf-8" };
    let status_type =
        if global_status { "message/global-delivery-status" } else { "message/delivery-status" };
    let delimiter = format!("\r\n--{boundary}\r\n");
    // The empty line that ends the header is the first delimiter's own CRLF.
    let head = [
        header(request, sender.as_str(), &subject, &message_id, smtputf8, &attached.facts, &boundary),
        delimiter.clone(),
        text::part_header("text/plain", Some(charset), !human.is_ascii()),
        human,
        delimiter.clone(),
        text::part_header(status_type, None, global_status),
        status,
        delimiter,
        text::part_header(attached.media(global_header), None, attached.eight_bit()),
    ]
    .concat();

    let mut content = vec![Bytes::from(head), Bytes::from(attached.header)];
    content.extend(attached.body);
    content.push(Bytes::from(format!("\r\n--{boundary}--\r\n")));

    let eight_bit = content.iter().any(|piece| !piece.is_ascii());
    let envelope = Envelope {
        from: None,
        body: if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
        smtputf8,
        ret: None,
        envid: None,
        recipients: vec![Recipient { address: sender.clone(), notify: None, orcpt: None }],
    };
    Some(Dsn { envelope, content, message_id, subject })
}

/// The part of the original that is sent along.
struct Attached {
    facts: HeaderFacts,
    /// Without the guarded fields (exchange-edge.md 6.2); with the empty line if a body follows.
    header: Vec<u8>,
    /// Empty where only the header is sent.
    body: Vec<Bytes>,
    whole: bool,
}

impl Attached {
    fn of(request: &DsnRequest<'_>) -> Self {
        let mut scanner = HeaderScanner::new(Arc::new([]), u64::MAX);
        for piece in request.content {
            scanner.feed(piece);
        }
        let facts = scanner.finish();
        let size = request.content.iter().map(|piece| piece.len() as u64).sum();
        let whole = request.content_is_whole
            && needs_whole_message(request.original, request.kind, size)
            && !text::has_bare_line_ends(request.content);

        let mut firewall = HeaderFirewall::new();
        let (mut header, mut body) = (Vec::new(), Vec::new());
        let mut left = if whole { facts.body_offset } else { facts.header_size };
        for piece in request.content {
            let cut = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            firewall.feed(&piece[..cut], &mut header);
            left -= cut as u64;
            if whole && cut < piece.len() {
                body.push(piece.slice(cut..));
            }
        }
        firewall.finish(&mut header);
        let header = text::with_crlf(header);
        Self { facts, header, body, whole }
    }

    /// RFC 6522 sections 3 and 4; RFC 6533 section 4 for headers in UTF-8.
    fn media(&self, global: bool) -> &'static str {
        match (self.whole, global) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        }
    }

    fn eight_bit(&self) -> bool {
        !self.header.is_ascii() || self.body.iter().any(|piece| !piece.is_ascii())
    }
}

/// Exchange's subjects, blank for blank.
fn subject(kind: DsnKind<'_>, original: &str) -> String {
    let prefix = match kind {
        DsnKind::Failure => "Undeliverable: ",
        DsnKind::Delay { .. } => "Delivery delayed:",
        DsnKind::Delivered => "Delivered: ",
        DsnKind::Relayed => "Relayed: ",
    };
    format!("{prefix}{original}")
}

fn header(
    request: &DsnRequest<'_>,
    sender: &str,
    subject: &str,
    message_id: &str,
    smtputf8: bool,
    original: &HeaderFacts,
    boundary: &str,
) -> String {
    let mut out = String::with_capacity(4096);
    let mut field = |name: &str, value: &str| out += &trace::fold(&format!("{name}: {value}"));
    field("From", &format!("<{}>", request.postmaster));
    field("To", &format!("<{sender}>"));
    field("Subject", &text::subject_value(subject, smtputf8));
    field("Date", request.date);
    field("Message-ID", message_id);
    if let Some(id) = original.message_id.as_deref().filter(|id| text::is_message_id(id)) {
        field("In-Reply-To", id);
        field("References", id);
    }
    // RFC 3834 section 5: keeps other responders quiet.
    field("Auto-Submitted", "auto-replied");
    field("MIME-Version", "1.0");
    field("Content-Type", &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""));
    field("Content-Language", "en-US");
    out
}

/// A boundary that stands in none of the parts (RFC 2046 section 5.1.1).
fn boundary(id: Uuid, parts: &[&[u8]], body: &[Bytes]) -> String {
    let pieces: Vec<&[u8]> = parts.iter().copied().chain(body.iter().map(|piece| &piece[..])).collect();
    let mut serial = 0_u32;
    loop {
        let boundary = format!("_{serial:03}_{}_", id.as_simple());
        if !text::contains(&pieces, boundary.as_bytes()) {
            return boundary;
        }
        serial += 1;
    }
}

#[cfg(test)]
mod tests;
