//! Putting the index together again from what is on disk.

use std::{
    collections::{HashMap, HashSet},
    io::IoSlice,
    sync::Arc,
    thread,
};

use bytes::Bytes;

use super::{
    Change, RecoveryReport, SpoolError,
    disk::{Area, Disk, read_exact_at, write_all_at},
    error::is_full,
    format::{self, Kind},
    index::{Index, Spot, StateEntry},
    names,
    scan::{self, Found, Outcome, Scanned},
};

/// Everything the log says.
pub(super) struct Replayed {
    pub(super) index: Index,
    /// Live messages with their meta data, in order of id.
    pub(super) messages: Vec<(u64, Bytes)>,
    /// No id below this may be given out again.
    pub(super) next_id: u64,
    /// Number of the last segment, and where it ends.
    pub(super) last: (u64, u64),
    pub(super) report: RecoveryReport,
}

/// Reads all segments, forgets what a crash left half-done, and removes files nobody refers to.
pub(super) fn replay(disk: &dyn Disk) -> Result<Replayed, SpoolError> {
    let mut report = RecoveryReport::default();
    let (segments, last_number) = load(disk, &mut report)?;
    let limits = synced_limits(&segments);
    let big_files: HashSet<String> =
        disk.list(Area::Big).map_err(SpoolError::io("list big files"))?.into_iter().collect();

    let mut replay = Replay::default();
    for segment in &segments {
        let limit = limits.get(&segment.header.number).copied().unwrap_or(0);
        report.segments += 1;
        report.corrupt_records += segment.gaps;
        if limit > segment.end {
            report.corrupt_records += 1;
        } else {
            report.torn_tail_bytes += segment.tail;
        }
        let mut void = Vec::new();
        for found in &segment.records {
            let missing = found.head.kind == Kind::Big && !big_files.contains(&names::big(found.head.id));
            if (missing || !found.sound) && found.offset >= limit {
                // The crash cut this write short, so nobody was told that it is safe. Neither the
                // message nor the changes that hinge on it have happened.
                report.torn_tail_bytes += found.head.record();
                void.push(found);
                continue;
            }
            report.records += 1;
            replay.record(segment.header.number, found);
        }
        settle(segment, limit, &void)?;
    }

    let mut index = Index::default();
    let mut last = (last_number, 0);
    for segment in &segments {
        index.add_segment(segment.header, Arc::clone(&segment.file), segment.end);
        last = (segment.header.number, segment.end);
    }
    last.0 = last.0.max(last_number);
    report.removed = replay.removed.len() as u64;
    let next_id = replay.next_id;
    let messages = replay.finish(disk, &mut index, &mut report);
    report.messages = messages.len() as u64;
    sweep(disk, &index, &big_files, &mut report)?;
    Ok(Replayed { index, messages, next_id, last, report })
}

/// Scans the segments in order, several at a time.
fn load(disk: &dyn Disk, report: &mut RecoveryReport) -> Result<(Vec<Scanned>, u64), SpoolError> {
    let all = disk.list(Area::Log).map_err(SpoolError::io("list segments"))?;
    // Quarantined segments keep their numbers, so that no other will take them.
    let last = all.iter().filter_map(|name| names::any_segment_number(name)).max().unwrap_or(0);
    let mut numbers: Vec<u64> = all.iter().filter_map(|name| names::segment_number(name)).collect();
    numbers.sort_unstable();
    let threads = thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let mut segments = Vec::with_capacity(numbers.len());
    for group in numbers.chunks(threads) {
        let outcomes: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = group
                .iter()
                .map(|number| {
                    scope.spawn(move || {
                        disk.open(Area::Log, &names::segment(*number)).and_then(|file| scan::scan(&file))
                    })
                })
                .collect();
            running.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        for (number, outcome) in group.iter().zip(outcomes) {
            let name = names::segment(*number);
            let outcome = match outcome {
                Ok(outcome) => outcome.map_err(SpoolError::io("read segment"))?,
                // A panicking scan is a bug, but one damaged file must not keep the relay down.
                Err(_) => Outcome::Unreadable,
            };
            match outcome {
                Outcome::Segment(scanned) if scanned.header.number == *number => {
                    if scanned.records.is_empty() && scanned.tail == 0 {
                        // Prepared, never used.
                        disk.remove(Area::Log, &name).map_err(SpoolError::io("remove unused segment"))?;
                    } else {
                        segments.push(scanned);
                    }
                }
                Outcome::Blank => {
                    disk.remove(Area::Log, &name).map_err(SpoolError::io("remove blank segment"))?;
                }
                Outcome::Segment(_) | Outcome::Unreadable => {
                    report.corrupt_records += 1;
                    tracing::error!(segment = %name, "segment without a readable header is set aside");
                    disk.rename(Area::Log, &name, &names::quarantined(*number))
                        .map_err(SpoolError::io("set segment aside"))?;
                }
            }
        }
    }
    Ok((segments, last))
}

/// For each segment, how much of it was synced for certain: what its own records say, and what the
/// segment after it says.
fn synced_limits(segments: &[Scanned]) -> HashMap<u64, u64> {
    let mut limits: HashMap<u64, u64> =
        segments.iter().map(|segment| (segment.header.number, segment.synced())).collect();
    for found in segments.iter().flat_map(|segment| &segment.records) {
        if found.head.kind == Kind::Open
            && let Some((number, synced)) = format::decode_previous(&found.meta)
            && let Some(limit) = limits.get_mut(&number)
        {
            *limit = synced.max(*limit);
        }
    }
    limits
}

