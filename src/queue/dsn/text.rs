//! Small pieces of text a notification is written with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memmem;

use crate::smtp::xtext;

/// Longest subject repeated, so that its line stays under 998 bytes with prefix and name.
const MAX_SUBJECT: usize = 900;
/// Bytes of text in one encoded word: 75 characters less `=?utf-8?B?` and `?=`, in groups of four
/// that stand for three (RFC 2047 section 2).
const ENCODED_CHUNK: usize = 45;

/// A part's header.
pub(super) fn part_header(media: &str, charset: Option<&str>, eight_bit: bool) -> String {
    let charset = charset.map_or(String::new(), |name| format!("; charset=\"{name}\""));
    let encoding = if eight_bit { "8bit" } else { "7bit" };
    format!("Content-Type: {media}{charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n")
}

/// A subject as its field may carry it: UTF-8 only where SMTPUTF8 goes along (RFC 6532), else
/// encoded words.
pub(super) fn subject_value(subject: &str, smtputf8: bool) -> String {
    let subject = &subject[..subject.floor_char_boundary(MAX_SUBJECT)];
    if subject.is_ascii() || smtputf8 {
        return subject.to_owned();
    }
    let mut rest = subject;
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.floor_char_boundary(ENCODED_CHUNK));
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words.join(" ")
}

/// Whether a Message-ID may be repeated in a field of ours.
pub(super) fn is_message_id(id: &str) -> bool {
    id.len() < 900 && id.starts_with('<') && id.ends_with('>') && id.bytes().all(|b| b.is_ascii_graphic())
}

/// One line of what someone else said: no control characters, at most `limit` bytes.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean[..clean.floor_char_boundary(limit)].trim().to_owned()
}

/// Adds a line of text, broken where SMTP would not carry it (RFC 5321 section 4.5.3.1.6).
pub(super) fn push_line(out: &mut String, line: &str) {
    let mut rest = line;
    while rest.len() > 990 {
        let (head, tail) = rest.split_at(rest.floor_char_boundary(990));
        out.push_str(head);
        out.push_str("\r\n");
        rest = tail;
    }
    out.push_str(rest);
    out.push_str("\r\n");
}

/// Whether `needle` stands in the pieces read as one text.
pub(super) fn contains(pieces: &[&[u8]], needle: &[u8]) -> bool {
    let finder = memmem::Finder::new(needle);
    let overlap = needle.len().saturating_sub(1);
    let mut tail: Vec<u8> = Vec::new();
    for piece in pieces {
        if finder.find(piece).is_some() {
            return true;
        }
        tail.extend_from_slice(&piece[..piece.len().min(overlap)]);
        if finder.find(&tail).is_some() {
            return true;
        }
        if piece.len() > overlap {
            tail.clear();
            tail.extend_from_slice(&piece[piece.len() - overlap..]);
        } else {
            tail.drain(..tail.len().saturating_sub(overlap));
        }
    }
    false
}

/// Whether some CR or LF stands alone. A notification goes out as text, in which it must not
/// (RFC 5321 section 2.3.8).
pub(super) fn has_bare_line_ends(pieces: &[Bytes]) -> bool {
    let mut after_cr = false;
    for piece in pieces {
        let mut from = 0;
        for at in memchr::memchr2_iter(b'\r', b'\n', piece) {
            if after_cr != (piece[at] == b'\n') || after_cr && at != from {
                return true;
            }
            after_cr = !after_cr;
            from = at + 1;
        }
        if after_cr && from < piece.len() {
            return true;
        }
    }
    after_cr
}

/// The same lines, each ended by CRLF. Binary content may have come with others.
pub(super) fn with_crlf(text: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut from = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', &text) {
        let good =
            if text[at] == b'\r' { text.get(at + 1) == Some(&b'\n') } else { text[..at].ends_with(b"\r") };
        if !good {
            out.extend_from_slice(&text[from..at]);
            out.extend_from_slice(b"\r\n");
            from = at + 1;
        }
    }
    if from == 0 {
        return text;
    }
    out.extend_from_slice(&text[from..]);
    out
}

/// xtext as notifications show it: decoded, or as it came where it is none (RFC 3461 section 4).
pub(super) fn from_xtext(text: &str) -> String {
    xtext::decode(text).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn subjects_in_other_scripts_are_encoded() {
        assert_eq!(subject_value("Undeliverable: x", false), "Undeliverable: x");
        assert_eq!(subject_value("Relayed: né", true), "Relayed: né");
        assert_eq!(subject_value("Relayed: né", false), "=?utf-8?B?UmVsYXllZDogbsOp?=");
        let long = subject_value(&"é".repeat(600), false);
        assert!(long.split(' ').all(|word| word.len() <= 75));
    }

    #[test]
    fn bare_line_ends_are_seen_and_mended() {
        for (text, mended) in [
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\nb\r\n", "a\r\nb\r\n"),
            ("a\rb", "a\r\nb"),
            ("\r\r\n", "\r\n\r\n"),
            ("\n\r", "\r\n\r\n"),
            ("\r\n\n", "\r\n\r\n"),
            ("a\r", "a\r\n"),
            ("", ""),
        ] {
            assert_eq!(with_crlf(text.into()), mended.as_bytes(), "{text:?}");
            for cut in 0..=text.len() {
                let pieces = [Bytes::from(&text[..cut]), Bytes::new(), Bytes::from(&text[cut..])];
                assert_eq!(has_bare_line_ends(&pieces), text != mended, "{text:?} {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_needle_is_found_across_pieces(
            pieces in prop::collection::vec("[ab]{0,6}", 0..8), needle in "[ab]{1,8}"
        ) {
            let whole = pieces.concat();
            let parts: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            prop_assert_eq!(contains(&parts, needle.as_bytes()), whole.contains(&needle));
        }
    }
}
