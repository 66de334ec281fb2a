//! Replies (RFC 5321 section 4.2) with enhanced status codes (RFC 2034, RFC 3463).

use std::fmt;

use super::ascii::{is_printable, split, split_once};

/// Longest reply line written, with its CRLF (RFC 5321 section 4.5.3.1.5).
const MAX_REPLY_LINE: usize = 512;

/// An enhanced status code: class, subject, detail (RFC 3463 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// Reads `class.subject.detail`: a class of 2, 4 or 5, and one to three digits for each of
    /// the others.
    pub fn parse(text: &str) -> Option<Self> {
        Self::at_start(text).and_then(|(code, rest)| rest.is_empty().then_some(code))
    }

    /// Reads the one that is the first word of a text; returns what follows it as well.
    pub(super) fn at_start(text: &str) -> Option<(Self, &str)> {
        let (&[class @ (b'2' | b'4' | b'5'), b'.'], rest) = text.as_bytes().split_first_chunk()? else {
            return None;
        };
        let (subject, rest) = number(rest)?;
        let (detail, rest) = number(rest.strip_prefix(b".")?)?;
        let rest = &text[text.len() - rest.len()..];
        let word = rest.is_empty() || rest.starts_with(' ');
        word.then_some((Self(class - b'0', subject, detail), rest))
    }

    /// Hands what it is written as to `put`, without the machinery of `format!`: every reply to
    /// every command has one.
    fn each(self, mut put: impl FnMut(&str)) {
        let mut buffer = itoa::Buffer::new();
        put(buffer.format(self.0));
        for number in [self.1, self.2] {
            put(".");
            put(buffer.format(number));
        }
    }
}

/// One to three digits, and what follows them.
fn number(text: &[u8]) -> Option<(u16, &[u8])> {
    let digits = text.iter().take(4).take_while(|b| b.is_ascii_digit()).count();
    if !(1..=3).contains(&digits) {
        return None;
    }
    let (digits, rest) = text.split_at(digits);
    Some((digits.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0')), rest))
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A reply, ours or a peer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three-digit code.
    pub code: u16,
    /// The enhanced status code, which stands before the text of every line.
    pub enhanced: Option<EnhancedCode>,
    /// The text of each line, behind code and enhanced code, LF between them: most replies have
    /// one line, and none needs an allocation a line.
    pub(super) text: String,
}

impl Reply {
    /// A reply of one line, or of as many as the text has.
    pub fn new(code: u16, enhanced: Option<EnhancedCode>, text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        let text = if text.contains('\r') {
            let lines: Vec<&str> = text.split('\n').map(|line| line.trim_end_matches('\r')).collect();
            lines.join("\n")
        } else {
            text.to_owned()
        };
        Self { code, enhanced, text }
    }

    /// The text of each line, behind code and enhanced code. At least one.
    pub fn lines(&self) -> impl Iterator<Item = &str> + Clone {
        split(&self.text, b'\n')
    }

    /// The text of the first line.
    pub fn first_line(&self) -> &str {
        split_once(&self.text, b'\n').map_or(self.text.as_str(), |(first, _)| first)
    }

    /// 2xx: done.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx: go on.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4xx: not now.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx: never.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The text alone, its lines joined by a blank.
    pub fn text(&self) -> String {
        self.text.replace('\n', " ")
    }

    /// The reply on one line, as it is logged: `250 2.1.0 text`, lines joined by one blank.
    pub fn to_line(&self) -> String {
        let mut out = String::with_capacity(self.text.len() + 16);
        out.extend(digits(self.code).map(char::from));
        if let Some(enhanced) = self.enhanced {
            out.push(' ');
            enhanced.each(|part| out.push_str(part));
        }
        for line in self.lines().filter(|line| !line.is_empty()) {
            out.push(' ');
            out.push_str(line);
        }
        out
    }

    /// Leaves the first line and forgets the others.
    pub fn keep_first_line(&mut self) {
        self.text.truncate(self.first_line().len());
    }

    /// Appends the reply as it goes over the wire: the enhanced code on every line (RFC 2034
    /// section 4), nothing in the text but printable ASCII, no line over 512 octets.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut lines = self.lines().peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { b'-' } else { b' ' };
            write_line(out, self.code, separator, self.enhanced, line);
        }
    }

    /// Appends a reply of one line without building a [`Reply`]: for the answers every message
    /// gets.
    pub fn write_one(out: &mut Vec<u8>, code: u16, enhanced: Option<EnhancedCode>, text: &str) {
        write_line(out, code, b' ', enhanced, text);
    }
}

fn write_line(out: &mut Vec<u8>, code: u16, separator: u8, enhanced: Option<EnhancedCode>, text: &str) {
    let start = out.len();
    out.extend_from_slice(&digits(code));
    out.push(separator);
    if let Some(enhanced) = enhanced {
        enhanced.each(|part| out.extend_from_slice(part.as_bytes()));
        out.push(b' ');
    }
    let room = MAX_REPLY_LINE.saturating_sub(out.len() - start + 2);
    if text.len() <= room && is_printable(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        out.extend(text.chars().take(room).map(|c| match c {
            ' '..='~' => c as u8,
            c if c.is_control() => b' ',
            _ => b'?',
        }));
    }
    out.extend_from_slice(b"\r\n");
}

impl fmt::Display for Reply {
    /// As [`to_line`](Self::to_line) returns it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_line())
    }
}

/// A code is 200 to 599; the remainder keeps a wrong one to three digits.
fn digits(code: u16) -> [u8; 3] {
    [code / 100, code / 10, code].map(|n| b'0' + (n % 10) as u8)
}