/// A segment is never appended to again. Its torn tail is cut off and its unused space given back.
///
/// What lies behind the last known sync was read from the page cache and may not be on the disk,
/// but from now on we act on it. Syncing it is not enough: if a sync has failed before, the kernel
/// holds the pages for clean. So they are written again, with the bytes they have; except that
/// records that do not count are marked so, for the next start will take everything in this
/// segment for synced.
fn settle(segment: &Scanned, limit: u64, void: &[&Found]) -> Result<(), SpoolError> {
    let file = &*segment.file;
    let size = file.size().map_err(SpoolError::io("read segment size"))?;
    if size > segment.end {
        file.truncate(segment.end).map_err(SpoolError::io("cut torn tail"))?;
    }
    let mut bytes = Vec::new();
    // The last record may claim more than there is.
    let end = segment.end.min(size);
    let mut offset = limit;
    while offset < end {
        bytes.resize((end - offset).min(1 << 20) as usize, 0);
        read_exact_at(file, &mut bytes, offset).map_err(SpoolError::io("read segment"))?;
        match write_all_at(file, &mut [IoSlice::new(&bytes)], offset) {
            // Some file systems need space even to overwrite. A full disk must not keep mail in.
            Err(error) if is_full(&error) => break,
            result => result.map_err(SpoolError::io("rewrite segment"))?,
        }
        offset += bytes.len() as u64;
    }
    for found in void {
        let head = format::void(&found.head, &segment.header.mark());
        write_all_at(file, &mut [IoSlice::new(&head)], found.offset)
            .map_err(SpoolError::io("void a record"))?;
    }
    if size > segment.end || limit < segment.end {
        file.sync().map_err(SpoolError::io("sync segment"))?;
    }
    Ok(())
}

#[derive(Default)]
struct Replay {
    messages: HashMap<u64, Candidate>,
    states: HashMap<u64, StateEntry>,
    /// Ids are never reused, so a removal holds wherever it stands in the log.
    removed: HashSet<u64>,
    next_id: u64,
}

struct Candidate {
    spot: Spot,
    meta: Bytes,
    sound: bool,
}

impl Replay {
    fn record(&mut self, segment: u64, found: &Found) {
        let id = found.head.id;
        match found.head.kind {
            Kind::Message | Kind::Big => {
                self.next_id = self.next_id.max(id.saturating_add(1));
                // A message that was moved stands in the log twice. Both are the same, unless one
                // is damaged.
                let known = self.messages.get(&id).is_some_and(|known| known.sound);
                if found.sound || !known {
                    let spot = Spot::new(segment, found.offset, &found.head);
                    self.messages
                        .insert(id, Candidate { spot, meta: found.meta.clone(), sound: found.sound });
                }
                for change in &found.changes {
                    match change {
                        Change::State(id, state) => self.state(id.0, segment, state),
                        Change::Remove(id) => self.remove(id.0),
                    }
                }
            }
            Kind::State => self.state(id, segment, &found.meta),
            Kind::Remove => self.remove(id),
            Kind::Void => {}
            Kind::Open | Kind::Reserve => self.next_id = self.next_id.max(id),
        }
    }

    fn state(&mut self, id: u64, segment: u64, bytes: &Bytes) {
        self.states.insert(id, StateEntry { segment, bytes: bytes.clone() });
    }

    fn remove(&mut self, id: u64) {
        self.removed.insert(id);
        self.messages.remove(&id);
        self.states.remove(&id);
    }

    fn finish(self, disk: &dyn Disk, index: &mut Index, report: &mut RecoveryReport) -> Vec<(u64, Bytes)> {
        let mut messages: Vec<_> =
            self.messages.into_iter().filter(|(id, _)| !self.removed.contains(id)).collect();
        messages.sort_unstable_by_key(|(id, _)| *id);
        let mut states = self.states;
        let mut live = Vec::with_capacity(messages.len());
        for (id, message) in messages {
            let whole = if message.spot.big {
                let file = disk.open(Area::Big, &names::big(id)).and_then(|file| file.size());
                file.is_ok_and(|size| size == message.spot.content)
            } else {
                message.sound
            };
            // An acknowledged message whose content is damaged is handed back all the same: its
            // sender must hear of it. Reading the content says that it is corrupt.
            report.corrupt_records += u64::from(!whole);
            index.put_message(id, message.spot);
            if let Some(state) = states.remove(&id) {
                index.put_state(id, state);
            }
            live.push((id, message.meta));
        }
        live
    }
}

/// Deletes big files that belong to no message: transfers that a crash interrupted, and files whose
/// message was removed before they were.
fn sweep(
    disk: &dyn Disk,
    index: &Index,
    files: &HashSet<String>,
    report: &mut RecoveryReport,
) -> Result<(), SpoolError> {
    for name in files {
        let orphan = match names::big_id(name) {
            Some(id) => !index.messages.get(&id).is_some_and(|entry| entry.spot.big),
            None => names::is_staged(name),
        };
        if orphan {
            disk.remove(Area::Big, name).map_err(SpoolError::io("remove orphan"))?;
            report.orphan_files += 1;
        }
    }
    Ok(())
}
