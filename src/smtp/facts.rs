//! What is known about message text after it went by once.

/// Longest line of text mail without its CRLF (RFC 5321 section 4.5.3.1.6).
pub const MAX_TEXT_LINE: usize = 998;

/// Facts about decoded message text, gathered while it is received. They decide what a next hop
/// must be able to take, and whether the text may be taken at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodyFacts {
    /// CRs without an LF behind them, as received: counted even when they were normalised.
    pub bare_cr: u64,
    /// LFs without a CR before them, as received: counted even when they were normalised.
    pub bare_lf: u64,
    /// A byte over 127 occurred: needs 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// A NUL occurred: needs BINARYMIME (RFC 3030); RFC 5321 section 2.3.8 forbids it in text.
    pub nul: bool,
    /// Length of the longest line of the decoded text without its CRLF, to hold against
    /// [`MAX_TEXT_LINE`], and not told apart from it when all are shorter: measuring every line would
    /// cost as much as all the rest. A bare CR or LF that is kept ends no line.
    pub longest_line: usize,
    /// The text ends in CRLF. False when there is no text.
    pub ends_with_crlf: bool,
}

impl BodyFacts {
    /// Whether a CR or LF stood alone anywhere.
    pub fn has_bare(&self) -> bool {
        self.bare_cr > 0 || self.bare_lf > 0
    }
}

/// Folds "is there a byte over 127" and "is there a NUL" over a slice. Both are plain reductions,
/// so that the compiler turns them into vector instructions.
pub(super) fn high_and_nul(bytes: &[u8]) -> (bool, bool) {
    let (or, min) = bytes.iter().fold((0u8, u8::MAX), |(or, min), &b| (or | b, min.min(b)));
    (or > 127, min == 0)
}
