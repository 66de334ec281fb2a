//! The automaton under DATA and BDAT: it follows the lines of message text across any chunk
//! boundary, counts what is wrong with them, and for DATA finds the end (RFC 5321 section 4.5.2).

use memchr::memchr2;

use super::facts::{BodyFacts, high_and_nul};

const CR: u8 = b'\r';
const LF: u8 = b'\n';
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

/// The state carried from chunk to chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    state: State,
    bare: Bare,
    /// Un-stuff dots and look for the end of data.
    dots: bool,
    facts: BodyFacts,
    /// Length so far of the current line of the output.
    line: usize,
    /// A line has ended, so that an empty current line means "behind a CRLF".
    any_line: bool,
}

impl Lines {
    pub(super) fn new(bare: Bare, dots: bool) -> Self {
        Self { state: State::LineStart, bare, dots, facts: BodyFacts::default(), line: 0, any_line: false }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes in a chunk and hands the text decoded from it to `emit`, in slices as long as can
    /// be. Returns how many bytes were used: all of them, or those up to the end of data.
    #[inline]
    pub(super) fn run(&mut self, input: &[u8], mut emit: impl FnMut(&[u8])) -> usize {
        // input[..kept] is settled: emitted, dropped, or remembered in the state.
        // input[kept..at] is text that goes out as it is, once something else interrupts it.
        let (mut kept, mut at) = (0, 0);
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Inside => {
                    let rest = &input[at..];
                    let Some(n) = memchr2(CR, LF, rest) else {
                        self.line += rest.len();
                        at = input.len();
                        break;
                    };
                    self.line += n;
                    at += n;
                    match (rest[n], rest.get(n + 1)) {
                        (CR, Some(&LF)) => {
                            at += 2;
                            self.end_line();
                            self.state = State::LineStart;
                        }
                        (CR, None) => {
                            emit(&input[kept..at]);
                            at += 1;
                            kept = at;
                            self.state = State::Cr;
                        }
                        (lone, _) => {
                            self.count_bare(lone);
                            if self.bare == Bare::Normalize {
                                emit(&input[kept..at]);
                                emit(CRLF);
                                kept = at + 1;
                            }
                            at += 1;
                        }
                    }
                }
                State::LineStart if self.dots && byte == b'.' => {
                    emit(&input[kept..at]);
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
                    emit(CRLF);
                    at += 1;
                    kept = at;
                    self.end_line();
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
            emit(&input[kept..at]);
        }
        // Dots and line ends change neither answer, so the wire bytes may be asked.
        if !(self.facts.eight_bit && self.facts.nul) {
            let (high, nul) = high_and_nul(&input[..at]);
            self.facts.eight_bit |= high;
            self.facts.nul |= nul;
        }
        at
    }

    /// The text ends here: a CR still held back was a bare one.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(&[u8])) {
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
            longest_line: whole.facts.longest_line.max(whole.line),
            ends_with_crlf: whole.any_line && whole.line == 0,
            ..whole.facts
        }
    }

    fn release_cr(&mut self, emit: &mut impl FnMut(&[u8])) {
        self.count_bare(CR);
        emit(if self.bare == Bare::Normalize { CRLF } else { b"\r" });
    }

    fn count_bare(&mut self, byte: u8) {
        if byte == CR {
            self.facts.bare_cr += 1;
        } else {
            self.facts.bare_lf += 1;
        }
        match self.bare {
            Bare::Keep => self.line += 1,
            Bare::Normalize => self.end_line(),
        }
    }

    fn end_line(&mut self) {
        self.facts.longest_line = self.facts.longest_line.max(self.line);
        self.line = 0;
        self.any_line = true;
    }
}
