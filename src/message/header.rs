//! What the relay needs to know of a message's header, read while the message streams in
//! (RFC 5322 section 2.2). Nothing is parsed that no rule asks for.

use std::sync::Arc;

use memchr::memchr;

use super::received::names_us;
use crate::smtp::ascii::is_printable;

/// Longest Message-ID kept, in bytes.
pub const MAX_MESSAGE_ID: usize = 1000;
/// Longest subject kept, in bytes (RFC 5322 section 2.1.1).
pub const MAX_SUBJECT: usize = 998;
/// How the local part of a connector validation's sender begins (exchange-edge.md 8.3).
pub const VALIDATION_SENDER: &str = "O365ConnectorValidation";
/// How much of one field's raw value is held: enough for the two above with their folding, and
/// for any `by` clause a mail server writes.
const MAX_VALUE: usize = 4096;
/// What is allocated for a first value: enough for a Received field.
const USUAL_VALUE: usize = 512;
/// The longest name looked for is `message-id`.
const MAX_NAME: usize = 10;

/// What a header said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderFacts {
    /// Bytes of all fields, the empty line behind them not counted.
    pub header_size: u64,
    /// Where the body begins: behind the empty line, or the end of a message without one.
    pub body_offset: u64,
    /// The header is larger than allowed. What else was found is then incomplete.
    pub too_large: bool,
    /// `Received` fields: the hops so far.
    pub received: u32,
    /// `Received` fields written by this server (a loop, exchange-edge.md 1.3).
    pub received_by_us: u32,
    /// The first Message-ID with its angle brackets, control characters removed; none when
    /// missing or empty.
    pub message_id: Option<String>,
    /// The first subject, unfolded and undecoded.
    pub subject: Option<String>,
    /// There is a `From` field.
    pub has_from: bool,
    /// The first `From` is Exchange Online's or `gatepost validate`'s, which validate a connector
    /// (exchange-edge.md 8.3).
    pub validation: bool,
    /// There is a `Date` field.
    pub has_date: bool,
    /// Some byte of the header is not ASCII (RFC 6532).
    pub eight_bit: bool,
    /// The first line is no field. A field put before it would be continued or garbled by it, so
    /// an empty line belongs between.
    pub separator_needed: bool,
}

/// Whether the scanner wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderProgress {
    /// The header goes on.
    Reading,
    /// The empty line was seen; further content is ignored.
    Complete,
    /// The limit was passed; further content is ignored.
    TooLarge,
}

/// The fields whose values some rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Received,
    MessageId,
    Subject,
    From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the first byte of a line.
    LineStart,
    /// A CR was the first byte of a line.
    LineStartCr,
    /// Inside what may be a wanted field's name.
    Name,
    /// Inside a line whose content is kept.
    Keep,
    /// Inside a line nobody asks for.
    Skip,
    /// Behind the header, or over the limit.
    End,
}

/// Reads a header from decoded message content, cut anywhere.
///
/// A line ends at LF, with or without a CR before it, so that a header in binary content
/// (RFC 3030) is read as well.
#[derive(Debug)]
pub struct HeaderScanner {
    facts: HeaderFacts,
    our_names: Arc<[Box<str>]>,
    limit: u64,
    state: State,
    /// The wanted field that is open; continuation lines go to it.
    open: Option<Field>,
    name: [u8; MAX_NAME],
    name_len: usize,
    name_ended: bool,
    value: Vec<u8>,
    first_line: bool,
}

impl HeaderScanner {
    /// `our_names` are the names this server writes behind `by`; `max_header_size` is in bytes.
    pub fn new(our_names: Arc<[Box<str>]>, max_header_size: u64) -> Self {
        Self {
            facts: HeaderFacts::default(),
            our_names,
            limit: max_header_size,
            state: State::LineStart,
            open: None,
            name: [0; MAX_NAME],
            name_len: 0,
            name_ended: false,
            value: Vec::new(),
            first_line: true,
        }
    }

