//! Message text as the server receives it: DATA (RFC 5321 section 4.1.1.4) and BDAT (RFC 3030).

use super::facts::BodyFacts;
use super::lines::{Bare, Lines, Part};

/// Decodes what follows DATA. The end is CRLF.CRLF and nothing else (a `.` line at once is an
/// empty message); a dot is un-stuffed only behind CRLF or as the very first byte (RFC 5321
/// section 4.5.2). Any split of the input into chunks gives the same text.
#[derive(Debug, Clone)]
pub struct DataDecoder(Lines);

impl DataDecoder {
    /// A decoder for one message.
    pub fn new(bare: Bare) -> Self {
        Self(Lines::new(bare, true))
    }

    /// Decodes a chunk and appends the text to `out`, which the caller may drain at any time.
    /// Returns how many bytes were used, and whether the end of data is among them: the bytes
    /// behind it belong to the next command.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let used = self.0.run(input, |part| out.extend_from_slice(part.of(input)));
        (used, self.0.is_done())
    }

    /// Decodes a chunk like [`feed`](Self::feed), but says which parts are the text.
    pub(crate) fn parts(&mut self, input: &[u8], emit: impl FnMut(Part)) -> (usize, bool) {
        (self.0.run(input, emit), self.0.is_done())
    }

    /// What is known of the text so far.
    pub fn facts(&self) -> BodyFacts {
        self.0.facts()
    }
}

/// Decodes the chunks of BDAT, where lengths and not dots delimit the text. Call it with each
/// chunk and [`finish`](Self::finish) it behind the last one. For `BODY=BINARYMIME`, where bare
/// CRs and LFs are lawful, a [`ContentScanner`] is enough.
#[derive(Debug, Clone)]
pub struct BdatDecoder(Lines);

impl BdatDecoder {
    /// A decoder for one message.
    pub fn new(bare: Bare) -> Self {
        Self(Lines::new(bare, false))
    }

    /// Takes in octets of a chunk and appends the text to `out`. A CR at the end of the input is
    /// held back until the next call says what follows it.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.0.run(input, |part| out.extend_from_slice(part.of(input)));
    }

    /// Takes in octets of a chunk like [`feed`](Self::feed), but says which parts are the text.
    pub(crate) fn parts(&mut self, input: &[u8], emit: impl FnMut(Part)) {
        self.0.run(input, emit);
    }

    /// The last chunk is through: a CR still held back goes out.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.0.finish(|part| out.extend_from_slice(part.of(&[])));
    }

    /// What is known of the text so far.
    pub fn facts(&self) -> BodyFacts {
        self.0.facts()
    }
}

/// Gathers the facts of text that is taken as it is: a binary message, or one read back from
/// the spool.
#[derive(Debug, Clone)]
pub struct ContentScanner(Lines);

impl ContentScanner {
    /// A scanner for one message.
    pub fn new() -> Self {
        Self(Lines::new(Bare::Keep, false))
    }

    /// Looks at the next bytes of the text.
    pub fn feed(&mut self, input: &[u8]) {
        self.0.run(input, |_| {});
    }

    /// What is known of the text so far.
    pub fn facts(&self) -> BodyFacts {
        self.0.facts()
    }
}

impl Default for ContentScanner {
    fn default() -> Self {
        Self::new()
    }
}
