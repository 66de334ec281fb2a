//! The end of the log: places records, writes them, syncs them, and only then lets them count.

use std::{
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Change, SpoolError,
    disk::{DiskFile, write_all_at},
    error::is_full,
    format::{self, DATA_START, HEAD, MARK, SegmentHeader},
    helper::Job,
    index::{Spot, StateEntry},
    request::{Body, Request},
    rotate::Next,
    shared::Shared,
};

/// Contents up to this size are copied next to their head: one slice less costs more than the copy.
const COPY: usize = 512;
/// A batch larger than this is made durable in parts, so that its first waiters do not wait for all.
const PART: u64 = 16 << 20;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) active: Option<Active>,
    /// Everything written (or about to be) since the last sync, in order.
    unsynced: Vec<Placed>,
    /// The first of these that is not yet written.
    unwritten: usize,
    /// Heads, changes and meta data (and small contents) of the unwritten ones.
    heads: Vec<u8>,
    /// Where in `heads` the pieces of which request belong.
    joints: Vec<(usize, usize)>,
    /// Changes that found no room. They are never dropped; the next batch tries again.
    pub(super) put_off: Vec<Request>,
    /// Why a change was put off in this batch. What comes after it in the batch is refused as well,
    /// because nothing may overtake a change.
    blocked: Option<SpoolError>,
    /// The segment after the one in use.
    pub(super) next: Next,
    /// Number of the last segment that was ordered.
    pub(super) last_number: u64,
    /// The last segment that was in use, and how much of it is synced.
    pub(super) previous: (u64, u64),
    /// The disk is given up.
    pub(super) dead: bool,
    /// A segment was asked for in vain in this batch.
    pub(super) attempted: bool,
    /// The same for a segment of less than the usual size.
    pub(super) attempted_narrow: bool,
    /// No collection before this.
    pub(super) rest_until: Option<Instant>,
}

/// The segment in use.
pub(super) struct Active {
    pub(super) header: SegmentHeader,
    pub(super) mark: [u8; MARK],
    pub(super) file: Arc<dyn DiskFile>,
    /// What is allocated.
    pub(super) size: u64,
    /// End of what is placed.
    pub(super) end: u64,
    /// End of what is written.
    pub(super) written: u64,
    /// End of what is synced.
    pub(super) synced: u64,
}

