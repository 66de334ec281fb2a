//! Whole notifications against the files in `golden/` (with LF for CRLF). After a wanted change
//! run the tests with `GATEPOST_BLESS=1` and read the difference.

use super::*;
use crate::smtp::Address;
use proptest::prelude::*;

const ORIGINAL: &str = "Received: from laptop (192.0.2.9) by mail.fabrikam.example; Mon, 5 Oct 2026 10:59:58 +0200\r\n\
    X-MS-Exchange-Organization-SCL: -1\r\n\
    X-MS-Exchange-Forest-RulesExecuted: a,\r\n b\r\n\
    From: Ann <ann@fabrikam.example>\r\nTo: don@contoso.com\r\nSubject: Quarterly figures\r\n\
    Message-ID: <q3@fabrikam.example>\r\n\r\n\
    See the attachment.\r\n--_000_00000000000000000000000000000000_\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn recipient(text: &str, notify: Option<Notify>, orcpt: Option<&str>) -> Recipient {
    Recipient { address: address(text), notify, orcpt: orcpt.map(Into::into) }
}

fn envelope(from: &str, recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        from: (!from.is_empty()).then(|| address(from)),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        recipients,
    }
}

fn request<'a>(
    kind: DsnKind<'a>,
    original: &'a Envelope,
    recipients: &'a [RecipientReport<'a>],
    content: &'a [Bytes],
) -> DsnRequest<'a> {
    DsnRequest {
        kind,
        original,
        content,
        content_is_whole: true,
        recipients,
        arrival: "Mon, 5 Oct 2026 11:00:00 +0200",
        received_from: Some("mail.fabrikam.example"),
        generating_server: "edge.contoso.com",
        postmaster: "postmaster@contoso.com",
        date: "Mon, 5 Oct 2026 15:04:00 +0200",
        id: Uuid::nil(),
    }
}

fn report<'a>(recipient: &'a Recipient, reply: &'a str) -> RecipientReport<'a> {
    RecipientReport {
        recipient,
        reply,
        remote: Some(RemoteServer { name: "mx.contoso.com", ip: Some([192, 0, 2, 25].into()) }),
        last_attempt: Some("Mon, 5 Oct 2026 15:03:59 +0200"),
    }
}

