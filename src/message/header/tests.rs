use super::*;
use proptest::prelude::*;

fn names() -> Arc<[Box<str>]> {
    ["edge.contoso.com".into(), "EDGE01".into()].into()
}

fn scan(content: &[u8]) -> HeaderFacts {
    let mut scanner = HeaderScanner::new(names(), 65_536);
    scanner.feed(content);
    scanner.finish()
}

#[test]
fn a_usual_header() {
    let text = b"Received: from a (1.2.3.4) by b;\r\n Mon, 1 Jan 2026 00:00:00 +0000\r\n\
        received : from x by\r\n\tEdge01 (5.6.7.8); Mon\r\n\
        Reverse-Path: no\r\nFrom: a@b\r\nSUBJECT: =?utf-8?q?caf=C3=A9?=\r\n and more \r\n\
        Date: x\r\nMessage-Id:\r\n <id-1@\x01contoso.com> \r\nSubject: second\r\nMIME-Version: 1.0\r\n\r\nBody\r\n";
    let facts = scan(text);
    let body = text.len() as u64 - 6;
    assert_eq!(
        facts,
        HeaderFacts {
            header_size: body - 2,
            body_offset: body,
            too_large: false,
            received: 2,
            received_by_us: 1,
            message_id: Some("<id-1@contoso.com>".into()),
            subject: Some("=?utf-8?q?caf=C3=A9?= and more".into()),
            has_from: true,
            validation: false,
            has_date: true,
            eight_bit: false,
            separator_needed: false,
        }
    );
}

#[test]
fn odd_headers() {
    assert_eq!(scan(b""), HeaderFacts::default());
    let empty = scan(b"\r\nBody \xff");
    assert_eq!((empty.header_size, empty.body_offset, empty.eight_bit), (0, 2, false));
    assert!(!empty.separator_needed);
    for no_header in
        [&b" folded: x\r\n\r\n"[..], b"Hello\r\n\r\n", b"Hello", b"\rReceived: x\r\n", b":\r\n", b"\r"]
    {
        assert_eq!(scan(no_header).separator_needed, no_header != b":\r\n", "{no_header:?}");
        assert_eq!(scan(no_header).received, 0);
    }
    let cut = scan(b"Subject: a\r\nMessage-ID: <x@y");
    assert_eq!(cut.message_id.as_deref(), Some("<x@y"));
    assert_eq!(cut.body_offset, cut.header_size);
    assert_eq!(scan(b"Message-ID: \r\n\r\n").message_id, None);
    assert_eq!(scan(b"Subject:\n\nMessage-ID: <x@y>\n").message_id, None, "that line is body");
    assert!(scan("Subject: café\r\n\r\n".as_bytes()).eight_bit);
    assert_eq!(scan(b"Received-SPF: pass\r\nX: y\r\n Received: no\r\n\r\n").received, 0);
}

#[test]
fn a_connector_validation_is_known_by_its_sender() {
    for (from, known) in [
        ("O365ConnectorValidation@contoso.com", true),
        ("<o365connectorvalidation@contoso.onmicrosoft.com>", true),
        ("\"Validation <1>\"\r\n <O365ConnectorValidation2@contoso.com>", true),
        ("O365ConnectorValidation <ann@contoso.com>", false),
        ("ann@O365ConnectorValidation.example", false),
        ("", false),
    ] {
        let facts = scan(format!("From: {from}\r\n\r\n").as_bytes());
        assert_eq!((facts.has_from, facts.validation), (true, known), "{from}");
    }
    let second = "From: ann@contoso.com\r\nFrom: O365ConnectorValidation@contoso.com\r\n\r\n";
    assert!(!scan(second.as_bytes()).validation, "the first one counts");
    assert!(!scan(b"\r\nFrom: O365ConnectorValidation@contoso.com\r\n").validation, "that is body");
}

#[test]
fn long_values_are_bounded() {
    let long = "é".repeat(2000);
    let facts = scan(format!("Message-ID: {long}\r\nSubject: {long}\r\n\r\n").as_bytes());
    assert_eq!(facts.message_id.unwrap().len(), MAX_MESSAGE_ID);
    assert_eq!(facts.subject.unwrap().len(), MAX_SUBJECT);
}

