//! Everything the log says, put together record by record.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use bytes::Bytes;

use super::{
    Change, RecoveryReport, SpoolError,
    disk::{Area, Disk},
    format::Kind,
    index::{Spot, StateEntry},
    names,
    scan::{Found, Scanned},
};

/// After so many messages their memory is given back.
const GIVE_BACK: usize = 1 << 16;

/// Give it all segments, in order, and only then ask what is live: a removal may lie in the last.
#[derive(Default)]
pub(super) struct Ledger {
    messages: HashMap<u64, Candidate>,
    states: HashMap<u64, StateEntry>,
    /// Ids are never reused, so a removal holds wherever it stands in the log.
    removed: HashSet<u64>,
    next_id: u64,
}

/// A live message.
pub(super) struct Live {
    pub(super) id: u64,
    pub(super) spot: Spot,
    pub(super) meta: Box<[u8]>,
    pub(super) state: Option<StateEntry>,
}

/// A message that may be live. There may be a million of them.
struct Candidate {
    spot: Spot,
    meta: Box<[u8]>,
    /// The content is what was written.
    sound: bool,
}

impl Ledger {
    /// The records of a settled segment.
    pub(super) fn read(&mut self, segment: Scanned) {
        self.next_id = self.next_id.max(segment.next_id());
        for found in segment.records {
            self.record(segment.header.number, found);
        }
    }

    fn record(&mut self, segment: u64, found: Found) {
        let id = found.head.id;
        match found.head.kind {
            Kind::Message | Kind::Big => {
                // A message that was moved stands in the log twice. Both are the same, unless one
                // is damaged.
                let known = self.messages.get(&id).is_some_and(|known| known.sound);
                if !self.removed.contains(&id) && (found.sound || !known) {
                    let spot = Spot::new(segment, found.offset, &found.head);
                    let candidate = Candidate { spot, meta: found.meta, sound: found.sound };
                    self.messages.insert(id, candidate);
                }
                for change in found.changes {
                    match change {
                        Change::State(id, state) => self.state(id.0, segment, state),
                        Change::Remove(id) => self.remove(id.0),
                    }
                }
            }
            Kind::State => self.state(id, segment, found.meta.into()),
            Kind::Remove => self.remove(id),
            Kind::Open | Kind::Reserve | Kind::Void => {}
        }
    }

    fn state(&mut self, id: u64, segment: u64, bytes: Bytes) {
        self.states.insert(id, StateEntry { segment, bytes });
    }

    fn remove(&mut self, id: u64) {
        self.removed.insert(id);
        self.messages.remove(&id);
        self.states.remove(&id);
    }

    /// No id below this may be given out again.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Deletes big files that belong to no message: transfers that a crash interrupted, and files
    /// whose message was removed before they were. `files` are those there were before this run.
    pub(super) fn sweep(
        &self,
        disk: &dyn Disk,
        files: &HashSet<String>,
        report: &mut RecoveryReport,
    ) -> Result<(), SpoolError> {
        for name in files {
            let orphan = match names::big_id(name) {
                Some(id) => !self.messages.get(&id).is_some_and(|message| message.spot.big),
                None => names::is_staged(name),
            };
            if orphan {
                disk.remove(Area::Big, name).map_err(SpoolError::io("remove orphan"))?;
                report.orphan_files += 1;
            }
        }
        Ok(())
    }

    /// The live messages in order of id, each let go of as it is taken.
    pub(super) fn live(
        self,
        disk: &dyn Disk,
        report: &mut RecoveryReport,
    ) -> impl Iterator<Item = Live> + use<> {
        report.removed = self.removed.len() as u64;
        report.messages = self.messages.len() as u64;
        for (id, message) in &self.messages {
            let whole = if message.spot.big {
                let file = disk.open(Area::Big, &names::big(*id)).and_then(|file| file.size());
                file.is_ok_and(|size| size == message.spot.content)
            } else {
                message.sound
            };
            // An acknowledged message whose content is damaged is handed back all the same: its
            // sender must hear of it. Reading the content says that it is corrupt.
            report.corrupt_records += u64::from(!whole);
        }
        let (mut states, mut messages) = (self.states, Vec::from_iter(self.messages));
        // Taken from the end, so that its memory shrinks while that of the queue grows.
        messages.sort_unstable_by_key(|(id, _)| Reverse(*id));
        std::iter::from_fn(move || {
            let (id, Candidate { spot, meta, .. }) = messages.pop()?;
            if messages.len().is_multiple_of(GIVE_BACK) {
                messages.shrink_to_fit();
            }
            Some(Live { id, spot, meta, state: states.remove(&id) })
        })
    }
}