fn text(dsn: &Dsn) -> String {
    let bytes: Vec<u8> = dsn.content.iter().flat_map(|piece| piece.to_vec()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(name: &str, dsn: &Dsn) {
    let whole = text(dsn);
    assert!(!whole.replace("\r\n", "").contains(['\r', '\n']), "only CRLF ends lines");
    let path = format!("{}/src/queue/dsn/golden/{name}.eml", env!("CARGO_MANIFEST_DIR"));
    let found = whole.replace("\r\n", "\n");
    if std::env::var_os("GATEPOST_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap(), "{path}");
}

#[test]
fn failure_with_the_whole_message() {
    let recipients = vec![
        recipient("don@contoso.com", None, Some("rfc822;Don+2BSales@contoso.com")),
        recipient("eve@contoso.com", Some(Notify::default()), None),
        recipient("late@contoso.com", None, None),
    ];
    let mut original = envelope("ann@fabrikam.example", recipients.clone());
    original.ret = Some(Ret::Full);
    original.envid = Some("QQ+2B314159".into());
    let mut late = report(&recipients[2], EXPIRED);
    late.remote = None;
    let reports = [
        report(&recipients[0], "550 5.1.1 User unknown"),
        report(&recipients[1], "550 5.7.1 never to be told"),
        late,
    ];
    // Cut within the header and within the text that looks like a boundary.
    let content = [&ORIGINAL[..50], &ORIGINAL[50..ORIGINAL.len() - 10], &ORIGINAL[ORIGINAL.len() - 10..]];
    let content = content.map(|piece| Bytes::from(piece.to_owned()));
    let dsn = build(&request(DsnKind::Failure, &original, &reports, &content)).unwrap();
    assert_eq!(dsn.subject, "Undeliverable: Quarterly figures");
    assert_eq!(dsn.message_id, "<00000000-0000-0000-0000-000000000000@edge.contoso.com>");
    assert_eq!(dsn.envelope, envelope("", vec![recipient("ann@fabrikam.example", None, None)]));
    check("failure", &dsn);
}

#[test]
fn delay_with_the_header_only() {
    let recipients = vec![recipient("don@contoso.com", None, None)];
    let mut original = envelope("ann@fabrikam.example", recipients.clone());
    original.ret = Some(Ret::Full);
    let reports =
        [report(&recipients[0], "451 4.7.500 Server busy. Please try again later from [192.0.2.1].")];
    let kind =
        DsnKind::Delay { until: "Wed, 7 Oct 2026 11:00:00 +0200", remaining: Duration::from_mins(2636) };
    let content = [Bytes::from(ORIGINAL)];
    let dsn = build(&request(kind, &original, &reports, &content)).unwrap();
    assert_eq!(dsn.subject, "Delivery delayed:Quarterly figures");
    check("delay", &dsn);
}

#[test]
fn success_only_where_asked_for() {
    let success = Some(Notify { success: true, ..Notify::default() });
    let recipients =
        vec![recipient("don@contoso.com", success, None), recipient("eve@contoso.com", None, None)];
    let original = envelope("ann@fabrikam.example", recipients.clone());
    let reports = [report(&recipients[0], "250 2.6.0 queued"), report(&recipients[1], "250 2.6.0 queued")];
    let content = [Bytes::from(ORIGINAL)];
    let dsn = build(&request(DsnKind::Relayed, &original, &reports, &content)).unwrap();
    assert_eq!(dsn.subject, "Relayed: Quarterly figures");
    check("relayed", &dsn);
    let dsn = build(&request(DsnKind::Delivered, &original, &reports, &content)).unwrap();
    assert_eq!(dsn.subject, "Delivered: Quarterly figures");
    assert!(text(&dsn).contains("\r\nAction: delivered\r\nStatus: 2.6.0\r\n"));
}

#[test]
fn addresses_in_utf8() {
    let recipients = vec![recipient("用户@例え.jp", None, None)];
    let mut original = envelope("ann@fabrikam.example", recipients.clone());
    original.smtputf8 = true;
    let reports = [report(&recipients[0], "550 5.1.1 Unbekannter Empfänger")];
    let content = [Bytes::from(ORIGINAL.replace("Quarterly", "Vierteljährliche"))];
    let dsn = build(&request(DsnKind::Failure, &original, &reports, &content)).unwrap();
    assert!(dsn.envelope.smtputf8);
    assert_eq!(dsn.envelope.body, BodyType::EightBitMime);
    check("global", &dsn);
}

#[test]
fn eight_bit_without_smtputf8_needs_only_8bitmime() {
    let recipients = vec![recipient("don@contoso.com", None, None)];
    let mut original = envelope("ann@fabrikam.example", recipients.clone());
    original.ret = Some(Ret::Full);
    let reports = [report(&recipients[0], "550 5.1.1 nö")];
    let content = [Bytes::from(ORIGINAL.replace("Quarterly", "Vierteljährliche"))];
    let dsn = build(&request(DsnKind::Failure, &original, &reports, &content)).unwrap();
    assert!(!dsn.envelope.smtputf8);
    assert_eq!(dsn.envelope.body, BodyType::EightBitMime);
    let whole = text(&dsn);
    assert!(whole.contains("\r\nSubject: =?utf-8?B?"));
    assert!(whole.contains("Diagnostic-Code: smtp;550 5.1.1 n?\r\n"));
    assert!(whole.contains("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"));
}

#[test]
fn nobody_is_told_who_must_not_be() {
    let never = recipient("don@contoso.com", Some(Notify::default()), None);
    let usual = recipient("don@contoso.com", None, None);
    let content = [Bytes::from(ORIGINAL)];
    for (from, to) in [("", &usual), ("ann@fabrikam.example", &never)] {
        let original = envelope(from, vec![to.clone()]);
        let reports = [report(to, "550 5.1.1 no")];
        assert!(!wanted(&original, DsnKind::Failure, &reports));
        assert!(build(&request(DsnKind::Failure, &original, &reports, &content)).is_none());
    }
    let delay = DsnKind::Delay { until: "", remaining: Duration::ZERO };
    let only = |success, failure, delay| Some(Notify { success, failure, delay });
    for (notify, failure, delayed, relayed) in [
        (None, true, true, false),
        (only(false, false, false), false, false, false),
        (only(true, false, false), false, false, true),
        (only(false, true, false), true, false, false),
        (only(false, false, true), false, true, false),
    ] {
        assert_eq!(wants(notify, DsnKind::Failure), failure);
        assert_eq!(wants(notify, delay), delayed);
        assert_eq!(wants(notify, DsnKind::Relayed), relayed);
        assert_eq!(wants(notify, DsnKind::Delivered), relayed);
    }
}

#[test]
fn the_message_returns_only_where_it_can() {
    let mut original = envelope("ann@fabrikam.example", vec![recipient("don@contoso.com", None, None)]);
    assert!(!needs_whole_message(&original, DsnKind::Failure, 100));
    original.ret = Some(Ret::Full);
    assert!(needs_whole_message(&original, DsnKind::Failure, MAX_ATTACHED));
    assert!(!needs_whole_message(&original, DsnKind::Failure, MAX_ATTACHED + 1));
    assert!(!needs_whole_message(&original, DsnKind::Relayed, 100));
    original.body = BodyType::BinaryMime;
    assert!(!needs_whole_message(&original, DsnKind::Failure, 100));

    // Bare line ends would leave in a DATA command: the header comes back mended, the body not.
    original.body = BodyType::SevenBit;
    let reports = [report(&original.recipients[0], "550 5.1.1 no")];
    let content = [Bytes::from("Subject: a\nTo: b\n\nbody\n.\n")];
    let whole = text(&build(&request(DsnKind::Failure, &original, &reports, &content)).unwrap());
    assert!(whole.contains("text/rfc822-headers\r\n") && whole.contains("\r\nTo: b\r\n\r\n--"));
    assert!(!whole.replace("\r\n", "").contains('\n'));
}

#[test]
fn the_first_accepted_domain_signs() {
    use crate::config::{AcceptedDomainType, DomainPattern};
    assert_eq!(postmaster(&[], "edge.contoso.com"), "postmaster@edge.contoso.com");
    let domain = DomainPattern::parse("*.contoso.com").unwrap();
    let accepted = AcceptedDomain { domain, kind: AcceptedDomainType::InternalRelay };
    assert_eq!(postmaster(&[accepted], "edge.contoso.com"), "postmaster@contoso.com");
}

proptest! {
    /// Whatever a sender or a remote server wrote, the notification stays a message SMTP carries,
    /// and no field of ours is forged.
    #[test]
    fn nothing_foreign_breaks_out(
        content: Vec<u8>,
        subject in "\\PC{0,80}|[a-zé]{900,1100}",
        reply in ".{0,40}|[a-z]{3000}|550 5\\.1\\.1 [\\r\\nA-Za-z: ]{0,80}",
        orcpt in "rfc822;[A-Za-z0-9+]{0,40}",
        envid in "[+0-9A-Fa-z]{0,60}",
        helo in ".{0,300}",
        full: bool,
        smtputf8: bool,
    ) {
        let recipients = vec![recipient("don@contoso.com", None, Some(&orcpt))];
        let mut original = envelope("ann@fabrikam.example", recipients.clone());
        original.ret = full.then_some(Ret::Full);
        original.envid = Some(envid.into());
        original.smtputf8 = smtputf8;
        let reports = [report(&recipients[0], &reply)];
        let pieces = [Bytes::from(format!("Subject: {subject}\r\n")), Bytes::from(content.clone())];
        let mut request = request(DsnKind::Failure, &original, &reports, &pieces);
        request.received_from = Some(&helo);
        let dsn = build(&request).unwrap();
        prop_assert!(!text::has_bare_line_ends(&dsn.content));
        let head = &dsn.content[0];
        for line in head.split(|&b| b == b'\n') {
            prop_assert!(line.len() <= 998, "{}", line.len());
        }
        let status = String::from_utf8_lossy(head);
        let status = status.split("message/delivery-status\r\n").nth(1).unwrap();
        let status = status.split_once("\r\n\r\n").unwrap().1;
        prop_assert_eq!(status.matches("\r\nFinal-Recipient:").count(), 1);
        prop_assert_eq!(status.matches("\r\n\r\n").count(), 3);
        if dsn.envelope.body == BodyType::SevenBit {
            prop_assert!(dsn.content.iter().all(|piece| piece.is_ascii()));
        }
    }
}
