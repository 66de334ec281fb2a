//! The test message (exchange-edge.md 8.3).

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use uuid::Uuid;

use crate::log::time::rfc5322;
use crate::message::trace;
use crate::smtp::{Address, MAX_TEXT_LINE};

/// Subject of Exchange Online's message.
pub const SUBJECT: &str = "Test email for connector validation";

/// Our own words for what Exchange Online's message says.
pub const BODY: &str = "This message was sent to check that mail can be delivered over a send connector.\r\n\
                        Nothing needs to be done about it.\r\n";

/// Builds the message, CRLF line ends throughout.
pub(super) fn build(from: &Address, to: &Address, subject: &str, body: &str, fqdn: &str) -> String {
    let mut message = String::new();
    for (name, value) in [
        ("From", format!("<{from}>")),
        ("To", format!("<{to}>")),
        ("Subject", encoded(subject)),
        ("Date", rfc5322(SystemTime::now())),
        ("Message-ID", trace::message_id(Uuid::new_v4(), fqdn)),
        ("MIME-Version", "1.0".to_owned()),
    ] {
        message.push_str(&trace::field(name, &value));
    }
    let body = body.replace("\r\n", "\n").replace('\r', "\n");
    let plain = body
        .lines()
        .all(|line| line.len() <= MAX_TEXT_LINE && line.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t')));
    let (charset, encoding) = if plain { ("us-ascii", "7bit") } else { ("utf-8", "base64") };
    message.push_str(&trace::field("Content-Type", &format!("text/plain; charset={charset}")));
    message.push_str(&trace::field("Content-Transfer-Encoding", encoding));
    message.push_str("\r\n");
    if plain {
        for line in body.lines() {
            message.push_str(line);
            message.push_str("\r\n");
        }
    } else {
        let whole = BASE64_STANDARD.encode(body.replace('\n', "\r\n"));
        let mut rest = whole.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(76));
            message.push_str(line);
            message.push_str("\r\n");
            rest = more;
        }
    }
    message
}

/// A header value on one line: encoded words where it is not printable ASCII (RFC 2047 section 2).
fn encoded(text: &str) -> String {
    if text.len() <= 900 && text.bytes().all(|b| matches!(b, b' '..=b'~')) && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // 42 octets make 56 characters; with its frame and the field's name a line stays within 78.
        let (head, more) = rest.split_at(rest.floor_char_boundary(42));
        words.push(format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(head)));
        rest = more;
    }
    words.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, body: &str) -> String {
        let address = |text: &str| Address::parse(text).unwrap();
        build(&address("a@contoso.com"), &address("b@contoso.com"), subject, body, "edge.contoso.com")
    }

    #[test]
    fn it_has_what_a_message_needs() {
        let text = message(SUBJECT, BODY);
        for field in ["From: <a@contoso.com>\r\n", "To: <b@contoso.com>\r\n", "Date: ", "Message-ID: <"] {
            assert!(text.contains(field), "{field} in {text}");
        }
        assert!(text.contains("\r\nSubject: Test email for connector validation\r\n"));
        assert!(text.contains("7bit\r\n\r\nThis message was sent"), "{text}");
        assert!(text.ends_with("about it.\r\n"));
    }

    #[test]
    fn nothing_given_breaks_a_line() {
        let text = message("a\r\nBcc: <x@y.z>", "one\ntwo\rthree\r\n.\r\n");
        assert!(!text.contains("\r\nBcc:"), "{text}");
        assert!(text.contains("Subject: =?utf-8?B?"), "{text}");
        assert!(text.ends_with("\r\n\r\none\r\ntwo\r\nthree\r\n.\r\n"), "{text}");
    }

    #[test]
    fn other_alphabets_and_long_lines_are_encoded() {
        let text = message(&"Prüfung ".repeat(10), &"ü".repeat(2000));
        assert!(text.is_ascii() && text.contains("base64"), "{text}");
        let longest = text.lines().map(str::len).max();
        assert!(longest <= Some(78), "{longest:?}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let decoded = BASE64_STANDARD.decode(body.replace("\r\n", "")).unwrap();
        assert_eq!(decoded, "ü".repeat(2000).into_bytes());
    }
}
