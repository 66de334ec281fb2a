//! Bodies that differ from each other and cost next to nothing to make.
//!
//! All bodies are cut from one text that is made, stuffed and hashed at the start. A body is one
//! line of its own, with the number of its message, and then the text from one of its lines on. Thus
//! no two are the same, and neighbours in a queue differ nearly everywhere.

use std::sync::OnceLock;

/// Bytes of a line, CRLF included.
const LINE: usize = 78;
/// How many lines of the text a body can go on with; a prime, so that no pattern of numbers hits one often.
const PLACES: usize = 769;
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";

pub(crate) struct Bodies {
    /// Bytes of the line with the number.
    first: usize,
    /// Lines after it.
    lines: usize,
    text: Vec<u8>,
    /// The text as DATA wants it (RFC 5321 section 4.5.2), and where its lines begin.
    stuffed: Vec<u8>,
    starts: Vec<usize>,
    hashes: Vec<OnceLock<crc32fast::Hasher>>,
}

/// One body: its own line, and the rest twice.
pub(crate) struct Body<'a> {
    pub(crate) first: Vec<u8>,
    pub(crate) rest: &'a [u8],
    pub(crate) stuffed: &'a [u8],
    pub(crate) crc: u32,
}

impl Bodies {
    /// Bodies of exactly `size` bytes, or 22 if that is more: a number and a line end.
    pub(crate) fn new(size: usize) -> Self {
        let lines = (size / LINE).saturating_sub(1);
        let first = (size - lines * LINE).max(22);
        let text = random_lines(if lines == 0 { 0 } else { PLACES - 1 + lines });
        let mut stuffed = Vec::with_capacity(text.len() + text.len() / 64);
        let mut starts = Vec::with_capacity(text.len() / LINE + 1);
        for line in text.chunks(LINE) {
            starts.push(stuffed.len());
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        starts.push(stuffed.len());
        Self { first, lines, text, stuffed, starts, hashes: vec![OnceLock::new(); PLACES] }
    }

    pub(crate) fn body(&self, id: u64) -> Body<'_> {
        let mut first = format!("{id:020}").into_bytes();
        // What follows the number need not be random, only long enough.
        first.extend(LETTERS.iter().cycle().skip((id % 64) as usize).take(self.first - 22));
        first.extend_from_slice(b"\r\n");
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&first);
        if self.lines == 0 {
            return Body { first, rest: &[], stuffed: &[], crc: hasher.finalize() };
        }
        let place = (id % PLACES as u64) as usize;
        let rest = &self.text[place * LINE..(place + self.lines) * LINE];
        let stuffed = &self.stuffed[self.starts[place]..self.starts[place + self.lines]];
        hasher.combine(self.hashes[place].get_or_init(|| {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(rest);
            hasher
        }));
        Body { first, rest, stuffed, crc: hasher.finalize() }
    }
}

/// Lines of text that look like noise, the same in every run.
fn random_lines(lines: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines * LINE + 10);
    // SplitMix64: good enough, and fast.
    let mut state = 0_u64;
    while text.len() < lines * LINE {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        for _ in 0..10 {
            match text.len() % LINE {
                76 => text.push(b'\r'),
                77 => text.push(b'\n'),
                _ => text.push(LETTERS[(word & 63) as usize]),
            }
            word >>= 6;
        }
    }
    text.truncate(lines * LINE);
    text
}
