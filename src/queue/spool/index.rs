//! What is where: every live message, and for every segment how much of it still matters.
//!
//! The index changes only when a batch is durable, never before. So a segment without live records
//! is one whose removal marks have reached the disk.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;

use super::{
    disk::DiskFile,
    format::{HEAD, Head, Kind, SegmentHeader},
};

/// Where a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) segment: u64,
    /// Of its record.
    pub(super) offset: u64,
    pub(super) changes: u32,
    pub(super) meta: u32,
    pub(super) content: u64,
    pub(super) content_crc: u32,
    /// The content is a file of its own.
    pub(super) big: bool,
}

impl Spot {
    pub(super) fn new(segment: u64, offset: u64, head: &Head) -> Self {
        Self {
            segment,
            offset,
            changes: head.changes,
            meta: head.meta,
            content: head.content,
            content_crc: head.content_crc,
            big: head.kind == Kind::Big,
        }
    }

    /// Where an inline content starts.
    pub(super) fn content_offset(&self) -> u64 {
        self.offset + HEAD as u64 + u64::from(self.changes) + u64::from(self.meta)
    }

    /// Content that lies in the segment.
    pub(super) fn inline(&self) -> u64 {
        if self.big { 0 } else { self.content }
    }

    /// Bytes of the segment that a copy would take.
    fn live_bytes(&self) -> u64 {
        HEAD as u64 + u64::from(self.meta) + self.inline()
    }
}

/// The last state of a message. The bytes are kept: they are small, and the manager that set them
/// shares them.
#[derive(Debug, Clone)]
pub(super) struct StateEntry {
    pub(super) segment: u64,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spot: Spot,
    /// Most messages have none, and there may be a million of them.
    pub(super) state: Option<Box<StateEntry>>,
}

/// One segment file.
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
    /// Bytes up to the end of its last record.
    pub(super) used: u64,
    pub(super) live_records: u64,
    pub(super) live_bytes: u64,
    /// Messages with a record in this segment that may be live: what a collection looks at. Each
    /// entry is taken out once.
    pub(super) candidates: Vec<u64>,
    pub(super) since: Instant,
}

#[derive(Default)]
pub(super) struct Index {
    pub(super) messages: HashMap<u64, Entry>,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Of all segments.
    pub(super) used_bytes: u64,
    pub(super) live_bytes: u64,
    /// In files of their own.
    pub(super) big_bytes: u64,
    /// Of segments of earlier runs that are still to be read.
    pub(super) unread_bytes: u64,
}

impl Index {
    pub(super) fn add_segment(&mut self, header: SegmentHeader, file: Arc<dyn DiskFile>, used: u64) {
        self.used_bytes += used;
        let segment = Segment {
            header,
            file,
            used,
            live_records: 0,
            live_bytes: 0,
            candidates: Vec::new(),
            since: Instant::now(),
        };
        self.segments.insert(header.number, segment);
    }

    pub(super) fn remove_segment(&mut self, number: u64) {
        if let Some(segment) = self.segments.remove(&number) {
            self.used_bytes -= segment.used;
            self.live_bytes -= segment.live_bytes;
        }
    }

    /// A segment has grown.
    pub(super) fn set_used(&mut self, number: u64, used: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            self.used_bytes = self.used_bytes - segment.used + used;
            segment.used = used;
        }
    }

    /// A new message, or the same one elsewhere.
    pub(super) fn put_message(&mut self, id: u64, spot: Spot) {
        self.hold(id, spot.segment, spot.live_bytes());
        if let Some(entry) = self.messages.get_mut(&id) {
            let old = std::mem::replace(&mut entry.spot, spot);
            self.release(old.segment, old.live_bytes());
        } else {
            if spot.big {
                self.big_bytes += spot.content;
            }
            self.messages.insert(id, Entry { spot, state: None });
        }
    }

    /// The state of a message; ignored when there is no such message.
    pub(super) fn put_state(&mut self, id: u64, state: StateEntry) {
        let Some(entry) = self.messages.get_mut(&id) else { return };
        let (segment, len) = (state.segment, state_bytes(&state));
        let old = entry.state.replace(Box::new(state));
        self.hold(id, segment, len);
        if let Some(old) = old {
            self.release(old.segment, state_bytes(&old));
        }
    }

    /// Forgets a message; returns whether it had a file of its own.
    pub(super) fn remove_message(&mut self, id: u64) -> bool {
        let Some(entry) = self.messages.remove(&id) else { return false };
        self.release(entry.spot.segment, entry.spot.live_bytes());
        if let Some(state) = &entry.state {
            self.release(state.segment, state_bytes(state));
        }
        if entry.spot.big {
            self.big_bytes -= entry.spot.content;
        }
        entry.spot.big
    }

    fn hold(&mut self, id: u64, segment: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live_records += 1;
            segment.live_bytes += bytes;
            self.live_bytes += bytes;
            segment.candidates.push(id);
        }
    }

    fn release(&mut self, segment: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live_records -= 1;
            segment.live_bytes -= bytes;
            self.live_bytes -= bytes;
        }
    }
}

fn state_bytes(state: &StateEntry) -> u64 {
    (HEAD + state.bytes.len()) as u64
}
