//! The content of a message: found in the stream, and checked.

use memchr::{memchr, memmem};

/// What was read of a message.
#[derive(Default)]
pub(crate) struct Message {
    /// Its number.
    pub(crate) id: Option<u64>,
    /// What its body should hash to.
    crc: Option<u32>,
    hasher: crc32fast::Hasher,
    in_body: bool,
    pub(crate) bytes: u64,
    /// The start of a header line whose end has not come yet.
    partial: Vec<u8>,
}

impl Message {
    /// Takes content in, in pieces cut anywhere.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len() as u64;
        while !self.in_body {
            let Some(end) = memchr(b'\n', piece) else {
                self.partial.extend_from_slice(piece);
                return;
            };
            let (line, rest) = piece.split_at(end + 1);
            piece = rest;
            if self.partial.is_empty() {
                self.header(line);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.header(&whole);
            }
        }
        self.hasher.update(piece);
    }

    fn header(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        self.in_body = line.is_empty();
        let Some(field) = line.strip_prefix(b"X-Load-") else { return };
        let text = std::str::from_utf8(field).unwrap_or_default();
        if let Some(id) = text.strip_prefix("Id: ") {
            self.id = id.parse().ok();
        } else if let Some(crc) = text.strip_prefix("Crc: ") {
            self.crc = u32::from_str_radix(crc, 16).ok();
        }
    }

    /// Whether the body is the one that was sent; unknown where nobody said what that is.
    pub(crate) fn good(&self) -> Option<bool> {
        self.crc.map(|crc| crc == self.hasher.clone().finalize())
    }
}

/// Takes the stuffing of DATA off and finds its end (RFC 5321 section 4.5.2).
pub(crate) struct Unstuffer {
    line_start: bool,
}

impl Unstuffer {
    pub(crate) fn new() -> Self {
        Self { line_start: true }
    }

    /// Feeds `message` from `input`: the bytes used, and whether the end was among them. What is
    /// not used yet has to come again with more.
    pub(crate) fn take(&mut self, input: &[u8], message: &mut Message) -> (usize, bool) {
        let mut at = 0;
        while at < input.len() {
            if self.line_start && input[at] == b'.' {
                match &input[at + 1..] {
                    [b'\r', b'\n', ..] => return (at + 3, true),
                    [] | [b'\r'] => return (at, false),
                    _ => at += 1,
                }
            }
            let rest = &input[at..];
            let piece = memmem::find(rest, b"\n.").map_or(rest, |line_end| &rest[..=line_end]);
            message.feed(piece);
            at += piece.len();
            self.line_start = piece.last() == Some(&b'\n');
        }
        (at, false)
    }
}
