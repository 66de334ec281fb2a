//! Dealing with what a crash left half-done in a segment, before anything in it is acted on.

use std::{collections::HashSet, io::IoSlice};

use super::{
    RecoveryReport, SpoolError,
    disk::{read_exact_at, write_all_at},
    error::is_full,
    format::{self, Head, Kind},
    names,
    scan::Scanned,
};

/// Takes out the records that do not count, and makes the disk say the same as what is left.
///
/// A segment of an earlier run is never appended to. Its torn tail is cut off and its unused space
/// given back.
///
/// What lies behind the last known sync was read from the page cache and may not be on the disk,
/// but from now on we act on it. Syncing it is not enough: if a sync has failed before, the kernel
/// holds the pages for clean. So they are written again, with the bytes they have; except that
/// records that do not count are marked so, for the next start will take everything in this
/// segment for synced.
pub(super) fn settle(
    segment: &mut Scanned,
    big_files: &HashSet<String>,
    report: &mut RecoveryReport,
) -> Result<(), SpoolError> {
    if std::mem::replace(&mut segment.settled, true) {
        return Ok(());
    }
    let limit = segment.synced;
    report.segments += 1;
    report.corrupt_records += segment.gaps;
    if limit > segment.end {
        report.corrupt_records += 1;
    } else {
        report.torn_tail_bytes += segment.tail;
    }
    // The crash cut these writes short, so nobody was told that they are safe. Neither the message
    // nor the changes that hinge on it have happened.
    let void: Vec<(u64, Head)> = segment
        .records
        .extract_if(.., |found| {
            let missing = found.head.kind == Kind::Big && !big_files.contains(&names::big(found.head.id));
            (missing || !found.sound) && found.offset >= limit
        })
        .map(|found| (found.offset, found.head))
        .collect();
    report.torn_tail_bytes += void.iter().map(|(_, head)| head.record()).sum::<u64>();
    report.records += segment.records.len() as u64;
    rewrite(segment, limit, &void)
}

fn rewrite(segment: &Scanned, limit: u64, void: &[(u64, Head)]) -> Result<(), SpoolError> {
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
    for (offset, head) in void {
        let head = format::void(head, &segment.header.mark());
        write_all_at(file, &mut [IoSlice::new(&head)], *offset).map_err(SpoolError::io("void a record"))?;
    }
    if size > segment.end || limit < segment.end {
        file.sync().map_err(SpoolError::io("sync segment"))?;
    }
    Ok(())
}
