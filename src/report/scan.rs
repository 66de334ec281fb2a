//! From lines to counts.

use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use memchr::memchr;

use super::chunks::{AHEAD, Piece, direction_of, log_type, pump};
use super::line::{Layout, Line};
use super::names::Names;
use super::session::Session;
use super::sessions::Sessions;
use super::source::Source;
use super::stamp::Stamp;
use super::tally::{Count, Key, Tally};
use crate::log::Direction;

/// Limits of what is kept in memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sessions whose end was not read yet.
    pub open_sessions: usize,
    /// Counters.
    pub rows: usize,
    /// Different connectors, algorithms and certificate names.
    pub names: usize,
}

impl Default for Limits {
    /// Some 60 MB when all of it is used.
    fn default() -> Self {
        Self { open_sessions: 65_536, rows: 65_536, names: 16_384 }
    }
}

/// What was read, and what could not be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Notes {
    /// Files that are protocol logs.
    pub files: u64,
    /// Files of directories that are none.
    pub other_files: u64,
    /// Bytes, unpacked.
    pub bytes: u64,
    /// Lines but those of headers.
    pub lines: u64,
    /// Lines that could not be understood.
    pub broken: u64,
    /// Lines the writer of the log says it had to drop.
    pub lost: u64,
    /// Tries to connect that found nobody: no sessions.
    pub no_connection: u64,
    /// Sessions that ended before the time asked for.
    pub too_old: u64,
    /// Sessions given up as too many were open at once.
    pub evicted: u64,
    /// Sessions whose first line is not in the log.
    pub no_begin: u64,
    /// Sessions whose end is not in the log, those given up included.
    pub no_end: u64,
    /// Counters folded into "others".
    pub folded: u64,
    /// Begin of the first session and last line of the last.
    pub span: Option<(Stamp, Stamp)>,
    /// Files that could not be read, or not to their end, and why.
    pub failed: Vec<String>,
}

/// What the logs say.
#[derive(Debug)]
pub struct Counts {
    /// The counters, in no order.
    pub rows: Vec<(Key, Count)>,
    /// The texts in their keys.
    pub names: Names,
    /// How it was read.
    pub notes: Notes,
}

/// Reads all sources and counts their sessions, those that ended before `since` excepted.
pub fn read(sources: &[Source], since: Option<Stamp>, limits: Limits) -> Counts {
    let mut scanner = Scanner::new(since, limits);
    let (out, pieces) = sync_channel(AHEAD);
    let (back, used) = channel();
    thread::scope(|scope| {
        // Moved, so that an end of this thread ends the other.
        scope.spawn(move || pump(sources, &out, &used));
        for piece in pieces {
            if let Some(buffer) = scanner.piece(piece) {
                // Nobody takes it when all is read.
                let _ = back.send(buffer);
            }
        }
    });
    scanner.finish()
}

/// The same for texts in memory, each as a file: for tests and fuzzing.
pub fn read_texts(texts: &[&[u8]], since: Option<Stamp>, limits: Limits) -> Counts {
    let mut scanner = Scanner::new(since, limits);
    for text in texts {
        let whole = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
        scanner.piece(Piece::Begin);
        scanner.piece(Piece::Lines(text.to_vec(), whole));
        scanner.piece(Piece::Rest(text[whole..].to_vec(), text.len() - whole));
    }
    scanner.finish()
}

struct Scanner {
    names: Names,
    sessions: Sessions,
    tally: Tally,
    since: Option<Stamp>,
    notes: Notes,
    layout: Layout,
    /// None: no header said, so that each line has to.
    direction: Option<Direction>,
    /// In a part that is another log.
    foreign: bool,
    first_line: bool,
}

impl Scanner {
    fn new(since: Option<Stamp>, limits: Limits) -> Self {
        Self {
            names: Names::new(limits.names),
            sessions: Sessions::new(limits.open_sessions),
            tally: Tally::new(limits.rows),
            since,
            notes: Notes::default(),
            layout: Layout::default(),
            direction: None,
            foreign: false,
            first_line: true,
        }
    }