struct Placed {
    request: Request,
    offset: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, last_number: u64, previous: (u64, u64)) -> Self {
        Self {
            shared,
            active: None,
            unsynced: Vec::new(),
            unwritten: 0,
            heads: Vec::new(),
            joints: Vec::new(),
            put_off: Vec::new(),
            blocked: None,
            next: Next::None,
            last_number,
            previous,
            dead: false,
            attempted: false,
            attempted_narrow: false,
            rest_until: None,
        }
    }

    /// Something is written or placed that is not yet durable.
    pub(super) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Number of the segment in use.
    pub(super) fn active_number(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.header.number)
    }

    /// A batch begins: what was put off may be tried again.
    pub(super) fn begin(&mut self) -> Vec<Request> {
        self.blocked = None;
        self.look_ahead();
        std::mem::take(&mut self.put_off)
    }

    /// Puts a record at the end of the log.
    pub(super) fn place(&mut self, request: Request) {
        if self.dead {
            return self.refuse(request, &SpoolError::Poisoned);
        }
        if let Some(error) = self.blocked.clone() {
            return self.refuse(request, &error);
        }
        let len = request.record();
        let change = matches!(request, Request::Change { .. } | Request::Reserve(_));
        let spare = self.spare(&request);
        if !self.fits(len, spare) {
            self.commit();
            // A sync error has already led to a fresh segment.
            if !self.fits(len, spare)
                && let Err(error) = self.rotate()
                && !(change && (self.fits(len, 0) || (self.rotate_narrow().is_ok() && self.fits(len, 0))))
            {
                return self.refuse(request, &error);
            }
        }
        self.encode(request, len);
        if self.active.as_ref().is_some_and(|active| active.end - active.synced > PART) {
            self.commit();
        }
    }

    /// What a request must leave free in the segment in use. Without space for another segment the
    /// rest of this one is what gets us out of it: changes, for removals make space, and then live
    /// records that have to move before an old segment can be deleted.
    fn spare(&self, request: &Request) -> u64 {
        match request {
            Request::Message { .. } if self.is_narrow() => self.shared.options.segment_size,
            Request::Message { .. } if self.is_tight() => self.shared.options.segment_size / 2,
            _ => self.shared.options.spare(),
        }
    }

    /// Whether a record fits. A segment without records takes a record of any size.
    fn fits(&self, len: u64, spare: u64) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let empty = active.end <= DATA_START + (HEAD + 16) as u64 && !self.is_narrow();
            active.end + len <= active.size.saturating_sub(spare) || empty
        })
    }

    /// The segment in use is smaller than usual, for want of space.
    fn is_narrow(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.size < self.shared.options.segment_size)
    }

    /// What is free in such a segment.
    pub(super) fn narrow_room(&self) -> Option<u64> {
        let active = self.active.as_ref().filter(|_| self.is_narrow())?;
        Some(active.size.saturating_sub(active.end))
    }

    fn encode(&mut self, request: Request, len: u64) {
        let Some(active) = &mut self.active else { return };
        format::encode(&request.draft(), &active.mark, active.synced, &mut self.heads);
        let pieces = request.pieces();
        if pieces.iter().map(bytes::Bytes::len).sum::<usize>() <= COPY {
            for piece in pieces {
                self.heads.extend_from_slice(piece);
            }
        } else {
            self.joints.push((self.heads.len(), self.unsynced.len()));
        }
        self.unsynced.push(Placed { request, offset: active.end });
        active.end += len;
    }

    /// Hands what is placed to the kernel, in one call where possible.
    pub(super) fn flush(&mut self) {
        if let Err(error) = self.write() {
            self.write_failed(&error);
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if self.unwritten == self.unsynced.len() {
            return Ok(());
        }
        let mut slices = Vec::with_capacity(self.joints.len() * 3 + 1);
        let mut from = 0;
        for (at, request) in &self.joints {
            slices.push(IoSlice::new(self.heads.get(from..*at).unwrap_or_default()));
            if let Some(placed) = self.unsynced.get(*request) {
                slices.extend(placed.request.pieces().iter().map(|piece| IoSlice::new(piece)));
            }
            from = *at;
        }
        slices.push(IoSlice::new(self.heads.get(from..).unwrap_or_default()));
        write_all_at(&*active.file, &mut slices, active.written)?;
        active.written = active.end;
        self.unwritten = self.unsynced.len();
        self.forget_heads();
        Ok(())
    }

    fn forget_heads(&mut self) {
        self.heads.clear();
        // One batch with huge meta data should not cost memory for ever.
        self.heads.shrink_to(1 << 20);
        self.joints.clear();
    }

    fn write_failed(&mut self, error: &std::io::Error) {
        let Some(active) = &mut self.active else { return };
        if !is_full(error) {
            return self.rescue("write", error);
        }
        // What was partly written must not be read as records later. Cutting the file does that for
        // all of it at once; the space is taken again if there is any.
        if let Err(error) = active.file.truncate(active.written) {
            return self.rescue("cut back", &error);
        }
        let _ = active.file.allocate(active.size);
        active.end = active.written;
        self.forget_heads();
        for placed in self.unsynced.split_off(self.unwritten) {
            self.refuse(placed.request, &SpoolError::Full);
        }
    }

    /// Makes everything placed durable, then lets it count and answers its waiters.
    pub(super) fn commit(&mut self) {
        self.flush();
        let Some(active) = &mut self.active else { return };
        if self.unsynced.is_empty() {
            return;
        }
        if let Err(error) = active.file.sync() {
            return self.rescue("sync", &error);
        }
        active.synced = active.written;
        self.settle();
    }

    /// What is synced goes into the index; its waiters hear of it.
    fn settle(&mut self) {
        let Some(active) = &self.active else { return };
        let number = active.header.number;
        let mut gone = Vec::new();
        {
            let mut index = self.shared.index();
            index.set_used(number, active.synced);
            for placed in &self.unsynced {
                match &placed.request {
                    Request::Message { id, meta, body, changes, .. } => {
                        let changes_len = format::changes_len(changes) as u32;
                        index.put_message(*id, spot(number, placed.offset, changes_len, meta, body));
                        for change in changes {
                            apply(&mut index, number, change, &mut gone);
                        }
                    }
                    Request::Copy { id, from, meta, body } => {
                        // It can have moved only from where it was, and not have been removed:
                        // copies are made when no removal is on its way to the disk.
                        if index.messages.get(id).is_some_and(|entry| entry.spot.segment == *from) {
                            index.put_message(*id, spot(number, placed.offset, 0, meta, body));
                        }
                    }
                    Request::CopyState { id, from, state } => {
                        let current = index.messages.get(id).and_then(|entry| entry.state.as_ref());
                        if current.is_some_and(|current| current.segment == *from) {
                            index.put_state(*id, StateEntry { segment: number, bytes: state.clone() });
                        }
                    }
                    Request::Change { change, .. } => apply(&mut index, number, change, &mut gone),
                    Request::Reserve(_) => {}
                }
            }
        }
        self.unwritten = 0;
        for placed in self.unsynced.drain(..) {
            placed.request.answer(Ok(()));
        }
        for id in gone {
            self.shared.send(Job::DeleteBig(id));
        }
    }

    /// The disk refused to make something durable. What the kernel held of it may be lost although
    /// a second sync would say otherwise, so this segment is left as it is, and everything since
    /// its last good sync is written again from memory to a new one. If that fails as well the disk
    /// is given up.
    fn rescue(&mut self, doing: &'static str, error: &std::io::Error) {
        let Some(broken) = self.active.take() else { return };
        tracing::error!(%error, doing, segment = broken.header.number, "spool segment failed, leaving it");
        self.previous = (broken.header.number, broken.synced);
        self.shared.index().set_used(broken.header.number, broken.written);
        self.unwritten = 0;
        self.forget_heads();
        let placed = std::mem::take(&mut self.unsynced);
        match self.activate() {
            Ok(()) => {}
            Err(SpoolError::Full) => {
                for placed in placed {
                    self.refuse(placed.request, &SpoolError::Full);
                }
                return;
            }
            Err(error) => return self.give_up(placed, format!("{doing}: {error}")),
        }
        for placed in placed {
            if matches!(placed.request, Request::Copy { .. } | Request::CopyState { .. }) {
                // The original is where it was; it will be copied another time.
                self.refuse(placed.request, &SpoolError::Poisoned);
            } else {
                let len = placed.request.record();
                self.encode(placed.request, len);
            }
        }
        if let Err(error) = self.write().and_then(|()| self.active.as_ref().map_or(Ok(()), |a| a.file.sync()))
        {
            let placed = std::mem::take(&mut self.unsynced);
            return self.give_up(placed, format!("{doing}, then again: {error}"));
        }
        if let Some(active) = &mut self.active {
            active.synced = active.written;
        }
        self.settle();
    }

    fn give_up(&mut self, placed: Vec<Placed>, why: String) {
        self.dead = true;
        self.active = None;
        self.unwritten = 0;
        self.forget_heads();
        self.shared.give_up(why);
        for placed in placed {
            self.refuse(placed.request, &SpoolError::Poisoned);
        }
    }

    /// A record that cannot be written for now.
    fn refuse(&mut self, request: Request, error: &SpoolError) {
        match request {
            Request::Copy { id, from, .. } | Request::CopyState { id, from, .. } => {
                self.put_back(from, id, Duration::from_secs(1));
            }
            Request::Change { done: None, .. } | Request::Reserve(_) if !self.dead => {
                self.put_off.push(request);
                self.blocked = Some(error.clone());
            }
            Request::Message { id, body: Body::Big { .. }, .. } => {
                if matches!(error, SpoolError::Full) {
                    self.shared.send(Job::DeleteBig(id));
                }
                request.answer(Err(error.clone()));
            }
            request => request.answer(Err(error.clone())),
        }
    }

    /// A record that could not be moved stays a candidate; the collection rests for a while.
    pub(super) fn put_back(&mut self, from: u64, id: u64, rest: Duration) {
        if let Some(segment) = self.shared.index().segments.get_mut(&from) {
            segment.candidates.push(id);
        }
        self.rest_until = Some(Instant::now() + rest);
    }
}

fn spot(segment: u64, offset: u64, changes: u32, meta: &[u8], body: &Body) -> Spot {
    Spot {
        segment,
        offset,
        changes,
        meta: meta.len() as u32,
        content: body.len(),
        content_crc: body.crc(),
        big: matches!(body, Body::Big { .. }),
    }
}

fn apply(index: &mut super::index::Index, segment: u64, change: &Change, gone: &mut Vec<u64>) {
    match change {
        Change::State(id, bytes) => {
            index.put_state(id.0, StateEntry { segment, bytes: bytes.clone() });
        }
        Change::Remove(id) => {
            if index.remove_message(id.0) {
                gone.push(id.0);
            }
        }
    }
}
