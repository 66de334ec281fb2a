//! Replies, written and read.

use bytes::BytesMut;
use proptest::prelude::*;

use crate::smtp::{Capabilities, EnhancedCode, Reply, ReplyError, ReplyReader};

fn read(wire: &[u8]) -> Result<Option<Reply>, ReplyError> {
    ReplyReader::new().next(&mut BytesMut::from(wire))
}

fn one(wire: &[u8]) -> Reply {
    read(wire).unwrap().unwrap()
}

fn written(reply: &Reply) -> String {
    let mut out = Vec::new();
    reply.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn replies_are_read_as_they_come() {
    for (wire, code, enhanced, lines) in [
        ("250 2.1.0 Sender OK\r\n", 250, Some(EnhancedCode(2, 1, 0)), &["Sender OK"][..]),
        ("250 OK\n", 250, None, &["OK"]),
        ("250\r\n", 250, None, &[""]),
        ("250 \r\n", 250, None, &[""]),
        ("250-\r\n250\r\n", 250, None, &["", ""]),
        ("250 2.1.0\r\n", 250, Some(EnhancedCode(2, 1, 0)), &[""]),
        ("354 2.0.0 go\r\n", 354, None, &["2.0.0 go"]),
        ("250 5.1.0 odd\r\n", 250, None, &["5.1.0 odd"]),
        ("550 5.7.606 no\r\n", 550, Some(EnhancedCode(5, 7, 606)), &["no"]),
        ("550 5.7 no\r\n", 550, None, &["5.7 no"]),
        ("550 5.7.1.2 no\r\n", 550, None, &["5.7.1.2 no"]),
        ("550 5.7.1234 no\r\n", 550, None, &["5.7.1234 no"]),
        ("550 5.7.+1 no\r\n", 550, None, &["5.7.+1 no"]),
        ("550-5.7.1 a\r\n550-b\r\n550 5.7.1 c\r\n", 550, Some(EnhancedCode(5, 7, 1)), &["a", "b", "c"]),
        ("550-a\r\n550 5.7.1 b\r\n", 550, Some(EnhancedCode(5, 7, 1)), &["a", "b"]),
        ("550-5.7.1 a\r\n550 5.7.2 b\r\n", 550, Some(EnhancedCode(5, 7, 1)), &["a", "5.7.2 b"]),
        ("550-a\r\n554 b\r\n", 554, None, &["a", "b"]),
        ("571 a\0b\tc\rd  \r\r\n", 571, None, &["a b c d"]),
        ("250 caf\u{e9}\r\n", 250, None, &["caf\u{e9}"]),
    ] {
        let reply = one(wire.as_bytes());
        assert_eq!((reply.code, reply.enhanced), (code, enhanced), "{wire:?}");
        assert_eq!(reply.lines().collect::<Vec<_>>(), lines, "{wire:?}");
    }
    assert_eq!(one(b"250 \xff\r\n").first_line(), "\u{fffd}");
}

#[test]
fn what_is_no_reply_is_refused() {
    for wire in [
        "\r\n",
        "25\r\n",
        "hello\r\n",
        "250OK\r\n",
        "2500\r\n",
        "000 x\r\n",
        "150 x\r\n",
        "199 x\r\n",
        "600 x\r\n",
        "999 x\r\n",
        " 250 x\r\n",
        "2\u{b9}0 x\r\n",
        "250-a\r\nb\r\n",
        "EHLO x\r\n",
    ] {
        assert_eq!(read(wire.as_bytes()), Err(ReplyError::Malformed), "{wire:?}");
    }
    assert_eq!(read(b"550-no\r\n250 yes\r\n"), Err(ReplyError::MixedCodes));
    assert_eq!(read(b"250-yes\r\n550 no\r\n"), Err(ReplyError::MixedCodes));
    assert_eq!(read("250-x\r\n".repeat(64).as_bytes()), Err(ReplyError::TooManyLines));
    assert!(one(format!("{}250 x\r\n", "250-x\r\n".repeat(63)).as_bytes()).lines().count() == 64);
}

#[test]
fn lines_are_bounded_whether_or_not_they_end() {
    let fits = format!("250 {}", "x".repeat(1996));
    assert!(one(format!("{fits}\r\n").as_bytes()).first_line().len() == 1996);
    assert_eq!(read(format!("{fits}x\r\n").as_bytes()), Err(ReplyError::LineTooLong));
    assert_eq!(read(format!("{fits}\r").as_bytes()), Ok(None));
    assert_eq!(read(format!("{fits}xx").as_bytes()), Err(ReplyError::LineTooLong));
}

#[test]
fn the_next_reply_stays_in_the_buffer() {
    let mut buf = BytesMut::from("250-a\r\n250 b\r\n354 go\r\n25");
    let mut reader = ReplyReader::new();
    assert_eq!(reader.next(&mut buf).unwrap().unwrap().to_string(), "250 a b");
    assert_eq!(&buf[..], b"354 go\r\n25");
    assert_eq!(reader.next(&mut buf).unwrap().unwrap().code, 354);
    assert_eq!(reader.next(&mut buf), Ok(None));
    assert_eq!(&buf[..], b"25");
    buf.extend_from_slice(b"0 end\r\n");
    assert_eq!(reader.next(&mut buf).unwrap().unwrap().to_string(), "250 end");
    assert!(buf.is_empty());
    // A buffer emptied in between, as before a TLS handshake, is survived.
    buf.extend_from_slice(b"250-abc\r\n250");
    assert_eq!(reader.next(&mut buf), Ok(None));
    buf.clear();
    assert_eq!(reader.next(&mut buf), Ok(None));
    buf.extend_from_slice(b"220 x\r\n");
    assert_eq!(reader.next(&mut buf).unwrap().unwrap().code, 220);
}

#[test]
fn replies_are_written_clean() {
    let reply = Reply::new(550, Some(EnhancedCode(5, 7, 1)), "no\r\nat all");
    assert_eq!(written(&reply), "550-5.7.1 no\r\n550 5.7.1 at all\r\n");
    assert_eq!(reply.to_string(), "550 5.7.1 no at all");
    assert_eq!(written(&Reply::new(550, None, "a\r\n250 b\0\u{e9}")), "550-a\r\n550 250 b ?\r\n");
    assert_eq!(written(&Reply::new(550, None, "a\r250 b")), "550 a 250 b\r\n");
    assert_eq!(written(&Reply::new(250, None, "")), "250 \r\n");
    assert_eq!(written(&Reply::new(250, None, "x".repeat(3000))).len(), 512);
    let mut out = Vec::new();
    Reply::write_one(&mut out, 221, Some(EnhancedCode(2, 0, 0)), "Bye");
    assert_eq!(out, b"221 2.0.0 Bye\r\n");
}

#[test]
fn classes_of_codes() {
    let is = |code| {
        let r = Reply::new(code, None, "");
        [r.is_positive(), r.is_intermediate(), r.is_transient(), r.is_permanent()]
    };
    assert_eq!(is(250), [true, false, false, false]);
    assert_eq!(is(354), [false, true, false, false]);
    assert_eq!(is(421), [false, false, true, false]);
    assert_eq!(is(554), [false, false, false, true]);
}

#[test]
fn capabilities_of_exchange() {
    let ehlo = one(b"250-mx.contoso.com Hello [192.0.2.1]\r\n250-SIZE 37748736\r\n250-PIPELINING\r\n250-DSN\r\n\
        250-ENHANCEDSTATUSCODES\r\n250-STARTTLS\r\n250-X-ANONYMOUSTLS\r\n250-AUTH NTLM login\r\n250-AUTH=LOGIN PLAIN\r\n\
        250-X-EXPS GSSAPI NTLM\r\n250-8bitmime\r\n250-BINARYMIME\r\n250-CHUNKING\r\n250-SMTPUTF8\r\n250 XRDST\r\n");
    let got = Capabilities::from_ehlo(&ehlo);
    assert_eq!(
        got,
        Capabilities {
            name: "mx.contoso.com".into(),
            size: Some(37_748_736),
            size_offered: true,
            pipelining: true,
            dsn: true,
            enhanced_status_codes: true,
            starttls: true,
            eight_bit_mime: true,
            binary_mime: true,
            chunking: true,
            smtputf8: true,
            auth: vec!["NTLM".into(), "LOGIN".into(), "PLAIN".into()],
        }
    );
    let bare = Capabilities::from_ehlo(&one(b"250-STARTTLS\r\n250-SIZE\r\n250 \r\n"));
    assert_eq!(
        (bare.name.as_str(), bare.size, bare.size_offered, bare.starttls),
        ("STARTTLS", None, true, false)
    );
    assert_eq!(Capabilities::from_ehlo(&one(b"250-x\r\n250 SIZE 0\r\n")).size, Some(0));
    assert_eq!(Capabilities::from_ehlo(&one(b"250\r\n")), Capabilities::default());
}

fn reply_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"250"[..]),
        Just(&b"550"[..]),
        Just(&b"-"[..]),
        Just(&b" "[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\n"[..]),
        Just(&b"\r"[..]),
        Just(&b"2.1.5"[..]),
        Just(&b"5.7.1"[..]),
        Just(&b"text"[..]),
        Just(&b"\xff\0"[..]),
        Just(&[b'x'; 700][..]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// All replies up to the first error.
fn read_all(wire: &[u8], step: usize) -> (Vec<Reply>, Option<ReplyError>, Vec<u8>) {
    let (mut reader, mut buf, mut replies) = (ReplyReader::new(), BytesMut::new(), Vec::new());
    for chunk in wire.chunks(step) {
        buf.extend_from_slice(chunk);
        loop {
            match reader.next(&mut buf) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error), Vec::new()),
            }
        }
    }
    (replies, None, buf.to_vec())
}

