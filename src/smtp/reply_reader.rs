//! Replies as a client reads them (RFC 5321 section 4.2): bounded, and as tolerant as is safe.

use std::borrow::Cow;

use bytes::{Buf, BytesMut};
use memchr::memchr;

use super::ascii::is_printable;
use super::reply::{EnhancedCode, Reply};

/// Most lines taken in one reply.
pub const MAX_REPLY_LINES: usize = 64;

/// Longest reply line taken, without its line end. RFC 5321 section 4.5.3.1.5 allows 512 octets;
/// some servers use more.
pub const MAX_REPLY_LINE: usize = 2_000;

/// Why bytes are no reply. Nothing sensible can follow on that connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with a code of 200 to 599 and a blank, a hyphen or its end.
    #[error("the peer's reply does not begin with a reply code")]
    Malformed,
    /// Lines of one reply say both yes and no: their codes begin with different digits.
    #[error("the peer's reply mixes codes of different classes")]
    MixedCodes,
    /// Over [`MAX_REPLY_LINE`] bytes.
    #[error("a line of the peer's reply is longer than {MAX_REPLY_LINE} bytes")]
    LineTooLong,
    /// Over [`MAX_REPLY_LINES`] lines.
    #[error("the peer's reply has more than {MAX_REPLY_LINES} lines")]
    TooManyLines,
}

/// Reads the replies of one connection out of its read buffer.
///
/// Tolerated: lines ended by a bare LF, a code without text, enhanced codes that are missing on
/// some lines, codes that differ within one class (the last line's counts, as RFC 5321 section
/// 4.2.1 has a client look for that line).
#[derive(Debug, Clone, Default)]
pub struct ReplyReader {
    /// Where the first line not yet seen whole begins in the buffer.
    line: usize,
    /// How far that line was searched for its end.
    searched: usize,
    /// Whole lines before it.
    count: usize,
    /// First digit of the code of those.
    class: Option<u16>,
}

impl ReplyReader {
    /// A reader for one connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the first reply out of the buffer; none, and the buffer as it was, if no whole one
    /// is there yet. Replies behind it stay: pipelined ones share packets. The buffer must not
    /// be changed between calls other than by appending (see [`reset`](Self::reset)).
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        if self.searched > buf.len() {
            self.reset();
        }
        while let Some(lf) = memchr(b'\n', &buf[self.searched..]).map(|n| n + self.searched) {
            let head = LineHead::read(trim_cr(&buf[self.line..lf]))?;
            if *self.class.get_or_insert(head.code / 100) != head.code / 100 {
                return Err(ReplyError::MixedCodes);
            }
            self.count += 1;
            self.line = lf + 1;
            self.searched = self.line;
            if head.last {
                let reply = build(&buf[..self.line], head.code);
                buf.advance(self.line);
                self.reset();
                return Ok(Some(reply));
            }
            if self.count == MAX_REPLY_LINES {
                return Err(ReplyError::TooManyLines);
            }
        }
        self.searched = buf.len();
        // One byte more may be the CR of a line just short enough.
        if self.searched - self.line > MAX_REPLY_LINE + 1 {
            return Err(ReplyError::LineTooLong);
        }
        Ok(None)
    }

    /// Forgets a reply seen in part, for a buffer that was emptied: as it must be before a TLS
    /// handshake (RFC 3207 section 4.2).
    pub fn reset(&mut self) {
        (self.line, self.searched, self.count, self.class) = (0, 0, 0, None);
    }
}

/// The reply of whole lines whose heads are known to be good.
fn build(mut raw: &[u8], code: u16) -> Reply {
    let mut enhanced = None;
    // Without the heads there is room to spare.
    let mut text = String::with_capacity(raw.len());
    let mut separator = "";
    while let Some(lf) = memchr(b'\n', raw) {
        text.push_str(separator);
        separator = "\n";
        let line = clean(trim_cr(&raw[..lf]).get(4..).unwrap_or_default());
        raw = &raw[lf + 1..];
        // RFC 2034 section 4: the class agrees with the first digit of the code.
        let found = EnhancedCode::at_start(&line).filter(|(found, _)| u16::from(found.0) == code / 100);
        text.push_str(match found {
            Some((found, rest)) if *enhanced.get_or_insert(found) == found => rest.trim_start(),
            _ => &line,
        });
    }
    Reply { code, enhanced, text }
}

/// The first four bytes of a reply line.
struct LineHead {
    code: u16,
    last: bool,
}

impl LineHead {
    fn read(line: &[u8]) -> Result<Self, ReplyError> {
        if line.len() > MAX_REPLY_LINE {
            return Err(ReplyError::LineTooLong);
        }
        let (&[a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'], rest) =
            line.split_first_chunk::<3>().ok_or(ReplyError::Malformed)?
        else {
            return Err(ReplyError::Malformed);
        };
        let last = match rest.first() {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return Err(ReplyError::Malformed),
        };
        let digit = |d: u8| u16::from(d - b'0');
        Ok(Self { code: digit(a) * 100 + digit(b) * 10 + digit(c), last })
    }
}

fn trim_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Text of a peer for logs, DSNs and our own replies: UTF-8 without control characters.
fn clean(text: &[u8]) -> Cow<'_, str> {
    let text = text.trim_ascii_end();
    if is_printable(text)
        && let Ok(text) = std::str::from_utf8(text)
    {
        return Cow::Borrowed(text);
    }
    let text = String::from_utf8_lossy(text).replace(char::is_control, " ");
    Cow::Owned(text.trim_end().to_owned())
}
