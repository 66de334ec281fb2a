//! One field, one line: the CSV rules of exchange-edge.md 4.1.

use std::io::Write;

use memchr::memchr;

/// Longest field written; a longer one is cut and marked, so that one peer cannot fill the log.
const MAX_FIELD: usize = 8 * 1024;

/// What cutting leaves behind.
const CUT_MARK: &str = "[...]";

const PLAIN: u8 = 0;
const NEEDS_QUOTES: u8 = 1;
const NEEDS_ESCAPE: u8 = 2;

/// What each byte asks of the field around it.
static CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    class[b',' as usize] = NEEDS_QUOTES;
    class[b'"' as usize] = NEEDS_QUOTES;
    let mut control = 0;
    while control < 0x20 {
        class[control] = NEEDS_ESCAPE;
        control += 1;
    }
    class[0x7F] = NEEDS_ESCAPE;
    // First bytes of the characters that need escaping beyond ASCII, and of some that do not.
    class[0xC2] = NEEDS_ESCAPE;
    class[0xE2] = NEEDS_ESCAPE;
    class
};

/// Appends a field: as it is, or wrapped in `"` with quotes doubled when it holds a comma or a
/// quote.
///
/// Control characters become `\xNN`, those of Latin-1 included, and Unicode's line separators
/// `\uNNNN`: what a peer sends must never start a line of its own for any reader, nor be obeyed by a
/// terminal that shows it.
pub(super) fn push_field(out: &mut Vec<u8>, field: &str) {
    let (field, cut) = shorten(field);
    let class = class(field.as_bytes());
    let quoted = class & NEEDS_QUOTES != 0;
    if quoted {
        out.push(b'"');
    }
    if class & NEEDS_ESCAPE != 0 {
        push_escaped(out, field);
    } else if quoted {
        let mut rest = field.as_bytes();
        while let Some(quote) = memchr(b'"', rest) {
            out.extend_from_slice(&rest[..=quote]);
            out.push(b'"');
            rest = &rest[quote + 1..];
        }
        out.extend_from_slice(rest);
    } else {
        out.extend_from_slice(field.as_bytes());
    }
    out.extend_from_slice(cut.as_bytes());
    if quoted {
        out.push(b'"');
    }
}

/// What all bytes together ask for.
fn class(bytes: &[u8]) -> u8 {
    bytes.iter().fold(PLAIN, |class, byte| class | CLASS[usize::from(*byte)])
}

fn push_escaped(out: &mut Vec<u8>, field: &str) {
    let mut written = 0;
    for (at, c) in field.char_indices() {
        let ends_a_line = matches!(c, '\u{2028}' | '\u{2029}');
        if c != '"' && !c.is_control() && !ends_a_line {
            continue;
        }
        out.extend_from_slice(&field.as_bytes()[written..at]);
        written = at + c.len_utf8();
        // Writing to a Vec does not fail.
        let _ = match c {
            '"' => out.write_all(b"\"\""),
            _ if ends_a_line => write!(out, "\\u{:04X}", u32::from(c)),
            _ => write!(out, "\\x{:02X}", u32::from(c)),
        };
    }
    out.extend_from_slice(&field.as_bytes()[written..]);
}

fn shorten(field: &str) -> (&str, &'static str) {
    if field.len() <= MAX_FIELD {
        return (field, "");
    }
    (&field[..field.floor_char_boundary(MAX_FIELD)], CUT_MARK)
}

/// A reply as newer Exchange builds log it (exchange-edge.md 4.2): one line whatever its length,
/// and two blanks behind the code of a multi-line one:
/// `250  edge01.lab.test Hello [203.0.113.9] SIZE 37748736 PIPELINING`.
///
/// `lines` are the reply's lines without their code.
pub fn folded<S: AsRef<str>>(code: u16, lines: impl IntoIterator<Item = S, IntoIter: Clone>) -> String {
    let lines = lines.into_iter();
    let (count, room) = lines.clone().fold((0, 0), |(n, room), line| (n + 1, room + line.as_ref().len() + 1));
    let mut text = String::with_capacity(6 + room);
    text.push_str(itoa::Buffer::new().format(code));
    if count > 1 {
        text.push(' ');
    }
    for line in lines {
        text.push(' ');
        text.push_str(line.as_ref());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(text: &str) -> String {
        let mut out = Vec::new();
        push_field(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_commas_and_quotes_ask_for_quotes() {
        assert_eq!(field(""), "");
        assert_eq!(field(" CN=a b"), " CN=a b");
        assert_eq!(field("a;b 'c'"), "a;b 'c'");
        assert_eq!(field("220 x ready at Mon, 5 Oct"), "\"220 x ready at Mon, 5 Oct\"");
        assert_eq!(field("say \"hi\""), "\"say \"\"hi\"\"\"");
        assert_eq!(field("grüße, ja"), "\"grüße, ja\"");
    }

    #[test]
    fn a_peer_cannot_start_a_line_of_its_own() {
        assert_eq!(field("EHLO x\r\n2026,fake"), "\"EHLO x\\x0D\\x0A2026,fake\"");
        assert_eq!(field("a\0b\x7f\x1b"), "a\\x00b\\x7F\\x1B");
        assert_eq!(field("a\u{85}b\u{9b}2J\u{2028}c\u{2029}"), "a\\x85b\\x9B2J\\u2028c\\u2029");
        assert_eq!(field("£ …, \u{2028}\""), "\"£ …, \\u2028\"\"\"");
    }

    #[test]
    fn a_huge_field_is_cut_at_a_character() {
        let long = "ü".repeat(MAX_FIELD);
        let out = field(&long);
        assert!(out.len() <= MAX_FIELD + CUT_MARK.len());
        assert!(out.ends_with("ü[...]"));
    }

    #[test]
    fn folding_puts_two_blanks_behind_the_code_of_many_lines() {
        assert_eq!(folded(250, &["a Hello [::1]", "SIZE 1", "DSN"]), "250  a Hello [::1] SIZE 1 DSN");
        assert_eq!(folded(250, &["2.1.0 Sender OK"]), "250 2.1.0 Sender OK");
    }

    /// Character by character.
    fn naive(text: &str) -> String {
        let escaped: String = text
            .chars()
            .map(|c| match c {
                '"' => "\"\"".to_owned(),
                '\u{2028}' | '\u{2029}' => format!("\\u{:04X}", u32::from(c)),
                c if c.is_control() => format!("\\x{:02X}", u32::from(c)),
                c => c.into(),
            })
            .collect();
        if text.contains([',', '"']) { format!("\"{escaped}\"") } else { escaped }
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_writer(text in "[a-z ,\"\r\u{7f}\u{85}\u{e9}\u{2026}\u{2028}-]{0,60}") {
            prop_assert_eq!(field(&text), naive(&text));
        }
    }
}
