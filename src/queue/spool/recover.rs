//! What has to be known of earlier runs before mail is taken: which ids are free, and where the log
//! ends. That costs reading the last segment, however long the log is.

use std::{collections::HashSet, sync::Arc, thread};

use super::{
    RecoveryReport, SpoolError,
    disk::{Area, Disk, DiskFile},
    names,
    scan::{self, Outcome, Scanned},
    settle::settle,
};

/// A log that can be gone on with.
pub(super) struct Opened {
    /// No id below this may be given out again.
    pub(super) next_id: u64,
    /// The highest number a segment has.
    pub(super) last_number: u64,
    /// The last segment that was in use, and where it ends. All of it is synced.
    pub(super) previous: (u64, u64),
    pub(super) unread: Unread,
}

/// What is still to be read.
pub(super) struct Unread {
    /// In order.
    pub(super) segments: Vec<Old>,
    /// The last ones, in order, which are read already.
    pub(super) tail: Vec<Scanned>,
    /// Big files, those on their way included.
    pub(super) big_files: HashSet<String>,
    /// No id of a message can reach this.
    pub(super) next_id: u64,
    /// Bytes of all these segments.
    pub(super) bytes: u64,
    pub(super) report: RecoveryReport,
}

/// A segment of an earlier run.
pub(super) struct Old {
    number: u64,
    size: u64,
    file: Arc<dyn DiskFile>,
}

/// Opens all segments, so that one that may not be read is known at once, and reads from the last
/// one back to one that says which ids were reserved when it was begun: no id in those before it
/// is as high.
pub(super) fn begin(disk: &dyn Disk) -> Result<Opened, SpoolError> {
    let all = disk.list(Area::Log).map_err(SpoolError::io("list segments"))?;
    // Quarantined segments keep their numbers, so that no other will take them.
    let last_number = all.iter().filter_map(|name| names::any_segment_number(name)).max().unwrap_or(0);
    let mut numbers: Vec<u64> = all.iter().filter_map(|name| names::segment_number(name)).collect();
    numbers.sort_unstable();
    let mut segments = Vec::with_capacity(numbers.len());
    for number in numbers {
        let file = disk.open(Area::Log, &names::segment(number)).map_err(SpoolError::io("open a segment"))?;
        let size = file.size().map_err(SpoolError::io("read segment size"))?;
        segments.push(Old { number, size, file });
    }
    // Before a new one can be there.
    let big_files: HashSet<String> =
        disk.list(Area::Big).map_err(SpoolError::io("list big files"))?.into_iter().collect();

    let mut report = RecoveryReport::default();
    let (mut tail, mut next_id) = (Vec::new(), 1);
    while let Some(old) = segments.pop() {
        for scanned in read(disk, &[old], &mut report)? {
            next_id = scanned.next_id().max(next_id);
            tail.insert(0, scanned);
        }
        if tail.first().is_some_and(|scanned| scanned.previous().is_some()) {
            break;
        }
    }
    let mut previous = (0, 0);
    if let Some(last) = tail.last_mut() {
        // The next segment will say that all of this one is synced, so it has to be.
        settle(last, &big_files, &mut report)?;
        previous = (last.header.number, last.end);
    }
    let bytes = segments.iter().map(|old| old.size).chain(tail.iter().map(|scanned| scanned.end)).sum();
    let unread = Unread { segments, tail, big_files, next_id, bytes, report };
    Ok(Opened { next_id, last_number, previous, unread })
}

/// Reads segments, all of them at once. Those nobody ever used are deleted, those nobody can read
/// are set aside.
pub(super) fn read(
    disk: &dyn Disk,
    group: &[Old],
    report: &mut RecoveryReport,
) -> Result<Vec<Scanned>, SpoolError> {
    // For whoever looks at the threads they are part of what they are for.
    let name = thread::current().name().unwrap_or("spool").to_owned();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let scan = |old: &Old| {
            let file = Arc::clone(&old.file);
            thread::Builder::new().name(name.clone()).spawn_scoped(scope, move || scan::scan(&file))
        };
        let running: Vec<_> = group.iter().map(scan).collect();
        running.into_iter().map(|started| started.map(thread::ScopedJoinHandle::join)).collect()
    });
    let mut segments = Vec::with_capacity(group.len());
    for (old, outcome) in group.iter().zip(outcomes) {
        let name = names::segment(old.number);
        let outcome = match outcome.map_err(SpoolError::io("start a thread"))? {
            Ok(outcome) => outcome.map_err(SpoolError::io("read segment"))?,
            // A panicking scan is a bug, but one damaged file must not keep the relay down.
            Err(_) => Outcome::Unreadable,
        };
        match outcome {
            Outcome::Segment(scanned) if scanned.header.number == old.number => {
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
                disk.rename(Area::Log, &name, &names::quarantined(old.number))
                    .map_err(SpoolError::io("set segment aside"))?;
            }
        }
    }
    Ok(segments)
}
