//! The header firewall (exchange-edge.md 6.2): fields that only our own organisation's servers
//! may set neither come in from strangers nor go out to them.

use memchr::memchr;

/// Names of the guarded fields begin so, in any case. They differ behind the common head, so that
/// at most one can still match when a byte decides.
const GUARDED: [&[u8]; 2] = [b"x-ms-exchange-organization-", b"x-ms-exchange-forest-"];
/// The longer of them.
const MAX_PREFIX: usize = 27;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    /// A CR was the first byte of a line.
    LineStartCr,
    /// The line matches a guarded name so far.
    Matching,
    /// The rest of the line passes, or is dropped with the field it belongs to.
    Line,
    /// Behind the header.
    Body,
}

/// Drops guarded fields from a message that streams through, cut anywhere.
#[derive(Debug)]
pub struct HeaderFirewall {
    state: State,
    dropping: bool,
    held: [u8; MAX_PREFIX],
    held_len: usize,
    removed: u32,
}

impl Default for HeaderFirewall {
    fn default() -> Self {
        Self::new()
    }
}

impl HeaderFirewall {
    /// A firewall at the first byte of a message.
    pub fn new() -> Self {
        Self { state: State::LineStart, dropping: false, held: [0; MAX_PREFIX], held_len: 0, removed: 0 }
    }

    /// Appends to `out` what of `input` may pass. Once [`Self::in_body`] holds, everything does,
    /// and the caller may stop calling.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        while !rest.is_empty() {
            let used = self.step(rest, out);
            rest = &rest[used..];
        }
    }

    /// Writes what is still held back because it might have become a guarded name.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.state == State::LineStartCr {
            out.push(b'\r');
        }
        self.release(out);
        self.state = State::Body;
    }

    /// Whether the header is over.
    pub fn in_body(&self) -> bool {
        self.state == State::Body
    }

    /// How many fields were dropped.
    pub fn removed(&self) -> u32 {
        self.removed
    }

    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        match self.state {
            State::LineStart => match rest[0] {
                b'\r' => {
                    self.state = State::LineStartCr;
                    1
                }
                b'\n' => {
                    self.state = State::Body;
                    0
                }
                // Continues the field above, and shares its fate.
                b' ' | b'\t' => {
                    self.state = State::Line;
                    0
                }
                _ => {
                    self.dropping = false;
                    self.state = State::Matching;
                    0
                }
            },
            State::LineStartCr => {
                out.push(b'\r');
                self.dropping = false;
                self.state = if rest[0] == b'\n' { State::Body } else { State::Line };
                0
            }
            State::Matching => self.match_byte(rest[0], out),
            State::Line => {
                let end = memchr(b'\n', rest).map(|lf| lf + 1);
                let line = &rest[..end.unwrap_or(rest.len())];
                if !self.dropping {
                    out.extend_from_slice(line);
                }
                if end.is_some() {
                    self.state = State::LineStart;
                }
                line.len()
            }
            State::Body => {
                out.extend_from_slice(rest);
                rest.len()
            }
        }
    }

    fn match_byte(&mut self, byte: u8, out: &mut Vec<u8>) -> usize {
        let len = self.held_len;
        let lower = byte.to_ascii_lowercase();
        let fits = |name: &&[u8]| {
            name.len() > len && name[len] == lower && self.held[..len].eq_ignore_ascii_case(&name[..len])
        };
        let Some(name) = GUARDED.iter().find(|name| fits(name)) else {
            self.release(out);
            self.state = State::Line;
            return 0;
        };
        self.held[len] = byte;
        self.held_len += 1;
        if self.held_len == name.len() {
            self.held_len = 0;
            self.dropping = true;
            self.removed = self.removed.saturating_add(1);
            self.state = State::Line;
        }
        1
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.held[..self.held_len]);
        self.held_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(content: &[u8], piece: usize) -> Vec<u8> {
        let mut firewall = HeaderFirewall::new();
        let mut out = Vec::new();
        for piece in content.chunks(piece) {
            firewall.feed(piece, &mut out);
        }
        firewall.finish(&mut out);
        out
    }

    #[test]
    fn guarded_fields_go_with_their_continuations() {
        let content = b"Received: a\r\nx-ms-exchange-ORGANIZATION-SCL: -1\r\n\tmore\r\n and\r\n\
            X-MS-Exchange-Organization: stays\r\nX-MS-Exchange-Forest-RulesExecuted: a\r\n\
            X-MS-Exchange-CrossTenant-Id: b\r\n folded\r\nSubject: x\r\n\r\n\
            X-MS-Exchange-Organization-SCL: body text\r\n";
        let expected = b"Received: a\r\nX-MS-Exchange-Organization: stays\r\n\
            X-MS-Exchange-CrossTenant-Id: b\r\n folded\r\nSubject: x\r\n\r\n\
            X-MS-Exchange-Organization-SCL: body text\r\n";
        for piece in 1..content.len() {
            assert_eq!(filter(content, piece), expected, "{piece}");
        }
    }

    #[test]
    fn messages_that_end_early() {
        for whole in ["", "\r", "X-MS-Exchange-Org", " x", "\rX-MS-Exchange-Forest-A: b", "a\r\n\r\n"] {
            assert_eq!(filter(whole.as_bytes(), 1), whole.as_bytes());
        }
        assert_eq!(filter(b"X-MS-Exchange-Forest-", 1), b"");
        assert_eq!(filter(b"X-MS-Exchange-Forest-A: b\nC: d\n\nE", 3), b"C: d\n\nE");
    }

    /// Line by line.
    fn naive(content: &[u8]) -> Vec<u8> {
        let (mut out, mut dropping, mut body) = (Vec::new(), false, false);
        for line in content.split_inclusive(|&b| b == b'\n') {
            body |= matches!(line, b"\n" | b"\r\n");
            if !matches!(line[0], b' ' | b'\t') {
                let head = line.to_ascii_lowercase();
                dropping = GUARDED.iter().any(|name| head.starts_with(name));
            }
            if body || !dropping {
                out.extend_from_slice(line);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_filter(
            pieces in prop::collection::vec(prop::sample::select(&[
                "X-MS-Exchange-", "Organization-", "forest-", "A", ": b", "\r\n", "\n", "\r", " ", "\t", "Subject: c\r\n",
            ][..]), 0..40),
            piece in 1_usize..30,
        ) {
            let content = pieces.concat().into_bytes();
            prop_assert_eq!(filter(&content, piece), naive(&content));
        }
    }
}
