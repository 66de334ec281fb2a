//! Replies (RFC 5321 section 4.2) with enhanced status codes (RFC 2034, RFC 3463).

use std::fmt;

/// Longest reply line written, with its CRLF (RFC 5321 section 4.5.3.1.5).
const MAX_REPLY_LINE: usize = 512;

/// An enhanced status code: class, subject, detail (RFC 3463 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// Reads `class.subject.detail`: a class of 2, 4 or 5, and one to three digits for each of
    /// the others.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let mut number = || {
            let part = parts.next()?;
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if digits { part.parse().ok() } else { None }
        };
        let code = Self(class, number()?, number()?);
        if parts.next().is_none() { Some(code) } else { None }
    }
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
    /// The text of each line, behind code and enhanced code. At least one.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line, or of as many as the text has.
    pub fn new(code: u16, enhanced: Option<EnhancedCode>, text: impl AsRef<str>) -> Self {
        let lines = text.as_ref().split('\n').map(|line| line.trim_end_matches('\r').to_owned()).collect();
        Self { code, enhanced, lines }
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
        self.lines.join(" ")
    }

    /// Appends the reply as it goes over the wire: the enhanced code on every line (RFC 2034
    /// section 4), nothing in the text but printable ASCII, no line over 512 octets.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (last, before) = match self.lines.split_last() {
            Some((last, before)) => (last.as_str(), before),
            None => ("", &[][..]),
        };
        for line in before {
            write_line(out, self.code, b'-', self.enhanced, line);
        }
        write_line(out, self.code, b' ', self.enhanced, last);
    }

    /// Appends a reply of one line without building a [`Reply`]: for the answers every message
    /// gets.
    pub fn write_one(out: &mut Vec<u8>, code: u16, enhanced: Option<EnhancedCode>, text: &str) {
        write_line(out, code, b' ', enhanced, text);
    }
}

fn write_line(out: &mut Vec<u8>, code: u16, separator: u8, enhanced: Option<EnhancedCode>, text: &str) {
    let start = out.len();
    // A code is 200 to 599; the remainder keeps a wrong one to three digits.
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[digit(code / 100), digit(code / 10), digit(code), separator]);
    if let Some(enhanced) = enhanced {
        push_number(out, enhanced.0.into());
        out.push(b'.');
        push_number(out, enhanced.1);
        out.push(b'.');
        push_number(out, enhanced.2);
        out.push(b' ');
    }
    let room = MAX_REPLY_LINE.saturating_sub(out.len() - start + 2);
    if text.len() <= room && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
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

/// Decimal digits without the machinery of `format!`: every reply to every command has three.
fn push_number(out: &mut Vec<u8>, number: u16) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

impl fmt::Display for Reply {
    /// The reply on one line, as it is logged: `250 2.1.0 text`, lines joined by one blank.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        self.lines.iter().filter(|line| !line.is_empty()).try_for_each(|line| write!(f, " {line}"))
    }
}
