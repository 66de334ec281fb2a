//! Stretches of plain lines: most of a message is lines that are ended by CRLF and begin with no
//! dot, and nothing happens to those. They are told from the rest many bytes at a time, and without
//! a branch for each line.
//!
//! Nothing is decided here that [`super::lines`] does not decide as well: what looks odd in the
//! least is left to it.

#![allow(clippy::needless_bitwise_bool, reason = "a branch for each byte is what this does without")]

use memchr::{memchr, memrchr};

use super::facts::MAX_TEXT_LINE;
use super::lines::{CR, LF};

/// Bytes judged together. The compiler makes vector instructions of the judging.
const BLOCK: usize = 128;

/// The end of the text from `from` on, some [`BLOCK`]s away, in which every CR has its LF and every
/// LF its CR, except for a CR at the very end. With `dots`, no line of it begins with a dot. `from`
/// itself if the first block is not like that.
///
/// The byte before `from` is looked at as well: there has to be one, and it must not be a CR that
/// may yet turn out to be half of a CRLF.
pub(super) fn end_of_plain(input: &[u8], from: usize, dots: bool) -> usize {
    // An LF behind an LF is bare, and odd without this.
    let dot = if dots { b'.' } else { LF };
    end(input, from, |before, byte| ((before == CR) ^ (byte == LF)) | ((before == LF) & (byte == dot)))
}

/// The same for text without a dot behind any kind of line end.
pub(super) fn end_of_dotless(input: &[u8], from: usize) -> usize {
    end(input, from, |before, byte| ((before == CR) | (before == LF)) & (byte == b'.'))
}

/// How much is not worth another try behind a stretch that ended: one block, and more and more of
/// text in which no stretch is found.
#[derive(Debug)]
pub(super) struct Patience(usize);

impl Patience {
    const MOST: usize = 8 * BLOCK;

    pub(super) fn new() -> Self {
        Self(BLOCK)
    }

    /// The next try, after one that went from `start` to `end`.
    pub(super) fn next(&mut self, start: usize, end: usize) -> usize {
        self.0 = if end > start { BLOCK } else { (self.0 * 2).min(Self::MOST) };
        end + self.0
    }
}

/// Whether a stretch may begin: shorter text is not worth the call.
pub(super) fn may_begin(left: usize) -> bool {
    left >= BLOCK
}

/// The end of the blocks from `from` on that have nothing odd; each byte is judged with the one
/// before it.
#[inline]
fn end(input: &[u8], from: usize, odd: impl Fn(u8, u8) -> bool) -> usize {
    let Some(before) = input.get(from.wrapping_sub(1)..) else { return from };
    let bytes = input.get(from..).unwrap_or_default().as_chunks::<BLOCK>().0;
    let plain = |(before, bytes): &(&[u8; BLOCK], &[u8; BLOCK])| {
        // All bytes are asked, without leaving early: that makes vector instructions of it.
        let pairs = before.iter().zip(bytes.iter());
        !pairs.fold(false, |any, (&before, &byte)| any | odd(before, byte))
    };
    from + before.as_chunks::<BLOCK>().0.iter().zip(bytes).take_while(plain).count() * BLOCK
}

/// Lengths of lines, without their CRLF.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// The longest so far, and no less than what any text may have. The current line may be counted
    /// in already, or not yet.
    pub(super) longest: usize,
    /// The current line so far.
    pub(super) line: usize,
    /// A line has ended.
    pub(super) any: bool,
}

impl Lengths {
    pub(super) fn new() -> Self {
        Self { longest: MAX_TEXT_LINE, line: 0, any: false }
    }

    /// The current line ends.
    pub(super) fn end_line(&mut self) {
        self.longest = self.longest.max(self.line);
        self.line = 0;
        self.any = true;
    }

