//! Reading one segment from end to end.
//!
//! The file is read in one sequential pass, contents included: measured against reading only the
//! heads, that is faster for mail-sized records on anything but a warm cache, and it means that
//! every content CRC is checked before a message is handed back.

use std::{io, sync::Arc};

use memchr::memmem;

use super::{
    Change,
    disk::{DiskFile, read_exact_at},
    format::{self, DATA_START, HEAD, Head, Kind, MARK, SegmentHeader},
};

/// A record that was read back.
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) head: Head,
    pub(super) changes: Vec<Change>,
    pub(super) meta: Box<[u8]>,
    /// The inline content is what was written.
    pub(super) sound: bool,
}

/// What a segment holds.
pub(super) struct Scanned {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) records: Vec<Found>,
    /// End of the last record.
    pub(super) end: u64,
    /// Damaged stretches with a good record behind them.
    pub(super) gaps: u64,
    /// Bytes behind the last record up to the last one that is not zero.
    pub(super) tail: u64,
    /// How much of it was certainly synced, as far as is known: what its own records say, and what
    /// the first record of the segment after it says.
    pub(super) synced: u64,
    /// What a crash left half-done in it is dealt with.
    pub(super) settled: bool,
}

impl Scanned {
    /// What its first record says of the segment before it: the number, and how much was synced.
    pub(super) fn previous(&self) -> Option<(u64, u64)> {
        let open = self.records.iter().find(|found| found.head.kind == Kind::Open)?;
        format::decode_previous(&open.meta)
    }

    /// No id below this may be given out again, as far as this segment knows.
    pub(super) fn next_id(&self) -> u64 {
        let next = |found: &Found| match found.head.kind {
            Kind::Message | Kind::Big => found.head.id.saturating_add(1),
            Kind::Open | Kind::Reserve => found.head.id,
            Kind::State | Kind::Remove | Kind::Void => 0,
        };
        self.records.iter().map(next).max().unwrap_or(0)
    }
}

/// What became of a segment file.
pub(super) enum Outcome {
    /// It has a header.
    Segment(Scanned),
    /// No header and nothing behind it: its creation was cut short.
    Blank,
    /// No copy of the header is readable, but there are data.
    Unreadable,
}

/// Reads a segment. Damage is no error; only the operating system's refusal to read is.
pub(super) fn scan(file: &Arc<dyn DiskFile>) -> io::Result<Outcome> {
    let mut window = Window { size: file.size()?, file: &**file, start: 0, bytes: Vec::new() };
    let mut header = None;
    for copy in SegmentHeader::COPIES {
        if header.is_none()
            && let Some(bytes) = window.at(copy, 32)?.and_then(|bytes| bytes.first_chunk())
        {
            header = SegmentHeader::decode(bytes);
        }
    }
    let Some(header) = header else {
        // The header is durable before the first record is written.
        let blank = window.last_data(DATA_START)? == 0;
        return Ok(if blank { Outcome::Blank } else { Outcome::Unreadable });
    };
    let mark = header.mark();
    let finder = memmem::Finder::new(&mark);
    let mut scanned = Scanned {
        header,
        file: Arc::clone(file),
        records: Vec::new(),
        end: DATA_START,
        gaps: 0,
        tail: 0,
        synced: 0,
        settled: false,
    };
    let mut offset = DATA_START;
    let mut damaged = false;
    loop {
        if let Some(found) = window.record(offset, &mark)? {
            offset += found.head.record();
            scanned.end = offset;
            scanned.gaps += u64::from(damaged);
            scanned.synced = scanned.synced.max(u64::from(found.head.synced));
            damaged = false;
            scanned.records.push(found);
        } else {
            damaged = true;
            match window.find(offset + 1, &finder)? {
                Some(next) => offset = next,
                None => break,
            }
        }
    }
    scanned.tail = window.last_data(scanned.end)?.saturating_sub(scanned.end);
    Ok(Outcome::Segment(scanned))
}

/// A stretch of the file in memory.
struct Window<'a> {
    file: &'a dyn DiskFile,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

/// Large enough for sequential speed, small enough for several at once.
const CHUNK: usize = 1 << 20;

impl Window<'_> {
    /// `len` bytes at `offset`; none where the file is shorter.
    fn at(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(len as u64).filter(|end| *end <= self.size) else {
            return Ok(None);
        };
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = (len.max(CHUNK) as u64).min(self.size - offset) as usize;
            self.bytes.resize(wanted, 0);
            self.start = offset;
            if let Err(error) = read_exact_at(self.file, &mut self.bytes, offset) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.get(from..from + len))
    }

    /// The record at `offset`, if there is one.
    fn record(&mut self, offset: u64, mark: &[u8; MARK]) -> io::Result<Option<Found>> {
        let Some(bytes) = self.at(offset, HEAD)?.and_then(|bytes| bytes.first_chunk().copied()) else {
            return Ok(None);
        };
        let Some(head) = Head::decode(&bytes, mark) else { return Ok(None) };
        let Some(payload) = self.at(offset + HEAD as u64, head.payload() as usize)? else {
            return Ok(None);
        };
        if !head.verify(&bytes, payload) {
            return Ok(None);
        }
        let (changes, meta) = payload.split_at(head.changes as usize);
        let Some(changes) = format::decode_changes(changes) else { return Ok(None) };
        let meta = meta.into();
        let sound = match head.kind {
            Kind::Message => self.checks(offset + HEAD as u64 + head.payload(), &head)?,
            _ => true,
        };
        Ok(Some(Found { offset, head, changes, meta, sound }))
    }

    /// Whether the content of a record has the CRC its head gives.
    fn checks(&mut self, mut offset: u64, head: &Head) -> io::Result<bool> {
        let mut hasher = crc32fast::Hasher::new();
        let end = offset + head.content;
        while offset < end {
            let step = (end - offset).min(CHUNK as u64) as usize;
            let Some(bytes) = self.at(offset, step)? else { return Ok(false) };
            hasher.update(bytes);
            offset += step as u64;
        }
        Ok(hasher.finalize() == head.content_crc)
    }

    /// The next place that looks like the start of a record.
    fn find(&mut self, mut offset: u64, finder: &memmem::Finder<'_>) -> io::Result<Option<u64>> {
        while offset + (MARK as u64) <= self.size {
            let step = (self.size - offset).min(CHUNK as u64) as usize;
            let Some(bytes) = self.at(offset, step)? else { return Ok(None) };
            if let Some(at) = finder.find(bytes) {
                return Ok(Some(offset + at as u64));
            }
            // A mark may straddle two stretches.
            offset += (step - (MARK - 1)) as u64;
            if step < CHUNK {
                break;
            }
        }
        Ok(None)
    }

    /// End of the last byte at or behind `offset` that is not zero; 0 when there is none.
    fn last_data(&mut self, mut offset: u64) -> io::Result<u64> {
        let mut last = 0;
        let zeros = vec![0; CHUNK];
        while offset < self.size {
            let step = (self.size - offset).min(CHUNK as u64) as usize;
            let Some(bytes) = self.at(offset, step)? else { break };
            // Nearly always all of it is zero, and this finds out many bytes at a time, in a debug
            // build too: a start after a crash waits for it.
            if zeros.get(..step) != Some(bytes)
                && let Some(at) = bytes.iter().rposition(|byte| *byte != 0)
            {
                last = offset + at as u64 + 1;
            }
            offset += step as u64;
        }
        Ok(last)
    }
}