    /// Takes the next piece of content. Pieces behind the header cost nothing.
    pub fn feed(&mut self, input: &[u8]) -> HeaderProgress {
        let mut at = 0;
        while at < input.len() && self.state != State::End {
            at += self.step(&input[at..]);
            // The CR of what may be the empty line is not the header's until the next byte says so.
            if self.facts.header_size > self.limit {
                self.facts.too_large = true;
                self.state = State::End;
            }
        }
        self.facts.eight_bit = self.facts.eight_bit || !input[..at].is_ascii();
        self.progress()
    }

    /// Whether more content is wanted.
    pub fn progress(&self) -> HeaderProgress {
        match self.state {
            State::End if self.facts.too_large => HeaderProgress::TooLarge,
            State::End => HeaderProgress::Complete,
            _ => HeaderProgress::Reading,
        }
    }

    /// What was found so far; final once the header is complete.
    pub fn facts(&self) -> &HeaderFacts {
        &self.facts
    }

    /// What was found; a message may end within its header.
    pub fn finish(mut self) -> HeaderFacts {
        if self.state == State::LineStartCr {
            self.facts.header_size += 1;
            self.begin_line(b'\r');
            self.facts.too_large = self.facts.header_size > self.limit;
        }
        if self.state == State::Name && self.first_line {
            self.facts.separator_needed = true;
        }
        if self.state != State::End {
            self.facts.body_offset = self.facts.header_size;
            self.close_field();
        }
        self.facts
    }

    /// Handles the head of `rest`, which is not empty; returns how much of it was used.
    fn step(&mut self, rest: &[u8]) -> usize {
        match self.state {
            State::LineStart => match rest[0] {
                b'\r' => {
                    self.state = State::LineStartCr;
                    1
                }
                b'\n' => self.end_header(1),
                first => {
                    self.begin_line(first);
                    0
                }
            },
            State::LineStartCr => {
                if rest[0] == b'\n' {
                    return self.end_header(2) - 1;
                }
                self.facts.header_size += 1;
                self.begin_line(b'\r');
                0
            }
            State::Name => self.read_name(rest),
            State::Keep => {
                let (line, ended) = to_line_end(rest);
                if self.value.capacity() == 0 {
                    self.value.reserve(USUAL_VALUE);
                }
                let room = MAX_VALUE - self.value.len();
                self.value.extend_from_slice(&line[..line.len().min(room)]);
                self.pass(line.len(), ended)
            }
            State::Skip => {
                let (line, ended) = to_line_end(rest);
                self.pass(line.len(), ended)
            }
            State::End => rest.len(),
        }
    }

    /// `length` bytes of the header were read, and with them a whole line or not.
    fn pass(&mut self, length: usize, ended: bool) -> usize {
        self.facts.header_size += length as u64;
        if ended {
            self.state = State::LineStart;
            self.first_line = false;
        }
        length
    }

    /// The empty line, of `length` bytes.
    fn end_header(&mut self, length: usize) -> usize {
        self.close_field();
        self.facts.body_offset = self.facts.header_size + length as u64;
        self.state = State::End;
        length
    }

    /// Decides from a line's first byte what it can be.
    fn begin_line(&mut self, first: u8) {
        if matches!(first, b' ' | b'\t') && !self.first_line {
            self.state = if self.open.is_some() { State::Keep } else { State::Skip };
            return;
        }
        self.close_field();
        // The first line is looked at whatever it begins with, to know whether it is a field.
        let wanted =
            matches!(first | 0x20, b'r' | b'm' | b's' | b'f' | b'd') || self.first_line && first != b'\r';
        self.facts.separator_needed |= self.first_line && !wanted;
        self.name_len = 0;
        self.name_ended = false;
        self.state = if wanted { State::Name } else { State::Skip };
    }

