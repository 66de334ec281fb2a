//! Files as chunks of whole lines, read and unpacked ahead on a thread of their own.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::mpsc::{Receiver, SyncSender};

use flate2::bufread::MultiGzDecoder;
use memchr::{memchr, memrchr};

use super::source::Source;

/// Bytes of a chunk, and of the longest line: Exchange's are under 32 KB.
pub(super) const CHUNK: usize = 1 << 20;

/// Chunks that wait to be read.
pub(super) const AHEAD: usize = 2;

/// First bytes of a gzip file (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// What the reading thread hands over.
#[derive(Debug)]
pub(super) enum Piece {
    /// A file begins.
    Begin,
    /// Whole lines: the first so many bytes.
    Lines(Vec<u8>, usize),
    /// What follows the last end of line of a file: a line that is still being written, or cut.
    Rest(Vec<u8>, usize),
    /// A line longer than a chunk was left out.
    TooLong,
    /// The file is no protocol log.
    NotALog,
    /// The file could not be read, or not to its end.
    Failed(String),
}

/// Reads all sources in turn; ends early when nobody listens any more.
pub(super) fn pump(sources: &[Source], out: &SyncSender<Piece>, used: &Receiver<Vec<u8>>) {
    let mut pump = Pump { out, used };
    for source in sources {
        match pump.source(source) {
            Ok(()) => {}
            Err(Stopped::Failed(e)) => {
                if out.send(Piece::Failed(format!("{}: {e}", source.title()))).is_err() {
                    return;
                }
            }
            Err(Stopped::Alone) => return,
        }
    }
}

enum Stopped {
    Failed(io::Error),
    /// The other end is gone.
    Alone,
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

struct Pump<'a> {
    out: &'a SyncSender<Piece>,
    used: &'a Receiver<Vec<u8>>,
}

impl Pump<'_> {
    fn source(&mut self, source: &Source) -> Result<(), Stopped> {
        match source {
            Source::Named(path) => self.packed_or_not(File::open(path)?, false),
            Source::Found(path) => self.packed_or_not(File::open(path)?, true),
            Source::Stdin => self.packed_or_not(io::stdin().lock(), false),
        }
    }

    /// `found`: only a file that begins as a protocol log is read.
    fn packed_or_not(&mut self, mut file: impl Read, found: bool) -> Result<(), Stopped> {
        let mut magic = [0; 2];
        let (have, failed) = read_some(&mut file, &mut magic, 0);
        if let Some(error) = failed {
            return Err(error.into());
        }
        let file = Cursor::new(magic).take(have as u64).chain(file);
        if magic == GZIP {
            self.text(MultiGzDecoder::new(BufReader::with_capacity(128 << 10, file)), found)
        } else {
            self.text(file, found)
        }
    }

    fn text(&mut self, mut file: impl Read, found: bool) -> Result<(), Stopped> {
        let mut chunk = self.empty();
        let mut filled = read_some(&mut file, &mut chunk, 0);
        if found && !is_protocol_log(&chunk[..filled.0]) {
            return self.send(Piece::NotALog);
        }
        self.send(Piece::Begin)?;
        // Inside a line that is too long.
        let mut skipping = false;
        loop {
            let (mut bytes, failed) = filled;
            let ended = bytes < chunk.len() || failed.is_some();
            if skipping {
                let end = memchr(b'\n', &chunk[..bytes]).map_or(bytes, |at| at + 1);
                skipping = end == bytes && chunk[..bytes].last() != Some(&b'\n');
                chunk.copy_within(end..bytes, 0);
                bytes -= end;
            }
            let whole = memrchr(b'\n', &chunk[..bytes]).map_or(0, |at| at + 1);
            let mut next = self.empty();
            let mut rest = bytes - whole;
            if whole == 0 && bytes == chunk.len() {
                self.send(Piece::TooLong)?;
                skipping = true;
                rest = 0;
            }
            next[..rest].copy_from_slice(&chunk[whole..whole + rest]);
            self.send(Piece::Lines(chunk, whole))?;
            chunk = next;
            if ended {
                self.send(Piece::Rest(chunk, rest))?;
                return failed.map_or(Ok(()), |e| Err(e.into()));
            }
            filled = read_some(&mut file, &mut chunk, rest);
        }
    }

    fn send(&self, piece: Piece) -> Result<(), Stopped> {
        self.out.send(piece).map_err(|_| Stopped::Alone)
    }

    /// A buffer to fill: one that came back, or a new one.
    fn empty(&self) -> Vec<u8> {
        self.used.try_recv().unwrap_or_else(|_| vec![0; CHUNK])
    }
}

/// Fills the buffer from `from` on, to its end or the file's. What was read before an error counts.
fn read_some(file: &mut impl Read, buffer: &mut [u8], from: usize) -> (usize, Option<io::Error>) {
    let mut filled = from;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Some(e)),
        }
    }
    (filled, None)
}

/// Whether a file begins as Exchange's SMTP protocol logs do.
fn is_protocol_log(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    text.split(|&b| b == b'\n')
        .take(10)
        .take_while(|line| line.starts_with(b"#"))
        .filter_map(log_type)
        .any(|kind| direction_of(kind).is_some())
}

/// The value of a `#Log-type:` line.
pub(super) fn log_type(line: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"#Log-type:";
    let key = line.get(..KEY.len())?;
    key.eq_ignore_ascii_case(KEY).then(|| line[KEY.len()..].trim_ascii())
}

/// Which way the sessions of such a log run; none when it is no SMTP protocol log.
pub(super) fn direction_of(log_type: &[u8]) -> Option<crate::log::Direction> {
    use crate::log::Direction;
    if log_type.eq_ignore_ascii_case(b"SMTP Receive Protocol Log") {
        Some(Direction::In)
    } else if log_type.eq_ignore_ascii_case(b"SMTP Send Protocol Log") {
        Some(Direction::Out)
    } else {
        None
    }
}
