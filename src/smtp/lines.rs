//! The automaton under DATA and BDAT: it follows the lines of message text across any chunk
//! boundary, counts what is wrong with them, and for DATA finds the end (RFC 5321 section 4.5.2).

use std::ops::Range;

use memchr::memchr2;

use super::facts::{BodyFacts, high_and_nul};
use super::stretch::{self, Lengths, Patience};

pub(super) const CR: u8 = b'\r';
pub(super) const LF: u8 = b'\n';
const CRLF: &[u8] = b"\r\n";

/// What happens to a CR or LF that stands alone. RFC 5321 section 2.3.8 forbids both; a next hop
/// may take either for a line end, and a dot behind it for an end of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bare {
    /// It stays, and is counted, so that the receiver can refuse the message.
    #[default]
    Keep,
    /// It becomes CRLF, and is counted.
    Normalize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind a CRLF, or before the first byte.
    LineStart,
    /// Anywhere else in a line. A bare CR or LF leads here too, never to `LineStart`.
    Inside,
    /// Behind a CR that is held back until the next byte says what it is.
    Cr,
    /// Behind a dot at the line start. The dot is dropped whatever follows.
    Dot,
    /// Behind that dot and a CR: only an LF makes it the end.
    DotCr,
    /// Behind CRLF.CRLF.
    Done,
}

/// A part of the text that comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Bytes of the input, as they came.
    Input(Range<usize>),
    /// Bytes that were held back from an earlier input, or put in.
    Own(&'static [u8]),
}

impl Part {
    /// The bytes themselves.
    #[inline]
    pub(crate) fn of<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Input(range) => input.get(range.clone()).unwrap_or_default(),
            Self::Own(bytes) => bytes,
        }
    }

    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Input(range) => range.len(),
            Self::Own(bytes) => bytes.len(),
        }
    }
}

/// The state carried from chunk to chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    state: State,
    bare: Bare,
    /// Un-stuff dots and look for the end of data.
    dots: bool,
    facts: BodyFacts,
    /// Lines of the output.
    lengths: Lengths,
}

impl Lines {
    pub(super) fn new(bare: Bare, dots: bool) -> Self {
        Self { state: State::LineStart, bare, dots, facts: BodyFacts::default(), lengths: Lengths::new() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes in a chunk and hands the text decoded from it to `emit`, in slices as long as can
    /// be. Returns how many bytes were used: all of them, or those up to the end of data.
    #[inline]
    pub(super) fn run(&mut self, input: &[u8], mut emit: impl FnMut(Part)) -> usize {
        // input[..kept] is settled: emitted, dropped, or remembered in the state.
        // input[kept..at] is text that goes out as it is, once something else interrupts it.
        let (mut kept, mut at) = (0, 0);
        // Plain lines are not looked for before this, for want of a byte before them, or because
        // there is something else.
        let (mut odd_until, mut patience) = (1, Patience::new());
        while let Some(&byte) = input.get(at) {
            if at >= odd_until
                && stretch::may_begin(input.len() - at)
                && matches!(self.state, State::LineStart | State::Inside)
            {
                let end = self.pass_plain(input, at);
                odd_until = patience.next(at, end);
                if end > at {
                    at = end;
                    continue;
                }
            }
            match self.state {
                State::Inside => {
                    let rest = &input[at..];
                    let Some(n) = memchr2(CR, LF, rest) else {
                        self.lengths.line += rest.len();
                        at = input.len();
                        break;
                    };
                    self.lengths.line += n;
                    at += n;
                    match (rest[n], rest.get(n + 1)) {
                        (CR, Some(&LF)) => {
                            at += 2;
                            self.lengths.end_line();
                            self.state = State::LineStart;
                        }
                        (CR, None) => {
                            emit(Part::Input(kept..at));
                            at += 1;
                            kept = at;
                            self.state = State::Cr;
                        }
                        (lone, _) => {
                            self.count_bare(lone);
                            if self.bare == Bare::Normalize {
                                emit(Part::Input(kept..at));
                                emit(Part::Own(CRLF));
                                kept = at + 1;
                            }
                            at += 1;
                        }
                    }
                }
                State::LineStart if self.dots && byte == b'.' => {
                    emit(Part::Input(kept..at));
                    at += 1;
                    kept = at;
                    self.state = State::Dot;
                }
                State::Dot if byte == CR => {
                    at += 1;
                    kept = at;
                    self.state = State::DotCr;
                }
                State::LineStart | State::Dot => self.state = State::Inside,
                State::DotCr if byte == LF => {
                    at += 1;
                    kept = at;
                    self.state = State::Done;
                }
                State::Cr if byte == LF => {
                    emit(Part::Own(CRLF));
                    at += 1;
                    kept = at;
                    self.lengths.end_line();
                    self.state = State::LineStart;
                }
                State::Cr | State::DotCr => {
                    self.release_cr(&mut emit);
                    self.state = State::Inside;
                }
                State::Done => break,
            }
        }
        if kept < at {
            emit(Part::Input(kept..at));
        }
        // Dots and line ends change neither answer, so the wire bytes may be asked.
        if !(self.facts.eight_bit && self.facts.nul) {
            let (high, nul) = high_and_nul(&input[..at]);
            self.facts.eight_bit |= high;
            self.facts.nul |= nul;
        }
        at
    }

    /// Takes in the plain lines from `at` on; where they end.
    fn pass_plain(&mut self, input: &[u8], at: usize) -> usize {
        let mut end = stretch::end_of_plain(input, at, self.dots);
        // What a CR at the end is shows only with the next byte.
        end -= usize::from(end > at && input[end - 1] == CR);
        if end > at {
            self.lengths.plain(&input[at..end]);
            self.state = if input[end - 1] == LF { State::LineStart } else { State::Inside };
        }
        end
    }

    /// The text ends here: a CR still held back was a bare one.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(Part)) {
        if matches!(self.state, State::Cr | State::DotCr) {
            self.release_cr(&mut emit);
            self.state = State::Inside;
        }
    }

    /// The facts as if the text ended here.
    pub(super) fn facts(&self) -> BodyFacts {
        let mut whole = *self;
        whole.finish(|_| {});
        BodyFacts {
            longest_line: whole.lengths.longest.max(whole.lengths.line),
            ends_with_crlf: whole.lengths.any && whole.lengths.line == 0,
            ..whole.facts
        }
    }

    fn release_cr(&mut self, emit: &mut impl FnMut(Part)) {
        self.count_bare(CR);
        emit(Part::Own(if self.bare == Bare::Normalize { CRLF } else { b"\r" }));
    }

    fn count_bare(&mut self, byte: u8) {
        if byte == CR {
            self.facts.bare_cr += 1;
        } else {
            self.facts.bare_lf += 1;
        }
        match self.bare {
            Bare::Keep => self.lengths.line += 1,
            Bare::Normalize => self.lengths.end_line(),
        }
    }
}