    /// Takes in plain lines, which do not end in the midst of a CRLF.
    ///
    /// Only a line that is longer than all before it matters. So the last line end is looked for
    /// within the reach of the longest line: if there is one, all up to it is short enough.
    pub(super) fn plain(&mut self, mut text: &[u8]) {
        self.longest = self.longest.max(self.line);
        loop {
            let reach = self.longest - self.line + 2;
            let (near, far) = text.split_at(reach.min(text.len()));
            if let Some(end) = memrchr(LF, near) {
                text = text.get(end + 1..).unwrap_or_default();
                self.line = 0;
                self.any = true;
            } else if let Some(end) = memchr(LF, far) {
                text = far.get(end + 1..).unwrap_or_default();
                self.line += near.len() + end - 1;
                self.end_line();
            } else {
                self.line += text.len();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, byte by byte.
    fn naive(input: &[u8], from: usize, odd: impl Fn(u8, u8) -> bool) -> usize {
        let first = (from..input.len()).find(|&i| odd(input[i - 1], input[i])).unwrap_or(input.len());
        from + (first - from) / BLOCK * BLOCK
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            30 => prop::collection::vec(b'a'..=b'c', 0..90).prop_map(|line| [&line, &b"\r\n"[..]].concat()),
            1 => prop::sample::select(vec![&b"\r"[..], b"\n", b".", b"\r\n.", b"\0", b"\x8a\x8d"])
                .prop_map(<[u8]>::to_vec),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_stretch_ends_where_the_naive_one_does(
            pieces in prop::collection::vec(piece(), 1..60), from in 1usize..300, dots: bool,
        ) {
            let input = pieces.concat();
            if from <= input.len() {
                let plain = |b: u8, c: u8| (c == LF) != (b == CR) || dots && c == b'.' && b == LF;
                prop_assert_eq!(end_of_plain(&input, from, dots), naive(&input, from, plain));
                let dotless = |b: u8, c: u8| c == b'.' && (b == CR || b == LF);
                prop_assert_eq!(end_of_dotless(&input, from), naive(&input, from, dotless));
            }
        }

        #[test]
        fn lengths_are_those_of_the_lines(
            lines in prop::collection::vec(prop_oneof![8 => 0usize..200, 1 => 900usize..1_500], 0..40),
            cuts in prop::collection::vec(0usize..1_000, 0..20),
        ) {
            let text = lines.iter().map(|&length| "x".repeat(length)).collect::<Vec<_>>().join("\r\n").into_bytes();
            let mut lengths = Lengths::new();
            let mut rest = &text[..];
            for cut in cuts {
                let mut cut = cut.min(rest.len());
                // Callers leave a CR for later.
                cut -= usize::from(rest[..cut].ends_with(b"\r"));
                lengths.plain(&rest[..cut]);
                rest = &rest[cut..];
            }
            lengths.plain(rest);
            prop_assert_eq!(lengths.longest.max(lengths.line), lines.iter().copied().max().unwrap_or(0).max(MAX_TEXT_LINE));
            prop_assert_eq!(lengths.line, lines.last().copied().unwrap_or(0));
            prop_assert_eq!(lengths.any, lines.len() > 1);
        }
    }

    #[test]
    fn every_place_in_a_block_is_looked_at() {
        for at in 1..2 * BLOCK {
            for odd in [&b"\r"[..], b"\n"] {
                let mut input = vec![b'x'; 2 * BLOCK + 1];
                input[at] = odd[0];
                // A CR is odd only to the byte behind it.
                let seen = if odd == b"\r" { at + 1 } else { at };
                let whole = (seen - 1) / BLOCK * BLOCK;
                assert_eq!(end_of_plain(&input, 1, true), 1 + whole, "{odd:?} at {at}");
            }
            let mut input = [b'x'; 2 * BLOCK + 4];
            input[at..at + 3].copy_from_slice(b"\r\n.");
            assert_eq!(end_of_plain(&input, 1, true), 1 + (at + 1) / BLOCK * BLOCK, "dot at {at}");
            assert_eq!(end_of_plain(&input, 1, false), 1 + 2 * BLOCK, "dot at {at}");
            assert_eq!(end_of_dotless(&input, 1), 1 + (at + 1) / BLOCK * BLOCK, "dot at {at}");
        }
    }
}