    /// Collects a field's name up to its colon.
    fn read_name(&mut self, rest: &[u8]) -> usize {
        for (i, &byte) in rest.iter().enumerate() {
            match byte {
                b':' => {
                    self.begin_value();
                    return self.pass(i + 1, false);
                }
                // Obsolete syntax that loop detection must not be blind to (RFC 5322 section 4.5).
                b' ' | b'\t' if self.name_len > 0 => self.name_ended = true,
                b'!'..=b'~' => {
                    if self.name_len < MAX_NAME && !self.name_ended {
                        self.name[self.name_len] = byte;
                        self.name_len += 1;
                    } else if self.first_line {
                        // No wanted name; only whether a colon comes matters now.
                        self.name[0] = b'-';
                    } else {
                        return self.no_name(i);
                    }
                }
                _ => return self.no_name(i),
            }
        }
        self.pass(rest.len(), false)
    }

    /// The line is no field, or none that is wanted; `used` bytes of it were.
    fn no_name(&mut self, used: usize) -> usize {
        self.facts.separator_needed |= self.first_line;
        self.state = State::Skip;
        self.pass(used, false)
    }

    /// A colon ended the name.
    fn begin_value(&mut self) {
        let name = &self.name[..self.name_len];
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        self.open = if is(b"received") {
            Some(Field::Received)
        } else if is(b"message-id") && self.facts.message_id.is_none() {
            Some(Field::MessageId)
        } else if is(b"subject") && self.facts.subject.is_none() {
            Some(Field::Subject)
        } else if is(b"from") && !self.facts.has_from {
            self.facts.has_from = true;
            Some(Field::From)
        } else {
            self.facts.has_date |= is(b"date");
            None
        };
        self.state = if self.open.is_some() { State::Keep } else { State::Skip };
    }

    /// Evaluates the open field, which the line just begun does not continue.
    fn close_field(&mut self) {
        match self.open.take() {
            None => return,
            Some(Field::Received) => {
                self.facts.received = self.facts.received.saturating_add(1);
                if names_us(&self.value, &self.our_names) {
                    self.facts.received_by_us = self.facts.received_by_us.saturating_add(1);
                }
            }
            Some(Field::MessageId) => self.facts.message_id = clean_id(&self.value),
            Some(Field::Subject) => self.facts.subject = Some(unfold(&self.value, MAX_SUBJECT)),
            Some(Field::From) => self.facts.validation = is_validation(&self.value),
        }
        self.value.clear();
    }
}

/// The head of `rest` up to and with its first LF, and whether there was one.
fn to_line_end(rest: &[u8]) -> (&[u8], bool) {
    match memchr(b'\n', rest) {
        Some(end) => (&rest[..=end], true),
        None => (rest, false),
    }
}

/// Whether the address in a `From` value is that of a connector validation: what counts is how its
/// local part begins, for Exchange Online's domain differs.
fn is_validation(value: &[u8]) -> bool {
    let address = memchr::memrchr(b'<', value).map_or(value, |at| &value[at + 1..]).trim_ascii_start();
    address
        .get(..VALIDATION_SENDER.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(VALIDATION_SENDER.as_bytes()))
}

/// A Message-ID as logs and the 250 reply may carry it.
fn clean_id(value: &[u8]) -> Option<String> {
    if let Some(id) = plain(value) {
        return (!id.is_empty()).then(|| cut(id, MAX_MESSAGE_ID).to_owned());
    }
    let text: String = String::from_utf8_lossy(value).chars().filter(|c| !c.is_control()).collect();
    let id = cut(text.trim(), MAX_MESSAGE_ID);
    (!id.is_empty()).then(|| id.to_owned())
}

/// A value on one line (RFC 5322 section 2.2.3): only the line ends go, the blanks stay.
fn unfold(value: &[u8], limit: usize) -> String {
    if let Some(text) = plain(value) {
        return cut(text, limit).to_owned();
    }
    let text: String = String::from_utf8_lossy(value)
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    cut(text.trim(), limit).to_owned()
}

/// A value between its blanks that needs no more than that: as almost all are, on one line and of
/// printable ASCII.
fn plain(value: &[u8]) -> Option<&str> {
    let text = value.trim_ascii();
    if is_printable(text) { std::str::from_utf8(text).ok() } else { None }
}

/// At most `limit` bytes of `text`, cut between characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests;