#[test]
fn the_limit_is_on_the_header_alone() {
    let text = b"A: b\r\nC: d\r\n\r\nlong body, which is not counted";
    for (limit, too_large) in [(12, false), (11, true), (1, true)] {
        for cut in 0..text.len() {
            let mut scanner = HeaderScanner::new(names(), limit);
            scanner.feed(&text[..cut]);
            let progress = scanner.feed(&text[cut..]);
            assert_eq!(
                progress,
                if too_large { HeaderProgress::TooLarge } else { HeaderProgress::Complete },
                "{limit} {cut}"
            );
            assert_eq!(scanner.finish().too_large, too_large);
        }
    }
    // The excess is known before the line that makes it ends.
    let mut scanner = HeaderScanner::new(names(), 10);
    assert_eq!(scanner.feed(b"A: 4567890"), HeaderProgress::Reading);
    assert_eq!(scanner.feed(b"1"), HeaderProgress::TooLarge);
}

/// The same facts, found the slow way.
fn naive(content: &[u8], limit: u64) -> HeaderFacts {
    let mut facts = HeaderFacts::default();
    let mut fields: Vec<Vec<u8>> = Vec::new();
    let mut ended = 0;
    for (i, line) in content.split_inclusive(|&b| b == b'\n').enumerate() {
        if line == b"\n" || line == b"\r\n" {
            ended = line.len();
            break;
        }
        facts.header_size += line.len() as u64;
        facts.eight_bit |= !line.is_ascii();
        let name_end = line.iter().position(|&b| !(b == b'\t' || (b' '..=b'~').contains(&b)) || b == b':');
        let blank_first = matches!(line[0], b' ' | b'\t');
        let is_field = !blank_first && name_end.is_some_and(|e| line[e] == b':');
        facts.separator_needed |= i == 0 && !is_field;
        if blank_first && i > 0 {
            fields.last_mut().unwrap().extend_from_slice(line);
        } else {
            fields.push(if is_field { line.to_vec() } else { b"-:".to_vec() });
        }
    }
    facts.body_offset = facts.header_size + ended as u64;
    facts.too_large = facts.header_size > limit;
    for field in fields {
        let colon = field.iter().position(|&b| b == b':').unwrap();
        let name = String::from_utf8_lossy(&field[..colon]).trim_end().to_ascii_lowercase();
        let value = &field[colon + 1..][..(field.len() - colon - 1).min(MAX_VALUE)];
        match name.as_str() {
            "received" => {
                facts.received += 1;
                facts.received_by_us += u32::from(names_us(value, &names()));
            }
            "message-id" if facts.message_id.is_none() => facts.message_id = clean_id(value),
            "subject" if facts.subject.is_none() => facts.subject = Some(unfold(value, MAX_SUBJECT)),
            "from" if !facts.has_from => {
                facts.has_from = true;
                facts.validation = is_validation(value);
            }
            "date" => facts.has_date = true,
            _ => {}
        }
    }
    facts
}

/// Headers made of the pieces that matter, in any order.
fn content() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"Received",
        b"Message-ID",
        b"subject",
        b"FROM",
        b"Date",
        b"X-Other",
        b":",
        b": ",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b" by edge.contoso.com ",
        b"(by edge01)",
        b"\xc3\xa9",
        b"\xff\x00",
        b"                 ",
        b"<id@host>",
        b"O365ConnectorValidation",
        b"<o365connectorvalidation@x>",
    ];
    let piece = prop::sample::select(PIECES);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn agrees_with_the_naive_reader_however_it_is_cut(
        content in content(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        limit in prop_oneof![Just(65_536_u64), 0_u64..200],
    ) {
        let mut ends: Vec<usize> = cuts.iter().map(|c| c.index(content.len() + 1)).collect();
        ends.push(content.len());
        ends.sort_unstable();
        let mut scanner = HeaderScanner::new(names(), limit);
        let mut from = 0;
        for end in ends {
            scanner.feed(&content[from..end]);
            from = end;
        }
        let (found, expected) = (scanner.finish(), naive(&content, limit));
        prop_assert_eq!(found.too_large, expected.too_large);
        if !found.too_large {
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn any_bytes_are_survived(content: Vec<u8>, split in 1_usize..20) {
        let mut scanner = HeaderScanner::new(names(), 1000);
        for piece in content.chunks(split) {
            scanner.feed(piece);
        }
        prop_assert_eq!(scanner.finish(), naive(&content, 1000));
    }
}