    /// Takes a piece in; its buffer, to be used again.
    fn piece(&mut self, piece: Piece) -> Option<Vec<u8>> {
        match piece {
            Piece::Begin => {
                self.notes.files += 1;
                self.layout = Layout::default();
                self.direction = None;
                self.foreign = false;
                self.first_line = true;
            }
            Piece::Lines(buffer, length) => {
                self.lines(&buffer[..length]);
                return Some(buffer);
            }
            Piece::Rest(buffer, length) => {
                self.rest(&buffer[..length]);
                return Some(buffer);
            }
            Piece::TooLong => self.notes.broken += 1,
            Piece::NotALog => self.notes.other_files += 1,
            Piece::Failed(why) => self.notes.failed.push(why),
        }
        None
    }

    fn lines(&mut self, mut text: &[u8]) {
        self.notes.bytes += text.len() as u64;
        if self.first_line && !text.is_empty() {
            self.first_line = false;
            text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        }
        while let Some(end) = memchr(b'\n', text) {
            let line = &text[..end];
            self.line(line.strip_suffix(b"\r").unwrap_or(line));
            text = &text[end + 1..];
        }
    }

    /// A line without an end may still be being written: what cannot be read of it is no fault.
    fn rest(&mut self, line: &[u8]) {
        let broken = self.notes.broken;
        self.notes.bytes += line.len() as u64;
        let line = if self.first_line { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
        self.line(line.strip_suffix(b"\r").unwrap_or(line));
        self.notes.broken = broken;
    }

    fn line(&mut self, line: &[u8]) {
        if line.first() == Some(&b'#') {
            return self.header(line);
        }
        if line.is_empty() || self.foreign {
            return;
        }
        self.notes.lines += 1;
        let fields = self.layout.split(line).filter(|fields| is_event(fields.event));
        let Some((fields, at)) = fields.and_then(|fields| Some((fields, Stamp::parse(fields.time)?))) else {
            self.notes.broken += 1;
            return;
        };
        if fields.session.is_empty() {
            match lost_lines(fields.context) {
                Some(lost) => self.notes.lost = self.notes.lost.saturating_add(lost),
                None => self.notes.broken += 1,
            }
            return;
        }
        let direction = self.direction.unwrap_or_else(|| guess_direction(&fields));
        let ended = self.sessions.apply(direction, &fields, at, &mut self.names);
        if let Some(session) = ended.session {
            self.count(&session);
        }
        if let Some(session) = ended.replaced {
            self.notes.no_end += 1;
            self.count(&session);
        }
        if let Some(session) = ended.evicted {
            self.notes.evicted += 1;
            self.notes.no_end += 1;
            self.count(&session);
        }
    }

    fn header(&mut self, line: &[u8]) {
        if let Some(kind) = log_type(line) {
            self.direction = direction_of(kind);
            self.foreign = self.direction.is_none();
        } else if let Some(fields) = line.strip_prefix(b"#Fields:")
            && !self.foreign
        {
            match Layout::parse(fields) {
                Some(layout) => self.layout = layout,
                None => self.notes.broken += 1,
            }
        }
    }

    fn count(&mut self, session: &Session) {
        if self.since.is_some_and(|since| session.last < since) {
            self.notes.too_old += 1;
        } else if session.never_connected() {
            self.notes.no_connection += 1;
        } else {
            let (first, last) = self.notes.span.unwrap_or((session.first, session.last));
            self.notes.no_begin += u64::from(!session.begun());
            self.notes.span = Some((first.min(session.first), last.max(session.last)));
            self.tally.count(session);
        }
    }

    fn finish(mut self) -> Counts {
        let open = std::mem::replace(&mut self.sessions, Sessions::new(1));
        for session in open.drain() {
            self.notes.no_end += 1;
            self.count(&session);
        }
        self.notes.folded = self.tally.folded;
        Counts { rows: self.tally.into_rows(), names: self.names, notes: self.notes }
    }
}

/// An information line's `*` is missing in some copies of Exchange's logs.
fn is_event(event: &[u8]) -> bool {
    matches!(event, b"+" | b"-" | b"<" | b">" | b"*" | b"")
}

/// Receive connectors are named with their server, `EDGE01\Default`.
fn guess_direction(line: &Line<'_>) -> Direction {
    if memchr(b'\\', line.connector).is_some() { Direction::In } else { Direction::Out }
}

/// `1840 lines were lost: …`
fn lost_lines(context: &[u8]) -> Option<u64> {
    let (count, rest) = std::str::from_utf8(context).ok()?.split_once(' ')?;
    rest.starts_with("lines were lost").then(|| count.parse().ok()).flatten()
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