proptest! {
    #[test]
    fn replies_do_not_depend_on_packets(wire in reply_text(), step in 1usize..50) {
        prop_assert_eq!(read_all(&wire, step), read_all(&wire, wire.len().max(1)));
    }

    #[test]
    fn what_is_written_is_read_back(
        code in prop_oneof![200u16..300, 400u16..600],
        enhanced in prop::option::of((0u16..1000, 0u16..1000)),
        lines in prop::collection::vec("[a-zA-Z<>]([ -~]{0,80}[a-z])?", 1..10),
    ) {
        let enhanced = enhanced.map(|(subject, detail)| EnhancedCode((code / 100) as u8, subject, detail));
        let reply = Reply::new(code, enhanced, lines.join("\n"));
        let wire = written(&reply);
        prop_assert_eq!(&one(wire.as_bytes()), &reply);
        prop_assert!(wire.split_inclusive("\r\n").all(|line| line.len() <= 512));
    }

    #[test]
    fn nothing_hides_in_a_reply(code in 200u16..600, text in any::<String>()) {
        let wire = written(&Reply::new(code, None, &text));
        let lines = text.split('\n').count();
        prop_assert!(wire.is_ascii() && wire.matches(['\r', '\n']).count() == 2 * lines);
        prop_assert!(wire.ends_with("\r\n"));
        let mut lines = wire.split_terminator("\r\n");
        prop_assert!(lines.all(|line| line.starts_with(&code.to_string())));
    }
}
