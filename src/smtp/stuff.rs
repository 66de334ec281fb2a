//! Message text as the client sends it after DATA: dot-stuffing (RFC 5321 section 4.5.2).

use memchr::memchr_iter;

use super::stretch::{self, Patience};

/// Encodes message text for DATA. A dot at the start of a line is doubled; so is one behind a
/// bare CR or LF, because a sloppy peer may take that for a line end and the dot for an end of
/// data, and the worst that doubling can do there is to leave a dot too many in the text.
#[derive(Debug, Clone)]
pub struct DotStuffer {
    /// The last byte; LF stands for the start of the text, where a dot needs doubling as well.
    last: u8,
    /// The last two bytes were CRLF, or there was no byte yet: the final dot may follow.
    at_line_start: bool,
}

impl DotStuffer {
    /// An encoder for one message.
    pub fn new() -> Self {
        Self { last: b'\n', at_line_start: true }
    }

    /// Encodes the next bytes of the text and appends them to `out`.
    pub fn feed(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let &[.., last] = content else { return };
        let (mut kept, mut at, mut patience) = (0, 0, Patience::new());
        let mut next = 1;
        while at < content.len() {
            let near = at..content.len().min(next);
            // Dots are rarer than line ends in attachments, so look for those and then backwards.
            for dot in memchr_iter(b'.', &content[near.clone()]) {
                let dot = near.start + dot;
                let before = if dot == 0 { self.last } else { content[dot - 1] };
                if before == b'\n' || before == b'\r' {
                    out.extend_from_slice(&content[kept..=dot]);
                    // The dot goes out twice: once just now, once with what follows it.
                    kept = dot;
                }
            }
            at = stretch::end_of_dotless(content, near.end);
            next = patience.next(near.end, at);
        }
        out.extend_from_slice(&content[kept..]);
        self.at_line_start = content.ends_with(b"\r\n") || (content == b"\n" && self.last == b'\r');
        self.last = last;
    }

    /// Ends the text: adds the CRLF it lacks, if it does, and the final dot.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.at_line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
        *self = Self::new();
    }
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self::new()
    }
}
