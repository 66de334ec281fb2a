//! Replies within a text: a log line, a `LastError`, a report pasted whole.

/// A reply and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// From its code to the next reply.
    pub(super) text: &'a str,
    pub(super) code: Option<u16>,
    /// Class, subject and detail (RFC 3463).
    pub(super) status: Option<(u16, u16, u16)>,
}

/// The replies in order; the text as a whole when it holds no code.
pub(super) fn replies(text: &str) -> Vec<Found<'_>> {
    let mut starts: Vec<(usize, Codes)> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let after_word = text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '.');
        if !after_word && let Some((len, codes)) = codes(rest) {
            starts.push((at, codes));
            at += len;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    if starts.is_empty() {
        let text = text.trim();
        return vec![Found { text, code: reply_code(text), status: None }];
    }
    let ends = starts.iter().skip(1).map(|start| start.0).chain([text.len()]);
    let part = |(&(start, (code, status)), end): (&(usize, Codes), usize)| Found {
        text: text[start..end].trim_end_matches(|c: char| c.is_whitespace() || "'\"(->{[=".contains(c)),
        code,
        status,
    };
    starts.iter().zip(ends).map(part).collect()
}

/// A status code, and a reply code in front of it.
type Codes = (Option<u16>, Option<(u16, u16, u16)>);

/// The codes that `text` begins with, and how long they are. A reply code alone may be any number
/// in prose, and does not count.
fn codes(text: &str) -> Option<(usize, Codes)> {
    if let Some((len, status)) = status(text) {
        return Some((len, (None, Some(status))));
    }
    let code = reply_code(text)?;
    // `550-5.7.1` is a line of several.
    let rest = text[3..].strip_prefix([' ', '-', '\t'])?;
    let (len, status) = status(rest)?;
    Some((4 + len, (Some(code), Some(status))))
}

/// The reply code that `text` begins with.
fn reply_code(text: &str) -> Option<u16> {
    let digits = text.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))?;
    let ends = text[3..].chars().next().is_none_or(|next| !next.is_alphanumeric() && next != '.');
    digits.parse().ok().filter(|code| ends && matches!(code / 100, 2 | 4 | 5))
}

/// An enhanced status code at the beginning of `text`.
fn status(text: &str) -> Option<(usize, (u16, u16, u16))> {
    let mut at = 0;
    let mut number = |most: usize, dot: bool| -> Option<u16> {
        let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > most {
            return None;
        }
        let value = text[at..at + digits].parse().ok()?;
        at += digits;
        if dot {
            text[at..].starts_with('.').then_some(())?;
            at += 1;
        }
        Some(value)
    };
    let class = number(1, true).filter(|class| matches!(class, 2 | 4 | 5))?;
    let (subject, detail) = (number(3, true)?, number(3, false)?);
    // An address of four numbers, or a version, is none.
    let next = text.as_bytes().get(at..at + 2);
    let goes_on = next.is_some_and(|next| next[0] == b'.' && next[1].is_ascii_digit());
    (!goes_on).then_some((at, (class, subject, detail)))
}
